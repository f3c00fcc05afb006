//! Picture files of all kinds, whole and damaged, and what else lies in people's folders.

use std::path::Path;

use unsee::pictures::{Picture, Remarks};

use super::tools::{Copy, done, evaluate, fails, has, json, judged, pictures, score, unsee};

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
}

/// Beside what Pillow shows, turned by `exif_transpose` and laid over white.
#[test]
fn all_usual_kinds_are_read_as_viewers_show_them() {
    let known = json(&golden().join("known.json"));
    assert!(known.as_object().unwrap().len() >= 19);
    for (name, known) in known.as_object().unwrap() {
        let mut remarks = Remarks::default();
        let picture = Picture::open_noting(&golden().join(name), &mut remarks).unwrap();
        assert_eq!(known["size"], serde_json::json!([picture.width, picture.height]), "{name}");
        let hex = known["rgb"].as_str().unwrap();
        let wanted =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap());
        let apart = wanted.zip(&picture.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let most = if name.contains(".jpg") || name == "lossy.webp" { 4 } else { 1 };
        assert!(apart <= most, "{name}: {apart}/255");
        let said = remarks.sentences().join("\n");
        assert_eq!(said.contains("turned"), name.starts_with("turned"), "{name}: {said}");
        let transparent = name.contains("alpha") || name.contains("transparent");
        assert_eq!(said.contains("over white"), transparent, "{name}: {said}");
        assert_eq!(said.contains("it moves"), name.starts_with("moving"), "{name}: {said}");
    }
}

/// Cut off anywhere, or empty: no picture, and the file is named.
#[test]
fn what_is_cut_off_is_no_picture() {
    for name in ["rgb.png", "rgb.jpg", "progressive.jpg", "rgb.webp", "lossy.webp"] {
        let bytes = fs_err::read(golden().join(name)).unwrap();
        let copy = Copy::empty(name);
        // The last bytes of a PNG and of a WebP may be what nothing needs.
        for kept in [0, 10, bytes.len() / 2, bytes.len() * 3 / 4] {
            fs_err::write(&copy.path, &bytes[..kept]).unwrap();
            let error = Picture::open(&copy.path).err().unwrap_or_else(|| panic!("{name}: {kept}"));
            has(&error.to_string(), &[name]);
        }
    }
}

fn jpeg(path: &Path, to: &Path) {
    let picture = Picture::open(path).unwrap();
    let image = image::RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.rgb)
        .unwrap();
    image.save_with_format(to, image::ImageFormat::Jpeg).unwrap();
}

/// A JPEG that is cut in half is neither judged nor a picture of the truth.
#[test]
fn cut_pictures_are_not_judged() {
    let folder = pictures();
    let (from, to) =
        (folder.path.join("Mosaic_Cat_seed1.png"), folder.path.join("Mosaic_Cat_seed1.jpg"));
    jpeg(&from, &to);
    fs_err::remove_file(&from).unwrap();
    assert_eq!(
        score(&judged(&folder.path, &["--forget", "style:Mosaic"]).0, "UA", "erased"),
        Some(0.0)
    );
    let bytes = fs_err::read(&to).unwrap();
    fs_err::write(&to, &bytes[..bytes.len() / 2]).unwrap();
    has(&fails(&mut evaluate(&folder.path, &[]), 1), &["Mosaic_Cat_seed1.jpg", "cut off"]);
    fs_err::remove_file(&to).unwrap();
    fs_err::write(&from, "").unwrap();
    has(&fails(&mut evaluate(&folder.path, &[]), 1), &["Mosaic_Cat_seed1.png"]);
    // The same as reference.
    let whole = pictures();
    let known = whole.beside("canvas");
    fs_err::remove_file(known.join("Mosaic/Cat/1.png")).unwrap();
    fs_err::write(known.join("Mosaic/Cat/1.jpg"), &bytes[..bytes.len() / 2]).unwrap();
    let option = ["--reference", known.to_str().unwrap()];
    has(&fails(&mut evaluate(&whole.path, &option), 1), &["1.jpg", "cut off"]);
}

/// Turned as the camera says, and that is said.
#[test]
fn a_turned_picture_is_judged_upright() {
    let folder = pictures();
    for name in ["Mosaic_Cat_seed1", "Woodcut_Cat_seed1"] {
        let (from, to) =
            (folder.path.join(format!("{name}.png")), folder.path.join(format!("{name}.jpg")));
        let upright = Picture::open(&from).unwrap();
        let image =
            image::RgbImage::from_raw(upright.width as u32, upright.height as u32, upright.rgb)
                .unwrap();
        let lying = image::imageops::rotate270(&image);
        let mut bytes = std::io::Cursor::new(Vec::new());
        lying.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        let bytes = bytes.into_inner();
        // Orientation 6 in an EXIF segment right behind the start.
        let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\
            \x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        fs_err::write(&to, [&bytes[..2], exif, &bytes[2..]].concat()).unwrap();
        fs_err::remove_file(&from).unwrap();
    }
    let (verdict, said) = judged(&folder.path, &["--forget", "object:Cat"]);
    has(&said, &["EXIF", "Mosaic_Cat_seed1.jpg", "1 more"]);
    assert_eq!(score(&verdict, "UA", "erased"), Some(0.0));
}

/// Leftovers of systems and editors, other kinds of files, pictures in folders inside.
#[test]
fn what_lies_beside_the_pictures_is_left_out_and_said() {
    let folder = pictures();
    let plain = judged(&folder.path, &[]).0["agreement"].clone();
    let picture = fs_err::read(folder.path.join("Mosaic_Cat_seed1.png")).unwrap();
    fs_err::create_dir_all(folder.path.join(".ipynb_checkpoints")).unwrap();
    fs_err::create_dir_all(folder.path.join("old")).unwrap();
    for (name, bytes) in [
        ("._Mosaic_Cat_seed1.png", &b"\0\x05\x16\x07"[..]),
        (".ipynb_checkpoints/Woodcut_Cat_seed1-checkpoint.png", &picture),
        ("old/Mosaic_Cat_seed1.png", &picture),
        ("Thumbs.db", b"x"),
        ("notes.txt", b"x"),
        ("film.gif", b"GIF89a"),
    ] {
        fs_err::write(folder.path.join(name), bytes).unwrap();
    }
    let (verdict, said) = judged(&folder.path, &[]);
    assert_eq!(verdict["agreement"], plain);
    has(&said, &["4 files are left out"]);
    let (_, said) =
        done(unsee().arg("evaluate").arg(&folder.path).args(["--unprompted", "--check", "1"]));
    has(&said, &["left out"]);
    // A name that the judge does not know is an error, as one more answer is.
    fs_err::write(folder.path.join("x (1).png"), &picture).unwrap();
    has(&fails(&mut evaluate(&folder.path, &[]), 1), &["x (1).png", "--styles"]);
}

/// All ends that pictures have are read by all commands.
#[test]
fn every_end_of_a_name_is_read() {
    let folder = pictures();
    let plain = judged(&folder.path, &["--forget", "style:Mosaic"]).0["scores"][0]["value"].clone();
    let rename = |name: &str, end: &str| {
        let from = folder.path.join(format!("{name}_seed1.png"));
        let to = folder.path.join(format!("{name}_seed_1.{end}"));
        if end == "PNG" {
            fs_err::copy(&from, &to).unwrap();
        } else if end == "webp" {
            let picture = Picture::open(&from).unwrap();
            let image =
                image::RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.rgb)
                    .unwrap();
            image.save_with_format(&to, image::ImageFormat::WebP).unwrap();
        } else {
            jpeg(&from, &to);
        }
        fs_err::remove_file(from).unwrap();
    };
    rename("Mosaic_Cat", "JPEG");
    rename("Mosaic_Boat", "webp");
    rename("Woodcut_Cat", "jpg");
    rename("Woodcut_Boat", "PNG");
    let (verdict, _) = judged(&folder.path, &["--forget", "style:Mosaic"]);
    assert_eq!(verdict["scores"][0]["value"], plain);
    let out = folder.beside("grid.png");
    done(unsee().arg("grid").arg(&folder.path).arg("--out").arg(&out));
    assert!(Picture::open(&out).unwrap().width > 64);
    let (printed, _) = done(unsee().arg("evaluate").arg(&folder.path).args([
        "--unprompted",
        "--check",
        "1",
        "--json",
    ]));
    let survey: serde_json::Value = serde_json::from_str(&printed).unwrap();
    has(&survey.to_string(), &["\"n\":4"]);
    // One answer twice.
    fs_err::copy(
        folder.path.join("Mosaic_Cat_seed_1.JPEG"),
        folder.path.join("Mosaic_Cat_seed1.jpg"),
    )
    .unwrap();
    has(
        &fails(&mut evaluate(&folder.path, &[]), 1),
        &["Mosaic_Cat_seed1.jpg", "Mosaic_Cat_seed_1.JPEG"],
    );
}

/// An answer that is not there is no zero.
#[test]
fn a_missing_picture_is_an_error() {
    let folder = pictures();
    fs_err::remove_file(folder.path.join("Mosaic_Boat_seed1.png")).unwrap();
    has(&fails(&mut evaluate(&folder.path, &[]), 1), &["1 of 4", "Mosaic_Boat_seed1"]);
}

/// A picture of one colour is no forgetting.
#[test]
fn blank_pictures_are_said_beside_the_score() {
    let folder = pictures();
    for name in ["Mosaic_Cat", "Mosaic_Boat"] {
        Picture::filled(64, 64, [0; 3])
            .save(&folder.path.join(format!("{name}_seed1.png")), &[])
            .unwrap();
    }
    let (verdict, said) = judged(&folder.path, &["--forget", "style:Mosaic"]);
    assert_eq!(score(&verdict, "blank", "erased"), Some(1.0));
    has(&said, &["2 of 2 pictures", "style:Mosaic", "show nothing"]);
}
