//! JPEGs that follow each other without a word, which come in pieces.

#![no_main]

// As it is in the daemon, where nobody else sees it.
#[path = "../../src/source/jpeg_stream.rs"]
mod jpeg_stream;
#[path = "../streams.rs"]
mod streams;

const BYTES_MAX: usize = 1_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut splitter = jpeg_stream::JpegSplitter::new(BYTES_MAX);
    for piece in streams::pieces(bytes) {
        splitter.feed(piece);
        // Each round takes a picture or forgets what there is; none can go on for ever.
        for round in 0.. {
            assert!(round <= bytes.len());
            match splitter.next_picture() {
                Ok(Some(picture)) => {
                    assert!(picture.starts_with(&[0xFF, 0xD8]) && picture.len() <= BYTES_MAX + piece.len());
                }
                Ok(None) => break,
                Err(_) => {}
            }
        }
    }
});
