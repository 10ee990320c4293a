//! Small sums over slices of f32.

pub(crate) use engine::{log_softmax, softmax};

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
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
    let mut best: Vec<usize> = Vec::with_capacity(n + 1);
    for (at, chunk) in values.chunks(CHUNK).enumerate() {
        // Most chunks hold none: without an early end, that is seen in vector instructions.
        if best.len() == n
            && best.last().is_none_or(|worst| !chunk.iter().fold(false, |any, x| any | (*x > values[*worst])))
        {
            continue;
        }
        for (idx, value) in chunk.iter().enumerate().map(|(idx, value)| (at * CHUNK + idx, value)) {
            if best.len() == n && best.last().is_some_and(|worst| values[*worst] >= *value) {
                continue;
            }
            let place = best.partition_point(|other| values[*other] >= *value);
            best.insert(place, idx);
            best.truncate(n);
        }
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
