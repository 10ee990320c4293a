//! How well labels do as triggers: precision and recall on captioned photos, before and after calibration.
//!
//! `cargo run --release --example triggers -- DATA`, DATA being a folder with `pairs.jsonl` and `images`.
//! A photo shows a thing when at least two of its captions name it, and does not when none does; others do not count.
//! A camera is a cluster of similar photos, which pass in their order: the background is learnt from them as they come,
//! and the first thirty are not scored. Photos follow each other without any connection here, so that nothing has to
//! last, and a label goes off where it goes on.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it measures is what it prints")]

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use captiond::standing::{LabelConfig, Trigger, log_odds};
use serde_json::Value;

/// What is looked for, and the words that name it in captions.
const THINGS: [(&str, &[&str]); 14] = [
    ("a dog", &["dog", "dogs", "puppy"]),
    ("a bicycle", &["bicycle", "bicycles", "bike", "bikes", "bicyclist", "cyclist"]),
    ("a ball", &["ball", "basketball", "football", "baseball", "soccer"]),
    ("a child", &["child", "children", "boy", "boys", "girl", "girls", "kid", "kids", "toddler", "baby"]),
    ("a beach", &["beach", "shore"]),
    ("snow", &["snow", "snowy", "snowboarder", "skier", "skiing", "snowboard"]),
    ("water", &["water", "ocean", "lake", "pool", "river", "sea"]),
    ("a horse", &["horse", "horses"]),
    ("a car", &["car", "cars", "truck", "vehicle"]),
    ("a skateboard", &["skateboard", "skateboarder", "skateboarding"]),
    ("a mountain", &["mountain", "mountains", "cliff", "rock"]),
    ("a swing", &["swing", "swings", "swinging"]),
    ("a crowd of people", &["crowd", "people"]),
    ("grass", &["grass", "grassy", "field", "lawn"]),
];
const CAMERAS: usize = 8;
const WARM_UP: usize = 30;

/// Precision, recall, their harmonic mean, and how many photos show the thing.
type Row = (f64, f64, f64, usize);

struct Photo {
    embedding: Vec<f32>,
    /// For each thing; none where captions disagree.
    shows: Vec<Option<bool>>,
}

fn main() -> Result<()> {
    let data = std::env::args().nth(1).context("usage: triggers DATA")?;
    let data = Path::new(&data);
    let engine = engine::open("tract")?;
    let options = engine::EngineOptions::default();
    let dir = captiond::config::bundle_dir(None).map_err(anyhow::Error::msg)?;
    let mut models = caption::Models::load(&caption::Bundle::open(&dir)?, engine.as_ref(), &options)?;
    let mut photos = Vec::new();
    for line in std::fs::read_to_string(data.join("pairs.jsonl"))?.lines() {
        let pair: Value = serde_json::from_str(line)?;
        if pair["split"] != "dev" || pair["source"] != "flickr8k" {
            continue;
        }
        let path = data.join("images").join(pair["image"].as_str().context("a pair without image")?);
        let image = captiond::photo::decode(&captiond::photo::read(&path)?)?;
        let pixels = models.preprocess(&image);
        let embedding = models.encode(&pixels)?.embedding;
        photos.push(Photo { embedding, shows: shows(&pair["captions"]) });
        if photos.len() % 100 == 0 {
            eprintln!("{} photos", photos.len());
        }
    }
    let camera_of = clusters(&photos);
    let triggers: Vec<Trigger> =
        THINGS.iter().map(|(text, _)| Trigger::new(config(text, 0.5, 0.0))).collect();
    let rows = triggers
        .iter()
        .map(|trigger| Ok(models.logit_rows(&trigger.texts())?))
        .collect::<Result<Vec<_>>>()?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    // For every photo and thing: the logit alone, and against what else may be there.
    let raw = |photo: &Photo, thing: usize| dot(&rows[thing][0], &photo.embedding);
    let against = |photo: &Photo, thing: usize| {
        log_odds(&rows[thing].iter().map(|row| dot(row, &photo.embedding)).collect::<Vec<_>>())
    };

    // A threshold that somebody else found on other labels: for each label the one that is best for all the others.
    let scored = scored(&photos, &camera_of);
    println!("{} photos, {CAMERAS} cameras, {} scored", photos.len(), scored.len());
    show("raw cosine, threshold of the other labels", &held_out(&photos, &scored, &raw));
    show("against others, threshold of the other labels", &held_out(&photos, &scored, &against));
    for (threshold, deviations) in [(0.1, 0.0), (0.2, 0.0), (0.3, 0.0), (0.1, 2.0), (0.2, 2.0), (0.3, 2.0)] {
        let on = stream(&photos, &camera_of, threshold, deviations, against);
        show(
            &format!("against others {threshold}, deviations {deviations}"),
            &table(&photos, &scored, |i, t| on[&(i, t)]),
        );
    }
    Ok(())
}

/// The table of a level of its own for each thing: that with the best mean of all the others.
fn held_out(photos: &[Photo], scored: &[usize], score: &dyn Fn(&Photo, usize) -> f32) -> Vec<Row> {
    let mut levels: Vec<f32> =
        scored.iter().flat_map(|i| (0..THINGS.len()).map(|t| score(&photos[*i], t))).collect();
    levels.sort_by(f32::total_cmp);
    let step = levels.len() / 200;
    let tables: Vec<Vec<Row>> = levels
        .into_iter()
        .step_by(step)
        .map(|level| table(photos, scored, |i, t| score(&photos[i], t) >= level))
        .collect();
    let others = |table: &[Row], t: usize| -> f64 {
        table.iter().enumerate().filter(|(other, _)| *other != t).map(|(_, row)| row.2).sum()
    };
    (0..THINGS.len())
        .filter_map(|t| {
            tables.iter().max_by(|a, b| others(a, t).total_cmp(&others(b, t))).map(|best| best[t])
        })
        .collect()
}

fn config(text: &str, threshold: f32, deviations: f32) -> LabelConfig {
    LabelConfig {
        id: "x".to_owned(),
        text: text.to_owned(),
        against: vec![],
        threshold,
        release: threshold,
        deviations,
        hold: Duration::ZERO,
    }
}

fn shows(captions: &Value) -> Vec<Option<bool>> {
    let captions: Vec<Vec<String>> = captions
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|text| text.to_lowercase().split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect())
        .collect();
    let of = |names: &[&str]| {
        let n =
            captions.iter().filter(|words| words.iter().any(|word| names.contains(&word.as_str()))).count();
        match n {
            0 => Some(false),
            1 => None,
            _ => Some(true),
        }
    };
    THINGS.iter().map(|(_, names)| of(names)).collect()
}

/// k-means from photos that are spread over the list: which camera each photo is of.
fn clusters(photos: &[Photo]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut centers: Vec<Vec<f32>> =
        (0..CAMERAS).map(|i| photos[i * photos.len() / CAMERAS].embedding.clone()).collect();
    let mut of = vec![0; photos.len()];
    for _ in 0..20 {
        for (photo, of) in photos.iter().zip(&mut of) {
            let near = |i: &usize| dot(&centers[*i], &photo.embedding);
            *of = (0..CAMERAS).max_by(|a, b| near(a).total_cmp(&near(b))).unwrap_or(0);
        }
        for (i, center) in centers.iter_mut().enumerate() {
            center.fill(0.0);
            for (photo, _) in photos.iter().zip(&of).filter(|(_, of)| **of == i) {
                center.iter_mut().zip(&photo.embedding).for_each(|(a, b)| *a += b);
            }
            let norm = dot(center, center).sqrt().max(1e-6);
            center.iter_mut().for_each(|x| *x /= norm);
        }
    }
    of
}

/// Every photo but the first of each camera.
fn scored(photos: &[Photo], camera_of: &[usize]) -> Vec<usize> {
    let mut n_seen = [0; CAMERAS];
    let is_scored = |i: &usize| {
        n_seen[camera_of[*i]] += 1;
        n_seen[camera_of[*i]] > WARM_UP
    };
    (0..photos.len()).filter(is_scored).collect()
}

/// The daemon's own triggers, one a camera and thing, over the stream of photos.
fn stream(
    photos: &[Photo],
    camera_of: &[usize],
    threshold: f32,
    deviations: f32,
    logit: impl Fn(&Photo, usize) -> f32,
) -> HashMap<(usize, usize), bool> {
    let new = || THINGS.map(|(text, _)| Trigger::new(config(text, threshold, deviations)));
    let mut triggers: Vec<_> = (0..CAMERAS).map(|_| new()).collect();
    let mut on = HashMap::new();
    for (i, photo) in photos.iter().enumerate() {
        for (t, trigger) in triggers[camera_of[i]].iter_mut().enumerate() {
            trigger.see(logit(photo, t), Instant::now());
            on.insert((i, t), trigger.is_on());
        }
    }
    on
}

fn table(photos: &[Photo], scored: &[usize], on: impl Fn(usize, usize) -> bool) -> Vec<Row> {
    (0..THINGS.len())
        .map(|t| {
            let (mut hits, mut alarms, mut there) = (0, 0, 0);
            for i in scored {
                let Some(shows) = photos[*i].shows[t] else { continue };
                there += usize::from(shows);
                alarms += usize::from(on(*i, t));
                hits += usize::from(shows && on(*i, t));
            }
            let share = |of: usize| hits as f64 / of.max(1) as f64;
            let (precision, recall) = (share(alarms), share(there));
            (precision, recall, 2.0 * precision * recall / (precision + recall).max(1e-9), there)
        })
        .collect()
}

fn mean(table: &[Row]) -> (f64, f64, f64) {
    let of = |pick: fn(&Row) -> f64| table.iter().map(pick).sum::<f64>() / table.len() as f64;
    (of(|row| row.0), of(|row| row.1), of(|row| row.2))
}

fn show(name: &str, table: &[Row]) {
    let (precision, recall, f1) = mean(table);
    println!("| {name} | {precision:.3} | {recall:.3} | {f1:.3} |");
    for ((text, _), (precision, recall, f1, n)) in THINGS.iter().zip(table) {
        println!("    {text:18} {precision:.2} {recall:.2} {f1:.2} of {n}");
    }
}
