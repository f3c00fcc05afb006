//! The seeds of the fuzz targets as ordinary tests; `make fuzz` lets them grow.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

#[test]
fn the_seeds_of_every_target_pass() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in [
        ("weights", targets::weights as fn(&[u8])),
        ("pickle", targets::pickle),
        ("index", targets::index),
        ("names", targets::names),
        ("text", targets::text),
    ] {
        let files: Vec<_> = fs_err::read_dir(seeds.join(name)).unwrap().flatten().collect();
        assert!(files.len() > 2, "{name}");
        for file in files {
            target(&fs_err::read(file.path()).unwrap());
        }
    }
}
