//! AdvUnlearn on the toy: what it moves, what it counts, and that it goes on where it stopped.

use std::path::Path;

use serde_json::Value;
use unsee::weights::Weights;

use super::tools::{PIPELINE, disturbed, failure, toy, unsee, with_models, write};

const SALUN: &str = "name = \"salun\"\nsteps = 6\nbatch = 2\nlr = 1e-3";
const ADV_UNLEARN: &str = "name = \"adv-unlearn\"\nsteps = 6\nwarmup = 2\nlr = 1e-3\n\
                           sampling_steps = 4\npool = 6\nretain.pool = 8\nretain.batch = 2\n\
                           attack.steps = 3\n";

fn pipeline(settings: &str) -> String {
    PIPELINE.replace(SALUN, &format!("{ADV_UNLEARN}{settings}"))
}

/// The edit's tensors, and what was found on the way.
fn edit(run: &Path) -> (Vec<String>, Value) {
    let weights = Weights::open(&run.join("edits/style-Mosaic-adv-unlearn.safetensors")).unwrap();
    let recipe: Value = serde_json::from_str(&weights.metadata()["unsee.recipe"]).unwrap();
    (weights.names().map(str::to_owned).collect(), recipe["found"].clone())
}

#[test]
fn it_moves_what_it_is_told_to_and_counts_its_passes() {
    let text = "text_encoder.text_model.encoder.layers.0.";
    for (settings, prefixes, passes) in [
        // Six steps with a retain loss each, and four attacks of three steps.
        ("", vec!["text_encoder."], [24, 24]),
        ("text_encoder = { layers = [0], part = \"attn\" }", vec![text], [24, 24]),
        ("trains = \"unet\"\nunet = \"x-strict\"", vec!["unet."], [24, 24]),
        ("trains = \"both\"\nbase = \"anchor\"", vec!["text_encoder.", "unet."], [24, 24]),
        // A step of its own for what stays after each: as many passes.
        ("retain.form = \"iter\"", vec!["text_encoder."], [24, 24]),
        ("retain.form = \"none\"", vec!["text_encoder."], [18, 18]),
        // Two restarts, which are compared.
        ("attack.restarts = 2\nattack.begin = \"latest\"", vec!["text_encoder."], [44, 36]),
        ("attack.placement = \"add\"", vec!["text_encoder."], [24, 24]),
        (
            "attack.ball = { linf = 0.01 }\nattack.update = \"sign\"\nattack.every = 2",
            vec!["text_encoder."],
            [18, 18],
        ),
        ("variant = \"official\"\nattack.placement = \"suffix\"", vec!["text_encoder."], [24, 24]),
        ("synonyms = [\"tesserae\"]", vec!["text_encoder."], [24, 24]),
    ] {
        let (folder, file) = toy();
        write(&file, &pipeline(settings));
        let out = folder.path().join("run");
        let mut command = with_models(unsee());
        command.args(["run", "-q"]).arg(&file).arg("--out").arg(&out).assert().success();
        let (names, found) = edit(&out);
        let known = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        assert!(
            !names.is_empty() && names.iter().all(|name| known(&name)),
            "{settings}: {names:?}"
        );
        for prefix in prefixes {
            assert!(names.iter().any(|name| name.starts_with(prefix)), "{settings}: {names:?}");
        }
        let counted =
            [&found["unet_forward"], &found["unet_backward"]].map(|n| n.as_f64().unwrap());
        assert_eq!(counted, passes.map(f64::from), "{settings}");
        assert!(found["pool_forward"].as_u64().unwrap() > 0);
        assert!(!out.join("state/style-Mosaic/adv-unlearn/pool").exists());
    }
}

/// Where both learn, the second step has the base's text encoder: the UNet alone moves, so that it
/// holds without one that has forgotten.
#[test]
fn every_second_step_of_both_is_the_unet_s_alone() {
    let after = |steps: u32| {
        let (folder, file) = toy();
        let short = pipeline("trains = \"both\"").replace("steps = 6\nwarm", "steps = STEPS\nwarm");
        write(&file, &short.replace("STEPS", &steps.to_string()));
        let out = folder.path().join("run");
        let mut command = with_models(unsee());
        command.args(["run", "-q"]).arg(&file).arg("--out").arg(&out).assert().success();
        let edit = Weights::open(&out.join("edits/style-Mosaic-adv-unlearn.safetensors")).unwrap();
        let of = |part: &str| -> Vec<Vec<f32>> {
            let names = edit.names().filter(|name| name.starts_with(part));
            names
                .map(|name| Vec::try_from(edit.floats(name).unwrap().flatten(0, -1)).unwrap())
                .collect()
        };
        [of("text_encoder."), of("unet.")]
    };
    let [one, two, three] = [1, 2, 3].map(after);
    assert!(one[0] == two[0] && one[1] != two[1]);
    assert!(two[0] != three[0] && two[1] != three[1]);
}

#[test]
fn it_ends_early_where_attacks_come_nowhere_or_what_stays_is_off() {
    // A mean of twenty attacked steps after the two without attacks, and one of twenty steps.
    for (settings, passes) in [("stop_attack = 1e9", 104.0), ("stop_drift = 1e-15", 94.0)] {
        let (folder, file) = toy();
        write(&file, &pipeline(settings).replace("steps = 6\nwarm", "steps = 30\nwarm"));
        let out = folder.path().join("run");
        let mut command = with_models(unsee());
        command.args(["run", "-q"]).arg(&file).arg("--out").arg(&out).assert().success();
        let found = edit(&out).1;
        assert_eq!(found["unet_forward"].as_f64(), Some(passes), "{settings}: {found}");
    }
}

#[test]
fn killed_while_sampling_or_training_it_ends_with_the_same_edit() {
    let (folder, file) = toy();
    let long =
        pipeline("attack.begin = \"latest\"").replace("steps = 6\nwarmup", "steps = 60\nwarmup");
    write(&file, &long.replace("pool = 6", "pool = 200"));
    let whole = folder.path().join("whole");
    let mut through = with_models(unsee());
    through.args(["run", "-q"]).arg(&file).arg("--out").arg(&whole).assert().success();
    let state = "state/style-Mosaic/adv-unlearn";
    let sampling = |out: &Path| {
        fs_err::read_dir(out.join(state).join("pool/concept")).is_ok_and(|parts| parts.count() > 3)
    };
    let training = |out: &Path| out.join(state).join("scalars.jsonl").exists();
    for signal in ["-KILL", "-INT"] {
        let out = folder.path().join(signal);
        disturbed(("run", &file), &out, &[&sampling, &training], signal);
        let hash = |run: &Path| {
            let file = run.join("edits/style-Mosaic-adv-unlearn.safetensors");
            Weights::open(&file).unwrap().hash().unwrap().to_hex().to_string()
        };
        assert_eq!(hash(&whole), hash(&out), "{signal}");
        assert_eq!(edit(&whole).1, edit(&out).1, "{signal}");
    }
}

#[test]
fn settings_that_are_wrong() {
    for (settings, wanted) in [
        ("attack.count = 0", "1 restarts, one every 1 and 0 tokens"),
        ("attack.ball = { l2 = 0.0 }", "a ball of 0"),
        ("eta = -1.0", "none is negative"),
        ("text_encoder = { layers = [7] }", "no layer 7; its 1 layers are 0 to 0"),
        ("attack.count = 20", "the text encoder reads 14"),
        ("trains = \"vae\"", "unknown variant `vae`"),
    ] {
        let (folder, file) = toy();
        write(&file, &pipeline(settings));
        let mut command = with_models(unsee());
        command.args(["run", "-q"]).arg(&file).arg("--out").arg(folder.path().join("run"));
        let error = failure(command, 1);
        assert!(error.contains(wanted), "{settings}: {error}");
        assert!(!folder.path().join("run/pictures").exists(), "{settings}");
    }
}
