//! Scaled dot-product attention of many heads, in one pass (Vaswani et al., "Attention Is All You Need", 2017, 3.2).
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instruction sets that the processor was asked for")
)]

use super::Isa;
use super::exponential::softmax;

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
/// `[sequence, query, head, element]`.
///
/// # Panics
/// When a slice is too short for the sizes.
pub(crate) fn attend(isa: Isa, attention: &Attention<'_>, out: &mut [f32]) {
    match isa {
        Isa::Portable => all(attention, out),
        // The compiler may use what every processor of this architecture has.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::DotProduct | Isa::I8mm => all(attention, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an instruction set is only chosen where the processor has it.
        Isa::Avx2 => unsafe { avx2(attention, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni => unsafe { avx512(attention, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(attention: &Attention<'_>, out: &mut [f32]) {
    all(attention, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn avx512(attention: &Attention<'_>, out: &mut [f32]) {
    all(attention, out);
}

#[inline(always)]
fn all(attention: &Attention<'_>, out: &mut [f32]) {
    let Attention { queries, keys, values, mask, scale, sizes } = *attention;
    let Sizes { n_sequences, n_heads, n_queries, n_keys, dim } = sizes;
    let mut scores = vec![0.0; n_keys];
    for (b, h) in (0..n_sequences).flat_map(|b| (0..n_heads).map(move |h| (b, h))) {
        let start = |heads: &Heads<'_>| b * heads.sequence + h * heads.head;
        let (query_start, key_start, value_start) = (start(&queries), start(&keys), start(&values));
        for s in 0..n_queries {
            let query = &queries.data[query_start + s * queries.row..][..dim];
            for (r, score) in scores.iter_mut().enumerate() {
                *score = scale * dot(query, &keys.data[key_start + r * keys.row..][..dim]);
            }
            if let Some(mask) = mask {
                for (score, mask) in scores.iter_mut().zip(&mask[s * n_keys..][..n_keys]) {
                    *score += mask;
                }
            }
            softmax(&mut scores);
            let out = &mut out[((b * n_queries + s) * n_heads + h) * dim..][..dim];
            out.fill(0.0);
            for (r, share) in scores.iter().enumerate() {
                let value = &values.data[value_start + r * values.row..][..dim];
                for (out, value) in out.iter_mut().zip(value) {
                    *out += share * value;
                }
            }
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((chunks, rest), (others, other_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in chunks.iter().zip(others) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.into_iter().sum::<f32>() + rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f32>()
}
