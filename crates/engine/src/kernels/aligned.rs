//! Numbers that begin with a line of the cache, so that no load of a whole register touches two.

use std::ops::{Deref, DerefMut};

/// Bytes of a line of the cache, and of the widest register.
const LINE: usize = 64;

#[derive(Debug)]
pub(crate) struct Aligned<T> {
    /// A little more than there is, to have room for the beginning.
    padded: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub(crate) fn zeros(len: usize) -> Aligned<T> {
        let n_line = LINE / size_of::<T>().max(1);
        let padded = vec![T::default(); len + n_line];
        // A wrong start would cost time and nothing else.
        let start = padded.as_ptr().align_offset(LINE).min(n_line);
        Aligned { padded, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.padded[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.padded[self.start..][..self.len]
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Aligned<T> {
        let mut clone = Aligned::zeros(self.len);
        clone.copy_from_slice(self);
        clone
    }
}

impl<T: PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Aligned<T>) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Aligned<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_line_and_a_clone_does_too() {
        for len in [0, 1, 7, 1000] {
            let mut numbers = Aligned::<f32>::zeros(len);
            numbers.iter_mut().enumerate().for_each(|(i, x)| *x = i as f32);
            let clone = numbers.clone();
            assert_eq!((numbers.len(), &numbers), (len, &clone));
            for numbers in [numbers, clone] {
                assert!(numbers.as_ptr().addr().is_multiple_of(LINE));
            }
        }
    }
}
