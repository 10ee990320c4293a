//! Products of rows of u8 activations with packed i8 weights, and what is done with each sum.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use super::aligned::Aligned;
use super::{Isa, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512, avxvnni};
#[cfg(target_arch = "aarch64")]
use super::{dotprod, i8mm, neon};

/// Columns that are packed together: what one register of 512 bits has sums for.
pub(crate) const BLOCK: usize = 16;
/// Activations and weights are multiplied by fours.
pub(crate) const QUAD: usize = 4;

/// Weights of `n_columns` sums over `depth` products each, in the order in which the kernels read them:
/// `[column / 16][depth / 4][column % 16][depth % 4]`, padded with zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    n_columns: usize,
    depth: usize,
    quads: Aligned<i8>,
    /// Of each column, and zeros that fill the last block.
    sums: Vec<i32>,
    #[cfg(target_arch = "aarch64")]
    is_symmetric: bool,
}

impl Packed {
    /// Packs the weights that `weight(column, k)` gives. `depth` is a multiple of four.
    pub(crate) fn new(n_columns: usize, depth: usize, weight: impl Fn(usize, usize) -> i8) -> Packed {
        assert!(depth.is_multiple_of(QUAD), "a depth of {depth} is no multiple of {QUAD}");
        let mut quads = Aligned::zeros(n_columns.next_multiple_of(BLOCK) * depth);
        for (block, packed) in quads.chunks_exact_mut((BLOCK * depth).max(1)).enumerate() {
            for (quad, packed) in packed.as_chunks_mut::<{ BLOCK * QUAD }>().0.iter_mut().enumerate() {
                let columns = block * BLOCK..n_columns.min((block + 1) * BLOCK);
                for (column, packed) in columns.zip(packed.as_chunks_mut::<QUAD>().0) {
                    *packed = std::array::from_fn(|k| weight(column, quad * QUAD + k));
                }
            }
        }
        Packed {
            n_columns,
            depth,
            sums: column_sums(n_columns, depth, &quads),
            #[cfg(target_arch = "aarch64")]
            is_symmetric: !quads.contains(&i8::MIN),
            quads,
        }
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// The sum of each column's weights, for the zero point of the activations; zeros fill the last block.
    pub(crate) fn column_sums(&self) -> &[i32] {
        &self.sums
    }

    /// The weights of all columns.
    pub(crate) fn all(&self) -> Weights<'_> {
        self.part(0, self.n_columns)
    }

    /// The weights of at most `n` columns from `first` on, which begins a block.
    pub(crate) fn part(&self, first: usize, n: usize) -> Weights<'_> {
        assert!(first.is_multiple_of(BLOCK) && first <= self.n_columns, "columns from {first} on");
        Weights {
            n_columns: n.min(self.n_columns - first),
            depth: self.depth,
            quads: &self.quads[first * self.depth..],
            #[cfg(target_arch = "aarch64")]
            sums: &self.sums[first..],
            #[cfg(target_arch = "aarch64")]
            is_symmetric: self.is_symmetric,
        }
    }
}

/// Packed weights of columns that follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    n_columns: usize,
    depth: usize,
    quads: &'a [i8],
    #[cfg(target_arch = "aarch64")]
    sums: &'a [i32],
    #[cfg(target_arch = "aarch64")]
    is_symmetric: bool,
}

impl<'a> Weights<'a> {
    pub(crate) fn n_blocks(&self) -> usize {
        self.n_columns.div_ceil(BLOCK)
    }

    /// The blocks from `first` on, one after the other.
    pub(crate) fn blocks(&self, first: usize) -> &'a [i8] {
        &self.quads[first * self.block_len()..]
    }

    pub(crate) fn block_len(&self) -> usize {
        BLOCK * self.depth
    }

    /// The sum of each column's weights; zeros fill the last block.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn column_sums(&self) -> &'a [i32] {
        self.sums
    }

    /// Whether no weight is -128.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn is_symmetric(&self) -> bool {
        self.is_symmetric
    }
}

fn column_sums(n_columns: usize, depth: usize, quads: &[i8]) -> Vec<i32> {
    let mut sums = vec![0; n_columns.next_multiple_of(BLOCK)];
    let blocks = quads.chunks_exact((BLOCK * depth).max(1));
    for (sums, block) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
        for quads in block.as_chunks::<{ BLOCK * QUAD }>().0 {
            for (sum, quad) in sums.iter_mut().zip(quads.as_chunks::<QUAD>().0) {
                *sum += quad.iter().map(|weight| i32::from(*weight)).sum::<i32>();
            }
        }
    }
    sums
}

/// Where the activations of each row lie. A row is `n_runs` runs of `run_len` bytes; rows may overlap, as those of a
/// convolution do, and come in lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub data: &'a [u8],
    pub n_lines: usize,
    pub line_stride: usize,
    /// Rows of one line.
    pub n_rows: usize,
    pub row_stride: usize,
    pub n_runs: usize,
    pub run_stride: usize,
    /// A multiple of four.
    pub run_len: usize,
}

impl Rows<'_> {
    /// `n` rows of `depth` bytes, one after the other.
    pub(crate) fn dense(data: &[u8], n: usize, depth: usize) -> Rows<'_> {
        Rows {
            data,
            n_lines: 1,
            line_stride: 0,
            n_rows: n,
            row_stride: depth,
            n_runs: 1,
            run_stride: 0,
            run_len: depth,
        }
    }

    fn check(&self, depth: usize) {
        assert!(self.n_runs * self.run_len == depth && self.run_len.is_multiple_of(QUAD));
        if self.n_lines * self.n_rows * depth > 0 {
            let last = (self.n_lines - 1) * self.line_stride
                + (self.n_rows - 1) * self.row_stride
                + (self.n_runs - 1) * self.run_stride;
            assert!(last + self.run_len <= self.data.len(), "rows beyond the activations");
        }
    }
}

/// Takes the sums of one row for the columns from `column` on; columns beyond the last are padding.
pub(crate) trait Sink {
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]);
}

/// Multiplies every row with every column; each sum starts at its column's entry of `initial`, which fills the last
/// block. Rows are numbered through all lines. A row may be put more than once, with the same sums.
///
/// # Panics
/// When the rows do not lie within the data, or their length is not the depth of the weights.
pub(crate) fn multiply(
    isa: Isa,
    rows: &Rows<'_>,
    weights: Weights<'_>,
    initial: &[i32],
    sink: &mut impl Sink,
) {
    rows.check(weights.depth);
    assert!(initial.len() >= weights.n_blocks() * BLOCK, "initial sums for every column of every block");
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => amx::multiply(rows, weights, initial, sink),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => avx512::multiply(rows, weights, initial, sink),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => avxvnni::multiply(rows, weights, initial, sink),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::multiply(rows, weights, initial, sink),
        #[cfg(target_arch = "aarch64")]
        Isa::I8mm => i8mm::multiply(rows, weights, initial, sink),
        #[cfg(target_arch = "aarch64")]
        Isa::DotProduct => dotprod::multiply(rows, weights, initial, sink),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::multiply(rows, weights, initial, sink),
        Isa::Portable => portable::multiply(rows, weights, initial, sink),
    }
}

/// The sums of `R` rows for `B` blocks.
pub(crate) type Tile<const R: usize, const B: usize> = [[[i32; BLOCK]; B]; R];

/// The innermost loop of an instruction set.
pub(crate) trait Dot {
    /// Adds the products of `R` rows, the first at `at`, with `B` blocks to `tile`.
    ///
    /// # Safety
    /// The processor has the instruction set; the rows lie within `rows.data` and the blocks within `blocks`.
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    );
}

/// All rows with the `B` blocks from `block` on, by `R` rows at a time.
///
/// # Safety
/// The processor has the instruction set of `D`, and [`multiply`] has checked the arguments.
#[inline(always)]
pub(crate) unsafe fn panel<D: Dot, const R: usize, const B: usize>(
    rows: &Rows<'_>,
    weights: Weights<'_>,
    block: usize,
    initial: &[i32],
    sink: &mut impl Sink,
) {
    let blocks = weights.blocks(block);
    let mut start = [[0; BLOCK]; B];
    for (b, start) in start.iter_mut().enumerate() {
        start.copy_from_slice(&initial[(block + b) * BLOCK..][..BLOCK]);
    }
    for line in 0..rows.n_lines {
        let mut row = 0;
        while row < rows.n_rows {
            let at = |row: usize| line * rows.line_stride + row * rows.row_stride;
            let number = line * rows.n_rows;
            // SAFETY: as the caller promises.
            unsafe {
                if rows.n_rows >= R {
                    // The last rows are taken together with some that were there before.
                    let first = row.min(rows.n_rows - R);
                    let mut tile = [start; R];
                    D::dot::<R, B>(rows, at(first), blocks, &mut tile);
                    put(&tile, number + first, block, sink);
                    row = first + R;
                } else if rows.n_rows - row >= 3 {
                    let mut tile = [start; 3];
                    D::dot::<3, B>(rows, at(row), blocks, &mut tile);
                    put(&tile, number + row, block, sink);
                    row += 3;
                } else {
                    let mut tile = [start];
                    D::dot::<1, B>(rows, at(row), blocks, &mut tile);
                    put(&tile, number + row, block, sink);
                    row += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn put<const R: usize, const B: usize>(tile: &Tile<R, B>, row: usize, block: usize, sink: &mut impl Sink) {
    for (r, sums) in tile.iter().enumerate() {
        for (b, sums) in sums.iter().enumerate() {
            sink.put(row + r, (block + b) * BLOCK, sums);
        }
    }
}
