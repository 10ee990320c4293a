//! Takes pictures out of `multipart/x-mixed-replace` (RFC 2046, section 5.1), as cameras send motion JPEG over HTTP.
//! Pure; the bytes are not trusted.

/// Longest headers of a part.
const HEADERS_BYTES_MAX: usize = 8 << 10;

/// Why the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MultipartError {
    #[error("a part of more than {0} bytes")]
    TooLong(usize),
    #[error("{HEADERS_BYTES_MAX} bytes without a boundary or the end of a part's headers")]
    NoPart,
}

/// Finds the bodies of the parts as the bytes come in.
#[derive(Debug)]
pub(super) struct Multipart {
    /// With the two dashes before it.
    boundary: Vec<u8>,
    bytes: Vec<u8>,
    state: State,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a boundary.
    Between,
    Headers,
    /// A body of known length.
    Counted(usize),
    /// A body that the next boundary ends; up to here it was searched.
    Open(usize),
}

impl Multipart {
    /// `content_type` is the header's value; none when it is not such a stream.
    pub(super) fn of(content_type: &str, bytes_max: usize) -> Option<Multipart> {
        let mut fields = content_type.split(';').map(str::trim);
        let is_stream = fields.next()?.to_ascii_lowercase().starts_with("multipart/");
        let boundary = fields.find_map(|field| {
            let (name, value) = field.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        })?;
        // Many cameras write the dashes into the parameter, too.
        let boundary = boundary.trim_start_matches('-');
        let usable = is_stream && (1..=200).contains(&boundary.len());
        usable.then(|| Multipart {
            boundary: boundary.as_bytes().to_vec(),
            bytes: Vec::new(),
            state: State::Between,
            bytes_max,
        })
    }

    /// Takes what came next.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole body, if there is one.
    ///
    /// # Errors
    /// When there is no sense in the stream; it must be opened anew.
    pub(super) fn next_body(&mut self) -> Result<Option<Vec<u8>>, MultipartError> {
        loop {
            match self.state {
                State::Between => {
                    let Some(start) = find(&self.bytes, &self.boundary) else {
                        return self.wait(HEADERS_BYTES_MAX, MultipartError::NoPart);
                    };
                    self.bytes.drain(..start + self.boundary.len());
                    self.state = State::Headers;
                }
                State::Headers => {
                    let Some((end, skip)) = end_of_headers(&self.bytes) else {
                        return self.wait(HEADERS_BYTES_MAX, MultipartError::NoPart);
                    };
                    let length = content_length(&self.bytes[..end]);
                    self.bytes.drain(..end + skip);
                    self.state = match length {
                        Some(length) if length > self.bytes_max => {
                            return Err(MultipartError::TooLong(self.bytes_max));
                        }
                        Some(length) => State::Counted(length),
                        None => State::Open(0),
                    };
                }
                State::Counted(length) => {
                    if self.bytes.len() < length {
                        return Ok(None);
                    }
                    return Ok(self.cut(length));
                }
                State::Open(searched) => {
                    let from = searched.saturating_sub(self.boundary.len());
                    match find(&self.bytes[from..], &self.boundary) {
                        Some(place) => {
                            let body = self.bytes[..from + place].trim_ascii_end();
                            let length = body.strip_suffix(b"--").unwrap_or(body).trim_ascii_end().len();
                            return Ok(self.cut(length));
                        }
                        None => {
                            self.state = State::Open(self.bytes.len());
                            return self.wait(self.bytes_max, MultipartError::TooLong(self.bytes_max));
                        }
                    }
                }
            }
        }
    }

    fn cut(&mut self, length: usize) -> Option<Vec<u8>> {
        let rest = self.bytes.split_off(length);
        self.state = State::Between;
        Some(std::mem::replace(&mut self.bytes, rest))
    }

    /// Asks for more bytes, unless there are too many already.
    fn wait(&self, limit: usize, error: MultipartError) -> Result<Option<Vec<u8>>, MultipartError> {
        if self.bytes.len() > limit { Err(error) } else { Ok(None) }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Where the headers end, and how long the empty line after them is. Some cameras end lines with `\n` alone.
fn end_of_headers(bytes: &[u8]) -> Option<(usize, usize)> {
    let ends = [&b"\r\n\r\n"[..], b"\n\n"];
    ends.iter().filter_map(|end| find(bytes, end).map(|at| (at, end.len()))).min()
}

fn content_length(headers: &[u8]) -> Option<usize> {
    String::from_utf8_lossy(headers).lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/x-mixed-replace;boundary=frame";

    fn bodies(content_type: &str, stream: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, MultipartError> {
        let mut multipart = Multipart::of(content_type, 1000).unwrap();
        let mut found = Vec::new();
        for chunk in stream.chunks(chunk) {
            multipart.feed(chunk);
            while let Some(body) = multipart.next_body()? {
                found.push(body);
            }
        }
        Ok(found)
    }

    #[test]
    fn bodies_come_out_with_and_without_a_length_however_the_stream_is_cut() {
        let counted = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\n\r\na\r\n--bc\r\n";
        let open = b"--frame\r\nContent-Type: image/jpeg\r\n\r\nxyz\r\n--frame\n\nq\n--frame--\r\n";
        let stream = [&counted[..], open].concat();
        for chunk in [1, 3, stream.len()] {
            let found = bodies(TYPE, &stream, chunk).unwrap();
            assert_eq!(
                found[..3],
                [b"a\r\n--bc".to_vec(), b"xyz".to_vec(), b"q".to_vec()],
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn the_boundary_is_found_in_every_spelling_that_cameras_use() {
        for content_type in [
            "multipart/x-mixed-replace; boundary=\"frame\"",
            "multipart/x-mixed-replace;boundary=--frame",
            "Multipart/X-Mixed-Replace; charset=x; Boundary=frame",
        ] {
            let stream = b"--frame\r\nContent-Length: 1\r\n\r\nz";
            assert_eq!(bodies(content_type, stream, 9).unwrap(), [b"z"], "{content_type}");
        }
        assert!(Multipart::of("image/jpeg", 9).is_none());
        assert!(Multipart::of("multipart/x-mixed-replace", 9).is_none());
        assert!(Multipart::of("multipart/x-mixed-replace; boundary=", 9).is_none());
    }

    #[test]
    fn a_stream_without_end_or_sense_is_an_error_and_never_grows() {
        assert_eq!(bodies(TYPE, &[b'x'; 20_000], 500), Err(MultipartError::NoPart));
        let endless_headers = [&b"--frame\r\nX: "[..], &[b'y'; 20_000]].concat();
        assert_eq!(bodies(TYPE, &endless_headers, 500), Err(MultipartError::NoPart));
        let long = b"--frame\r\nContent-Length: 99999999999\r\n\r\n";
        assert_eq!(bodies(TYPE, long, 500), Err(MultipartError::TooLong(1000)));
        let open = [&b"--frame\r\n\r\n"[..], &[b'z'; 9_000]].concat();
        assert_eq!(bodies(TYPE, &open, 500), Err(MultipartError::TooLong(1000)));
    }
}
