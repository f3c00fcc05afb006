//! A GAN draws, is labelled by hand, and is trained.

use std::path::Path;

use unsee::pictures::Picture;

use super::tools::{disturbed, failure, gan, success, unsee, write};

#[test]
fn a_gan_draws_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let model = gan(folder.path());
    let draw = |out: &str, arguments: &[&str]| {
        let mut command = unsee();
        command.args(["generate", "-q", "--model"]).arg(&model).args(arguments);
        command.arg("--out").arg(folder.path().join(out));
        command
    };
    draw("three", &["--seeds", "1,2,3"]).assert().success();
    draw("alone", &["--seeds", "2", "--batch", "1"]).assert().success();
    draw("mean", &["--seeds", "1,2", "--truncation", "0"]).assert().success();
    let open = |name: &str| Picture::open(&folder.path().join(name)).unwrap();
    let apart = |a: &Picture, b: &Picture| {
        a.rgb.iter().zip(&b.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
    };
    // A picture is its seed's, whatever its company; another seed is another picture, and at the
    // mean less so.
    assert!(apart(&open("three/0_1.png"), &open("alone/0_0.png")) <= 8);
    let different = apart(&open("three/0_0.png"), &open("three/0_1.png"));
    let alike = apart(&open("mean/0_0.png"), &open("mean/0_1.png"));
    assert!(different > 2 * alike && alike > 0, "{different} {alike}");
    let texts = Picture::texts(&folder.path().join("mean/0_1.png")).unwrap();
    let parameters = &texts.iter().find(|(key, _)| key == "parameters").unwrap().1;
    assert!(parameters.starts_with("Seed: 2, Truncation: 0, Size: 16x16"), "{parameters}");

    // Prompts that are empty are a list of prompts still: their seeds would be lost.
    write(&folder.path().join("list.csv"), "prompt,evaluation_seed\n,7\n,8\n");
    for (arguments, wanted) in [
        (&["a cat"][..], "it reads no prompt"),
        (&["--csv", "list.csv"], "no list of prompts"),
        (&["--ema", "no"], "no UNet to choose (ema)"),
        (&["--prediction", "epsilon"], "no prediction"),
        (&["--size", "32x32"], "this StyleGAN2 draws 16x16"),
        (&["--edit", "x.safetensors"], "x.safetensors"),
        (&["--strip", "4"], "at least 2 seeds"),
        (&["--seeds", "1,2", "--strip", "4", "--truncation", "0.5,1"], "at one truncation"),
        (&["--mix", "3@6"], "layers 0 to 5"),
    ] {
        let mut wrong = draw("wrong", arguments);
        wrong.current_dir(folder.path());
        let error = failure(wrong, 1);
        assert!(error.contains(wanted), "{error}");
        assert!(!folder.path().join("wrong").exists());
    }
}

#[test]
fn a_gan_s_sweeps_strips_and_mixes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let model = gan(root);
    let draw = |out: &str, arguments: &[&str]| {
        let mut command = unsee();
        command.args(["generate", "-q", "--seeds", "1,2", "--model"]).arg(&model).args(arguments);
        command.arg("--out").arg(root.join(out)).assert().success();
    };
    let open = |name: &str| Picture::open(&root.join(name)).unwrap();
    draw("plain", &[]);
    draw("sweep", &["--truncation", "0,0.5,1"]);
    assert_eq!(open("sweep/truncation 1_1.png"), open("plain/0_1.png"));
    let mut grid = unsee();
    grid.args(["grid", "--rows", "seed", "--out"])
        .arg(root.join("grid.png"))
        .arg(root.join("sweep"));
    grid.assert().success();
    // A strip begins with the first seed; its end has the second's style under the first's noise.
    draw("strip", &["--strip", "3"]);
    assert_eq!(open("strip/0_0.png"), open("plain/0_0.png"));
    assert_ne!(open("strip/0_1.png"), open("strip/0_2.png"));
    // From the first layer that can be another's on, all but the coarsest is: the seed itself stays
    // as it was.
    draw("mix", &["--mix", "2@3"]);
    assert_eq!(open("mix/0_1.png"), open("plain/0_1.png"));
    assert_ne!(open("mix/0_0.png"), open("plain/0_0.png"));
    let texts = Picture::texts(&root.join("mix/0_0.png")).unwrap();
    assert!(texts.iter().any(|(_, text)| text.contains("seed 2's from layer 3")), "{texts:?}");
}

#[test]
fn samples_are_labelled_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let label = |arguments: &[&str]| {
        let mut command = unsee();
        command.args(["label", "-q"]).arg(root.join("pages")).args(arguments);
        command
    };
    let error = failure(label(&["--shows", "1"]), 1);
    assert!(error.contains("draw its pages first"), "{error}");
    let model = gan(root).display().to_string();
    let said = success(label(&["--model", &model, "--samples", "70", "--first", "5"]));
    assert!(said.contains("page-001.png") && said.contains("page-002.png"), "{said}");
    let said = success(label(&["--shows", "1, 3-4,70"]));
    assert!(said.contains("4 show it, 66 do not"), "{said}");
    let labels = fs_err::read_to_string(root.join("pages/labels.csv")).unwrap();
    let seeds: Vec<&str> = labels.lines().map(|line| line.rsplit_once(',').unwrap().0).collect();
    assert_eq!(seeds[..6], ["seed,shows", "5,1", "6,0", "7,1", "8,1", "9,0"], "{labels}");
    for (numbers, wanted) in [("71", "from 1 to 70"), ("a", "no number"), ("", "0 of 70")] {
        let error = failure(label(&["--shows", numbers]), 1);
        assert!(error.contains(wanted), "{error}");
    }
    assert_eq!(labels, fs_err::read_to_string(root.join("pages/labels.csv")).unwrap());
    let error = failure(label(&["--model", "miniature", "--samples", "7"]), 1);
    assert!(error.contains("no StyleGAN2"), "{error}");
    let error = failure(label(&["--model", &model, "--first", "2147483600", "--samples", "60"]), 1);
    assert!(error.contains("choose a lower --first"), "{error}");
}

/// Everything that the miniature GAN's recipe has, for a moment each.
const GAN_RECIPE: &str = r"
seed = 3
canvas_seed = 1
aligned = true
[gan]
training = { steps = 60, batch = 4, lr = 1e-3, per_cell = 1 }
cooldown = 0.5
size = 16
style_dim = 48
mapping_layers = 2
channels = [8, 8, 8]
config = { discriminator_warmup = 4, d_reg_every = 4, g_reg_every = 4 }
conditioned_share = 0.5
shape_weight = 1.0
grain_weight = 1.0
mapping_steps = 60
reconstruction = [
  { steps = 60, batch = 4, lr = 1e-3, coarsest = 8, stripe_probe = 0.3 },
  { steps = 4, batch = 4, lr = 1e-3, coarsest = 16, noise_energy = 1.0 },
]
sample_every = 20
[labeller]
canvas_seed = 4
tokens = 32
[labeller.clip]
training = { steps = 2, batch = 4, lr = 1e-3, per_cell = 1 }
text = [32, 1]
vision = [32, 1]
patch = 16
";

#[test]
fn a_gan_s_training_stopped_anywhere_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("gan.toml");
    write(&recipe, GAN_RECIPE);
    let whole = folder.path().join("whole");
    disturbed(("train", &recipe), &whole, &[], "");
    let started = |part: &'static str| {
        move |out: &Path| out.join("training").join(part).join("scalars.jsonl").exists()
    };
    let (regions, tracing, contest) = (started("regions"), started("tracing"), started("gan"));
    let moments: [&dyn Fn(&Path) -> bool; 3] = [&regions, &tracing, &contest];
    // One that is interrupted saves and goes on; one that is killed so soon begins its part anew.
    for signal in ["-INT", "-KILL"] {
        let out = folder.path().join(signal);
        assert_eq!(disturbed(("train", &recipe), &out, &moments, signal), 3, "{signal}");
        for file in ["miniature-gan/stylegan2.safetensors", "labeller/model.safetensors"] {
            let [a, b] = [&whole, &out].map(|root| fs_err::read(root.join(file)).unwrap());
            assert!(a == b, "{signal}: {file} is another one");
        }
    }
}
