//! A queue on disk: what could not be delivered waits here, over restarts, in order.
//!
//! Records are appended to segment files, and a segment is deleted when all of it is done: no file is ever written
//! twice but the small one that holds the position, so an SD card sees few writes. A record is
//! `length u32 | CRC-32 u32 | milliseconds since 1970 u64 | bytes`, little endian. What a crash tore is cut off at the
//! next start. A record may come twice after a crash, and never out of order.

mod segment;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use segment::{Record, Segment};

/// Bytes of one record at most.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
/// The space is divided into so many segments; the oldest makes room for the newest.
const SEGMENTS: u64 = 16;
const SEGMENT_BYTES_LEAST: u64 = 4 << 10;
const POSITION: &str = "position";
const LOCK: &str = "lock";
const TRIAL: &str = "trial";

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bytes_max: u64,
    pub age_max: Duration,
}

/// Why the queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the queue {0} is in use by another process")]
    InUse(PathBuf),
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("the queue {0} holds a damaged record")]
    Damaged(PathBuf),
    #[error("a record has {0} bytes, more than {RECORD_BYTES_MAX}")]
    TooLarge(usize),
}

pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io { operation, path, source }
}

/// Whether a queue could be in `dir`: makes the folder and writes a file, which is taken away again. Returns how many
/// bytes are free there.
///
/// # Errors
/// What forbids it.
pub fn try_folder(dir: &Path) -> Result<u64, SpoolError> {
    fs::create_dir_all(dir).map_err(io_error("make", dir))?;
    let file = dir.join(TRIAL);
    fs::write(&file, TRIAL).map_err(io_error("write", &file))?;
    fs::remove_file(&file).map_err(io_error("remove", &file))?;
    let space = rustix::fs::statvfs(dir).map_err(io::Error::from).map_err(io_error("measure", dir))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// See the module. Every method blocks on the disk, [`Spool::sync`] longest.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    limits: Limits,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    /// Numbers of the next record to be written and of the oldest that is not done.
    next: u64,
    done: u64,
    /// What the position file says.
    done_written: u64,
    /// Released when the process ends, however it does.
    _lock: File,
}

impl Spool {
    /// Opens or makes the queue in `dir`.
    ///
    /// # Errors
    /// When the folder cannot be used or belongs to another process.
    pub fn open(dir: &Path, limits: Limits, now: SystemTime) -> Result<Spool, SpoolError> {
        fs::create_dir_all(dir).map_err(io_error("make", dir))?;
        let lock = lock(dir)?;
        let mut segments = VecDeque::new();
        for first in segment_numbers(dir)? {
            match Segment::open(dir, first)? {
                Some(segment) => segments.push_back(segment),
                None => segment::delete(dir, first)?,
            }
        }
        let oldest = segments.front().map_or(0, |segment| segment.first);
        let done = position(dir).max(oldest);
        let next = segments.back().map_or(0, Segment::end).max(done);
        let mut spool =
            Spool { dir: dir.to_owned(), limits, segments, next, done, done_written: done, _lock: lock };
        // A segment that was torn in the middle of the queue leaves a gap, which nothing may be waited for in.
        spool.drop_done()?;
        spool.drop_old(now)?;
        Ok(spool)
    }

    /// Records that are not done.
    pub fn len(&self) -> u64 {
        let waiting = |segment: &Segment| segment.end().saturating_sub(segment.first.max(self.done));
        self.segments.iter().map(waiting).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a record. How many old ones had to make room.
    ///
    /// # Errors
    /// When the record is too large or the disk refuses it; the queue is as before.
    pub fn push(&mut self, bytes: &[u8], now: SystemTime) -> Result<u64, SpoolError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(SpoolError::TooLarge(bytes.len()));
        }
        let segment_bytes_max = (self.limits.bytes_max / SEGMENTS).max(SEGMENT_BYTES_LEAST);
        let is_full = |segment: &Segment| !segment.has_room(bytes.len(), segment_bytes_max);
        if self.segments.back().is_none_or(is_full) {
            if let Some(last) = self.segments.back_mut() {
                last.sync()?;
            }
            self.segments.push_back(Segment::create(&self.dir, self.next)?);
        }
        let Some(last) = self.segments.back_mut() else { return Ok(0) };
        last.append(bytes, now)?;
        self.next = last.end();
        Ok(self.drop_excess()? + self.drop_old(now)?)
    }

    /// The oldest record from number `from` on that is not done, with its number.
    ///
    /// # Errors
    /// When the disk refuses it, or a record is not what was written.
    pub fn read(&mut self, from: u64) -> Result<Option<(u64, Vec<u8>)>, SpoolError> {
        let from = from.max(self.done);
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.end() > from) else {
            return Ok(None);
        };
        let number = from.max(segment.first);
        match segment.read(number)? {
            Some(Record { bytes, .. }) => Ok(Some((number, bytes))),
            None => Err(SpoolError::Damaged(self.dir.clone())),
        }
    }

    /// Everything up to and with record `number` is done.
    ///
    /// # Errors
    /// When a segment that is done cannot be deleted.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), SpoolError> {
        self.done = self.done.max(number.saturating_add(1));
        self.drop_done()
    }

    /// Makes what was written outlast a power failure.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        if let Some(last) = self.segments.back_mut() {
            last.sync()?;
        }
        // Without a segment there is nothing that the position could belong to.
        if self.done != self.done_written && !self.segments.is_empty() {
            self.write_position()?;
        }
        Ok(())
    }

    fn write_position(&mut self) -> Result<(), SpoolError> {
        let (path, new) = (self.dir.join(POSITION), self.dir.join("position.new"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(self.done.to_string().as_bytes())?;
            file.sync_data()
        });
        written.and_then(|()| fs::rename(&new, &path)).map_err(io_error("write", &path))?;
        self.done_written = self.done;
        Ok(())
    }

    fn drop_done(&mut self) -> Result<(), SpoolError> {
        while self.segments.front().is_some_and(|oldest| oldest.end() <= self.done) {
            self.drop_oldest()?;
        }
        Ok(())
    }

    /// Drops the oldest segments while there is too much; the newest stays.
    fn drop_excess(&mut self) -> Result<u64, SpoolError> {
        let before = self.len();
        while self.segments.len() > 1
            && self.segments.iter().map(Segment::n_bytes).sum::<u64>() > self.limits.bytes_max
        {
            self.drop_oldest()?;
        }
        Ok(before - self.len())
    }

    fn drop_old(&mut self, now: SystemTime) -> Result<u64, SpoolError> {
        let before = self.len();
        let age_max = self.limits.age_max;
        let is_old = |segment: &Segment| {
            segment.newest_at().is_some_and(|at| now.duration_since(at).is_ok_and(|age| age > age_max))
        };
        while self.segments.front().is_some_and(is_old) {
            self.drop_oldest()?;
        }
        Ok(before - self.len())
    }

    fn drop_oldest(&mut self) -> Result<(), SpoolError> {
        let Some(oldest) = self.segments.pop_front() else { return Ok(()) };
        self.done = self.done.max(oldest.end());
        segment::delete(&self.dir, oldest.first)
    }
}

fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(SpoolError::InUse(dir.to_owned())),
        Err(fs::TryLockError::Error(e)) => Err(io_error("lock", &path)(e)),
    }
}

/// Of the segments there are, oldest first.
fn segment_numbers(dir: &Path) -> Result<Vec<u64>, SpoolError> {
    let entries = fs::read_dir(dir).map_err(io_error("list", dir))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", dir))?;
        numbers.extend(entry.file_name().to_str().and_then(segment::number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Without a position, or with one that was torn, everything that is there comes once more.
fn position(dir: &Path) -> u64 {
    fs::read_to_string(dir.join(POSITION)).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
