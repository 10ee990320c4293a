//! The properties of the fuzz targets over mutations of examples: the same cases at every run, on the stable compiler.

use captiond::config::reference;
use captiond::mqtt::payload;
use engine::testing::OnnxFile;
use engine::{Dim, Port};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[path = "../fuzz/properties.rs"]
mod properties;

const N_CASES: usize = 20_000;
/// Pieces that parsers have an opinion about.
const PIECES: [&[u8]; 20] = [
    b"\"",
    b"\\ud800",
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[",
    b",",
    b":",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"NaN",
    b"\0",
    b"\xFF\xFE",
    "\u{202e}\u{1f980}".as_bytes(),
    b"/",
    b"//set",
    b"+",
    b"=",
    b"\n",
];

/// One to eight changes of one of the examples.
fn mutated(examples: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = examples[random.random_range(0..examples.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        let at = random.random_range(0..=bytes.len());
        let end = random.random_range(at..=bytes.len().min(at + 64));
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            3 => {
                let again = bytes[at..end].repeat(random.random_range(1..40));
                drop(bytes.splice(at..at, again));
            }
            4 => {
                let other = &examples[random.random_range(0..examples.len())];
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn check(seed: u64, n_cases: usize, examples: &[&[u8]], property: fn(&[u8])) {
    let examples: Vec<Vec<u8>> = examples.iter().map(|example| example.to_vec()).collect();
    examples.iter().for_each(|example| property(example));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for n in 0..n_cases {
        let bytes = mutated(&examples, &mut random);
        if std::panic::catch_unwind(|| property(&bytes)).is_err() {
            panic!("case {n} of seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn mutated_questions_are_understood_or_refused() {
    let examples = [
        payload::ASK_EXAMPLE.as_bytes(),
        b"what color is the wall?",
        br#"{"question": "q", "type": "one_of", "choices": ["a", "b"], "deadline_ms": 500, "transaction": "t"}"#,
    ];
    check(1, N_CASES, &examples, properties::ask);
}

#[test]
fn mutated_settings_are_understood_or_refused() {
    check(
        2,
        N_CASES,
        &[b"\0ON", b"\0off", b"\x012.5", b"\x0186400", b"\x02there is", b"\x03"],
        properties::set,
    );
}

#[test]
fn mutated_standing_wishes_are_understood_or_refused() {
    let examples: [&[u8]; 5] = [
        b"\0Is the gate open?",
        b"\0{\"question\": \"q\", \"type\": \"one_of\", \"choices\": [\"a\"], \"every\": \"5m\"}",
        b"\x01{\"text\": \"t\", \"against\": [\"u\"], \"threshold\": 0.5, \"release\": 0.2, \"deviations\": 2, \"for\": \"3s\"}",
        b"\x02{\"caption\": [\"dog\"], \"label\": [\"x\"], \"answer\": [\"a=b\"], \"cooldown\": \"1m\", \"hours\": \"22:00-06:30\"}",
        b"\x02{\"no_label\": [\"x\"]}",
    ];
    check(3, N_CASES, &examples, properties::standing);
}

#[test]
fn mutated_jobs_are_understood_or_refused() {
    let examples: [&[u8]; 2] = [
        b"camera=porch\nseq=7\nframe_ts=2026-11-20T21:00:00.102Z\ndeadline_ms=60000",
        b"camera=porch\nseq=7\nframe_ts=2027-01-15T08:00:00Z\nquestion=what color?\nchoices=[\"red\", \"blue\"]",
    ];
    check(4, N_CASES, &examples, properties::job);
}

#[test]
fn mutated_pictures_are_decoded_or_refused() {
    let image = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 7]));
    let encoded = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (jpeg, png) = (encoded(image::ImageFormat::Jpeg), encoded(image::ImageFormat::Png));
    check(5, N_CASES / 10, &[&jpeg, &png], properties::picture);
}

#[test]
fn mutated_requests_are_answered() {
    let examples: [&[u8]; 4] =
        [b"", b"{\"transaction\": \"t\"}", b"{\"transaction\": 7}", b"{\"transaction\": \"\\u0001\\u0002\"}"];
    check(6, N_CASES, &examples, properties::request);
}

#[test]
fn mutated_topics_are_taken_apart_as_they_were_joined() {
    let examples: [&[u8]; 8] = [
        b"captiond/wall/ask",
        b"captiond/wall/describe",
        b"captiond/wall/enabled/set",
        b"captiond/wall/question/x/set",
        b"captiond/bridge/request/republish",
        b"homie/5/captiond-1-wall/question/ask/set",
        b"homie/5/captiond-1-wall/$description",
        b"captiond//set",
    ];
    check(7, N_CASES, &examples, properties::topics);
}

#[test]
fn mutated_configurations_are_understood_or_refused() {
    let everything = reference::everything();
    let small = "[[camera]]\nname = \"a\"\n[camera.source]\ntype = \"replay\"\npath = \".\"\n";
    // Cut short, since most of the long one are comments.
    let cut: Vec<&[u8]> = everything.split("[[camera]]").map(str::as_bytes).collect();
    let mut examples = vec![small.as_bytes()];
    examples.extend(cut);
    check(8, N_CASES / 10, &examples, properties::config);
}

#[test]
fn mutated_manifests_are_understood_or_refused() {
    let manifest = include_bytes!("../models/lite/manifest.toml");
    check(9, N_CASES / 10, &[manifest], properties::manifest);
}

#[test]
fn mutated_graphs_are_understood_or_refused() {
    let graph = OnnxFile::new()
        .input(Port::f32("x", [Dim::Fixed(2), Dim::Fixed(3)]))
        .stored_f32("w", &[3], &[1.0, 2.0, 3.0])
        .output(Port::f32("y", [Dim::Fixed(2), Dim::Fixed(3)]))
        .bytes();
    check(10, N_CASES, &[&graph], properties::onnx_file);
}

#[test]
fn mutated_texts_are_taken_apart() {
    let file = br#"1{"version":"1.0","added_tokens":[],"decoder":{"type":"BPEDecoder","suffix":"</w>"},"model":{
        "type":"WordLevel","unk_token":"x","vocab":{"<bos>":0,"<eos>":1,"<pad>":2,"a":3,"dog":4,"x":5,"y":6,"z":7}}}"#;
    let examples: [&[u8]; 4] = [
        file,
        b"0a dog runs <eos> across the lawn",
        "0\u{1f980} Stra\u{df}e \u{202e}abc".as_bytes(),
        b"0<pad><bos>a",
    ];
    check(11, N_CASES / 10, &examples, properties::tokenizer);
}

#[test]
fn mutated_buffers_of_cameras_are_decoded_or_refused() {
    let buffer = |format: u8| [&[format, 0, 0, 0, 8, 0, 6, 0, 0, 0, 0, 0][..], &[77; 200]].concat();
    let buffers: Vec<Vec<u8>> = (0..7).map(buffer).collect();
    let examples: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
    check(12, N_CASES, &examples, properties::pixels);
}
