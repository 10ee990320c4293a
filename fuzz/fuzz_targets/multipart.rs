//! A motion-JPEG stream over HTTP: the answer's content type in the first line, then the body, which comes in pieces.

#![no_main]

// As it is in the daemon, where nobody else sees it.
#[path = "../../src/source/http/multipart.rs"]
mod multipart;
#[path = "../streams.rs"]
mod streams;

const BYTES_MAX: usize = 1_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (head, body) = streams::line_and_rest(bytes);
    let Some(mut stream) = multipart::Multipart::of(&String::from_utf8_lossy(head), BYTES_MAX) else { return };
    for piece in streams::pieces(body) {
        stream.feed(piece);
        loop {
            match stream.next_body() {
                Ok(Some(picture)) => assert!(picture.len() <= BYTES_MAX + piece.len()),
                Ok(None) => break,
                // The daemon opens the stream anew.
                Err(_) => return,
            }
        }
    }
});
