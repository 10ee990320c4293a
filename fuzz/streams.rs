//! Bytes as a connection delivers them.

#![allow(dead_code, clippy::allow_attributes, reason = "not each fuzz target uses all of them")]

/// What stands before the first line's end, and what after it.
pub fn line_and_rest(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    (line, rest.get(1..).unwrap_or_default())
}

/// The same bytes in pieces of 1 to 256, each as long as the byte before it says.
pub fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut length) = (bytes, 7);
    std::iter::from_fn(move || {
        let (piece, left) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = left;
        length = usize::from(*piece.last()?) + 1;
        Some(piece)
    })
}
