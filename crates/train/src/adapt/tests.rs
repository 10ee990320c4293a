//! What is read of a list of sentences, what is held out, and the noise that follows from it.

use clap::Parser;

use super::AdaptArgs;
use super::corpus::{groups, noise, split};
use crate::decoder::examples::{Example, Examples};
use crate::embed::Embeddings;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    args: AdaptArgs,
}

fn args(more: &[&str]) -> AdaptArgs {
    let given = ["test", "--bundle", "b", "--text", "t", "--out", "o"];
    Args::parse_from(given.iter().chain(more)).args
}

fn read(text: &[u8]) -> anyhow::Result<(Vec<Vec<String>>, usize)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    groups(file.path())
}

#[test]
fn a_list_without_empty_lines_has_a_scene_a_line() {
    let (groups, n_passed) = read(b"A man  runs.\na man runs\ntwo words\nthe dog sits\r\n\n").unwrap();
    assert_eq!(groups, [["A man runs."], ["the dog sits"]]);
    assert_eq!(n_passed, 2, "one wording twice, one too short");
}

#[test]
fn empty_lines_part_scenes() {
    let (groups, _) = read(b"a man runs\na person jogs by\n\n\nthe dog sits\na dog is sitting\n").unwrap();
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn what_is_no_text_is_refused_where_it_ends_to_be_one() {
    let error = read(b"a man runs\n\xff\xfe\n").unwrap_err().to_string();
    assert!(error.contains("no UTF-8 after byte 11"), "{error}");
}

#[test]
fn whole_scenes_are_held_out_and_nothing_is_on_both_sides() {
    let scenes: Vec<Vec<String>> = (0..20).map(|i| vec![i.to_string(); 1 + i % 3]).collect();
    let (own, held_out) = split(&scenes, 100, 0.1, 1);
    let n: usize = scenes.iter().map(Vec::len).sum();
    assert_eq!(own.len() + held_out.len(), n);
    let mut all: Vec<usize> = own.iter().chain(&held_out).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (100..100 + n).collect::<Vec<_>>());
    let mut at = 100;
    for scene in &scenes {
        let inside = (at..at + scene.len()).filter(|row| held_out.contains(row)).count();
        assert!(inside == 0 || inside == scene.len(), "a scene is cut in two");
        at += scene.len();
    }
    assert_eq!(split(&scenes, 100, 0.1, 1), (own, held_out), "one seed, one split");
}

/// Examples in the plane, at these angles in degrees, in scenes of so many.
fn at_angles(angles: &[f32], n_of_scene: usize) -> Examples {
    let rows: Vec<Vec<f32>> =
        angles.iter().map(|angle| angle.to_radians()).map(|angle| vec![angle.cos(), angle.sin()]).collect();
    let example = |own: usize| {
        let first = own / n_of_scene * n_of_scene;
        Example { tokens: vec![1, 5, 2], n_given: 1, own, rows: first..first + n_of_scene, tags: vec![] }
    };
    let texts = Embeddings::from_rows(&rows).unwrap();
    Examples { rows: (0..angles.len()).map(example).collect(), texts, images: None }
}

#[test]
fn the_noise_is_what_lies_between_captions_of_one_scene() {
    let all: Vec<usize> = (0..4).collect();
    // Scenes are 60 degrees wide and lie 5 degrees apart: what is nearest is not of the scene.
    let (cosine, from) = noise(&args(&[]), &at_angles(&[0.0, 60.0, 65.0, 125.0], 2), &all);
    assert!((cosine - 0.5).abs() < 0.01, "{cosine}");
    assert_eq!(from, "between captions of one scene");
    let (cosine, from) = noise(&args(&[]), &at_angles(&[0.0, 60.0, 120.0, 180.0], 1), &all);
    assert!((cosine - 0.5).abs() < 0.01, "{cosine}");
    assert_eq!(from, "between nearest sentences");
}

#[test]
fn neither_copies_nor_strangers_set_the_noise_beyond_its_limits() {
    let all: Vec<usize> = (0..4).collect();
    assert_eq!(noise(&args(&[]), &at_angles(&[0.0, 0.1, 0.2, 0.3], 1), &all).0, 0.9);
    assert_eq!(noise(&args(&[]), &at_angles(&[0.0, 90.0, 180.0, 270.0], 1), &all).0, 0.45);
    assert_eq!(noise(&args(&["--noise-cosine", "0.6"]), &at_angles(&[0.0, 1.0], 1), &[0, 1]).0, 0.6);
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    for (given, word) in [
        (["--mix", "1"], "--mix"),
        (["--hold-out", "0"], "--hold-out"),
        (["--noise-cosine", "0"], "--noise-cosine"),
        (["--batch", "1"], "--batch"),
        (["--steps", "0"], "--steps"),
    ] {
        assert!(args(&given).check().unwrap_err().to_string().contains(word));
    }
}
