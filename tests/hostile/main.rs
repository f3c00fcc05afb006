//! Files from strangers: each wrong one gives one clear error, soon and in little memory, and
//! nothing in any of them is executed.
//!
//! One test alone in its process, whose peak of memory is looked at in the end.

mod cases;
mod maker;
mod models;
mod pickles;
mod safetensors;

use std::path::Path;
use std::time::{Duration, Instant};

use unsee::torch::{Device, Peak};

use cases::Case;
use maker::Maker;

const SECOND: Duration = Duration::from_secs(1);
const MEMORY: u64 = 200 << 20;

#[test]
fn every_wrong_file_gives_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let make = Maker(folder.path().to_owned());
    drop(fs_err::remove_file("/tmp/executed"));
    let kinds: [fn(&Maker) -> Vec<Case>; 9] = [
        pickles::calls,
        pickles::instructions,
        pickles::tensors,
        pickles::containers,
        safetensors::headers,
        safetensors::of_no_format,
        models::indexes,
        models::models,
        models::adapters,
    ];
    let cases: Vec<Case> = kinds.iter().flat_map(|cases| cases(&make)).collect();
    assert!(cases.len() >= 30);
    Peak::reset(Device::CPU);
    let mut wrong = Vec::new();
    for (what, path, open, wanted) in cases {
        let began = Instant::now();
        let said = open(&path);
        let taken = began.elapsed();
        let memory = Peak::read(Device::CPU).host;
        match said {
            Ok(()) => wrong.push(format!("{what}: nothing was said")),
            Err(text) if !text.contains(wanted) => {
                wrong.push(format!("{what}: `{wanted}` is not in: {text}"));
            }
            Err(text) if text.contains('\n') => {
                wrong.push(format!("{what}: more than a line: {text}"));
            }
            Err(_) if taken > SECOND => wrong.push(format!("{what}: {taken:?}")),
            Err(_) if memory > MEMORY => wrong.push(format!("{what}: {} MiB", memory >> 20)),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!Path::new("/tmp/executed").exists(), "something was executed");
}
