//! An open device: what it is, what it offers, what it is told. Safe, and never trusting: lists have an
//! end, texts may be anything, numbers are handed on as they came.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::controls::{Control, Kind};
use super::negotiate::{Fraction, Rates, Sizes};
use super::sys::{self, Plain, Request, ioctl};
use crate::source::pixels::{Color, Layout, PixelError, PixelFormat};

// Of `linux/videodev2.h`.
pub(super) const BUFFERS_OF_VIDEO_CAPTURE: u32 = 1;
const CAN_CAPTURE: u32 = 0x0000_0001;
const CAN_CAPTURE_IN_PLANES: u32 = 0x0000_1000;
const CAN_STREAM: u32 = 0x0400_0000;
const HAS_DEVICE_CAPS: u32 = 0x8000_0000;
/// Kinds of sizes and of frame intervals; the third is stepwise.
const IS_DISCRETE: u32 = 1;
const IS_CONTINUOUS: u32 = 2;
const CONTROL_NEXT: u32 = 0x8000_0000;
const CAN_SET_RATE: u32 = 0x1000;
/// Says that the last fields of `v4l2_pix_format` are meant.
const PIX_FORMAT_MAGIC: u32 = 0xFEED_CAFE;

/// Where a driver's list ends that has no end.
const LIST_MAX: u32 = 256;

/// What a device says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub card: String,
    pub driver: String,
    pub bus: String,
    pub role: Role,
}

/// What a device node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Capture,
    /// Captures, but each frame comes in several buffers, which is not supported.
    CaptureInPlanes,
    /// Metadata, output, a codec, radio.
    Other,
}

/// What a driver took when it was asked for a format; it may be another one.
pub(super) enum Agreement {
    On(Layout, Code),
    /// The sizes make no picture.
    Unusable(PixelError),
    /// A format that is not understood.
    Unknown(Code),
}

/// A pixel format that a device offers, by its code.
pub(super) type Code = [u8; 4];

/// An open device. Nothing of it survives being dropped.
pub(super) struct Device {
    file: File,
}

impl Device {
    /// # Errors
    /// What the kernel answers, `EBUSY` of an exclusive device among it.
    pub(super) fn open(path: &Path) -> io::Result<Device> {
        // Without O_NONBLOCK, taking a buffer could block beyond every limit.
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Ok(Device { file })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// # Errors
    /// What the driver answers; `ENOTTY` of a file that is no V4L2 device.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        let mut found = sys::Capability::zeroed();
        ioctl(&self.file, &sys::QUERYCAP, &mut found)?;
        // `capabilities` speaks of all nodes of a device, a metadata node among them.
        let has_own = found.capabilities & HAS_DEVICE_CAPS != 0;
        let caps = if has_own { found.device_caps } else { found.capabilities };
        let role = match caps {
            _ if caps & CAN_STREAM == 0 => Role::Other,
            _ if caps & CAN_CAPTURE != 0 => Role::Capture,
            _ if caps & CAN_CAPTURE_IN_PLANES != 0 => Role::CaptureInPlanes,
            _ => Role::Other,
        };
        let [card, driver, bus] = [&found.card[..], &found.driver, &found.bus_info].map(text);
        Ok(Identity { card, driver, bus, role })
    }

    /// The codes of all formats, understood or not. Empty when the driver has none or cannot say.
    pub(super) fn formats(&self) -> Vec<Code> {
        let described = |index| {
            let mut found = sys::FormatDescription::zeroed();
            (found.index, found.kind) = (index, BUFFERS_OF_VIDEO_CAPTURE);
            self.ask(&sys::ENUM_FMT, found).map(|found| found.pixelformat)
        };
        (0..LIST_MAX).map_while(described).collect()
    }

    /// The sizes of a format. Empty when the driver cannot say.
    pub(super) fn sizes(&self, code: Code) -> Vec<Sizes> {
        let listed = |index| {
            let mut found = sys::FrameSize::zeroed();
            (found.index, found.pixelformat) = (index, code);
            self.ask(&sys::ENUM_FRAMESIZES, found)
        };
        let sizes = |found: sys::FrameSize| match found.sides {
            [width, height, ..] if found.kind == IS_DISCRETE => Sizes::One { width, height },
            [w_min, w_max, w_step, h_min, h_max, h_step] => {
                Sizes::Range { width: (w_min, w_max, w_step), height: (h_min, h_max, h_step) }
            }
        };
        (0..LIST_MAX).map_while(listed).map(sizes).collect()
    }

    /// The frame intervals of a size. Empty when the driver cannot say.
    pub(super) fn rates(&self, code: Code, (width, height): (u32, u32)) -> Vec<Rates> {
        let listed = |index| {
            let mut found = sys::FrameInterval::zeroed();
            (found.index, found.pixelformat, found.width, found.height) = (index, code, width, height);
            self.ask(&sys::ENUM_FRAMEINTERVALS, found)
        };
        let fraction =
            |time: sys::Fraction| Fraction { numerator: time.numerator, denominator: time.denominator };
        let rates = |found: sys::FrameInterval| {
            let [least, greatest, step] = found.intervals.map(fraction);
            // The step of a continuous range is a whole second by the documentation, and means nothing.
            let none = Fraction { numerator: 0, denominator: 1 };
            match found.kind {
                IS_DISCRETE => Rates::One(least),
                IS_CONTINUOUS => Rates::Range { least, greatest, step: none },
                _ => Rates::Range { least, greatest, step },
            }
        };
        (0..LIST_MAX).map_while(listed).map(rates).collect()
    }

    /// Sets the format.
    ///
    /// # Errors
    /// What the driver answers.
    pub(super) fn set_format(&self, code: Code, (width, height): (u32, u32)) -> io::Result<Agreement> {
        let mut argument = sys::Format::zeroed();
        argument.kind = BUFFERS_OF_VIDEO_CAPTURE;
        argument.pix = sys::PixFormat {
            width,
            height,
            pixelformat: code,
            magic: PIX_FORMAT_MAGIC,
            ..sys::PixFormat::zeroed()
        };
        ioctl(&self.file, &sys::S_FMT, &mut argument)?;
        let pix = argument.pix;
        let Some(format) = PixelFormat::of(pix.pixelformat) else {
            return Ok(Agreement::Unknown(pix.pixelformat));
        };
        // A driver of before the last fields leaves the magic away, and rubbish in them.
        let is_new = pix.magic == PIX_FORMAT_MAGIC;
        let (ycbcr_enc, quantization) = if is_new { (pix.ycbcr_enc, pix.quantization) } else { (0, 0) };
        let color = Color::of_driver(format, pix.colorspace, ycbcr_enc, quantization);
        Ok(match Layout::new(format, (pix.width, pix.height), pix.bytesperline, color) {
            Ok(layout) => Agreement::On(layout, pix.pixelformat),
            Err(e) => Agreement::Unusable(e),
        })
    }

    /// Asks for a time from frame to frame; the driver answers what it took.
    ///
    /// # Errors
    /// When the driver's rate cannot be set.
    pub(super) fn set_rate(&self, wish: Fraction) -> io::Result<Fraction> {
        let mut argument = sys::StreamParameters::zeroed();
        argument.kind = BUFFERS_OF_VIDEO_CAPTURE;
        argument.capability = CAN_SET_RATE;
        argument.time_per_frame = sys::Fraction { numerator: wish.numerator, denominator: wish.denominator };
        ioctl(&self.file, &sys::S_PARM, &mut argument)?;
        if argument.capability & CAN_SET_RATE == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOTSUP));
        }
        let sys::Fraction { numerator, denominator } = argument.time_per_frame;
        Ok(Fraction { numerator, denominator })
    }

    /// All controls, those included that cannot be set. Empty when the driver has none.
    pub(super) fn controls(&self) -> Vec<Control> {
        let mut all: Vec<Control> = Vec::new();
        let mut last = 0;
        while let Some(found) = self.control_after(last) {
            // A driver that does not count up would be asked for ever.
            if found.id <= last || all.len() >= LIST_MAX as usize {
                break;
            }
            last = found.id;
            let kind = Kind::of_driver(found.kind);
            let entries = match kind {
                Kind::Menu | Kind::IntegerMenu => self.menu(&found, kind),
                _ => Vec::new(),
            };
            let range = (found.minimum, found.maximum, found.step);
            all.push(Control {
                id: found.id,
                name: text(&found.name),
                kind,
                range,
                flags: found.flags,
                entries,
            });
        }
        all
    }

    fn control_after(&self, id: u32) -> Option<sys::ControlQuery> {
        let mut query = sys::ControlQuery::zeroed();
        query.id = id | CONTROL_NEXT;
        if let Some(found) = self.ask(&sys::QUERY_EXT_CTRL, query) {
            return Some(found);
        }
        // Drivers that bypass the control framework of the kernel know the old request alone.
        let mut query = sys::OldControlQuery::zeroed();
        query.id = id | CONTROL_NEXT;
        let old = self.ask(&sys::QUERYCTRL, query)?;
        Some(sys::ControlQuery {
            id: old.id,
            kind: old.kind,
            name: old.name,
            minimum: old.minimum.into(),
            maximum: old.maximum.into(),
            step: u64::try_from(old.step).unwrap_or(1),
            default: old.default.into(),
            flags: old.flags,
            ..sys::ControlQuery::zeroed()
        })
    }

    /// The entries of a menu with their numbers, which may have gaps.
    fn menu(&self, control: &sys::ControlQuery, kind: Kind) -> Vec<(i64, String)> {
        let first = control.minimum.max(0);
        let last = control.maximum.min(first.saturating_add(LIST_MAX.into()));
        let entry = |index: i64| {
            let mut query = sys::MenuQuery::zeroed();
            (query.id, query.index) = (control.id, u32::try_from(index).ok()?);
            let found = self.ask(&sys::QUERYMENU, query)?;
            let [a, b, c, d, e, f, g, h, ..] = found.name;
            let number = i64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            Some((index, if kind == Kind::IntegerMenu { number.to_string() } else { text(&found.name) }))
        };
        (first..=last).filter_map(entry).collect()
    }

    /// # Errors
    /// What the driver answers: out of range, read only, or without effect while an automatic rules.
    pub(super) fn set_control(&self, id: u32, value: i32) -> io::Result<()> {
        ioctl(&self.file, &sys::S_CTRL, &mut sys::Control { id, value })
    }

    fn ask<T: Plain>(&self, request: &Request<T>, mut argument: T) -> Option<T> {
        ioctl(&self.file, request, &mut argument).is_ok().then_some(argument)
    }
}

/// The text before the first zero, whatever its encoding.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim().to_owned()
}
