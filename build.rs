//! Compiles the C++ shim against the libtorch that `make` put into `.libtorch` (or `LIBTORCH`),
//! after checking that it is the version this program is written for.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

const WANTED: &str = "2.11.0";
const SOURCES: [&str; 2] = ["src/torch/shim.cpp", "src/torch/fused.cpp"];

fn main() {
    for file in SOURCES.iter().chain(&["src/torch/guarded.h"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    // The commit that runs note: HEAD names a branch, and the log has a line for each commit of it.
    for file in [".git/HEAD", ".git/logs/HEAD"].iter().filter(|file| Path::new(file).exists()) {
        println!("cargo::rerun-if-changed={file}");
    }

    let target = env::var("TARGET").unwrap_or_default();
    if target != "x86_64-unknown-linux-gnu" {
        fail(&format!("unsee is built for x86_64-unknown-linux-gnu so far, not for {target}"));
    }
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        fail("torch-sys did not say where libtorch is; run `make setup` first");
    };
    let root = lib.parent().map(Path::to_path_buf).unwrap_or_default();
    let root = fs::canonicalize(&root).unwrap_or_else(|_| {
        fail(&format!(
            "there is no libtorch at {}; run `make setup`, or set LIBTORCH to a folder with \
             libtorch {WANTED}",
            root.display()
        ))
    });
    let found = version(&root);
    if !found.starts_with(WANTED) {
        fail(&format!(
            "libtorch at {} is {found}, unsee needs {WANTED}; run `make setup`, or set LIBTORCH to \
             a folder with libtorch {WANTED}",
            root.display()
        ));
    }

    let include = root.join("include");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flag("-Wno-unused-parameter")
        .flag("-fno-trapping-math") // no one looks at floating-point flags, and loops with choices vectorise
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(SOURCES);
    // libtorch's parallel loops are inline and become OpenMP here. Its pool of threads is GNU's;
    // another compiler's OpenMP would bring a second pool, so that its loops run on one thread
    // instead.
    if build.get_compiler().is_like_gnu() {
        build.flag("-fopenmp");
        println!("cargo::rustc-link-lib=gomp");
    }
    build.compile("unsee_shim");
    let lib = root.join("lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::rustc-env=UNSEE_LIBTORCH={}", lib.display());
    println!("cargo::rustc-env=UNSEE_LIBTORCH_VERSION={found}");
    println!("cargo::rustc-env=UNSEE_COMMIT={}", commit());
}

/// The version that the wheel (`version.py`) or the zip (`build-version`) states.
fn version(root: &Path) -> String {
    if let Ok(text) = fs::read_to_string(root.join("build-version")) {
        return text.trim().to_owned();
    }
    let text = fs::read_to_string(root.join("version.py")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("__version__ = ")).map_or_else(
        || "of an unknown version".to_owned(),
        |v| v.trim_matches(['\'', '"']).to_owned(),
    )
}

fn commit() -> String {
    process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|out| out.status.success())
        .and_then(|out| String::from_utf8(out.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    process::exit(1);
}
