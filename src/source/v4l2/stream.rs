//! The ring of buffers that driver and daemon hand to each other.

use std::io;
use std::time::{Duration, Instant};

use super::device::{BUFFERS_OF_VIDEO_CAPTURE, Device};
use super::sys::{self, Mapping, Plain, Readiness, ioctl};

const MEMORY_IS_MAPPED: u32 = 1;
const BUFFER_IS_DAMAGED: u32 = 0x0040;
/// Buffers in the ring, where the driver has room for as many.
const BUFFERS: u32 = 4;
const BUFFER_BYTES_MAX: u32 = 256 << 20;

/// A streaming device. Dropping it stops the stream, gives the buffers back and closes the device, in
/// this order and whatever the driver says to it.
pub(super) struct Stream {
    device: Device,
    buffers: Vec<Mapping>,
    /// The buffer that is read; the driver gets it back before the next is taken.
    held: Option<u32>,
}

/// What came within the time.
pub(super) enum Next<'a> {
    Bytes(&'a [u8]),
    /// The driver says itself that this frame is damaged.
    Damaged,
    Nothing,
}

impl Stream {
    /// Maps the buffers, hands them to the driver and starts.
    ///
    /// # Errors
    /// With the operation that failed and what the driver answers.
    pub(super) fn start(device: Device) -> Result<Stream, (&'static str, io::Error)> {
        let mut stream = Stream { device, buffers: Vec::new(), held: None };
        stream.map().map_err(|e| ("map buffers of", e))?;
        for index in 0..stream.buffers.len() as u32 {
            stream.queue(index).map_err(|e| ("queue buffers of", e))?;
        }
        let mut kind = BUFFERS_OF_VIDEO_CAPTURE as libc::c_int;
        ioctl(stream.device.file(), &sys::STREAMON, &mut kind).map_err(|e| ("start", e))?;
        Ok(stream)
    }

    fn map(&mut self) -> io::Result<()> {
        let count = self.request(BUFFERS)?;
        // Fewer than two would stop the camera while one is read; more than asked for are the driver's need.
        if !(2..=64).contains(&count) {
            return Err(io::Error::other(format!("the driver gives {count} buffers")));
        }
        for index in 0..count {
            let mut buffer = empty(index);
            ioctl(self.device.file(), &sys::QUERYBUF, &mut buffer)?;
            if buffer.length == 0 || buffer.length > BUFFER_BYTES_MAX {
                return Err(io::Error::other(format!("the driver's buffer has {} bytes", buffer.length)));
            }
            // The offset is the first member of a union as wide as a pointer.
            let mut offset = [0; 4];
            offset.copy_from_slice(&buffer.place.to_ne_bytes()[..4]);
            let offset = u32::from_ne_bytes(offset);
            self.buffers.push(Mapping::new(self.device.file(), offset, buffer.length as usize)?);
        }
        Ok(())
    }

    fn request(&self, count: u32) -> io::Result<u32> {
        let mut argument = sys::BuffersRequest::zeroed();
        (argument.count, argument.kind, argument.memory) =
            (count, BUFFERS_OF_VIDEO_CAPTURE, MEMORY_IS_MAPPED);
        ioctl(self.device.file(), &sys::REQBUFS, &mut argument)?;
        Ok(argument.count)
    }

    fn queue(&self, index: u32) -> io::Result<()> {
        ioctl(self.device.file(), &sys::QBUF, &mut empty(index))
    }

    /// Gives the last buffer back and blocks until the next one, or `limit` has passed.
    ///
    /// # Errors
    /// What the driver answers; the stream is of no use afterwards.
    pub(super) fn next(&mut self, limit: Duration) -> io::Result<Next<'_>> {
        if let Some(index) = self.held.take() {
            self.queue(index)?;
        }
        let until = Instant::now() + limit;
        let buffer = loop {
            let left = until.saturating_duration_since(Instant::now());
            let readiness = sys::wait(self.device.file(), left)?;
            if readiness == Readiness::TimedOut {
                return Ok(Next::Nothing);
            }
            match self.dequeue() {
                Ok(buffer) => break buffer,
                // Said to be there, and taken back: only a device that is well is asked again.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && readiness == Readiness::Ready => {
                    if left.is_zero() {
                        return Ok(Next::Nothing);
                    }
                }
                Err(e) => return Err(e),
            }
        };
        let Some(mapping) = self.buffers.get(buffer.index as usize) else {
            return Err(io::Error::other(format!("the driver speaks of a buffer {}", buffer.index)));
        };
        self.held = Some(buffer.index);
        if buffer.flags & BUFFER_IS_DAMAGED != 0 {
            return Ok(Next::Damaged);
        }
        let bytes = mapping.bytes();
        Ok(Next::Bytes(bytes.get(..buffer.bytesused as usize).unwrap_or(bytes)))
    }

    fn dequeue(&self) -> io::Result<sys::Buffer> {
        let mut buffer = empty(0);
        ioctl(self.device.file(), &sys::DQBUF, &mut buffer)?;
        Ok(buffer)
    }
}

fn empty(index: u32) -> sys::Buffer {
    let mut buffer = sys::Buffer::zeroed();
    (buffer.index, buffer.kind, buffer.memory) = (index, BUFFERS_OF_VIDEO_CAPTURE, MEMORY_IS_MAPPED);
    buffer
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A device that was unplugged refuses both; closing it, which comes last, frees what it held.
        let mut kind = BUFFERS_OF_VIDEO_CAPTURE as libc::c_int;
        if let Err(e) = ioctl(self.device.file(), &sys::STREAMOFF, &mut kind) {
            tracing::debug!(error = %e, "device did not stop");
        }
        self.buffers.clear();
        if let Err(e) = self.request(0) {
            tracing::debug!(error = %e, "device did not take its buffers back");
        }
    }
}
