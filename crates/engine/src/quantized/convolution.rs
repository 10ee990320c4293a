//! One convolution on u8 pictures, with bias, residual sum, ReLU and requantization in the same pass.

use std::cell::RefCell;

use rayon::ThreadPool;

use super::sink::{Requantize, RequantizeSum};
use super::{filled, stored_channels};
use crate::kernels::Isa;
use crate::kernels::depthwise::{self, Windows};
use crate::kernels::product::{Packed, Rows, Sink, multiply};
use crate::share::share;

thread_local! {
    /// The picture with its border; kept, since the next layer needs as much again.
    static PADDED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is put around a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// As much as makes the output `ceil(input / stride)`, the odd one after the picture (`SAME_UPPER`).
    Same,
    /// Top, left, bottom, right.
    Explicit([usize; 4]),
}

/// A convolution as a graph states it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    /// `[out channels, in channels / groups, height, width]`.
    pub dims: [usize; 4],
    pub weights: Vec<i8>,
    /// Each channel by itself: one group a channel. Else there is one group.
    pub depthwise: bool,
    pub strides: [usize; 2],
    pub padding: Padding,
    /// What u8 stands for zero in the input.
    pub zero: u8,
    /// The output is `sum * factor + offset (+ other * share)`, at least `low`; one of each for an output channel.
    pub factors: Vec<f32>,
    pub offsets: Vec<f32>,
    pub low: f32,
    /// How much of another picture of the output's shape is added.
    pub share: Option<f32>,
}

/// A convolution with its weights packed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Convolution {
    isa: Isa,
    weights: Weights,
    kernel: [usize; 2],
    strides: [usize; 2],
    padding: Padding,
    /// As stored, a multiple of four.
    n_in: usize,
    n_out: usize,
    zero: u8,
    initial: Vec<i32>,
    factors: Vec<f32>,
    offsets: Vec<f32>,
    low: f32,
    share: Option<f32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Weights {
    Dense(Packed),
    /// `[height, width, channel]`.
    Depthwise(Vec<i16>),
}

impl Convolution {
    /// Packs the weights for `isa`.
    ///
    /// # Errors
    /// When the numbers of weights, factors or offsets do not fit the dimensions, one dimension or stride is zero, or a
    /// window could lie in the border alone.
    pub(crate) fn new(spec: &Spec, isa: Isa) -> Result<Convolution, String> {
        let [n_out, n_in, height, width] = spec.dims;
        let n_weights = spec.dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
        if n_weights != Some(spec.weights.len()) || spec.weights.is_empty() || spec.strides.contains(&0) {
            return Err(format!("{} weights for a kernel of {:?}", spec.weights.len(), spec.dims));
        }
        if spec.factors.len() != n_out || spec.offsets.len() != n_out || (spec.depthwise && n_in != 1) {
            return Err(format!("factors or offsets do not fit {n_out} output channels"));
        }
        let is_bordered = |border: [usize; 4]| {
            std::iter::zip(border, [height, width, height, width]).all(|(border, kernel)| border < kernel)
        };
        if let Padding::Explicit(border) = spec.padding
            && !is_bordered(border)
        {
            return Err(format!("a border of {border:?} around a kernel of {:?}", spec.dims));
        }
        let (stored_in, stored_out) =
            (stored_channels(if spec.depthwise { n_out } else { n_in }), stored_channels(n_out));
        let at =
            |o: usize, i: usize, y: usize, x: usize| spec.weights[((o * n_in + i) * height + y) * width + x];
        let (weights, sums) = if spec.depthwise {
            let weights: Vec<i16> = (0..height * width * stored_out)
                .map(|w| (w % stored_out, w / stored_out))
                .map(|(c, k)| if c < n_out { at(c, 0, k / width, k % width).into() } else { 0 })
                .collect();
            let mut sums = vec![0; stored_out];
            for (w, weight) in weights.iter().enumerate() {
                sums[w % stored_out] += i32::from(*weight);
            }
            (Weights::Depthwise(weights), sums)
        } else {
            let packed = Packed::new(n_out, height * width * stored_in, |o, k| {
                let (i, place) = (k % stored_in, k / stored_in);
                if i < n_in { at(o, i, place / width, place % width) } else { 0 }
            });
            let sums = packed.column_sums().to_vec();
            (Weights::Dense(packed), sums)
        };
        Ok(Convolution {
            isa,
            weights,
            kernel: [height, width],
            strides: spec.strides,
            padding: spec.padding,
            n_in: stored_in,
            n_out: stored_out,
            zero: spec.zero,
            initial: sums.into_iter().map(|sum| -sum * i32::from(spec.zero)).collect(),
            factors: filled(&spec.factors),
            offsets: filled(&spec.offsets),
            low: spec.low,
            share: spec.share,
        })
    }

    /// Height, width and stored channels of the output for an input of `[height, width, stored channels]`.
    ///
    /// # Errors
    /// When the input has other channels, or is smaller than the kernel.
    pub(crate) fn out_shape(&self, [height, width, n_channels]: [usize; 3]) -> Result<[usize; 3], String> {
        if n_channels != self.n_in {
            return Err(format!("a picture of {n_channels} channels where {} are wanted", self.n_in));
        }
        let [top, left, bottom, right] = self.border([height, width]);
        let out = |n: usize, kernel: usize, stride: usize| Some(n.checked_sub(kernel)? / stride + 1);
        let height = out(height + top + bottom, self.kernel[0], self.strides[0]);
        let width = out(width + left + right, self.kernel[1], self.strides[1]);
        let (Some(height), Some(width)) = (height, width) else {
            return Err(format!("a picture smaller than the kernel of {:?}", self.kernel));
        };
        Ok([height, width, self.n_out])
    }

    fn element_ns(&self) -> f32 {
        let window = self.kernel[0] * self.kernel[1];
        match self.weights {
            Weights::Dense(_) => (window * self.n_in) as f32 / self.isa.products_per_ns(),
            // One channel for itself leaves most of what the instructions could do.
            Weights::Depthwise(_) => 8.0 * window as f32 / self.isa.products_per_ns(),
        }
    }

    fn border(&self, size: [usize; 2]) -> [usize; 4] {
        match self.padding {
            Padding::Explicit(border) => border,
            Padding::Same => {
                let total = |axis: usize| {
                    let n_out = size[axis].div_ceil(self.strides[axis]);
                    (n_out.saturating_sub(1) * self.strides[axis] + self.kernel[axis])
                        .saturating_sub(size[axis])
                };
                let (down, across) = (total(0), total(1));
                [down / 2, across / 2, down - down / 2, across - across / 2]
            }
        }
    }

    /// Convolves `picture` of `shape` (height, width, stored channels) into `out`, whose lines `pool` shares out.
    ///
    /// # Errors
    /// When a slice does not fill its shape, or another picture is missing or not wanted.
    pub(crate) fn run(
        &self,
        picture: &[u8],
        shape: [usize; 3],
        other: Option<&[u8]>,
        pool: Option<&ThreadPool>,
        out: &mut [u8],
    ) -> Result<(), String> {
        let [height, width, n_out] = self.out_shape(shape)?;
        let n = height * width * n_out;
        if picture.len() != shape.iter().product::<usize>() || out.len() != n {
            return Err("a picture that does not fill its shape".to_owned());
        }
        let other = match (self.share, other) {
            (Some(share), Some(other)) if other.len() == n => Some((other, share)),
            (None, None) => None,
            _ => return Err("the picture to be added is missing, of another shape, or not wanted".to_owned()),
        };
        let border = self.border([shape[0], shape[1]]);
        PADDED.with_borrow_mut(|padded| {
            let mut data = picture;
            if border != [0; 4] {
                data = pad(picture, shape, border, self.zero, padded);
            }
            let width = shape[1] + border[1] + border[3];
            let (input, line_len) = (Input { data, width }, out.len() / height);
            share(pool, out, line_len, self.element_ns(), |first, out| {
                let other = other.map(|(other, share)| (&other[first * line_len..][..out.len()], share));
                self.part(&input, first, [out.len() / line_len, line_len / n_out], other, out);
            });
        });
        Ok(())
    }

    /// The output lines from `first` on that `out` has room for.
    fn part(
        &self,
        input: &Input<'_>,
        first: usize,
        size: [usize; 2],
        other: Option<(&[u8], f32)>,
        out: &mut [u8],
    ) {
        let to = Requantize {
            out,
            n_columns: self.n_out,
            factors: &self.factors,
            offsets: &self.offsets,
            low: self.low,
        };
        match other {
            Some((other, share)) => {
                self.sums(input, first, size, &mut RequantizeSum { requantize: to, other, share });
            }
            None => self.sums(input, first, size, &mut { to }),
        }
    }

    fn sums(&self, input: &Input<'_>, first: usize, [height, width]: [usize; 2], sink: &mut impl Sink) {
        let line = input.width * self.n_in;
        let data = &input.data[first * self.strides[0] * line..];
        match &self.weights {
            Weights::Dense(packed) if self.kernel == [1, 1] && self.strides == [1, 1] => {
                let rows = Rows::dense(data, height * width, self.n_in);
                multiply(self.isa, &rows, packed.all(), &self.initial, sink);
            }
            Weights::Dense(packed) => {
                let rows = Rows {
                    data,
                    n_lines: height,
                    line_stride: self.strides[0] * line,
                    n_rows: width,
                    row_stride: self.strides[1] * self.n_in,
                    n_runs: self.kernel[0],
                    run_stride: line,
                    run_len: self.kernel[1] * self.n_in,
                };
                multiply(self.isa, &rows, packed.all(), &self.initial, sink);
            }
            Weights::Depthwise(weights) => {
                let windows = Windows {
                    data,
                    width: input.width,
                    n_channels: self.n_in,
                    out_height: height,
                    out_width: width,
                    kernel: self.kernel,
                    strides: self.strides,
                };
                depthwise::convolve(self.isa, &windows, weights, &self.initial, sink);
            }
        }
    }
}

/// A picture with its border.
struct Input<'a> {
    data: &'a [u8],
    width: usize,
}

/// The picture within a border of `zero`, in `padded`.
fn pad<'p>(
    picture: &[u8],
    [height, width, n_channels]: [usize; 3],
    [top, left, bottom, right]: [usize; 4],
    zero: u8,
    padded: &'p mut Vec<u8>,
) -> &'p [u8] {
    let line = (left + width + right) * n_channels;
    padded.clear();
    padded.reserve((top + height + bottom) * line);
    padded.resize(top * line, zero);
    for pixels in picture.chunks_exact(width * n_channels) {
        padded.resize(padded.len() + left * n_channels, zero);
        padded.extend_from_slice(pixels);
        padded.resize(padded.len() + right * n_channels, zero);
    }
    padded.resize(padded.len() + bottom * line, zero);
    padded
}
