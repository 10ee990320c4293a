//! The demonstration, with and without the shipped bundle.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use captiond::demo;
use captiond::shutdown::Shutdown;
use captiond::source::replay::Photo;

use crate::support::{Hold, eyes, shipped_bundle, skipped};

/// For each photo the words one of which names its main subject.
const ACCEPTED: [(&str, &[&str]); 7] = [
    ("cat.jpg", &["cat", "kitten"]),
    ("astronaut.jpg", &["woman", "lady", "girl", "person", "astronaut", "uniform", "suit"]),
    ("photographer.jpg", &["man", "guy", "person", "photographer", "camera", "picture", "tripod"]),
    ("coffee.jpg", &["coffee", "cup", "mug", "espresso", "tea", "drink", "saucer", "bowl"]),
    ("officer.jpg", &["woman", "lady", "person", "officer", "uniform", "hat", "suit"]),
    ("boats.jpg", &["boat", "boats", "ship", "sailboat", "harbor"]),
    ("mountains.jpg", &["mountain", "mountains", "alps", "peaks"]),
];

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn prints_one_line_per_caption_and_ends_at_the_count() {
    let (captions, notes) = (Shared::default(), Shared::default());
    let shutdown = Shutdown::new();
    let eyes = eyes(&Hold::default(), 1);
    demo::run(eyes, NonZeroUsize::MIN, Some(2), &shutdown, captions.clone(), notes.clone()).unwrap();
    let text = captions.text();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        assert!(line.starts_with("demo  a ") && line.ends_with(" wall"), "{line}");
    }
    assert!(notes.text().contains("mosquitto_sub -h 127.0.0.1 -p "), "{}", notes.text());
}

#[test]
fn a_reader_that_goes_away_is_the_end() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let eyes = eyes(&Hold::default(), 1);
    demo::run(eyes, NonZeroUsize::MIN, None, &Shutdown::new(), Closed, io::sink()).unwrap();
}

#[test]
fn every_photo_has_a_source_and_accepted_words() {
    let sources = include_str!("../assets/demo/SOURCES.md");
    let photos = demo::photos::all();
    assert_eq!(photos.len(), ACCEPTED.len());
    for photo in photos {
        let Photo::Embedded { name, bytes } = photo else { panic!("{photo:?} is not embedded") };
        assert!(sources.contains(&format!("| `{name}` |")), "{name} has no source");
        assert!(ACCEPTED.iter().any(|(known, _)| *known == name), "{name} has no accepted words");
        assert!(bytes.len() < 200_000, "{name} has {} bytes", bytes.len());
    }
}

#[test]
fn the_shipped_bundle_names_the_subject_of_two_thirds_of_the_photos() {
    let Some(bundle) = shipped_bundle() else { return skipped("models/lite is not there") };
    let bundle = caption::Bundle::open(&bundle).unwrap();
    let engine = engine::open("tract").unwrap();
    let mut models = caption::Models::load(&bundle, &*engine, &engine::EngineOptions::default()).unwrap();
    let mut named = 0;
    let mut report = String::new();
    for photo in demo::photos::all() {
        let Photo::Embedded { name, bytes } = photo else { unreachable!() };
        let pixels = models.preprocess(&captiond::photo::decode(bytes).unwrap());
        let view = models.encode(&pixels).unwrap();
        let caption = models.caption(&view).unwrap().text;
        let (_, accepted) = ACCEPTED.iter().find(|(known, _)| *known == name).unwrap();
        let is_named = caption
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| accepted.contains(&word.to_lowercase().as_str()));
        named += usize::from(is_named);
        report += &format!("{} {name}: {caption}\n", if is_named { "ok " } else { "no " });
    }
    assert!(named * 3 >= ACCEPTED.len() * 2, "{named} of {}:\n{report}", ACCEPTED.len());
}

#[test]
fn the_command_prints_captions_and_ends_well_at_sigint() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_captiond"))
        .arg("demo")
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.strip_prefix("demo  ").is_some_and(|caption| !caption.is_empty()), "{line}");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let mut notes = String::new();
    child.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{notes}");
    assert!(notes.contains("mosquitto_sub"), "{notes}");
}
