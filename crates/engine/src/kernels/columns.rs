//! A matrix that several threads write, each its own columns.
#![expect(unsafe_code, reason = "parts of a row lie between parts of others")]

use std::marker::PhantomData;

/// Some columns of every row of a matrix, for one thread to write.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    /// The first row's first.
    start: *mut f32,
    n_rows: usize,
    /// Elements from one row of the matrix to the next.
    stride: usize,
    n_columns: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: the elements of its columns are this part's alone, as those of a `&mut [f32]` are.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// All columns of a matrix whose rows have `n_columns`.
    pub(crate) fn all(matrix: &'a mut [f32], n_columns: usize) -> Columns<'a> {
        Columns {
            n_rows: matrix.len() / n_columns.max(1),
            start: matrix.as_mut_ptr(),
            stride: n_columns,
            n_columns,
            matrix: PhantomData,
        }
    }

    /// Parts of `n_part` columns, the last of those that are left.
    pub(crate) fn split(self, n_part: usize) -> impl Iterator<Item = Columns<'a>> {
        (0..self.n_columns).step_by(n_part.max(1)).map(move |first| Columns {
            // SAFETY: the first row has a column of this number, if there is a row.
            start: if self.n_rows == 0 { self.start } else { unsafe { self.start.add(first) } },
            n_columns: n_part.min(self.n_columns - first),
            ..self
        })
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// What this part has of `row`, from its `column` on.
    ///
    /// # Panics
    /// When it has no such row or column.
    #[inline(always)]
    pub(crate) fn of_row(&mut self, row: usize, column: usize) -> &mut [f32] {
        assert!(row < self.n_rows && column < self.n_columns, "row {row}, column {column}");
        // SAFETY: both lie within this part, whose elements nothing else reads or writes while it lives.
        unsafe {
            let start = self.start.add(row * self.stride + column);
            std::slice::from_raw_parts_mut(start, self.n_columns - column)
        }
    }
}

/// The first of a block's elements that `out` has room for: a whole block in one instruction.
#[inline(always)]
pub(crate) fn store<T: Copy, const N: usize>(block: &[T; N], out: &mut [T]) {
    if let Some(out) = out.first_chunk_mut::<N>() {
        *out = *block;
    } else {
        out.copy_from_slice(&block[..out.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_matrix_once_from_threads_of_their_own() {
        for (n_rows, n_columns, n_part) in [(3, 10, 4), (1, 4, 4), (2, 5, 1), (0, 5, 2), (4, 0, 3)] {
            let mut matrix = vec![0.0; n_rows * n_columns];
            std::thread::scope(|scope| {
                for (part, mut columns) in Columns::all(&mut matrix, n_columns).split(n_part).enumerate() {
                    scope.spawn(move || {
                        for row in 0..columns.n_rows() {
                            for (i, value) in columns.of_row(row, 0).iter_mut().enumerate() {
                                *value += (100 * row + part * n_part + i) as f32;
                            }
                        }
                    });
                }
            });
            let expected: Vec<f32> =
                (0..n_rows).flat_map(|row| (0..n_columns).map(move |i| (100 * row + i) as f32)).collect();
            assert_eq!(matrix, expected);
        }
    }

    #[test]
    #[should_panic(expected = "row 1, column 4")]
    fn a_column_of_another_part_is_refused() {
        let mut matrix = [0.0; 16];
        if let Some(mut first) = Columns::all(&mut matrix, 8).split(4).next() {
            first.of_row(1, 4);
        }
    }
}
