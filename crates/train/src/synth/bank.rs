//! The uncaptioned photos and the objects that the detector found in them: where cut-outs and backgrounds come from.
//!
//! Detection runs once; its result is a JSON file beside the pairs. Pixels do not belong here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{read_jsonl, read_photo};
use crate::detector::{self, Detector, IOU_MAX, SCORE_MIN};
use crate::rect::Rect;
use crate::training::{Progress, write_atomically};
use crate::workers::Workers;

/// Photos between two progress lines.
const CHUNK: usize = 32;
/// Shorter side below which an object is too coarse to be cut out, in pixels.
const SIDE_MIN: f32 = 24.0;
/// Share of its photo above which an object is more of a scene than a thing.
const SHARE_MAX: f32 = 0.85;
/// Of two objects that belong together, the least share of the smaller one that lies on the other.
const TOGETHER_MIN: f32 = 0.3;

/// One detected object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    pub label: String,
    pub score: f32,
    /// In pixels of the photo, within it.
    pub area: Rect,
}

/// A photo with everything that was found in it, best score first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Photo {
    /// Path under the folder `images`.
    pub image: PathBuf,
    pub width: u32,
    pub height: u32,
    pub things: Vec<Thing>,
}

/// An object, or several that touch, to be cut out of a photo.
#[derive(Clone, Copy, Debug)]
pub struct CutOut<'b> {
    pub photo: &'b Photo,
    /// In pixels of the photo, within it.
    pub area: Rect,
    /// The longer side of the first object over the one of the whole, 0 to 1.
    pub share: f32,
    /// Mean detection score of the objects.
    pub score: f32,
}

#[derive(Serialize, Deserialize)]
struct Cache {
    /// Of the detector, its settings and the list of photos.
    key: String,
    photos: Vec<Photo>,
}

#[derive(Deserialize)]
struct Row {
    image: PathBuf,
}

/// All photos, indexed by what they show.
pub struct Bank {
    photos: Vec<Photo>,
    /// Of each class the photos that show it, in their order.
    showing: BTreeMap<String, Vec<usize>>,
}

impl Bank {
    pub fn new(photos: Vec<Photo>) -> Bank {
        let mut showing: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (idx, photo) in photos.iter().enumerate() {
            for thing in &photo.things {
                let of_class = showing.entry(thing.label.clone()).or_default();
                if of_class.last() != Some(&idx) {
                    of_class.push(idx);
                }
            }
        }
        Bank { photos, showing }
    }

    /// Reads `cache`, or runs the detector over the photos of `unpaired.jsonl` and writes it when it is absent.
    /// Blocks, for minutes when it has to detect.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the cache is of another detector or of other photos.
    pub fn open(cache: &Path, data: &Path) -> Result<Bank> {
        let rows: Vec<Row> = read_jsonl(&data.join("unpaired.jsonl"))?;
        ensure!(!rows.is_empty(), "{} names no photo", data.join("unpaired.jsonl").display());
        let path = data.join("tags/yolox_nano.onnx");
        let onnx = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let labels = detector::labels(&data.join("tags/coco80_labels.txt"))?;
        let key = key(&onnx, &labels, &rows);
        if !cache.exists() {
            let photos = detect(&onnx, &labels, &data.join("images"), &rows)?;
            write_atomically(cache, &serde_json::to_vec(&Cache { key: key.clone(), photos })?)?;
        }
        let bytes = std::fs::read(cache).with_context(|| format!("read {}", cache.display()))?;
        let read: Cache =
            serde_json::from_slice(&bytes).with_context(|| format!("parse {}", cache.display()))?;
        // Detecting anew would change the pairs that are still to come and not those that are there.
        ensure!(
            read.key == key,
            "{} is of another detector or of other photos: give another --out, or remove it",
            cache.display()
        );
        Ok(Bank::new(read.photos))
    }

    pub fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// The photos that show a class.
    fn showing<'b>(&'b self, label: &str) -> impl Iterator<Item = &'b Photo> + use<'b> {
        self.showing.get(label).into_iter().flatten().map(|idx| &self.photos[*idx])
    }

    /// The photos that show one of the classes, each once, in their order.
    pub fn showing_any(&self, labels: &[&str]) -> Vec<&Photo> {
        let mut found: Vec<usize> =
            labels.iter().filter_map(|label| self.showing.get(*label)).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|idx| &self.photos[idx]).collect()
    }

    /// The objects of a class that can be cut out.
    pub fn cut_outs<'b>(&'b self, label: &'b str) -> Vec<CutOut<'b>> {
        self.usable(label).collect()
    }

    pub fn has_cut_outs(&self, label: &str) -> bool {
        self.usable(label).next().is_some()
    }

    fn usable<'b>(&'b self, label: &'b str) -> impl Iterator<Item = CutOut<'b>> {
        let of_photo = move |photo| things(photo, label).map(move |thing| (photo, thing));
        let all = self.showing(label).flat_map(of_photo);
        let all =
            all.map(|(photo, thing)| CutOut { photo, area: thing.area, share: 1.0, score: thing.score });
        all.filter(CutOut::is_usable)
    }

    /// The pairs of objects of two classes that touch, such as a person on a bicycle, to be cut out as one.
    pub fn together<'b>(&'b self, first: &'b str, second: &'b str) -> Vec<CutOut<'b>> {
        let of_photo =
            |photo| things(photo, first).flat_map(move |a| things(photo, second).map(move |b| (photo, a, b)));
        let touching = |(_, a, b): &(&Photo, &Thing, &Thing)| {
            let both = a.area.intersection(&b.area).area();
            both >= TOGETHER_MIN * a.area.area().min(b.area.area())
        };
        let one = |(photo, a, b): (_, &Thing, &Thing)| {
            let area = a.area.hull(&b.area);
            let share = a.area.longer_side() / area.longer_side().max(1.0);
            CutOut { photo, area, share, score: (a.score + b.score) / 2.0 }
        };
        self.showing(second).flat_map(of_photo).filter(touching).map(one).filter(CutOut::is_usable).collect()
    }
}

impl CutOut<'_> {
    fn is_usable(&self) -> bool {
        let of_photo = self.photo.width as f32 * self.photo.height as f32;
        self.area.width().min(self.area.height()) >= SIDE_MIN && self.area.area() <= SHARE_MAX * of_photo
    }
}

fn things<'b>(photo: &'b Photo, label: &'b str) -> impl Iterator<Item = &'b Thing> {
    photo.things.iter().filter(move |thing| thing.label == label)
}

fn key(onnx: &[u8], labels: &[String], rows: &[Row]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(Sha256::digest(onnx));
    hasher.update(format!("{labels:?} {SCORE_MIN} {IOU_MAX}"));
    rows.iter().for_each(|row| hasher.update(format!("{}\n", row.image.display())));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn detect(onnx: &[u8], labels: &[String], images: &Path, rows: &[Row]) -> Result<Vec<Photo>> {
    let detectors = Workers::new(|| Detector::load(onnx, labels.len()))?;
    let mut progress = Progress::new("detect", 0, rows.len(), "photos");
    let mut photos = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        photos.extend(detectors.map(chunk, |detector, row| {
            let path = images.join(&row.image);
            let pixels = read_photo(&path)?;
            let found = detector.detect(&pixels).with_context(|| format!("look at {}", path.display()))?;
            let things = found.into_iter().map(|detection| Thing {
                label: labels[detection.class].clone(),
                score: detection.score,
                area: detection.area,
            });
            Ok(Photo {
                image: row.image.clone(),
                width: pixels.width(),
                height: pixels.height(),
                things: things.collect(),
            })
        })?);
        progress.count(photos.len(), chunk.len());
    }
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(things: &[(&str, Rect)]) -> Photo {
        let thing =
            |(label, area): &(&str, Rect)| Thing { label: (*label).to_owned(), score: 0.8, area: *area };
        Photo { image: "a.jpg".into(), width: 200, height: 200, things: things.iter().map(thing).collect() }
    }

    #[test]
    fn objects_that_are_tiny_or_fill_their_photo_are_not_cut_out() {
        let bank = Bank::new(vec![photo(&[
            ("dog", Rect::new(0.0, 0.0, 10.0, 90.0)),
            ("dog", Rect::new(0.0, 0.0, 200.0, 190.0)),
            ("dog", Rect::new(10.0, 10.0, 50.0, 40.0)),
        ])]);
        let areas: Vec<Rect> = bank.cut_outs("dog").iter().map(|cut_out| cut_out.area).collect();
        assert_eq!(areas, [Rect::new(10.0, 10.0, 50.0, 40.0)]);
        assert!(bank.cut_outs("cat").is_empty());
    }

    #[test]
    fn objects_that_touch_are_cut_out_as_one() {
        let rider = Rect::new(50.0, 20.0, 40.0, 80.0);
        let bicycle = Rect::new(40.0, 60.0, 80.0, 60.0);
        let bystander = Rect::new(150.0, 20.0, 40.0, 80.0);
        let bank = Bank::new(vec![photo(&[("person", rider), ("person", bystander), ("bicycle", bicycle)])]);
        let both = bank.together("person", "bicycle");
        assert_eq!(both.len(), 1);
        assert_eq!(both[0].area, Rect::new(40.0, 20.0, 80.0, 100.0));
        assert!((both[0].share - 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_photo_of_two_classes_is_found_once() {
        let area = Rect::new(0.0, 0.0, 30.0, 30.0);
        let bank = Bank::new(vec![photo(&[]), photo(&[("cow", area), ("sheep", area), ("cow", area)])]);
        assert_eq!(bank.showing_any(&["sheep", "cow", "horse"]).len(), 1);
        assert!(bank.showing_any(&[]).is_empty());
    }
}
