//! Convolutions of each channel by itself, over u8 activations.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instruction sets that the processor was asked for")
)]

use super::product::{BLOCK, Sink};
use super::{Isa, compiled_for};

/// A picture of `[height, width, channels]`, already padded, and the window that goes over it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows<'a> {
    pub data: &'a [u8],
    pub width: usize,
    pub n_channels: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
}

/// Sums over each window, for each channel, starting at `initial`; `weights` are `[kernel height, kernel width, channels]`.
///
/// # Panics
/// When the windows do not lie within the data, or weights or initial sums are too few.
pub(crate) fn convolve(
    isa: Isa,
    windows: &Windows<'_>,
    weights: &[i16],
    initial: &[i32],
    sink: &mut impl Sink,
) {
    compiled_for!(isa, all, windows: &Windows<'_>, weights: &[i16], initial: &[i32], sink: &mut impl Sink);
}

/// Channels that are summed together.
const GROUP: usize = 2 * BLOCK;

#[inline(always)]
fn all(windows: &Windows<'_>, weights: &[i16], initial: &[i32], sink: &mut impl Sink) {
    for y in 0..windows.out_height {
        for x in 0..windows.out_width {
            let mut channel = 0;
            while channel < windows.n_channels {
                if windows.n_channels - channel >= GROUP {
                    group::<GROUP>(windows, weights, initial, [y, x, channel], sink);
                    channel += GROUP;
                } else {
                    few(windows, weights, initial, [y, x, channel], sink);
                    channel += BLOCK;
                }
            }
        }
    }
}

#[inline(always)]
fn group<const N: usize>(
    windows: &Windows<'_>,
    weights: &[i16],
    initial: &[i32],
    [y, x, channel]: [usize; 3],
    sink: &mut impl Sink,
) {
    let (n_channels, [height, width], [down, right]) = (windows.n_channels, windows.kernel, windows.strides);
    let mut sums = [0; N];
    sums.copy_from_slice(&initial[channel..][..N]);
    for ky in 0..height {
        let at = ((y * down + ky) * windows.width + x * right) * n_channels + channel;
        for kx in 0..width {
            let pixels = &windows.data[at + kx * n_channels..][..N];
            let weights = &weights[(ky * width + kx) * n_channels + channel..][..N];
            for i in 0..N {
                sums[i] += i32::from(pixels[i]) * i32::from(weights[i]);
            }
        }
    }
    for (b, sums) in sums.as_chunks::<BLOCK>().0.iter().enumerate() {
        sink.put(y * windows.out_width + x, channel + b * BLOCK, sums);
    }
}

/// The same for the channels that do not fill a group.
#[inline(always)]
fn few(
    windows: &Windows<'_>,
    weights: &[i16],
    initial: &[i32],
    [y, x, channel]: [usize; 3],
    sink: &mut impl Sink,
) {
    let (n_channels, [height, width], [down, right]) = (windows.n_channels, windows.kernel, windows.strides);
    let mut sums = [0; BLOCK];
    for (i, sum) in sums.iter_mut().enumerate().take(n_channels - channel) {
        *sum = initial[channel + i];
        for ky in 0..height {
            for kx in 0..width {
                let at = ((y * down + ky) * windows.width + x * right + kx) * n_channels + channel + i;
                let weight = weights[(ky * width + kx) * n_channels + channel + i];
                *sum += i32::from(windows.data[at]) * i32::from(weight);
            }
        }
    }
    sink.put(y * windows.out_width + x, channel, &sums);
}
