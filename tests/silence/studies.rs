//! Studies: what is learned from, what counts twice, what cannot be told apart, what an earlier
//! session left.

use serde_json::{Value, json};
use unsee::pictures::Picture;

use super::runs::{PIPELINE, Study, hash};
use super::tools::{Copy, done, evaluate, fails, has, json, judged, pictures, unsee};

/// A study that learns from the user's pictures, two of each style and object.
fn of_pictures(pictures: &Copy) -> Study {
    let folder = pictures.path.display();
    Study::new(&PIPELINE.replace("[[method]]", &format!("pictures = \"{folder}\"\n[[method]]")))
}

fn canvas() -> Copy {
    let copy = Copy::empty("canvas");
    done(unsee().args(["canvas", "-q", "--per-cell", "2", "--out"]).arg(&copy.path));
    copy
}

/// Another picture to learn from is another study; that some are not learned from, and are cut, is
/// said.
#[test]
fn pictures_to_learn_from_are_part_of_a_run() {
    let canvas = canvas();
    let study = of_pictures(&canvas);
    let said = study.run(&[]);
    has(&said, &["pictures in", "are learned from", "concept.forget_pictures"]);
    let file = canvas.path.join("Mosaic/Cat/1.png");
    let bytes = fs_err::read(&file).unwrap();
    fs_err::copy(canvas.path.join("Crayon/Tree/1.png"), &file).unwrap();
    has(&study.fails(&[]), &["the folder of pictures to learn from has changed", "--out"]);
    fs_err::write(&file, bytes).unwrap();
    has(&study.run(&[]), &["the edit of an earlier session is taken"]);
    Picture::filled(96, 64, [9, 90, 200]).save(&file, &[]).unwrap();
    has(&of_pictures(&canvas).run(&[]), &["1 pictures to learn from are not square"]);
}

/// An edit, a mask and what was kept on the way are of the erasure that made them, and of no other.
#[test]
fn files_of_another_erasure_are_not_taken() {
    let study = Study::new(PIPELINE);
    let other = Study::new(&PIPELINE.replace("style:Mosaic", "style:Woodcut"));
    study.run(&[]);
    other.run(&[]);
    for name in
        ["edits/style-Mosaic-salun.safetensors", "state/style-Mosaic/salun/mask.safetensors"]
    {
        let bytes = fs_err::read(study.out.join(name)).unwrap();
        fs_err::copy(other.out.join(name.replace("Mosaic", "Woodcut")), study.out.join(name))
            .unwrap();
        let edit = fs_err::read(study.out.join("edits/style-Mosaic-salun.safetensors")).unwrap();
        if name.ends_with("mask.safetensors") {
            fs_err::remove_file(study.out.join("edits/style-Mosaic-salun.safetensors")).unwrap();
        }
        has(&study.fails(&[]), &[name, "of another erasure", "remove it"]);
        fs_err::write(study.out.join("edits/style-Mosaic-salun.safetensors"), edit).unwrap();
        fs_err::write(study.out.join(name), bytes).unwrap();
    }
    study.run(&[]);
}

/// The published code trains towards itself, at a constant rate.
#[test]
fn the_official_variant_is_what_it_says() {
    let edit = |sets: &[&str]| {
        let study = Study::new(PIPELINE);
        let mut command = unsee();
        command.arg("run").arg(&study.folder.path).arg("--out").arg(&study.out);
        for set in sets {
            command.args(["--set", set]);
        }
        done(&mut command);
        hash(&study.out.join("edits/style-Mosaic-salun.safetensors"))
    };
    let official = edit(&["method.variant=official"]);
    let said = ["method.variant=official", "method.target_network=current", "method.cooldown=0"];
    assert_eq!(official, edit(&said));
    assert_ne!(official, edit(&["method.variant=official", "method.target_network=frozen"]));
    assert_eq!(edit(&[]), edit(&["method.target_network=frozen", "method.cooldown=0.5"]));
}

/// What counts twice, or is one to the judge or to the model, is refused.
#[test]
fn nothing_counts_twice() {
    for (from, to, words) in [
        ("seeds = [1]", "seeds = [1, 4294967297]", "the same"),
        ("\"Cat\", \"Boat\"", "\"Cat\", \"Boat\", \"cat\"", "the same"),
        ("\"Woodcut\"", "\"Woodcut\", \"wood_cut\", \"Wood cut\"", "the same"),
    ] {
        let study = Study::new(&PIPELINE.replacen(from, to, 1));
        has(&study.fails(&[]), &[words]);
    }
    let names =
        "styles = [\"Oil\", \"Oil_Big\", \"Seed_Images\"]\nobjects = [\"Big_Cat\", \"Cat\"]";
    let text = PIPELINE.replace(
        "styles = [\"Mosaic\", \"Woodcut\", \"Seed_Images\"]\nobjects = [\"Cat\", \"Boat\"]",
        names,
    );
    has(
        &Study::new(&text.replace("style:Mosaic", "style:Oil")).fails(&[]),
        &["the same file names"],
    );
    let folder = pictures();
    let list = folder.beside("files.csv");
    let row = "Mosaic_Cat_seed1.png,A Cat image in Mosaic style.";
    fs_err::write(&list, format!("file,prompt\n{row}\n{row}\n")).unwrap();
    has(
        &fails(&mut evaluate(&folder.path, &["--csv", list.to_str().unwrap()]), 1),
        &["rows 2 and 3", "twice"],
    );
}

/// A picture that no row of the list names is left out, and that is said.
#[test]
fn pictures_that_a_list_does_not_name_are_counted() {
    let folder = pictures();
    let list = folder.beside("files.csv");
    let rows: Vec<String> =
        [("Mosaic", "Cat"), ("Mosaic", "Boat"), ("Woodcut", "Cat"), ("Woodcut", "Boat")]
            .iter()
            .map(|(style, object)| {
                format!("{style}_{object}_seed1.png,A {object} image in {style} style.,1\n")
            })
            .collect();
    fs_err::write(&list, format!("file,prompt,seed\n{}", rows.concat())).unwrap();
    fs_err::copy(folder.path.join("Mosaic_Cat_seed1.png"), folder.path.join("more.png")).unwrap();
    let (_, said) = judged(&folder.path, &["--csv", list.to_str().unwrap()]);
    has(&said, &["1 pictures in the folder are in no row", "more.png"]);
}

/// One object alone: what a judge could only say is no measure.
#[test]
fn measures_by_construction_are_left_out() {
    let folder = pictures();
    for name in ["Mosaic_Boat", "Woodcut_Boat"] {
        fs_err::remove_file(folder.path.join(format!("{name}_seed1.png"))).unwrap();
    }
    let (verdict, said) = judged(&folder.path, &["--objects", "Cat", "--forget", "style:Mosaic"]);
    has(&said, &["CRA of style:Mosaic is left out", "Cat is the one object"]);
    assert!(!verdict["scores"].as_array().unwrap().iter().any(|score| score["measure"] == "CRA"));
    let domains = |of: &Value| {
        of.as_array().unwrap().iter().map(|row| row["domain"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(domains(&verdict["judge"]["on_reference"]), [json!("style")]);
    assert_eq!(
        domains(&judged(&folder.path, &["--objects", "Cat"]).0["agreement"]),
        [json!("style")]
    );
    // Of two pictures nothing is known to the last digit.
    let corrected = verdict["scores"]
        .as_array()
        .unwrap()
        .iter()
        .find(|score| score["measure"] == "UA_corr")
        .unwrap();
    assert!(
        corrected["high"].as_f64().unwrap() - corrected["low"].as_f64().unwrap() > 0.3,
        "{corrected}"
    );
}

/// A run that moves to another version or machine says so; with other memory settings it does not
/// go on.
#[test]
fn a_run_that_moves_says_so() {
    let study = Study::new(PIPELINE);
    study.run(&[]);
    let file = study.out.join("run.json");
    let mut record = json(&file);
    record["build"] = json!("0.0.9+abcdef");
    record["machine"]["processor"] = json!("another one");
    fs_err::write(&file, record.to_string()).unwrap();
    let said = study.run(&[]);
    has(&said, &["unsee was 0.0.9+abcdef", "the processor was another one"]);
    has(&json(&file)["remarks"].to_string(), &["0.0.9+abcdef"]);
    has(&study.fails(&["--memory", "low"]), &["--memory fast", "--memory low"]);
}

const SCREENING: &str = r#"
name = "screened"
[concept]
name = "cats"
pairs = [{ forget = "A Cat image in Mosaic style.", anchor = "A Boat image in Mosaic style." }]
keep = ["A Boat image in Woodcut style."]
forget_pictures = 1
keep_pictures = 1
[prompts]
concept = ["A Cat image in Mosaic style.", "A Cat image in Woodcut style."]
keep = ["A Boat image in Mosaic style."]
[judge]
path = "judge"
shows = ["A Cat image in Mosaic style."]
clear = ["A Boat image in Mosaic style."]
[[method]]
name = "salun"
steps = 2
batch = 2
[draw]
steps = 2
"#;

/// A concept's prompts: what is one to the model, contradicts itself, or is left out.
#[test]
fn prompts_that_are_one_are_refused_and_left_ones_counted() {
    let long = "cat ".repeat(40);
    for (from, to, words) in [
        (
            "\"A Cat image in Woodcut style.\"",
            "\"A Cat image in Mosaic style.\"",
            "the same picture",
        ),
        (
            "keep = [\"A Boat image in Mosaic style.\"]",
            "keep = [\"A Cat image in Mosaic style.\"]",
            "it can be one of them",
        ),
        (
            "clear = [\"A Boat image in Mosaic style.\"]",
            "clear = [\"A Cat image in Mosaic style.\"]",
            "judge.clear",
        ),
        (
            "keep = [\"A Boat image in Woodcut style.\"]",
            "keep = [\"A Cat image in Mosaic style.\"]",
            "concept.keep",
        ),
    ] {
        has(&Study::new(&SCREENING.replace(from, to)).fails(&[]), &[words]);
    }
    let behind = SCREENING
        .replace("forget = \"A Cat image in Mosaic style.\"", &format!("forget = \"{long} one\""))
        .replace("anchor = \"A Boat image in Mosaic style.\"", &format!("anchor = \"{long} two\""));
    has(&Study::new(&behind).fails(&[]), &["reads the same in both"]);
    let texts = SCREENING
        .replace("shows = [\"A Cat image in Mosaic style.\"]", &format!("shows = [\"{long} one\"]"))
        .replace(
            "clear = [\"A Boat image in Mosaic style.\"]",
            &format!("clear = [\"{long} two\"]"),
        );
    has(&Study::new(&texts).fails(&[]), &["same concept to the judge"]);
    let study =
        Study::new(&SCREENING.replace("\"A Cat image in Woodcut style.\"", &format!("\"{long}\"")));
    has(&study.run(&[]), &["longer than the text encoder reads"]);
    // What is judged is none of what is learned from.
    let picture = |name: &str| Picture::open(&study.out.join(name)).unwrap();
    assert_ne!(
        picture("pictures/base/concept/0_0.png").rgb,
        picture("pictures/training/forget/0_0.png").rgb
    );
    let list = study.folder.beside("list.csv");
    let with_list = SCREENING.replace(
        "concept = [\"A Cat image in Mosaic style.\", \"A Cat image in Woodcut style.\"]",
        "concept = \"list.csv\"\nonly = { column = \"share\", least = 50.0 }",
    );
    let study = Study::new(&with_list.replace("list.csv", &list.display().to_string()));
    fs_err::write(
        &list,
        "prompt,share\nA Cat image in Mosaic style.,80\nA Cat image in Woodcut style.,66.7%\n",
    )
    .unwrap();
    has(&study.fails(&[]), &["66.7%", "no number"]);
    fs_err::write(
        &list,
        "prompt,share\nA Cat image in Mosaic style.,80\nA Cat image in Woodcut style.,6.7\n",
    )
    .unwrap();
    has(&study.run(&[]), &["1 of 2 prompts in prompts.concept are taken"]);
}

/// What a grid leaves out is said.
#[test]
fn grids_say_what_they_leave_out() {
    let folder = pictures();
    let out = folder.beside("grid.png");
    let grid = |more: &[&str]| {
        let mut command = unsee();
        command.arg("grid").arg(&folder.path).args(more).arg("--out").arg(&out);
        command
    };
    fs_err::write(folder.path.join("x.gif"), "GIF89a").unwrap();
    has(&done(&mut grid(&["--columns", "1"])).1, &["1 of 4 columns", "x.gif"]);
    fails(&mut grid(&["--columns", "0"]), 2);
    let other = pictures();
    fs_err::remove_file(other.path.join("Woodcut_Boat_seed1.png")).unwrap();
    let (_, said) = done(&mut grid(&[other.path.to_str().unwrap()]));
    has(&said, &["1 of 4 pictures are in not all of the folders", "Woodcut_Boat_seed1"]);
    fails(unsee().args(["canvas", "--per-cell", "0", "--out"]).arg(folder.beside("c")), 2);
}
