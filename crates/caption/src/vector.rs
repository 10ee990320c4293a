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
    let mut best: Vec<usize> = Vec::with_capacity(n + 1);
    for (idx, value) in values.iter().enumerate() {
        if best.len() == n && best.last().is_some_and(|worst| values[*worst] >= *value) {
            continue;
        }
        let at = best.partition_point(|other| values[*other] >= *value);
        best.insert(at, idx);
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
}
