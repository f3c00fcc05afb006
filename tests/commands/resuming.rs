//! Whatever disturbs a run, it goes on to the same bytes, or leaves everything as it was.

use std::path::Path;
use std::process::{Command as Process, Stdio};

use super::tools::{
    PIPELINE, disturbed, failure, outcome, pictures, toy, unsee, with_models, write,
};

#[test]
fn killed_or_interrupted_anywhere_it_ends_with_the_same_bytes() {
    let (folder, pipeline) = toy();
    // Longer, so that there is something to interrupt.
    write(&pipeline, &PIPELINE.replace("steps = 6", "steps = 60"));
    let whole = folder.path().join("whole");
    with_models(unsee())
        .args(["run", "-q"])
        .arg(&pipeline)
        .arg("--out")
        .arg(&whole)
        .assert()
        .success();

    let drawing = |out: &Path| pictures(&out.join("pictures/base")) >= 4;
    let to_learn = |out: &Path| pictures(&out.join("pictures/training")) >= 3;
    let training = |out: &Path| {
        fs_err::metadata(out.join("state/style-Mosaic/salun/scalars.jsonl")).is_ok()
            && out.join("state/style-Mosaic/salun/mask.safetensors").exists()
    };
    let erased = |out: &Path| pictures(&out.join("pictures/style-Mosaic-salun")) >= 4;
    let judging = |out: &Path| {
        fs_err::read_to_string(out.join("evidence.jsonl"))
            .is_ok_and(|text| text.lines().count() > 6 + 12)
    };
    let moments: [&dyn Fn(&Path) -> bool; 5] = [&drawing, &to_learn, &training, &erased, &judging];
    for signal in ["-KILL", "-INT"] {
        let out = folder.path().join(signal);
        disturbed(("run", &pipeline), &out, &moments, signal);
        assert_eq!(outcome(&whole), outcome(&out), "{signal}");
        let halves = fs_err::read_dir(&out).unwrap().flatten();
        // What a killed process was writing never has the file's name.
        assert!(
            halves.filter(|e| e.file_name().to_string_lossy().starts_with("grid")).count() == 1
        );
    }
}

#[test]
fn a_folder_of_another_run_or_process_is_left_alone() {
    let (folder, pipeline) = toy();
    let out = folder.path().join("run");
    with_models(unsee())
        .args(["run", "-q"])
        .arg(&pipeline)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    let before = fs_err::read(out.join("scores.json")).unwrap();
    let mut other = with_models(unsee());
    other.args(["run", "--set", "method.lr=0.5"]).arg(&pipeline).arg("--out").arg(&out);
    let text = failure(other, 1);
    assert!(text.contains("`method.salun.lr`") && text.contains("--out"), "{text}");
    assert_eq!(before, fs_err::read(out.join("scores.json")).unwrap());

    let lock = fs_err::File::open(out.join(".lock")).unwrap();
    lock.file().lock().unwrap();
    let mut second = with_models(unsee());
    second.arg("run").arg(&pipeline).arg("--out").arg(&out);
    assert!(failure(second, 1).contains("in use by another unsee"));
}

#[test]
fn a_full_disk_loses_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let status = Process::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(mount.path())
        .stderr(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: a tmpfs cannot be mounted here");
        return;
    }
    let out = mount.path().join("run");
    let (_folder, pipeline) = toy();
    let mut command = with_models(unsee());
    command.arg("run").arg(&pipeline).arg("--out").arg(&out);
    let text = failure(command, 1);
    let there = fs_err::read_dir(&out)
        .map(|entries| entries.flatten().map(|e| e.path()).collect::<Vec<_>>());
    drop(Process::new("umount").arg(mount.path()).status());
    assert!(text.contains("No space left"), "{text}");
    for path in there.unwrap() {
        assert!(!path.ends_with("edits/style-Mosaic-salun.safetensors"), "half a run has an edit");
    }
}
