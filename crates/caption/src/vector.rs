//! Small sums over slices of f32.

use engine::greatest;
pub(crate) use engine::{log_softmax, softmax};

/// The sum of the products of each two elements, of as many as both have.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    std::iter::zip(a, b).map(|(a, b)| a * b).sum()
}

pub(crate) fn norm(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}

/// Scales `a` to unit norm; a zero vector stays.
pub fn normalize(a: &mut [f32]) {
    let norm = norm(a);
    if norm > 0.0 {
        a.iter_mut().for_each(|x| *x /= norm);
    }
}

/// Indices of the largest values, largest first; equal values in order of their indices.
pub(crate) fn top(values: &[f32], n: usize) -> Vec<usize> {
    const CHUNK: usize = 64;
    // In each of the n chunks with the greatest maxima is a value of at least the last of these: what is less is none of
    // the n largest, nor is any value of a chunk whose maximum is less. Maxima are found in vector instructions.
    let maxima: Vec<f32> = values.chunks(CHUNK).map(greatest).collect();
    let least = match inserted(&maxima, 0..maxima.len(), n).last() {
        Some(nth) if n < maxima.len() => maxima[*nth],
        _ => f32::NEG_INFINITY,
    };
    let is_of_use = |chunk: &usize| maxima[*chunk] >= least;
    let indices = (0..maxima.len())
        .filter(is_of_use)
        .flat_map(|chunk| chunk * CHUNK..values.len().min((chunk + 1) * CHUNK))
        .filter(|idx| values[*idx] >= least);
    inserted(values, indices, n)
}

/// Those of `indices`, which ascend, with the largest values, in order.
fn inserted(values: &[f32], indices: impl Iterator<Item = usize>, n: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(n + 1);
    for idx in indices {
        let value = values[idx];
        if best.len() == n && best.last().is_none_or(|worst| values[*worst] >= value) {
            continue;
        }
        let place = best.partition_point(|other| values[*other] >= value);
        best.insert(place, idx);
        best.truncate(n);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_orders_by_value_then_index() {
        assert_eq!(top(&[1.0, 3.0, 2.0, 3.0], 3), [1, 3, 2]);
        assert_eq!(top(&[1.0], 3), [0]);
        assert_eq!(top(&[1.0], 0), [0; 0]);
    }

    #[test]
    fn top_is_the_head_of_all_in_order() {
        let values: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 211) as f32).collect();
        let mut all: Vec<usize> = (0..values.len()).collect();
        all.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
        for n in [1, 5, 64, 65, 300] {
            assert_eq!(top(&values, n), all[..n]);
        }
    }
}
