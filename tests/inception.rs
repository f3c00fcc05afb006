//! Inception-v3 and the Fréchet distance against `pytorch-fid` (`golden/inception.py`), under
//! weights of a formula.

use std::path::Path;

use serde_json::Value;
use unsee::judge::Features;
use unsee::measure::Moments;
use unsee::pictures::Picture;
use unsee::torch::{Device, Tensor};
use unsee::weights::save;

/// `n` numbers of unit variance from the `k`-th stream: `SplitMix64` over a counter.
fn unit(k: u64, n: usize) -> impl Iterator<Item = f64> {
    (0..n as u64).map(move |i| {
        let mut z = (k << 32).wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        3.0_f64.sqrt() * (2.0 * ((z >> 11) as f64 / (1_u64 << 53) as f64) - 1.0)
    })
}

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inception.json");
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn features_are_pytorch_fid_s() {
    let golden = golden();
    let mut tensors = Vec::new();
    for (k, (name, shape)) in (1..).zip(golden["names"].as_object().unwrap()) {
        let shape: Vec<i64> = serde_json::from_value(shape.clone()).unwrap();
        let (scale, shift) = match name.as_str() {
            n if n.ends_with("conv.weight") => {
                ((2.0 / shape[1..].iter().product::<i64>() as f64).sqrt() as f32, 0.0)
            }
            n if n.ends_with("bn.weight") => (0.1, 1.0),
            n if n.ends_with("running_var") => (0.2, 1.0),
            _ => (0.1, 0.0),
        };
        let n = shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = unit(k, n).map(|x| shift + scale * x as f32).collect();
        tensors.push((name.clone(), Tensor::from_slice(&values).view(shape.as_slice())));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inception.safetensors");
    save(&file, &tensors, &[]).unwrap();
    let network = Features::inception(&file, Device::CPU).unwrap();
    assert_eq!(network.card().name, "Inception-v3");

    let (width, height) = (32, 40);
    let numbers: Vec<u8> = unit(5000, 3 * width * height * 3)
        .map(|x| ((x / (2.0 * 3.0_f64.sqrt()) + 0.5) * 256.0).floor().clamp(0.0, 255.0) as u8)
        .collect();
    let pictures: Vec<Picture> = numbers
        .chunks(width * height * 3)
        .map(|rgb| Picture { width, height, rgb: rgb.to_vec() })
        .collect();
    let features = network.of(&pictures).unwrap();
    let wanted = &golden["features"];
    assert_eq!(
        features.size(),
        serde_json::from_value::<Vec<i64>>(wanted["shape"].clone()).unwrap()
    );
    let flat = features.flatten(0, -1);
    let deviation = wanted["std"].as_f64().unwrap();
    for pair in wanted["at"].as_array().unwrap() {
        let (at, value) = (pair[0].as_i64().unwrap(), pair[1].as_f64().unwrap());
        let found = flat.double_value(&[at]);
        assert!((found - value).abs() < 1e-3 * deviation.max(value.abs()), "{at}: {found} {value}");
    }
}

#[test]
fn the_distance_is_pytorch_fid_s() {
    let set = |k: u64, n: usize, scale: f64, shift: f64| {
        let values: Vec<f64> = unit(k, n * 8).map(|x| x * scale + shift).collect();
        Moments::of(&Tensor::from_slice(&values).view([n as i64, 8]))
    };
    let found = set(6000, 60, 1.0, 0.0).distance(&set(6001, 50, 1.5, 0.3));
    let wanted = golden()["distance"].as_f64().unwrap();
    assert!((found / wanted - 1.0).abs() < 1e-6, "{found} {wanted}");
}

#[test]
fn another_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.safetensors");
    save(&file, &[("w".to_owned(), Tensor::from_slice(&[1.0_f32]))], &[]).unwrap();
    let error = Features::inception(&file, Device::CPU).unwrap_err().to_string();
    assert!(error.contains("Conv2d_1a_3x3.conv.weight"), "{error}");
}
