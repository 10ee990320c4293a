//! Evaluations of a tiny bundle on invented photos and captions.

use std::path::Path;

use clap::Parser;

use super::*;
use crate::report::saved::{self, Saved};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: EvalArgs,
}

/// A folder with a bundle and six photos in two splits.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    caption::testing::write_tiny_bundle(&dir.path().join("bundle"), 1).unwrap();
    std::fs::create_dir(dir.path().join("images")).unwrap();
    let mut lines = Vec::new();
    for idx in 0..6u8 {
        let name = format!("{idx}.png");
        let photo =
            image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([40 * idx, 16 * x as u8, 16 * y as u8]));
        photo.save(dir.path().join("images").join(&name)).unwrap();
        let split = if idx < 2 { "train" } else { "dev" };
        let captions = ["a dog runs on grass", "the dog runs", "a red ball on the grass"];
        lines.push(
            serde_json::json!({"image": name, "source": "toy", "split": split, "captions": captions})
                .to_string(),
        );
    }
    std::fs::write(dir.path().join("pairs.jsonl"), lines.join("\n")).unwrap();
    dir
}

fn evaluate(dir: &Path, more: &[&str]) -> anyhow::Result<saved::Evaluation> {
    let (bundle, out) = (dir.join("bundle"), dir.join("out.json"));
    let mut args = vec!["eval", "--bundle", bundle.to_str().unwrap(), "--data", dir.to_str().unwrap()];
    args.extend(["--source", "toy", "--seed-of-run", "3", "--out", out.to_str().unwrap()]);
    args.extend(more);
    run(&Cli::try_parse_from(args)?.args)?;
    match saved::read(&out)? {
        Saved::Evaluation(evaluation) => Ok(*evaluation),
        other => anyhow::bail!("no evaluation: {other:?}"),
    }
}

#[test]
fn an_evaluation_is_saved_with_its_places_and_scores_but_no_caption() {
    let dir = folder();
    let found = evaluate(dir.path(), &["--group", "presets", "noise", "--label", "capdec", "0.45"]).unwrap();
    let places: Vec<_> = found.places.iter().map(|place| (&*place.group, &*place.label)).collect();
    assert_eq!(places, [("presets", "capdec"), ("noise", "0.45")]);
    assert_eq!((found.seed, found.n_photos, found.cider_d_per_photo.len()), (3, 4, 4));
    let mean = found.cider_d_per_photo.iter().sum::<f64>() / 4.0;
    assert!((mean - found.scores.cider_d).abs() < 1e-3, "{mean} is not {}", found.scores.cider_d);
    assert_eq!(found.retrieval.unwrap().n_images, 4);
    let text = std::fs::read_to_string(dir.path().join("out.json")).unwrap();
    assert!(!text.contains("grass"), "a caption stands in {text}");
    assert!(!text.contains(dir.path().to_str().unwrap()), "a folder of the machine stands in {text}");
}

#[test]
fn kept_views_give_the_scores_of_fresh_ones() {
    let dir = folder();
    let views = dir.path().join("views");
    let mut fresh = evaluate(dir.path(), &["--views", views.to_str().unwrap()]).unwrap();
    assert_eq!(std::fs::read_dir(&views).unwrap().count(), 1);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    let kept = evaluate(dir.path(), &["--views", views.to_str().unwrap()]).unwrap();
    fresh.wall_s = kept.wall_s;
    assert_eq!(fresh, kept);
}

#[test]
fn a_text_input_is_scored_against_the_other_captions_and_sees_no_photo() {
    let dir = folder();
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    let found = evaluate(dir.path(), &["--input", "text"]).unwrap();
    assert_eq!((found.input, found.n_photos), (Input::Text, 4));
    assert_eq!(found.retrieval, None);
    assert_ne!(found.photos_sha256, "");
}

#[test]
fn a_group_without_a_label_is_refused() {
    let dir = folder();
    let error = evaluate(dir.path(), &["--group", "presets"]).unwrap_err();
    assert_eq!(error.to_string(), "--group names 1 tables, --label 0 rows: one each is needed");
}
