//! Decodes H.264 of 8 bits, 4:2:0 and whole frames: what OpenH264 knows.

use std::collections::VecDeque;

use h264_reader::nal::sps::{ChromaFormat, FrameMbsFlags, SeqParameterSet};
use h264_reader::rbsp::{BitReader, decode_nal};
use image::RgbImage;
use openh264::decoder::{DecodeOptions, Flush};
use openh264::formats::YUVSource;

use super::color::{Planes, to_rgb};
use crate::photo::SIDE_MAX;
use crate::source::pixels::{Color, Matrix, Range};

/// OpenH264 keeps no more pictures than this for their order.
const PENDING_MAX: usize = 16;

/// A decoder for the frames since a keyframe. `T` goes with a frame from the coded one to the picture.
pub(super) struct Decoder<T> {
    inner: openh264::decoder::Decoder,
    color: Color,
    /// Of the frames that went in and did not come out yet.
    pending: VecDeque<T>,
    /// No other frame may go in.
    is_spent: bool,
}

impl<T> Decoder<T> {
    /// `sps` is the sequence parameter set of the stream with its header, `size` what it says.
    ///
    /// # Errors
    /// When the stream is of a kind that is not understood, with that kind.
    pub(super) fn open(sps: &[u8], size: (u32, u32)) -> Result<Decoder<T>, String> {
        let (width, height) = size;
        if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
            return Err(format!("H.264 of {width}x{height} is larger than {SIDE_MAX}x{SIDE_MAX}"));
        }
        // Some cameras append bytes to the set. They are retina's and the decoder's to judge.
        let parsed = decode_nal(sps).ok();
        let parsed = parsed.and_then(|sps| SeqParameterSet::from_bits(BitReader::new(&*sps)).ok());
        if let Some(kind) = parsed.as_ref().and_then(unsupported) {
            return Err(format!("H.264 {kind}; 8 bits, 4:2:0 and progressive is what can be decoded"));
        }
        let color = color(parsed.as_ref(), size);
        Ok(Decoder { inner: fresh()?, color, pending: VecDeque::new(), is_spent: false })
    }

    /// Decodes one coded frame in the byte stream format (H.264, annex B). What comes out may be an
    /// earlier one: pictures are delayed by a frame, and put in order.
    pub(super) fn decode(&mut self, coded: &[u8], tag: T) -> Result<Option<Picture<'_, T>>, String> {
        self.step(coded, tag, Flush::NoFlush)
    }

    /// Decodes a keyframe to its own picture at once.
    pub(super) fn decode_alone(&mut self, coded: &[u8], tag: T) -> Result<Option<Picture<'_, T>>, String> {
        self.renew()?;
        // A flushed picture is never given back to the pool of the decoder, which is exhausted soon
        // (cisco/openh264#3872): so the decoder serves once.
        self.is_spent = true;
        self.step(coded, tag, Flush::Flush)
    }

    /// To be called at a keyframe, which needs nothing from before it.
    pub(super) fn renew_if_spent(&mut self) -> Result<(), String> {
        if self.is_spent { self.renew() } else { Ok(()) }
    }

    fn renew(&mut self) -> Result<(), String> {
        self.inner = fresh()?;
        self.pending.clear();
        self.is_spent = false;
        Ok(())
    }

    fn step(&mut self, coded: &[u8], tag: T, flush: Flush) -> Result<Option<Picture<'_, T>>, String> {
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(tag);
        let options = DecodeOptions::new().flush_after_decode(flush);
        let decoded = self.inner.decode_with_options(coded, options).map_err(|e| e.to_string())?;
        let Some(yuv) = decoded else { return Ok(None) };
        Ok(self.pending.pop_front().map(|tag| Picture { yuv, color: self.color, tag }))
    }
}

fn fresh() -> Result<openh264::decoder::Decoder, String> {
    openh264::decoder::Decoder::new().map_err(|e| e.to_string())
}

/// A decoded picture, still in the decoder.
pub(super) struct Picture<'a, T> {
    yuv: openh264::decoder::DecodedYUV<'a>,
    color: Color,
    pub tag: T,
}

impl<T> Picture<'_, T> {
    pub(super) fn to_rgb(&self) -> Option<RgbImage> {
        let (width, height) = self.yuv.dimensions();
        let (luma_stride, chroma_stride, _) = self.yuv.strides();
        let chroma = [self.yuv.u(), self.yuv.v()];
        to_rgb(Planes { width, height, luma: self.yuv.y(), luma_stride, chroma, chroma_stride }, self.color)
    }
}

/// What the decoder would fail at, frame after frame.
fn unsupported(sps: &SeqParameterSet) -> Option<String> {
    let chroma = &sps.chroma_info;
    if chroma.chroma_format != ChromaFormat::YUV420 {
        return Some(match chroma.chroma_format {
            ChromaFormat::YUV422 => "in 4:2:2".to_owned(),
            ChromaFormat::YUV444 => "in 4:4:4".to_owned(),
            _ => "without color".to_owned(),
        });
    }
    let n_bits = chroma.bit_depth_luma_minus8.max(chroma.bit_depth_chroma_minus8) + 8;
    if n_bits != 8 {
        return Some(format!("of {n_bits} bits"));
    }
    (sps.frame_mbs_flags != FrameMbsFlags::Frames).then(|| "that is interlaced".to_owned())
}

/// What the stream states, else what is usual for its size.
fn color(sps: Option<&SeqParameterSet>, (width, height): (u32, u32)) -> Color {
    let signal = sps.and_then(|sps| sps.vui_parameters.as_ref()?.video_signal_type.as_ref());
    let stated = signal.and_then(|signal| signal.colour_description.as_ref());
    // ITU-T H.273, table 4.
    let matrix = match stated.map(|stated| stated.matrix_coefficients) {
        Some(1) => Matrix::Bt709,
        Some(4..=6) => Matrix::Bt601,
        Some(9 | 10) => Matrix::Bt2020,
        _ if width >= 1280 || height >= 720 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let is_full = signal.is_some_and(|signal| signal.video_full_range_flag);
    Color { matrix, range: if is_full { Range::Full } else { Range::Limited } }
}
