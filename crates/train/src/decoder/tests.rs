//! What must hold between the switches of the pipeline, whatever is trained.

use burn::tensor::Device;
use caption::{Memory, normal, normalize};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::batch::{Batch, Row, Shown, TrainingMemory, padded};
use super::examples::{Example, Examples};
use crate::embed::Embeddings;
use crate::export::values;
use crate::memory;
use crate::recipe::{Centre, MemoryUse, NoiseFrom, Preset, Recipe, Switches, Target};
use crate::training::step_rng;

const DIM: usize = 16;
const N: usize = 12;

fn unit_rows(n: usize, seed: u64) -> Embeddings {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows: Vec<Vec<f32>> = (0..n)
        .map(|_| {
            let mut row: Vec<f32> = (0..DIM).map(|_| normal(&mut rng)).collect();
            normalize(&mut row);
            row
        })
        .collect();
    Embeddings::from_rows(&rows).unwrap()
}

/// Sentences of two or three tokens, three of each photo.
fn examples() -> Examples {
    let rows = (0..N)
        .map(|own| {
            let first = own / 3 * 3;
            let tokens = if own % 2 == 0 { vec![1, 5, 6, 2] } else { vec![1, 7, 2] };
            Example { tokens, n_given: 1, own, rows: first..first + 3, tags: vec![] }
        })
        .collect();
    Examples { rows, texts: unit_rows(N, 3), images: None }
}

fn batch(recipe: &Recipe, examples: &Examples, memory: Option<TrainingMemory>) -> Batch {
    let mean = examples.texts.mean();
    let shown = Shown { recipe, examples, mean, memory, prompt: None };
    shown.batch(&(0..N).collect::<Vec<_>>(), &mut step_rng(5, 0), &Device::flex()).unwrap()
}

fn inputs(recipe: &Recipe) -> Vec<f32> {
    values(batch(recipe, &examples(), None).inputs).unwrap()
}

#[test]
fn maccap_with_one_region_shows_what_capdec_shows() {
    let one = Switches { regions: Some(1), ..Switches::default() }.recipe(Preset::Maccap);
    assert_eq!(inputs(&one), inputs(&Recipe::of(Preset::Capdec)));
}

#[test]
fn regions_are_copies_with_noise_of_their_own() {
    let rows = inputs(&Recipe::of(Preset::Maccap));
    assert_eq!(rows.len(), N * 10 * DIM);
    assert_ne!(rows[..DIM], rows[DIM..2 * DIM]);
}

#[test]
fn without_noise_the_embedding_itself_is_shown() {
    let shown = inputs(&Recipe::of(Preset::Text));
    let own: Vec<f32> = (0..N).flat_map(|row| examples().texts.row(row).collect::<Vec<f32>>()).collect();
    assert_eq!(shown, own);
}

#[test]
fn a_sibling_is_another_caption_of_the_same_photo() {
    let examples = examples();
    let mut rng = step_rng(1, 0);
    for idx in (0..N).cycle().take(200) {
        let row = examples.input_rows(idx, Target::Sibling, &mut rng)[0];
        assert!(row != idx && row / 3 == idx / 3, "{row} for {idx}");
        assert_eq!(examples.input_rows(idx, Target::Own, &mut rng), [idx]);
    }
}

#[test]
fn the_rest_is_every_other_caption_of_the_photo() {
    let examples = examples();
    let mut rng = step_rng(1, 0);
    assert_eq!(examples.input_rows(4, Target::Rest, &mut rng), [3, 5]);
    let recipe = Recipe { target: Target::Rest, ..Recipe::of(Preset::Text) };
    let shown = inputs(&recipe);
    let mut mean: Vec<f32> =
        examples.texts.row(3).zip(examples.texts.row(5)).map(|(a, b)| (a + b) / 2.0).collect();
    normalize(&mut mean);
    assert!(std::iter::zip(&shown[4 * DIM..], &mean).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn noise_from_captions_turns_a_sentence_the_way_that_captions_differ() {
    let mut examples = examples();
    // Captions of one photo differ in two coordinates alone.
    let rows: Vec<Vec<f32>> = (0..N)
        .map(|i| {
            let mut row = vec![0.5; DIM];
            row[i % 2] += 0.3 + i as f32 * 0.1;
            normalize(&mut row);
            row
        })
        .collect();
    examples.texts = Embeddings::from_rows(&rows).unwrap();
    let cosine = 0.8;
    let recipe =
        Recipe { noise_cosine: [cosine; 2], noise_from: NoiseFrom::Captions, ..Recipe::of(Preset::Text) };
    let shown = values(batch(&recipe, &examples, None).inputs).unwrap();
    for (row, shown) in shown.chunks_exact(DIM).enumerate() {
        let same: f32 = examples.texts.row(row).zip(shown).map(|(a, b)| a * b).sum();
        assert!((same - cosine).abs() < 1e-3, "{same}");
        let spread = |values: &[f32]| values.iter().map(|x| (x - values[0]).abs()).fold(0.0, f32::max);
        assert!(spread(&shown[2..]) < 1e-3 && spread(&shown[..3]) > 0.1, "{shown:?}");
    }
}

#[test]
fn a_share_of_the_inputs_goes_through_the_memory() {
    let of = |memory_share: f64| {
        let recipe = Recipe { memory: MemoryUse::Both, memory_share, ..Recipe::of(Preset::Decap) };
        values(batch(&recipe, &examples(), Some(training_memory(0.05))).inputs).unwrap()
    };
    let (all, half, none) = (of(1.0), of(0.5), of(0.0));
    assert_eq!(none, inputs(&Recipe::of(Preset::Text)));
    let near = |a: &[f32], b: &[f32]| std::iter::zip(a, b).all(|(a, b)| (a - b).abs() < 1e-5);
    let mut projected = 0;
    for row in (0..N).map(|row| row * DIM..(row + 1) * DIM) {
        projected += usize::from(near(&half[row.clone()], &all[row.clone()]));
        assert!(near(&half[row.clone()], &all[row.clone()]) != near(&half[row.clone()], &none[row]));
    }
    assert!((1..N).contains(&projected), "{projected} of {N}");
}

#[test]
fn of_a_question_only_the_answer_is_learned() {
    let mut examples = examples();
    for example in &mut examples.rows {
        example.n_given = example.tokens.len() - 2;
    }
    let batch = batch(&Recipe::of(Preset::Captiond), &examples, None);
    assert_eq!(batch.n_learned, 2 * N, "the answer's one token and the end");
}

#[test]
fn centred_inputs_have_no_common_direction() {
    let recipe = Recipe { centre: Centre::C3, ..Recipe::of(Preset::Text) };
    let examples = examples();
    let mean = |rows: &[f32]| -> f32 {
        let sum = |i: usize| rows.iter().skip(i).step_by(DIM).sum::<f32>() / N as f32;
        (0..DIM).map(|i| sum(i).powi(2)).sum::<f32>().sqrt()
    };
    let before = examples.texts.mean().iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!(mean(&inputs(&recipe)) < 0.5 * before);
}

#[test]
fn what_is_unlearned_pulls_the_other_way() {
    let row = |weight: f32| Row { tokens: vec![1, 5, 6, 2], n_given: 1, weight };
    let device = Device::flex();
    let (ids, learned, n_learned) = padded(&[row(-0.5), Row { tokens: vec![1, 2], ..row(2.0) }], &device);
    assert_eq!((ids.dims(), n_learned), ([2, 4], 4));
    assert_eq!(values(learned).unwrap(), [-0.5, -0.5, -0.5, 2.0, 0.0, 0.0]);
}

#[test]
fn only_the_sentence_and_its_end_are_learned() {
    let batch = batch(&Recipe::of(Preset::Text), &examples(), None);
    assert_eq!(batch.ids.dims(), [N, 4]);
    let learned = values(batch.learned).unwrap();
    // Two words and the end, or one word, the end and padding.
    assert_eq!(learned[..6], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    assert_eq!(batch.n_learned, N / 2 * 5);
}

fn training_memory(tau: f32) -> TrainingMemory {
    TrainingMemory::new(&unit_rows(N, 3), (0..N).rev().collect(), tau, &Device::flex())
}

#[test]
fn training_and_daemon_project_on_the_memory_alike() {
    let texts = unit_rows(N, 3);
    let tau = 0.05;
    let file = memory::file(&texts, &(0..N).collect::<Vec<_>>(), None).unwrap();
    let daemon = Memory::parse(&file, DIM, tau).unwrap();
    let recipe =
        Recipe { memory: MemoryUse::Both, memory_tau: tau, exclude_own: 0.0, ..Recipe::of(Preset::Decap) };
    let projected = values(batch(&recipe, &examples(), Some(training_memory(tau))).inputs).unwrap();
    for (row, projected) in projected.chunks_exact(DIM).enumerate() {
        let expected = daemon.apply(&texts.row(row).collect::<Vec<f32>>());
        let worst = std::iter::zip(projected, &expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.02, "row {row} differs by {worst}, int8 explains 0.01");
    }
}

#[test]
fn a_cold_memory_without_the_own_caption_gives_the_nearest_other() {
    let texts = unit_rows(N, 3);
    let cosine = |a: usize, b: usize| texts.row(a).zip(texts.row(b)).map(|(x, y)| x * y).sum::<f32>();
    let project = |exclude_own: f64| {
        let recipe = Recipe { memory: MemoryUse::Both, exclude_own, ..Recipe::of(Preset::Decap) };
        values(batch(&recipe, &examples(), Some(training_memory(1e-3))).inputs).unwrap()
    };
    let nearest = |projected: &[f32], row: usize| {
        let shown = &projected[row * DIM..(row + 1) * DIM];
        let near = |other: usize| texts.row(other).zip(shown).map(|(x, y)| x * y).sum::<f32>();
        (0..N).max_by(|a, b| near(*a).total_cmp(&near(*b))).unwrap()
    };
    let (with, without) = (project(0.0), project(1.0));
    for row in 0..N {
        assert_eq!(nearest(&with, row), row);
        let other =
            (0..N).filter(|other| *other != row).max_by(|a, b| cosine(row, *a).total_cmp(&cosine(row, *b)));
        assert_eq!(Some(nearest(&without, row)), other);
    }
}

#[test]
fn a_hot_memory_gives_the_mean_of_all() {
    let recipe = Recipe { memory: MemoryUse::Both, exclude_own: 0.0, ..Recipe::of(Preset::Decap) };
    let projected = values(batch(&recipe, &examples(), Some(training_memory(1e6))).inputs).unwrap();
    let mut mean = unit_rows(N, 3).mean();
    normalize(&mut mean);
    for row in projected.chunks_exact(DIM) {
        assert!(std::iter::zip(row, &mean).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}
