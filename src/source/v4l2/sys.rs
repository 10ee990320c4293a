//! The kernel's side of V4L2: its structures, its requests, mapped buffers. Almost all
//! of the daemon's unsafe code is here.
//!
//! The structures are those of `linux/videodev2.h` without their unions: where the kernel has one, the
//! member that captures need stands here, and words fill up its size. They hold no pointers, so that
//! any bytes are a valid value. The emulated device of the tests answers in bindings generated from the header,
//! so that each test compares the two.

#![expect(unsafe_code, reason = "ioctl and mmap are how a V4L2 device is spoken to")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::time::Duration;

/// A structure of the kernel: whole numbers alone, all bits zero is a value.
///
/// # Safety
/// Every pattern of bits must be a value, and the layout must be that of C.
pub(super) unsafe trait Plain: Copy {
    fn zeroed() -> Self {
        // SAFETY: all bits zero is a value of every `Plain`.
        unsafe { zeroed() }
    }
}

macro_rules! plain {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        #[expect(unreachable_pub, reason = "one word for all fields keeps the table legible")]
        pub struct $name { $($(#[$about])* pub $field: $kind,)* }
        // SAFETY: integers and arrays of them, laid out as C does.
        unsafe impl Plain for $name {}
    )*};
}

/// Words of `n` bytes, aligned as a pointer is: some unions of the kernel hold one.
type Words<const N: usize> = [usize; N];

plain! {
    struct Capability {
        driver: [u8; 16],
        card: [u8; 32],
        bus_info: [u8; 32],
        version: u32,
        capabilities: u32,
        device_caps: u32,
        reserved: [u32; 3],
    }
    struct FormatDescription {
        index: u32,
        kind: u32,
        flags: u32,
        description: [u8; 32],
        pixelformat: [u8; 4],
        mbus_code: u32,
        reserved: [u32; 3],
    }
    struct PixFormat {
        width: u32,
        height: u32,
        pixelformat: [u8; 4],
        field: u32,
        bytesperline: u32,
        sizeimage: u32,
        colorspace: u32,
        magic: u32,
        flags: u32,
        ycbcr_enc: u32,
        quantization: u32,
        xfer_func: u32,
    }
    struct Format {
        kind: u32,
        align: Words<0>,
        pix: PixFormat,
        rest: Words<{ (200 - size_of::<PixFormat>()) / size_of::<usize>() }>,
    }
    struct FrameSize {
        index: u32,
        pixelformat: [u8; 4],
        kind: u32,
        /// Width and height, or the least, greatest and step of both in turn.
        sides: [u32; 6],
        reserved: [u32; 2],
    }
    /// Seconds as a fraction.
    struct Fraction {
        numerator: u32,
        denominator: u32,
    }
    struct FrameInterval {
        index: u32,
        pixelformat: [u8; 4],
        width: u32,
        height: u32,
        kind: u32,
        /// One interval, or the least, greatest and step.
        intervals: [Fraction; 3],
        reserved: [u32; 2],
    }
    struct StreamParameters {
        kind: u32,
        capability: u32,
        mode: u32,
        time_per_frame: Fraction,
        rest: [u32; 46],
    }
    struct BuffersRequest {
        count: u32,
        kind: u32,
        memory: u32,
        reserved: [u32; 2],
    }
    struct Buffer {
        index: u32,
        kind: u32,
        bytesused: u32,
        flags: u32,
        field: u32,
        timestamp: libc::timeval,
        timecode: [u32; 4],
        sequence: u32,
        memory: u32,
        /// The first four bytes are the offset for `mmap`.
        place: usize,
        length: u32,
        reserved: [u32; 2],
    }
    struct Control {
        id: u32,
        value: i32,
    }
    struct OldControlQuery {
        id: u32,
        kind: u32,
        name: [u8; 32],
        minimum: i32,
        maximum: i32,
        step: i32,
        default: i32,
        flags: u32,
        reserved: [u32; 2],
    }
    struct ControlQuery {
        id: u32,
        kind: u32,
        name: [u8; 32],
        minimum: i64,
        maximum: i64,
        step: u64,
        default: i64,
        flags: u32,
        rest: [u32; 39],
    }
    struct MenuQuery {
        id: u32,
        index: u32,
        /// A text, or the eight bytes of a number.
        name: [u8; 32],
        reserved: u32,
    }
}

// SAFETY: a number of C.
unsafe impl Plain for libc::c_int {}

/// A request and the structure that goes with it: the number itself holds the structure's size.
pub(super) struct Request<T>(libc::Ioctl, PhantomData<T>);

impl<T: Plain> Request<T> {
    const fn read(number: u32) -> Request<T> {
        Request(libc::_IOR::<T>(b'V' as u32, number), PhantomData)
    }

    const fn write(number: u32) -> Request<T> {
        Request(libc::_IOW::<T>(b'V' as u32, number), PhantomData)
    }

    const fn both(number: u32) -> Request<T> {
        Request(libc::_IOWR::<T>(b'V' as u32, number), PhantomData)
    }
}

pub(super) const QUERYCAP: Request<Capability> = Request::read(0);
pub(super) const ENUM_FMT: Request<FormatDescription> = Request::both(2);
pub(super) const S_FMT: Request<Format> = Request::both(5);
pub(super) const REQBUFS: Request<BuffersRequest> = Request::both(8);
pub(super) const QUERYBUF: Request<Buffer> = Request::both(9);
pub(super) const QBUF: Request<Buffer> = Request::both(15);
pub(super) const DQBUF: Request<Buffer> = Request::both(17);
pub(super) const STREAMON: Request<libc::c_int> = Request::write(18);
pub(super) const STREAMOFF: Request<libc::c_int> = Request::write(19);
pub(super) const S_PARM: Request<StreamParameters> = Request::both(22);
pub(super) const S_CTRL: Request<Control> = Request::both(28);
pub(super) const QUERYCTRL: Request<OldControlQuery> = Request::both(36);
pub(super) const QUERYMENU: Request<MenuQuery> = Request::both(37);
pub(super) const ENUM_FRAMESIZES: Request<FrameSize> = Request::both(74);
pub(super) const ENUM_FRAMEINTERVALS: Request<FrameInterval> = Request::both(75);
pub(super) const QUERY_EXT_CTRL: Request<ControlQuery> = Request::both(103);

/// Asks the driver, again when a signal came in between.
///
/// # Errors
/// What the driver answers.
pub(super) fn ioctl<T: Plain>(file: &File, request: &Request<T>, argument: &mut T) -> io::Result<()> {
    loop {
        // SAFETY: the number of the request holds the size of `T`, so the kernel writes no further, and
        // `T` has no pointers that it would follow.
        let answer = unsafe { libc::ioctl(file.as_raw_fd(), request.0, ptr::from_mut(argument)) };
        if answer != -1 {
            return Ok(());
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// What a wait for a frame ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// A buffer can be taken.
    Ready,
    /// None will come: the device is gone or does not stream.
    Broken,
    TimedOut,
}

/// Blocks until a buffer can be taken, or `limit` has passed.
///
/// # Errors
/// What the kernel answers.
pub(super) fn wait(file: &File, limit: Duration) -> io::Result<Readiness> {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit_ms = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one structure, which outlives the call.
    let answer = unsafe { libc::poll(&raw mut poll, 1, limit_ms) };
    match answer {
        -1 => match io::Error::last_os_error() {
            // Whoever waits looks at the clock and comes back.
            e if e.kind() == io::ErrorKind::Interrupted => Ok(Readiness::TimedOut),
            e => Err(e),
        },
        0 => Ok(Readiness::TimedOut),
        _ if poll.revents & libc::POLLIN != 0 => Ok(Readiness::Ready),
        _ => Ok(Readiness::Broken),
    }
}

/// A buffer of the driver in the memory of this process, until dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to this value alone and to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// # Errors
    /// What the kernel answers.
    pub(super) fn new(file: &File, offset: u32, length: usize) -> io::Result<Mapping> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // On 32-bit machines the type is narrower, and the offsets of V4L2 are its cookies.
        let offset = offset as libc::off_t;
        // SAFETY: a new mapping where the kernel finds room touches no memory of ours.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, file.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Mapping { start, length })
    }

    /// The bytes; to be read only while the driver does not own the buffer.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `length` bytes until `self` is dropped; the caller has dequeued the buffer,
        // so that the driver does not write to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody has a reference any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers hold the size of each structure; these are the kernel's on 64-bit machines.
    #[test]
    #[cfg(all(target_pointer_width = "64", target_env = "gnu"))]
    fn every_request_has_the_number_of_the_kernel() {
        let found: [libc::Ioctl; 16] = [
            QUERYCAP.0,
            ENUM_FMT.0,
            S_FMT.0,
            REQBUFS.0,
            QUERYBUF.0,
            QBUF.0,
            DQBUF.0,
            STREAMON.0,
            STREAMOFF.0,
            S_PARM.0,
            S_CTRL.0,
            QUERYCTRL.0,
            QUERYMENU.0,
            ENUM_FRAMESIZES.0,
            ENUM_FRAMEINTERVALS.0,
            QUERY_EXT_CTRL.0,
        ];
        let expected = [
            0x8068_5600,
            0xC040_5602,
            0xC0D0_5605,
            0xC014_5608,
            0xC058_5609,
            0xC058_560F,
            0xC058_5611,
            0x4004_5612,
            0x4004_5613,
            0xC0CC_5616,
            0xC008_561C,
            0xC044_5624,
            0xC02C_5625,
            0xC02C_564A,
            0xC034_564B,
            0xC0E8_5667,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_is_no_camera_refuses_every_request() {
        let file = File::open("/dev/null").unwrap();
        let e = ioctl(&file, &QUERYCAP, &mut Capability::zeroed()).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ENOTTY));
    }
}
