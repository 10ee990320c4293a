//! Small sums over slices of f32.

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

/// Softmax in place; of nothing, nothing.
pub(crate) fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|x| *x /= sum);
}

/// Log-softmax in place.
pub(crate) fn log_softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().map(|x| (x - max).exp()).sum();
    let log_sum = sum.ln();
    // The maximum goes first: added to the logarithm it would swallow its digits.
    scores.iter_mut().for_each(|x| *x = *x - max - log_sum);
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
    fn softmax_sums_to_one_even_for_large_scores() {
        let mut scores = [1000.0, 999.0, -1000.0];
        softmax(&mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6 && scores[0] > scores[1]);
        let mut logs = [1000.0, 999.0, -1000.0];
        log_softmax(&mut logs);
        assert!((logs[0].exp() - scores[0]).abs() < 1e-6);
        softmax(&mut []);
    }

    #[test]
    fn top_orders_by_value_then_index() {
        assert_eq!(top(&[1.0, 3.0, 2.0, 3.0], 3), [1, 3, 2]);
        assert_eq!(top(&[1.0], 3), [0]);
        assert_eq!(top(&[1.0], 0), [0; 0]);
    }
}
