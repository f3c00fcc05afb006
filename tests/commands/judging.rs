//! Pictures from elsewhere are judged, laid out and looked into.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::tools::{failure, gan, models, success, toy, unsee, with_models, write};

const PICTURES: [(&str, &str); 4] =
    [("Mosaic", "Cat"), ("Mosaic", "Boat"), ("Woodcut", "Cat"), ("Woodcut", "Boat")];

/// Some of the canvas' pictures in one folder, under the names of styles and objects.
fn pictures(root: &Path) -> PathBuf {
    let canvas = root.join("canvas");
    unsee().args(["canvas", "-q", "--per-cell", "1", "--out"]).arg(&canvas).assert().success();
    let flat = root.join("flat");
    fs_err::create_dir_all(&flat).unwrap();
    for (style, object) in PICTURES {
        let from = canvas.join(style).join(object).join("1.png");
        fs_err::copy(from, flat.join(format!("{style}_{object}_seed1.png"))).unwrap();
    }
    flat
}

fn evaluate(flat: &Path, more: &[&str]) -> assert_cmd::Command {
    let mut command = with_models(unsee());
    command
        .arg("evaluate")
        .arg(flat)
        .args(["--styles", "Mosaic,Woodcut", "--objects", "Cat,Boat"])
        .args(more);
    command
}

#[test]
fn evaluate_pictures_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let flat = pictures(folder.path());
    let ask = |more: &[&str]| evaluate(&flat, more);
    let output = ask(&["--forget", "object:Cat", "--json", "-q"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["scores"][0]["n"], 2);
    // Erased pictures are no measure of what is recognisable.
    assert!(!measures(&verdict).contains(&"UA_clean"), "{verdict}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--base DIR"));
    for decide in ["prototypes", "probe"] {
        for engine in ["candle", "libtorch"] {
            let evidence = folder.path().join(format!("{decide}-{engine}.jsonl"));
            ask(&[
                "-q",
                "--decide",
                decide,
                "--engine",
                engine,
                "--evidence",
                &evidence.to_string_lossy(),
            ])
            .assert()
            .success();
        }
    }

    assert!(
        failure(ask(&["--forget", "style:Neon"]), 1).contains("does not know the style `Neon`")
    );
    let far = flat.join("Neon_Cat_seed1.png");
    fs_err::rename(flat.join("Mosaic_Cat_seed1.png"), &far).unwrap();
    assert!(failure(ask(&[]), 1).contains("no such style and object"));
    fs_err::remove_file(&far).unwrap();
    let text = failure(ask(&[]), 1);
    assert!(text.contains("1 of 4 pictures") && text.contains("Mosaic_Cat_seed1"), "{text}");
}

#[test]
fn evaluate_pictures_by_a_list_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let flat = pictures(folder.path());
    let ask = |more: &[&str]| evaluate(&flat, more);
    let list = folder.path().join("files.csv");
    write(
        &list,
        "file,prompt,seed\nMosaic_Cat_seed1.png,A Cat image in Mosaic \
         style.,4\nMosaic_Boat_seed1.png,a boat image in mosaic style,4\nWoodcut_Cat_seed1.png,A \
         Cat image in Woodcut style,4\nWoodcut_Boat_seed1.png,A Boat image in Woodcut style.,4\n",
    );
    ask(&["-q", "--csv", &list.to_string_lossy()]).assert().success();
    // It holds for the base too, whose pictures have the same names.
    let base = folder.path().join("base");
    fs_err::create_dir_all(&base).unwrap();
    let mut rows = vec!["file,prompt,seed\n".to_owned()];
    for (n, (style, object)) in PICTURES.iter().enumerate() {
        let from = folder.path().join("canvas").join(style).join(object).join("1.png");
        for to in [&flat, &base] {
            fs_err::copy(&from, to.join(format!("0_{n}.png"))).unwrap();
        }
        rows.push(format!("0_{n}.png,A {object} image in {style} style.,4\n"));
    }
    write(&list, &rows.concat());
    let both = ["-q", "--csv", &list.to_string_lossy(), "--forget", "object:Cat", "--base"];
    let said = ask(&[&both[..], &[&base.to_string_lossy(), "--json"]].concat()).assert().success();
    let verdict: Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    assert_eq!(measures(&verdict).iter().filter(|measure| **measure == "UA_clean").count(), 2);
}

fn measures(verdict: &Value) -> Vec<&str> {
    let scores = verdict["scores"].as_array().unwrap().iter();
    scores.filter_map(|score| score["measure"].as_str()).collect()
}

#[test]
fn both_engines_see_the_same() {
    use unsee::judge::{
        CandleClipEncoder, ClipEncoder as _, Features, Judge, Question, TorchClipEncoder,
    };
    use unsee::pictures::Picture;
    let folder = models().join("judge");
    let candle = CandleClipEncoder::open(&folder).unwrap();
    let torch = TorchClipEncoder::open(&folder, unsee::torch::Device::CPU).unwrap();
    let rgb = |k: usize, n: usize| (0..n).map(|i| ((i * k) % 251) as u8).collect::<Vec<u8>>();
    let pictures = [
        Picture { width: 64, height: 64, rgb: rgb(7, 64 * 64 * 3) },
        Picture { width: 100, height: 80, rgb: rgb(13, 100 * 80 * 3) },
    ];
    let texts = ["A Cat image in Mosaic style.".to_owned(), String::new()];
    let near = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 2e-5)
    };
    let features =
        [candle.image_features(&pictures).unwrap(), torch.image_features(&pictures).unwrap()];
    assert!(near(&features[0].unit, &features[1].unit));
    let apart = |(a, b): (&f32, &f32)| (a - b).abs() / b.abs().max(1.0);
    let [candle_rows, torch_rows] = features.each_ref().map(|seen| seen.embeddings.concat());
    let most = candle_rows.iter().zip(&torch_rows).map(apart).fold(0.0, f32::max);
    assert!(most < 1e-4, "{most}");
    assert!(near(&candle.text_features(&texts).unwrap(), &torch.text_features(&texts).unwrap()));
    assert!((candle.scale() - torch.scale()).abs() < 1e-3);

    // The network of verdicts and features looks once, and says the same.
    let classes = ["a", "b"].map(str::to_owned).to_vec();
    let question = Question { domain: "object".to_owned(), classes };
    let wordings = texts.iter().map(|text| vec![text.clone()]).collect();
    let judge = Judge::by_text(Box::new(candle), vec![(question, wordings)]).unwrap();
    let features = Features::of_judge(&judge);
    let (rows, evidence) = features.and_evidence(&judge, &pictures).unwrap();
    assert!(rows.equal(&features.of(&pictures).unwrap()));
    assert_eq!(evidence, judge.see(&pictures, None).unwrap());
}

#[test]
fn grids_and_inspection() {
    let (folder, pipeline) = toy();
    let out = folder.path().join("run");
    with_models(unsee())
        .args(["run", "-q"])
        .arg(&pipeline)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    for rows in ["seed", "prompt"] {
        let sheet = folder.path().join(format!("{rows}.png"));
        let mut command = unsee();
        command
            .arg("grid")
            .arg(out.join("pictures/base"))
            .args(["--rows", rows, "--out"])
            .arg(&sheet);
        command.assert().success();
        assert!(unsee::pictures::Picture::open(&sheet).unwrap().width > 300);
    }
    let sheet = folder.path().join("both.png");
    let mut command = unsee();
    command.arg("grid").arg(out.join("pictures/base")).arg(out.join("pictures/style-Mosaic-salun"));
    command.args(["--only", "Cat", "--out"]).arg(&sheet).assert().success();
    let mut nothing = unsee();
    nothing
        .arg("grid")
        .arg(out.join("pictures/base"))
        .args(["--only", "Dragon", "--out"])
        .arg(&sheet);
    assert!(failure(nothing, 1).contains("no picture"));

    for (path, wanted) in [
        (out.clone(), "a run"),
        (out.join("edits/style-Mosaic-salun.safetensors"), "an edit"),
        (models().join("miniature"), "a diffusers folder"),
        (models().join("judge"), "a transformers folder"),
    ] {
        let output = unsee().arg("inspect").arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(wanted), "{text}");
    }
    let inspect = |arguments: &[&str]| {
        let mut command = unsee();
        command.arg("inspect").args(arguments);
        command
    };
    // The shipped one by its name, and by its folder.
    for name in ["miniature-gan", concat!(env!("CARGO_MANIFEST_DIR"), "/models/miniature-gan")] {
        let said = success(inspect(&[name]));
        assert!(said.contains("StyleGAN2"), "{said}");
    }
    let network = gan(folder.path()).display().to_string();
    let said = success(inspect(&[&network, "--base", &network]));
    assert!(said.contains("0 tensors would change"), "{said}");
    let error = failure(inspect(&[&network, "--base", "miniature-gan"]), 1);
    assert!(
        error.contains("StyleGAN2 of 16 pixels") && error.contains("goes one of 64 pixels"),
        "{error}"
    );
    assert!(failure(inspect(&[&folder.path().display().to_string()]), 1).contains("is no run"));
}
