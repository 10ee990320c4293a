//! The loss of a decoder, which is most of a training step: the words are thousands and the layers narrow.
//!
//! The cross-entropy brings its own gradient. As operations of the framework it reads and writes the logits, of which
//! a batch has more than an allocator keeps, some twenty times, once for each; here they are made a few hundred rows
//! at a time and gone over once, while they are in the cache.

use anyhow::{Result, ensure};
use burn::tensor::{Int, Tensor, TensorData};

use super::batch::Batch;
use crate::export::values;
use crate::model::Decoder;

/// Rows of logits at a time: 8 MB for 8,000 words.
const ROWS: usize = 256;
/// Sums and maxima that run side by side, so that a compiler makes vector instructions of them.
const LANES: usize = 16;

/// Cross-entropy of every token that is learned, up to and with `eos`, with label smoothing: the mean over these.
///
/// # Errors
/// When a tensor cannot be read back.
pub fn loss(model: &Decoder, batch: Batch, smoothing: f64) -> Result<Tensor<1>> {
    let [b, n_tokens] = batch.ids.dims();
    let s = n_tokens - 1;
    let inputs = batch.ids.clone().narrow(1, 0, s);
    let next = batch.ids.narrow(1, 1, s).reshape([b * s]).try_into_vec_as::<i64>();
    let next = next.map_err(|e| anyhow::anyhow!("read the tokens of a batch: {e:?}"))?;
    let weights = values(batch.learned)?;
    // A prompt and padding need no logits.
    let learned: Vec<usize> = (0..b * s).filter(|row| weights[*row] != 0.0).collect();
    if learned.is_empty() {
        return Ok(Tensor::zeros([1], &batch.inputs.device()));
    }
    let scale = 1.0 / batch.n_learned.max(1) as f32;
    let wanted: Vec<Wanted> = learned
        .iter()
        .map(|row| Wanted { word: next[*row] as usize, weight: weights[*row] * scale })
        .collect();
    let hidden = model.hidden(batch.inputs, inputs);
    let [_, _, d] = hidden.dims();
    let hidden = hidden.reshape([b * s, d]);
    let hidden = if learned.len() == b * s { hidden } else { chosen(hidden, &learned) };
    cross_entropy(hidden, model.token_embedding.val(), &wanted, smoothing as f32)
}

fn chosen(hidden: Tensor<2>, rows: &[usize]) -> Tensor<2> {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &hidden.device());
    hidden.select(0, rows)
}

/// What a row of logits shall say, and how much that counts.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    word: usize,
    weight: f32,
}

/// The weighted sum over the rows of `hidden` (N, d) of the cross-entropy of the words that `table` (V, d) makes of
/// them. Its gradient is exact where the tensors have one.
fn cross_entropy(
    hidden: Tensor<2>,
    table: Tensor<2>,
    wanted: &[Wanted],
    smoothing: f32,
) -> Result<Tensor<1>> {
    let [n, _] = hidden.dims();
    let [v, d] = table.dims();
    ensure!(wanted.iter().all(|wanted| wanted.word < v), "a token lies beyond the {v} of the vocabulary");
    let (rows, words) = (hidden.clone().inner(), table.clone().inner());
    let device = rows.device();
    let (mut total, mut hidden_slopes, mut table_slope) = (0.0, Vec::new(), Tensor::zeros([v, d], &device));
    for (chunk, wanted) in wanted.chunks(ROWS).enumerate() {
        let rows = rows.clone().narrow(0, chunk * ROWS, wanted.len());
        let mut logits = values(rows.clone().matmul(words.clone().transpose()))?;
        for (logits, wanted) in logits.chunks_exact_mut(v).zip(wanted) {
            total += f64::from(to_slope(logits, *wanted, smoothing));
        }
        if hidden.is_autodiff() {
            let slope = Tensor::<2>::from_data(TensorData::new(logits, [wanted.len(), v]), &device);
            table_slope = table_slope + slope.clone().transpose().matmul(rows);
            hidden_slopes.push(slope.matmul(words.clone()));
        }
    }
    if hidden_slopes.is_empty() {
        return Ok(Tensor::from_data([total as f32], &device));
    }
    ensure!(n == wanted.len(), "{n} rows, and {} words for them", wanted.len());
    // Linear in both, with the slopes as constants: what is differentiated has the gradient, what is added the value.
    let linear = (hidden * Tensor::cat(hidden_slopes, 0)).sum() + (table * table_slope).sum();
    let value: f32 = linear.clone().inner().into_scalar();
    Ok(linear.add_scalar(total - f64::from(value)))
}

/// Replaces a row of logits by the slope of its loss, which is returned.
fn to_slope(logits: &mut [f32], Wanted { word, weight }: Wanted, smoothing: f32) -> f32 {
    let v = logits.len() as f32;
    let peak = peak(logits);
    let wanted = logits[word] - peak;
    let mean = sum(logits) / v - peak;
    logits.iter_mut().for_each(|x| *x = exp(*x - peak));
    let sum = sum(logits);
    let (share, floor) = (weight / sum, weight * smoothing / v);
    logits.iter_mut().for_each(|x| *x = *x * share - floor);
    logits[word] -= weight * (1.0 - smoothing);
    let log_sum = sum.ln();
    weight * (log_sum - (1.0 - smoothing) * wanted - smoothing * mean)
}

fn sum(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for lane in lanes {
        std::iter::zip(&mut sums, lane).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().chain(rest).sum()
}

fn peak(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<LANES>();
    let mut peaks = [f32::NEG_INFINITY; LANES];
    // `f32::max` minds NaN, for which no vector instruction does.
    for lane in lanes {
        std::iter::zip(&mut peaks, lane).for_each(|(peak, x)| *peak = if *x > *peak { *x } else { *peak });
    }
    peaks.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// e to the power of `x`, 0 at most, within two units of the last place (the polynomial of Cephes): the library's own is
/// a call for each number.
fn exp(x: f32) -> f32 {
    /// Adding it leaves no room behind the point.
    const TO_WHOLE: f32 = 12_582_912.0;
    /// ln 2 in two parts, of which the first is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Below it the result is no longer normal.
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + TO_WHOLE;
    let whole = shifted - TO_WHOLE;
    let r = x - whole * LN_2[0] - whole * LN_2[1];
    let tail = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
    let tail = tail.iter().fold(1.987_569_1e-4, |sum, next| sum * r + next);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (tail * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use burn::tensor::activation::log_softmax;
    use caption::normal;

    use super::*;
    use crate::training::step_rng;

    const V: usize = 53;
    const D: usize = 8;

    fn random(n: usize, scale: f32, stream: usize) -> Vec<f32> {
        let mut rng = step_rng(7, stream);
        (0..n).map(|_| scale * normal(&mut rng)).collect()
    }

    fn tensor(values: &[f32], width: usize, device: &Device) -> Tensor<2> {
        Tensor::<1>::from_data(values, device).reshape([values.len() / width, width])
    }

    fn wanted(n: usize) -> Vec<Wanted> {
        // One is unlearned.
        (0..n)
            .map(|i| Wanted { word: i * 31 % V, weight: if i == 3 { -0.5 } else { 0.01 + i as f32 * 1e-3 } })
            .collect()
    }

    /// The same by operations of the framework.
    fn plain(hidden: Tensor<2>, table: Tensor<2>, wanted: &[Wanted], smoothing: f64) -> Tensor<1> {
        let device = hidden.device();
        let words: Vec<i64> = wanted.iter().map(|wanted| wanted.word as i64).collect();
        let words = Tensor::<1, Int>::from_data(words.as_slice(), &device).reshape([wanted.len(), 1]);
        let weights: Vec<f32> = wanted.iter().map(|wanted| wanted.weight).collect();
        let log_p = log_softmax(hidden.matmul(table.transpose()), 1);
        let hit: Tensor<1> = log_p.clone().gather(1, words).squeeze_dim(1);
        let spread: Tensor<1> = log_p.mean_dim(1).squeeze_dim(1);
        let each = hit.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing);
        (each * Tensor::<1>::from_data(weights.as_slice(), &device)).sum().neg()
    }

    #[test]
    fn value_and_gradient_are_those_of_the_framework() {
        let device = Device::flex().autodiff();
        let n = 2 * ROWS + 5;
        let (hidden, table) = (random(n * D, 2.0, 0), random(V * D, 1.5, 1));
        let wanted = wanted(n);
        let of = |ours: bool| {
            let hidden = tensor(&hidden, D, &device).require_grad();
            let table = tensor(&table, D, &device).require_grad();
            let loss = if ours {
                cross_entropy(hidden.clone(), table.clone(), &wanted, 0.1).unwrap()
            } else {
                plain(hidden.clone(), table.clone(), &wanted, 0.1)
            };
            let value: f32 = loss.clone().into_scalar();
            let grads = loss.backward();
            let of = |x: &Tensor<2>| values(x.grad(&grads).unwrap()).unwrap();
            (value, of(&hidden), of(&table))
        };
        let (ours, plain) = (of(true), of(false));
        assert!((ours.0 - plain.0).abs() < 1e-4 * plain.0.abs(), "{} {}", ours.0, plain.0);
        for (ours, plain) in [(ours.1, plain.1), (ours.2, plain.2)] {
            let largest = plain.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let worst = std::iter::zip(&ours, &plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5 * largest, "{worst} beside {largest}");
        }
    }

    #[test]
    fn without_a_gradient_there_is_the_value_alone() {
        let device = Device::flex();
        let (hidden, table) = (random(9 * D, 2.0, 0), random(V * D, 1.5, 1));
        let wanted = wanted(9);
        let both = (tensor(&hidden, D, &device), tensor(&table, D, &device));
        let ours: f32 = cross_entropy(both.0.clone(), both.1.clone(), &wanted, 0.0).unwrap().into_scalar();
        let plain: f32 = plain(both.0, both.1, &wanted, 0.0).into_scalar();
        assert!((ours - plain).abs() < 1e-5, "{ours} {plain}");
    }

    #[test]
    fn a_word_beyond_the_vocabulary_is_refused() {
        let device = Device::flex();
        let (hidden, table) =
            (tensor(&random(D, 1.0, 0), D, &device), tensor(&random(V * D, 1.0, 1), D, &device));
        let beyond = [Wanted { word: V, weight: 1.0 }];
        let error = cross_entropy(hidden, table, &beyond, 0.0).unwrap_err();
        assert!(error.to_string().contains("beyond"), "{error}");
    }

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for i in 0..8_700 {
            let x = -0.01 * i as f32;
            let (ours, library) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours - library).abs() <= 3e-7 * library, "{x}: {ours} {library}");
        }
        assert!(exp(-1000.0) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
    }
}
