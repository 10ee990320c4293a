//! The command without its detector: photos and detections are invented.

use image::{Rgb, RgbImage};

use super::bank::{Photo, Thing};
use super::*;
use crate::rect::Rect;

const CAPTIONS: [&str; 8] = [
    "a dog runs over the green grass",
    "two dogs beside a man",
    "a man rides a red bicycle down the street",
    "a cyclist in a helmet on a road",
    "the mountains behind the clouds",
    "a woman looks at her bike",
    "a puppy and three children",
    "a crowd of people in the street",
];

/// Photos of plain colours with a thing each, their detections, a corpus and a dev split.
fn toy_data(dir: &Path) -> Bank {
    std::fs::create_dir_all(dir.join("images")).unwrap();
    std::fs::create_dir_all(dir.join("text")).unwrap();
    let mut photos = Vec::new();
    for (idx, label) in ["person", "dog", "bicycle", "person", "bus"].into_iter().enumerate() {
        let image = PathBuf::from(format!("{idx}.png"));
        let area = Rect::new(8.0, 8.0, 30.0, 40.0);
        let level = 40 * idx as u8;
        let pixels = RgbImage::from_fn(64, 56, |x, y| {
            let is_thing = (8..38).contains(&x) && (8..48).contains(&y);
            Rgb([level, if is_thing { 255 } else { 0 }, 4 * x as u8])
        });
        pixels.save(dir.join("images").join(&image)).unwrap();
        let thing = Thing { label: label.to_owned(), score: 0.5 + 0.1 * idx as f32, area };
        photos.push(Photo { image, width: 64, height: 56, things: vec![thing] });
    }
    let dev = r#"{"image": "x.jpg", "source": "toy", "split": "dev", "captions": ["A fish"]}"#;
    std::fs::write(dir.join("pairs.jsonl"), dev).unwrap();
    let file = std::fs::File::create(dir.join("text/corpus.jsonl.gz")).unwrap();
    let mut corpus = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for text in CAPTIONS {
        writeln!(corpus, "{}", serde_json::json!({"text": text, "source": "toy", "image_id": ""})).unwrap();
    }
    corpus.finish().unwrap();
    Bank::new(photos)
}

fn args(dir: &Path, out: &str, n: usize, seed: u64) -> SynthArgs {
    SynthArgs { data: dir.to_owned(), out: dir.join(out), n, sources: vec!["toy".to_owned()], seed }
}

fn pairs(dir: &Path, out: &str) -> Vec<Pair> {
    data::pairs(&dir.join(out), "train").unwrap()
}

/// Names and bytes of everything in the folder, sorted.
fn files(dir: &Path, out: &str) -> Vec<(String, Vec<u8>)> {
    let images = std::fs::read_dir(dir.join(out).join("images")).unwrap();
    let mut paths: Vec<PathBuf> = images.map(|entry| entry.unwrap().path()).collect();
    paths.push(dir.join(out).join("pairs.jsonl"));
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

#[test]
fn every_pair_has_an_image_of_the_encoders_size_and_a_caption_that_names_a_thing() {
    let dir = tempfile::tempdir().unwrap();
    let bank = toy_data(dir.path());
    assert_eq!(fill(&args(dir.path(), "out", 100, 1), &bank).unwrap(), (0, 7));
    let pairs = pairs(dir.path(), "out");
    assert_eq!(pairs.len(), 7);
    for pair in pairs {
        assert_eq!((pair.source.as_str(), pair.captions.len()), ("synth", 1));
        assert!(!pair.captions[0].contains("mountains"), "it names nothing of the detector's classes");
        let image = image::open(dir.path().join("out/images").join(&pair.image)).unwrap();
        assert_eq!((image.width(), image.height()), (224, 224));
    }
}

#[test]
fn one_seed_gives_one_folder_and_another_seed_another() {
    let dir = tempfile::tempdir().unwrap();
    let bank = toy_data(dir.path());
    for (out, seed) in [("first", 1), ("again", 1), ("other", 2)] {
        fill(&args(dir.path(), out, 5, seed), &bank).unwrap();
    }
    assert!(files(dir.path(), "first") == files(dir.path(), "again"));
    assert!(files(dir.path(), "first") != files(dir.path(), "other"));
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let bank = toy_data(dir.path());
    fill(&args(dir.path(), "whole", 6, 1), &bank).unwrap();
    fill(&args(dir.path(), "parts", 4, 1), &bank).unwrap();
    // Half a line, and an image whose line says that it is complete.
    let path = dir.path().join("parts/pairs.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend(b"{\"image\": \"0000");
    std::fs::write(&path, text).unwrap();
    std::fs::remove_file(dir.path().join("parts/images/000003.jpg")).unwrap();
    assert_eq!(fill(&args(dir.path(), "parts", 6, 1), &bank).unwrap(), (3, 3));
    assert!(files(dir.path(), "whole") == files(dir.path(), "parts"));
    assert_eq!(fill(&args(dir.path(), "parts", 2, 1), &bank).unwrap(), (6, 0), "what is there is kept");
    assert!(files(dir.path(), "whole") == files(dir.path(), "parts"));
}

#[test]
fn a_folder_of_another_seed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = toy_data(dir.path());
    fill(&args(dir.path(), "out", 5, 1), &bank).unwrap();
    let error = fill(&args(dir.path(), "out", 5, 2), &bank).unwrap_err().to_string();
    assert!(error.contains("other arguments"), "{error}");
}

#[test]
fn captions_without_a_thing_of_the_bank_are_refused_by_their_number() {
    let dir = tempfile::tempdir().unwrap();
    toy_data(dir.path());
    let empty = Bank::new(vec![Photo { image: "0.png".into(), width: 64, height: 56, things: Vec::new() }]);
    let error = fill(&args(dir.path(), "out", 5, 1), &empty).unwrap_err().to_string();
    assert!(error.contains("none of 8 captions"), "{error}");
}
