//! Options that make no sense, interruptions, full disks.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use super::tools::{Copy, fails, has, shipped, unsee};

/// What makes no sense is a usage error with the range that does, and begins nothing.
#[test]
fn numbers_out_of_range_are_usage_errors() {
    for (option, value, words) in [
        ("--threads", "0", "1 to"),
        ("--threads", "100000", "1 to"),
        ("--threads", "x", "1 to"),
        ("--size", "100000x100000", "8"),
        ("--size", "0x64", "8"),
        ("--size", "64", "512x512"),
        ("--batch", "0", "batch"),
        ("--seeds", "", "seed"),
        ("--seeds", "5-1", "seed"),
        ("--guidance", "nan", "guidance"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let mut command = assert_cmd::Command::cargo_bin("unsee").unwrap();
        command
            .args(["generate", "a cat", &format!("{option}={value}"), "--out"])
            .arg(out.path().join("o"));
        let text = fails(&mut command, 2);
        has(&text, &[option, words]);
        assert!(!out.path().join("o").exists());
    }
}

/// Options of another kind of model, or of another kind of command, are refused by name.
#[test]
fn options_without_effect_are_refused_or_said() {
    let out = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["generate", "x", "--truncation", "0.5"][..], "--truncation"),
        (&["generate", "x", "--strip", "3"], "--strip"),
        (&["generate", "x", "--config", "miniature"], "config"),
        (&["generate", "x", "--ema", "yes"], "ema"),
        (&["generate", "--seeds", "1", "--model", "miniature-gan", "--steps", "3"], "--steps"),
        (
            &["generate", "--seeds", "1", "--model", "miniature-gan", "--guidance", "3"],
            "--guidance",
        ),
        (
            &["generate", "--seeds", "1", "--model", "miniature-gan", "--negative", "x"],
            "--negative",
        ),
        (&["export", "--rank", "4", "--as", "folder"], "--rank"),
        (&["export", "--as", "lora", "--dialect", "peft"], "edit"),
    ] {
        let mut command = unsee();
        command.args(arguments);
        if arguments[0] == "generate" {
            command.arg("--out");
        }
        let output = command.arg(out.path().join("o")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {text}");
        has(&text, &[words]);
        assert!(!out.path().join("o").exists(), "{arguments:?}");
    }
    let mut command = unsee();
    command.args(["generate", "x", "--negative", "y", "--guidance", "1", "--steps", "1", "--out"]);
    let (_, said) = super::tools::done(command.arg(out.path().join("n")));
    has(&said, &["--negative has no effect"]);
}

fn spawn(arguments: &[&str], out: &std::path::Path) -> Child {
    Process::new(env!("CARGO_BIN_EXE_unsee"))
        .args(["--device", "cpu", "--threads", "1"])
        .args(arguments)
        .arg(out)
        .env("UNSEE_MODELS", shipped("miniature").parent().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Ctrl-C twice, at any moment: always 130, and nothing half-written stays.
#[test]
fn interrupted_twice_it_ends_cleanly() {
    let interrupt = |child: &Child| {
        let status = Process::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(status.unwrap().success());
    };
    let mut stopped = 0;
    for n in 0..24_u64 {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("o");
        let mut child = match n % 2 {
            0 => spawn(&["generate", "a cat", "--seeds", "0-999", "--batch", "4", "--out"], &out),
            _ => spawn(&["export", "--model", "miniature", "--as", "folder"], &out),
        };
        std::thread::sleep(Duration::from_millis(15 + 23 * n));
        if child.try_wait().unwrap().is_none() {
            interrupt(&child);
            std::thread::sleep(Duration::from_millis(10));
            if child.try_wait().unwrap().is_none() {
                interrupt(&child);
            }
        }
        // Before the program itself begins, the system ends it: shells call that 130 too.
        let status = child.wait().unwrap();
        let code = status.signal().map(|signal| 128 + signal).or(status.code());
        // An export may have ended before.
        assert!(code == Some(130) || (n % 2 == 1 && code == Some(0)), "{n}: {code:?}");
        stopped += usize::from(code == Some(130));
        let mut left = vec![folder.path().to_path_buf()];
        while let Some(path) = left.pop() {
            assert!(!path.to_string_lossy().contains(".half-"), "{n}: {}", path.display());
            if path.is_dir() {
                left.extend(fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
    assert!(stopped >= 12, "{stopped}");
}

/// A canvas that was interrupted goes on where it was, and says so truly.
#[test]
fn a_canvas_goes_on() {
    let folder = Copy::empty("canvas");
    let canvas = || {
        let mut command = unsee();
        command.args(["canvas", "--per-cell", "1", "--out"]).arg(&folder.path);
        super::tools::done(&mut command).1
    };
    canvas();
    let (kept, gone) =
        (folder.path.join("Mosaic/Boat/1.png"), folder.path.join("Mosaic/Cat/1.png"));
    let (time, bytes) =
        (fs_err::metadata(&kept).unwrap().modified().unwrap(), fs_err::read(&gone).unwrap());
    fs_err::remove_file(&gone).unwrap();
    canvas();
    assert_eq!(fs_err::metadata(&kept).unwrap().modified().unwrap(), time);
    assert_eq!(fs_err::read(&gone).unwrap(), bytes);
}

/// Nothing of a user's own is overwritten by an option that names an output.
#[test]
fn outputs_do_not_overwrite_other_files() {
    let folder = super::tools::pictures();
    let theirs = folder.beside("thesis.png");
    fs_err::write(&theirs, "a thesis").unwrap();
    for arguments in [
        &["canvas", "--sheet"][..],
        &["grid", folder.path.to_str().unwrap(), "--out"],
        &["export", "--as", "single-file"],
    ] {
        let mut command = unsee();
        let text = fails(command.args(arguments).arg(&theirs), 1);
        has(&text, &["thesis.png"]);
        assert_eq!(fs_err::read_to_string(&theirs).unwrap(), "a thesis");
    }
    let full = folder.beside("full");
    fs_err::create_dir(&full).unwrap();
    fs_err::write(full.join("notes.txt"), "mine").unwrap();
    for arguments in [
        &["generate", "x", "--steps", "1", "--out"][..],
        &["canvas", "--per-cell", "1", "--out"],
        &["export"],
    ] {
        let output = unsee().args(arguments).arg(&full).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(fs_err::read_to_string(full.join("notes.txt")).unwrap(), "mine");
        if output.status.success() {
            assert_ne!(arguments[0], "export", "{text}");
        }
    }
}

/// A full disk is an error that names the file.
#[test]
fn a_full_disk_names_the_file() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = Process::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48k", "tmpfs"])
        .arg(mount.path())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        #[expect(clippy::print_stdout, reason = "says what is skipped")]
        {
            println!("skipped: a tmpfs cannot be mounted here");
        }
        return;
    }
    let mut command = unsee();
    command
        .args(["generate", "a cat", "--seeds", "0-30", "--steps", "1", "--out"])
        .arg(mount.path().join("o"));
    let output = command.output().unwrap();
    let left: Vec<String> = fs_err::read_dir(mount.path().join("o"))
        .map(|entries| {
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    drop(Process::new("umount").arg(mount.path()).status());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    has(&text, &["No space left", ".png"]);
    assert!(!left.iter().any(|name| name.contains(".half-")), "{left:?}");
}
