//! Help, options, and what the program says of the machine.

use assert_cmd::Command;
use serde_json::Value;

use super::tools::{failure, toy, unsee, with_models};

#[test]
fn every_command_has_help_with_an_example() {
    let all = [
        "demo", "run", "generate", "erase", "evaluate", "grid", "canvas", "train", "label",
        "export", "diff", "inspect", "doctor",
    ];
    for name in all.into_iter().chain(cfg!(feature = "hub").then_some("pull")) {
        let output = unsee().args([name, "--help"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Example:\n  unsee "), "{name}: {text}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    failure(
        {
            let mut c = unsee();
            c.arg("erease");
            c
        },
        2,
    );
    failure(
        {
            let mut c = unsee();
            c.arg("generate");
            c
        },
        2,
    );
    failure(
        {
            let mut c = unsee();
            c.args(["erase", "--forget", "Mosaic"]);
            c
        },
        2,
    );
    failure(
        {
            let mut c = Command::cargo_bin("unsee").unwrap();
            c.args(["doctor", "--precision", "f8"]);
            c
        },
        2,
    );
}

#[test]
fn doctor_speaks_json() {
    let output = unsee().args(["doctor", "--json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["device"], "cpu");
    assert!(found["libtorch_version"].as_str().unwrap().starts_with("2.11.0"));
}

#[test]
fn cuda_that_is_not_there_is_said() {
    if cuda_is_there() {
        println!("skipped: this machine has a GPU");
        return;
    }
    let mut command = Command::cargo_bin("unsee").unwrap();
    command.args(["doctor", "--device", "cuda"]);
    let text = failure(command, 1);
    assert!(text.contains("cuda was asked for and is not available"), "{text}");
}

fn cuda_is_there() -> bool {
    unsee::torch::Device::why_no_cuda().is_none()
}

#[test]
fn plan_does_nothing() {
    let (folder, pipeline) = toy();
    let out = folder.path().join("run");
    let mut command = with_models(unsee());
    let output = command
        .args(["run", "--plan", "--json"])
        .arg(&pipeline)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 12 before, 12 after, 2 prompts × 2 to forget, 4 × 1 to keep
    assert_eq!(plan["pictures"], 12 + 12 + 4 + 4);
    assert_eq!(plan["steps"], 6);
    assert!(!out.exists());
    // Where nothing is left to keep, the plan says what the run would say.
    let mut command = with_models(unsee());
    command.args(["run", "--plan"]).arg(&pipeline).args([
        "--set",
        r#"concept.forget=["style:Mosaic"]"#,
        "--set",
        r#"answers.styles=["Mosaic"]"#,
    ]);
    let error = failure(command, 1);
    assert!(error.contains("the one style that the judge is asked about"), "{error}");
}
