//! Takes pictures out of a stream of JPEGs that follow each other without a word, as `ffmpeg -f mjpeg` and its like
//! write them. Pure; the bytes are not trusted.

/// Finds where one picture ends by its markers (ITU-T T.81, annex B), so that a thumbnail within does not end it.
#[derive(Debug)]
pub(super) struct JpegSplitter {
    bytes: Vec<u8>,
    /// Up to here the bytes were looked at.
    at: usize,
    state: State,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the start of a picture.
    Outside,
    /// Before a segment.
    Segments,
    /// Within entropy-coded data.
    Scan,
}

const SOI: [u8; 2] = [0xFF, 0xD8];

/// A picture was longer than the limit; the stream goes on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a picture of more than {0} bytes")]
pub(super) struct TooLong(pub(super) usize);

impl JpegSplitter {
    pub(super) fn new(bytes_max: usize) -> JpegSplitter {
        JpegSplitter { bytes: Vec::new(), at: 0, state: State::Outside, bytes_max }
    }

    /// Takes what came next.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole picture, if there is one.
    ///
    /// # Errors
    /// When it is longer than the limit; what came of it is forgotten.
    pub(super) fn next_picture(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        while self.step() {
            if self.state == State::Outside && self.at > 0 {
                let rest = self.bytes.split_off(self.at);
                self.at = 0;
                let picture = std::mem::replace(&mut self.bytes, rest);
                return Ok(Some(picture));
            }
        }
        if self.bytes.len() > self.bytes_max {
            *self = JpegSplitter::new(self.bytes_max);
            return Err(TooLong(self.bytes_max));
        }
        Ok(None)
    }

    /// Goes one segment or marker further; false when more bytes are needed.
    fn step(&mut self) -> bool {
        match self.state {
            State::Outside => {
                let start = self.bytes.windows(2).position(|pair| pair == SOI);
                // The last byte may be the first of a start.
                let skip = start.unwrap_or(self.bytes.len().saturating_sub(1));
                self.bytes.drain(..skip);
                if start.is_some() {
                    self.at = SOI.len();
                    self.state = State::Segments;
                }
                start.is_some()
            }
            State::Segments => {
                let Some([0xFF, marker, rest @ ..]) = self.bytes.get(self.at..) else {
                    // Anything but a marker here is garbage: a new picture may begin in it.
                    return self.bytes.get(self.at).is_some_and(|byte| *byte != 0xFF) && self.restart();
                };
                match (*marker, rest) {
                    // Fill bytes.
                    (0xFF, _) => self.at += 1,
                    (0xD9, _) => return self.end(2),
                    (0xD8, _) => return self.restart(),
                    (0x01 | 0xD0..=0xD7, _) => self.at += 2,
                    (marker, [high, low, ..]) => {
                        let length = usize::from(u16::from_be_bytes([*high, *low])).max(2);
                        self.at += 2 + length;
                        if marker == 0xDA {
                            self.state = State::Scan;
                        }
                    }
                    _ => return false,
                }
                true
            }
            State::Scan => {
                let Some(data) = self.bytes.get(self.at..) else { return false };
                let marker =
                    data.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7));
                match marker {
                    Some(place) => {
                        self.at += place;
                        self.state = State::Segments;
                        true
                    }
                    None => {
                        self.at += data.len().saturating_sub(1);
                        false
                    }
                }
            }
        }
    }

    /// Whether the picture is whole: its last marker, `n` bytes long, must have come.
    fn end(&mut self, n: usize) -> bool {
        self.at += n;
        self.state = State::Outside;
        true
    }

    /// Throws away what is no picture and looks for the next start behind it.
    fn restart(&mut self) -> bool {
        let skip = self.at.clamp(1, self.bytes.len());
        self.bytes.drain(..skip);
        self.at = 0;
        self.state = State::Outside;
        // With nothing of a picture left, the caller must not take it for one.
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: &[u8] = include_bytes!("../../assets/demo/cat.jpg");
    const BOATS: &[u8] = include_bytes!("../../assets/demo/boats.jpg");
    const LIMIT: usize = 1 << 20;

    fn all(splitter: &mut JpegSplitter) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| splitter.next_picture().unwrap()).collect()
    }

    #[test]
    fn pictures_come_out_as_they_went_in_however_the_stream_is_cut() {
        let stream = [CAT, BOATS, CAT].concat();
        for size in [1, 7, 4096, stream.len()] {
            let mut splitter = JpegSplitter::new(LIMIT);
            let mut found = Vec::new();
            for chunk in stream.chunks(size) {
                splitter.feed(chunk);
                found.extend(all(&mut splitter));
            }
            assert!(found == [CAT, BOATS, CAT], "{} pictures in chunks of {size}", found.len());
        }
    }

    #[test]
    fn garbage_between_pictures_and_a_picture_that_was_cut_off_are_passed_over() {
        let mut splitter = JpegSplitter::new(LIMIT);
        splitter.feed(&[b"noise\xFF\x00", CAT, b"\r\n\r\n", &CAT[..200], BOATS, CAT].concat());
        let found = all(&mut splitter);
        assert!(found.contains(&CAT.to_vec()) && found.len() >= 2, "{} pictures", found.len());
        assert_eq!(found.last().unwrap(), CAT);
    }

    #[test]
    fn a_picture_without_an_end_is_given_up_at_the_limit() {
        let mut splitter = JpegSplitter::new(100_000);
        splitter.feed(&CAT[..CAT.len() - 2]);
        let mut errors = 0;
        for _ in 0..300 {
            splitter.feed(&[7; 1000]);
            errors += usize::from(splitter.next_picture().is_err());
            assert!(splitter.bytes.len() <= 101_000);
        }
        assert_eq!(errors, 1, "the rest is not the start of a picture");
        splitter.feed(BOATS);
        assert_eq!(all(&mut splitter), [BOATS]);
    }

    #[test]
    fn random_bytes_never_panic() {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let mut splitter = JpegSplitter::new(5_000);
            for _ in 0..20 {
                let markers = [0xFF, 0xD8, 0xD9, 0xDA, 0x00, 0xC4, rng.random()];
                let chunk: Vec<u8> =
                    (0..rng.random_range(0..900)).map(|_| markers[rng.random_range(0..7)]).collect();
                splitter.feed(&chunk);
                while let Ok(Some(picture)) = splitter.next_picture() {
                    assert!(picture.starts_with(&SOI) && picture.ends_with(&[0xFF, 0xD9]));
                }
            }
        }
    }
}
