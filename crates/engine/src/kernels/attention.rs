//! Scaled dot-product attention of many heads, in one pass (Vaswani et al., "Attention Is All You Need", 2017, 3.2).
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instruction sets that the processor was asked for")
)]

use super::columns::Columns;
use super::exponential::softmax;
use super::{Isa, compiled_for};

/// Vectors of heads in a tensor: element `i` of row `r` of head `h` of sequence `b` lies at
/// `b * sequence + h * head + r * row + i`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads<'a> {
    pub data: &'a [f32],
    pub sequence: usize,
    pub head: usize,
    pub row: usize,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub n_sequences: usize,
    pub n_heads: usize,
    pub n_queries: usize,
    pub n_keys: usize,
    /// Elements of a vector.
    pub dim: usize,
}

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'a> {
    pub queries: Heads<'a>,
    pub keys: Heads<'a>,
    pub values: Heads<'a>,
    /// `[queries, keys]`, added to the scores of every head.
    pub mask: Option<&'a [f32]>,
    pub scale: f32,
    pub sizes: Sizes,
}

/// The mean of the values for each query, weighted by the softmax of its scaled products with the keys, into `out`:
/// `[sequence, query]` rows of the elements of the heads from `first` on, as many as it has columns for.
///
/// # Panics
/// When a slice is too short for the sizes.
pub(crate) fn attend(isa: Isa, attention: &Attention<'_>, first: usize, mut out: Columns<'_>) {
    let out = &mut out;
    compiled_for!(isa, all, attention: &Attention<'_>, first: usize, out: &mut Columns<'_>);
}

/// Products that one thread does in a nanosecond, roughly.
pub(crate) const PRODUCTS_PER_NS: f32 = 20.0;
/// From how many queries on the keys are laid out anew, which the products with all of them have to pay for.
const MANY_QUERIES: usize = 4;
/// Elements that are summed side by side, in as many registers as hide the time of an addition.
const WIDE: usize = 64;

#[inline(always)]
fn all(attention: &Attention<'_>, first: usize, out: &mut Columns<'_>) {
    let Attention { queries, keys, values, mask, scale, sizes } = *attention;
    let Sizes { n_sequences, n_queries, n_keys, dim, .. } = sizes;
    assert!(out.n_rows() == n_sequences * n_queries, "{} rows for {sizes:?}", out.n_rows());
    let heads = first..first + out.n_columns() / dim.max(1);
    let mut scores = vec![0.0; n_keys.next_multiple_of(WIDE)];
    let mut columns = vec![0.0; if n_queries < MANY_QUERIES { 0 } else { scores.len() * dim }];
    for (b, h) in (0..n_sequences).flat_map(|b| heads.clone().map(move |h| (b, h))) {
        let start = |heads: &Heads<'_>| b * heads.sequence + h * heads.head;
        let (query_start, key_start, value_start) = (start(&queries), start(&keys), start(&values));
        if !columns.is_empty() {
            transpose(&keys.data[key_start..], keys.row, n_keys, dim, &mut columns);
        }
        for s in 0..n_queries {
            let query = &queries.data[query_start + s * queries.row..][..dim];
            if columns.is_empty() {
                for (r, score) in scores[..n_keys].iter_mut().enumerate() {
                    *score = dot(query, &keys.data[key_start + r * keys.row..][..dim]);
                }
            } else {
                products(query, &columns, &mut scores);
            }
            let scores = &mut scores[..n_keys];
            for score in scores.iter_mut() {
                *score *= scale;
            }
            if let Some(mask) = mask {
                for (score, mask) in scores.iter_mut().zip(&mask[s * n_keys..][..n_keys]) {
                    *score += mask;
                }
            }
            softmax(scores);
            let out = &mut out.of_row(b * n_queries + s, (h - first) * dim)[..dim];
            mean(scores, &values.data[value_start..], values.row, out);
        }
    }
}

/// `n_keys` rows of `dim` elements as `dim` rows of a multiple of [`WIDE`] elements.
#[inline(always)]
fn transpose(keys: &[f32], row: usize, n_keys: usize, dim: usize, columns: &mut [f32]) {
    let stride = columns.len() / dim.max(1);
    for r in 0..n_keys {
        for (i, key) in keys[r * row..][..dim].iter().enumerate() {
            columns[i * stride + r] = *key;
        }
    }
}

/// The products of a query with all keys, which are the columns of `columns`.
#[inline(always)]
fn products(query: &[f32], columns: &[f32], scores: &mut [f32]) {
    let stride = scores.len();
    for (at, scores) in scores.as_chunks_mut::<WIDE>().0.iter_mut().enumerate() {
        let mut sums = [0.0; WIDE];
        for (i, query) in query.iter().enumerate() {
            let Some(column) = columns[i * stride + at * WIDE..].first_chunk::<WIDE>() else { continue };
            for k in 0..WIDE {
                sums[k] += query * column[k];
            }
        }
        *scores = sums;
    }
}

/// The mean of the values, weighted by `shares`.
#[inline(always)]
fn mean(shares: &[f32], values: &[f32], row: usize, out: &mut [f32]) {
    let n_whole = out.len() / LANES * LANES;
    let (whole, rest) = out.split_at_mut(n_whole);
    // Two registers at once where there are as many.
    let (pairs, single) = whole.as_chunks_mut::<{ 2 * LANES }>();
    for (at, out) in pairs.iter_mut().enumerate() {
        *out = mean_of(shares, &values[2 * LANES * at..], row);
    }
    if let Some(out) = single.first_chunk_mut::<LANES>() {
        *out = mean_of(shares, &values[n_whole - LANES..], row);
    }
    for (i, out) in rest.iter_mut().enumerate() {
        *out = shares.iter().enumerate().map(|(r, share)| share * values[r * row + n_whole + i]).sum();
    }
}

#[inline(always)]
fn mean_of<const N: usize>(shares: &[f32], values: &[f32], row: usize) -> [f32; N] {
    let mut sums = [0.0; N];
    for (r, share) in shares.iter().enumerate() {
        let Some(value) = values[r * row..].first_chunk::<N>() else { continue };
        for i in 0..N {
            sums[i] += share * value[i];
        }
    }
    sums
}

/// Elements of the widest register.
const LANES: usize = 16;

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((chunks, rest), (others, other_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in chunks.iter().zip(others) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    // In halves, which is four additions one after the other instead of sixteen.
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            sums[i] += sums[i + n];
        }
        n /= 2;
    }
    sums[0] + rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Numbers;
    use super::*;

    /// Written down plainly, in f64.
    fn expected(attention: &Attention<'_>, b: usize, h: usize, s: usize) -> Vec<f64> {
        let Attention { queries, keys, values, mask, scale, sizes } = *attention;
        let of = |heads: &Heads<'_>, row: usize, i: usize| {
            f64::from(heads.data[b * heads.sequence + h * heads.head + row * heads.row + i])
        };
        let scores: Vec<f64> = (0..sizes.n_keys)
            .map(|r| {
                let product: f64 = (0..sizes.dim).map(|i| of(&queries, s, i) * of(&keys, r, i)).sum();
                (f64::from(scale) * product + mask.map_or(0.0, |mask| mask[s * sizes.n_keys + r].into()))
                    .exp()
            })
            .collect();
        let sum: f64 = scores.iter().sum();
        let mean = |i: usize| scores.iter().enumerate().map(|(r, x)| x / sum * of(&values, r, i)).sum();
        (0..sizes.dim).map(mean).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_weighted_mean_of_the_values() {
        let mut numbers = Numbers(4);
        for _ in 0..40 {
            let sizes = Sizes {
                n_sequences: numbers.between(1, 3),
                n_heads: numbers.between(1, 3),
                n_queries: numbers.between(1, 9),
                n_keys: numbers.between(1, 150),
                dim: numbers.between(1, 80),
            };
            let Sizes { n_sequences, n_heads, n_queries, n_keys, dim } = sizes;
            let mut data = |n: usize| -> Vec<f32> {
                (0..n_sequences * n_heads * n * dim)
                    .map(|_| numbers.between(0, 2000) as f32 / 1e3 - 1.0)
                    .collect()
            };
            let (queries, keys, values) = (data(n_queries), data(n_keys), data(n_keys));
            let mask: Vec<f32> = (0..n_queries * n_keys)
                .map(|_| if numbers.between(0, 3) == 0 { -1e4 } else { 0.0 })
                .collect();
            let heads = |data, n: usize| Heads { data, sequence: n_heads * n * dim, head: n * dim, row: dim };
            let attention = Attention {
                queries: heads(&queries, n_queries),
                keys: heads(&keys, n_keys),
                values: heads(&values, n_keys),
                mask: (numbers.between(0, 1) == 0 && n_keys > 20).then_some(&mask),
                scale: 1.0 / (dim as f32).sqrt(),
                sizes,
            };
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; n_sequences * n_queries * n_heads * dim];
                let n_part = dim * if n_heads > 1 { n_heads - 1 } else { 1 };
                for (part, out) in Columns::all(&mut out, n_heads * dim).split(n_part).enumerate() {
                    attend(isa, &attention, part * n_part / dim, out);
                }
                for (at, found) in out.chunks(dim).enumerate() {
                    let (b, rest) = (at / (n_queries * n_heads), at % (n_queries * n_heads));
                    let expected = expected(&attention, b, rest % n_heads, rest / n_heads);
                    let near = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-5;
                    assert!(std::iter::zip(found, &expected).all(near), "{isa:?} {sizes:?}");
                }
            }
        }
    }
}
