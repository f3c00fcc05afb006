//! Studies of styles and objects.

use std::path::Path;

use serde_json::Value;
use unsee::torch::{Kind, Tensor};
use unsee::weights::Weights;

use super::tools::{PIPELINE, failure, json, models, outcome, toy, unsee, with_models, write};

#[test]
fn a_run_makes_everything_that_it_promises() {
    let (folder, pipeline) = toy();
    let out = folder.path().join("run");
    let mut command = with_models(unsee());
    let output =
        command.arg("run").arg(&pipeline).arg("--out").arg(&out).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["grid"], out.join("grid.png").to_string_lossy().as_ref());

    let record = json(&out.join("run.json"));
    assert_eq!(record["status"], "done");
    assert_eq!(record["schema"], 3);
    assert!(record["phases"].as_array().unwrap().len() >= 6);
    for artifact in record["artifacts"].as_array().unwrap() {
        let bytes = fs_err::read(out.join(artifact["path"].as_str().unwrap())).unwrap();
        assert_eq!(artifact["hash"], blake3::hash(&bytes).to_hex().as_str());
    }
    let evidence = fs_err::read_to_string(out.join("evidence.jsonl")).unwrap();
    assert_eq!(evidence.lines().count(), 2 * 12 + 6);
    for name in ["Mosaic_Cat_seed1", "Seed_Images_Boat_seed2"] {
        for when in ["base", "style-Mosaic-salun"] {
            assert!(out.join("pictures").join(when).join(format!("{name}.png")).exists());
        }
    }
    let scores = json(&out.join("scores.json"));
    let rows = scores["scores"].as_array().unwrap();
    for measure in ["UA", "IRA", "CRA", "CLIP score"] {
        for method in ["base", "salun"] {
            assert!(
                rows.iter().any(|row| row["measure"] == measure
                    && row["method"] == method
                    && row["target"] == "style:Mosaic"),
                "{measure} {method}"
            );
        }
    }
    let ua = rows.iter().find(|row| row["measure"] == "UA").unwrap();
    assert_eq!(ua["n"], 4);
    assert!(scores["judge"]["on_reference"][0]["n"] == 6);

    // Same bytes on a second run; a third, on the finished folder, changes nothing.
    let again = folder.path().join("again");
    with_models(unsee())
        .args(["run", "-q"])
        .arg(&pipeline)
        .arg("--out")
        .arg(&again)
        .assert()
        .success();
    assert_eq!(outcome(&out), outcome(&again));
    let before = fs_err::read(again.join("evidence.jsonl")).unwrap();
    with_models(unsee())
        .args(["run", "-q"])
        .arg(&pipeline)
        .arg("--out")
        .arg(&again)
        .assert()
        .success();
    assert_eq!(before, fs_err::read(again.join("evidence.jsonl")).unwrap());
    runs_are_laid_out_beside_each_other(&out, &again);
}

/// Two runs with one base: its row once, and one for each method of each.
fn runs_are_laid_out_beside_each_other(one: &Path, two: &Path) {
    let heights = [vec![one], vec![one, two]].map(|runs| {
        let sheet = one.join("sheet.png");
        unsee().arg("grid").args(runs).arg("--out").arg(&sheet).assert().success();
        let picture = unsee::pictures::Picture::open(&sheet).unwrap();
        fs_err::remove_file(sheet).unwrap();
        picture.height as i64
    });
    // Title and margins stand once; a row is a picture of 64 pixels, shown twice as large.
    assert!((100..=160).contains(&(heights[1] - heights[0])), "{heights:?}");
    let scores = one.join("scores.json");
    let text = fs_err::read_to_string(&scores).unwrap();
    write(&scores, &text.replacen("\"schema\": 3", "\"schema\": 1", 1));
    let mut command = unsee();
    command.arg("grid").arg(one).args(["--out", "sheet.png"]);
    let error = failure(command, 1);
    assert!(error.contains("its schema is 1, and 3 is read"), "{error}");
}

/// Weights outside SalUn's mask are those of the base to the bit, the others have moved.
#[test]
fn an_erasure_moves_only_what_its_mask_allows() {
    let (folder, _) = toy();
    let out = folder.path().join("run");
    let mut command = with_models(unsee());
    command.args(["erase", "-q", "--forget", "object:Cat", "--out"]).arg(&out);
    for set in [
        "method.name=salun",
        "method.density=0.3",
        "method.steps=5",
        "method.batch=2",
        "method.lr=1e-3",
        "draw.steps=1",
        "concept.forget_pictures=1",
        "concept.keep_pictures=1",
    ] {
        command.args(["--set", set]);
    }
    command.assert().success();
    let edit = Weights::open(&out.join("edits/object-Cat-salun.safetensors")).unwrap();
    let masks = Weights::open(&out.join("state/object-Cat/salun/mask.safetensors")).unwrap();
    let base = Weights::open(&models().join("miniature/unet/diffusion_pytorch_model.safetensors"))
        .unwrap();
    let (mut free, mut all, mut moved) = (0, 0, 0);
    for name in masks.names() {
        let mask = masks.tensor(name).unwrap();
        free += mask.sum(Kind::Int64).int64_value(&[]);
        all += mask.numel() as i64;
        if !edit.contains(name) {
            continue;
        }
        let new = edit.tensor(name).unwrap();
        let old = base.tensor(name.strip_prefix("unet.").unwrap()).unwrap().to_kind(Kind::Float);
        let differs = new.not_equal_tensor(&old);
        let fixed = mask.eq(0);
        assert_eq!(differs.logical_and(&fixed).sum(Kind::Int64).int64_value(&[]), 0, "{name}");
        moved += differs.sum(Kind::Int64).int64_value(&[]);
    }
    let share = free as f64 / all as f64;
    assert!((share - 0.3).abs() < 1e-3, "{share}");
    assert!(moved * 2 > free, "{moved} of {free} moved");
}

#[test]
fn every_option_of_salun_runs() {
    for sets in [
        &["method.variant=official", "method.parameters=xattn"][..],
        &["method.pseudo=next", "method.target_network=current"],
        &["method.pseudo=random", "method.alpha=0", "method.parameters=noxattn"],
        &["method.parameters=selfattn", "method.density=1.0"],
    ] {
        let (folder, pipeline) = toy();
        let mut command = with_models(unsee());
        command.args(["run", "-q"]).arg(&pipeline).arg("--out").arg(folder.path().join("run"));
        for set in sets {
            command.args(["--set", set]);
        }
        command.assert().success();
    }
}

/// Less memory, the same erasure: in `f32` to the last bits with checkpointing, nearly with half
/// moments.
#[test]
fn thrift_changes_little() {
    let folder = tempfile::tempdir().unwrap();
    let erased = |thrift: &str| {
        let out = folder.path().join(thrift);
        let mut command = with_models(unsee());
        command.args([
            "erase",
            "-q",
            "--forget",
            "style:Mosaic",
            "--precision",
            "f32",
            "--memory",
            thrift,
        ]);
        for set in [
            "method.steps=4",
            "method.batch=2",
            "draw.steps=1",
            "concept.forget_pictures=1",
            "concept.keep_pictures=1",
        ] {
            command.args(["--set", set]);
        }
        command.arg("--out").arg(&out).assert().success();
        assert_eq!(json(&out.join("run.json"))["machine"]["memory"], thrift);
        Weights::open(&out.join("edits/style-Mosaic-salun.safetensors")).unwrap()
    };
    let base = Weights::open(&models().join("miniature/unet/diffusion_pytorch_model.safetensors"))
        .unwrap();
    let fast = erased("fast");
    for (thrift, most) in [("balanced", 1e-3), ("low", 0.1)] {
        let other = erased(thrift);
        let (mut apart, mut moved) = (0.0, 0.0);
        for name in fast.names() {
            let original =
                base.tensor(name.strip_prefix("unet.").unwrap()).unwrap().to_kind(Kind::Float);
            let (a, b) = (fast.tensor(name).unwrap(), other.tensor(name).unwrap());
            let square = |x: Tensor| x.square().sum(Kind::Double).double_value(&[]);
            apart += square(&a - b);
            moved += square(a - original);
        }
        let share = (apart / moved).sqrt();
        assert!(share < most, "{thrift}: {share}");
    }
}

#[test]
fn pipelines_that_are_wrong() {
    let (folder, pipeline) = toy();
    let out = folder.path().join("run");
    for (from, to, wanted) in [
        ("[draw]\nsteps", "[draw]\nstepps", "did you mean `steps`?"),
        ("style:Mosaic", "style:Mosiac", "did you mean Mosaic?"),
        ("style:Mosaic", "object:Dragon", "does not know the object `Dragon`"),
        ("style:Mosaic", "Mosaic", "style:NAME"),
        ("batch = 2", "batch = 0", "batch is 0"),
        (
            "name = \"toy\"",
            "name = \"toy\"\n[model]\npath = \"minature\"",
            "neither a folder nor a shipped model",
        ),
        ("check = 1", "check = 1\npath = \"/nowhere\"", "/nowhere"),
        ("check = 1", "check = 1\ndecide = \"guess\"", "use text, prototypes or probe"),
        ("[concept]", "[task", "toy.toml"),
    ] {
        write(&pipeline, &PIPELINE.replacen(from, to, 1));
        let mut command = with_models(unsee());
        command.arg("run").arg(&pipeline).arg("--out").arg(&out);
        let text = failure(command, 1);
        assert!(text.contains(wanted), "{to}: {text}");
    }
    assert!(!out.join("pictures").exists());
}

#[test]
fn a_diverging_training_is_stopped() {
    let (folder, pipeline) = toy();
    write(
        &pipeline,
        &PIPELINE.replace("lr = 1e-3", "lr = 1e30").replace("steps = 6", "steps = 200"),
    );
    let mut command = with_models(unsee());
    command.arg("run").arg(&pipeline).arg("--out").arg(folder.path().join("run"));
    let text = failure(command, 1);
    assert!(text.contains("learning rate"), "{text}");
    assert_eq!(json(&folder.path().join("run/run.json"))["status"], "failed");
    assert!(!folder.path().join("run/edits/style-Mosaic-salun.safetensors").exists());
}
