//! What each fuzz target does with its bytes: a reader, and everything that is done with what it
//! read. Any answer is right but a crash, a panic, or one that never comes. `tests/fuzzing.rs` runs
//! them on the seeds.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each target is a program of its own and uses one of these"
)]

use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use unsee::weights::{
    EmaChoice, Weights, from_compvis, is_compvis, is_lora, read_lora, read_stylegan, save,
    unet_names_of_compvis,
};

/// A folder of this thread in memory, where there is one.
fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let memory = std::path::Path::new("/dev/shm");
            let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            made.expect("a folder for the fuzzer's files")
        };
    }
    FOLDER.with(|folder| folder.path().to_owned())
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(bytes))
        .expect("a file for the fuzzer");
    path
}

/// Reads whatever can be read of a file.
fn read_all(weights: &Weights) {
    let _ = (weights.metadata(), weights.hash());
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    for name in names {
        let info = weights.info(&name);
        // A view that repeats its numbers may be larger than its file; a fuzzer's memory is small.
        let numbers =
            info.map_or(0, |info| info.shape.iter().fold(1_i64, |n, &size| n.saturating_mul(size)));
        if numbers < 1 << 20 {
            let _ = weights.tensor(&name);
        }
    }
}

/// A file of weights in any format.
pub fn weights(bytes: &[u8]) {
    if let Ok(weights) = Weights::open(&file("weights", bytes)) {
        read_all(&weights);
    }
}

/// The pickle of a zip archive with two storages.
pub fn pickle(bytes: &[u8]) {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [("a/data.pkl", bytes), ("a/data/0", &[1; 64]), ("a/data/1", &[2; 7])] {
        zip.start_file(name, stored)
            .and_then(|()| Ok(zip.write_all(content)?))
            .expect("an archive in memory");
    }
    let archive = zip.finish().expect("an archive in memory").into_inner();
    weights(&archive);
}

/// An index of shards, with one shard beside it.
pub fn index(bytes: &[u8]) {
    let shard = folder().join("1.safetensors");
    if !shard.exists() {
        let tensor = tch::Tensor::from_slice(&[1.0_f32, 2.0]);
        save(&shard, &[("w".to_owned(), tensor)], &[]).expect("a shard for the fuzzer");
    }
    if let Ok(weights) = Weights::open_sharded(&file("index.json", bytes)) {
        read_all(&weights);
    }
}

/// Names and shapes, a tensor a line (`name 4 2`), of a model or an adapter in another program's
/// dialect.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut header = serde_json::Map::new();
    let mut end = 0_usize;
    for line in text.lines().take(64) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let shape: Vec<usize> =
            words.filter_map(|word| word.parse().ok()).filter(|&n| n < 9).take(4).collect();
        if name == "__metadata__" || header.contains_key(name) {
            continue;
        }
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry =
            serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.to_owned(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let whole =
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; end]].concat();
    let Ok(weights) = Weights::open(&file("named.safetensors", &whole)) else { return };
    if is_compvis(&weights)
        && let Ok(parts) = from_compvis(&weights, EmaChoice::Auto)
    {
        for part in [&parts.text_encoder, &parts.unet, &parts.vae] {
            read_all(part);
        }
    }
    if let Ok(gan) = read_stylegan(&weights) {
        for part in [Some(&gan.generator), gan.trained.as_ref(), gan.discriminator.as_ref()]
            .into_iter()
            .flatten()
        {
            read_all(part);
        }
        let _ = unsee::model::stylegan2::StyleGan2Config::of(&gan.generator);
    }
    let inward = unet_names_of_compvis(weights.names());
    let _ = weights.names().filter_map(&inward).count();
    if is_lora(&weights) {
        let base =
            ["unet.conv_in.weight", "text_encoder.text_model.encoder.layers.0.mlp.fc1.weight"];
        let zeros = tch::Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu));
        for factors in read_lora(&weights, base.into_iter(), &mut Vec::new()).unwrap_or_default() {
            let _ = factors.added(&weights, &zeros, 0.5);
        }
    }
}

/// Text files: a pipeline, prompts, a scheduler's configuration, a vocabulary.
pub fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = unsee::pipeline::Pipeline::parse("fuzz", text, &[]);
    let _ =
        unsee::pipeline::read_prompts(&file("prompts.csv", bytes), &[], &mut unsee::watch::Quiet);
    if let Ok(config) = serde_json::from_str::<unsee::sampler::SchedulerConfig>(text)
        && config.num_train_timesteps < 5_000
        && let Ok(schedule) = unsee::sampler::Schedule::new(&config)
    {
        for solver in ["ddim", "pndm", "euler", "lms", "heun", "dpm++karras"] {
            if let Ok(solver) = solver.parse() {
                let _ = unsee::sampler::Sampler::new(solver, &schedule, 7);
            }
        }
    }
    let _ = file("tokenizer.json", bytes);
    let _ = unsee::text::Tokenizer::open(&folder(), 77, &mut Vec::new());
}
