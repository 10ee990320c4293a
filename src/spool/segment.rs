//! One file of the queue.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{RECORD_BYTES_MAX, SpoolError, io_error};

const HEADER_BYTES: usize = 16;
const SUFFIX: &str = ".log";

/// A record as it was read.
pub(super) struct Record {
    pub bytes: Vec<u8>,
    at: SystemTime,
}

/// Records in the order in which they were written.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Number of its first record.
    pub first: u64,
    /// Where each record starts, and where the last one ends.
    offsets: Vec<u64>,
    newest_at: Option<SystemTime>,
    is_dirty: bool,
}

/// The number of the first record, from the name of a segment.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:016x}{SUFFIX}"))
}

pub(super) fn delete(dir: &Path, first: u64) -> Result<(), SpoolError> {
    let path = path(dir, first);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io_error("delete", &path)(e)),
        _ => Ok(()),
    }
}

impl Segment {
    pub(super) fn create(dir: &Path, first: u64) -> Result<Segment, SpoolError> {
        let path = path(dir, first);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(io_error("make", &path))?;
        // Syncing a new file does not promise that its name outlasts a power failure (fsync(2)).
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))?;
        Ok(Segment { path, file, first, offsets: vec![0], newest_at: None, is_dirty: false })
    }

    /// One of an earlier run, cut off where it is torn; none where nothing of it is whole.
    pub(super) fn open(dir: &Path, first: u64) -> Result<Option<Segment>, SpoolError> {
        let path = path(dir, first);
        let file = File::options().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
        let n_bytes = file.metadata().map_err(io_error("measure", &path))?.len();
        let mut segment = Segment { path, file, first, offsets: vec![0], newest_at: None, is_dirty: false };
        while let Some(record) = segment.read_at(segment.n_bytes())? {
            segment.newest_at = Some(record.at);
            segment.offsets.push(segment.n_bytes() + (HEADER_BYTES + record.bytes.len()) as u64);
        }
        if segment.n_bytes() < n_bytes {
            tracing::warn!(path = %segment.path.display(), bytes = n_bytes - segment.n_bytes(), "torn end of the queue cut off");
            segment.file.set_len(segment.n_bytes()).map_err(io_error("cut", &segment.path))?;
        }
        Ok((segment.end() > first).then_some(segment))
    }

    /// Number of the record after its last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.offsets.len() as u64 - 1
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    pub(super) fn newest_at(&self) -> Option<SystemTime> {
        self.newest_at
    }

    pub(super) fn has_room(&self, n_bytes: usize, bytes_max: u64) -> bool {
        self.n_bytes() == 0 || self.n_bytes() + (HEADER_BYTES + n_bytes) as u64 <= bytes_max
    }

    pub(super) fn append(&mut self, bytes: &[u8], at: SystemTime) -> Result<(), SpoolError> {
        let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut record = Vec::with_capacity(HEADER_BYTES + bytes.len());
        record.extend((bytes.len() as u32).to_le_bytes());
        record.extend([0; 4]);
        record.extend(millis.to_le_bytes());
        record.extend(bytes);
        let crc = checksum(&record);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        let start = self.n_bytes();
        // One write at its place: a process that is killed leaves the record or a torn one that the next start cuts off.
        self.file.write_all_at(&record, start).map_err(io_error("write", &self.path))?;
        self.offsets.push(start + record.len() as u64);
        self.newest_at = Some(at);
        self.is_dirty = true;
        Ok(())
    }

    /// None when the record is damaged.
    pub(super) fn read(&mut self, number: u64) -> Result<Option<Record>, SpoolError> {
        let Some(start) = number.checked_sub(self.first).and_then(|nth| self.offsets.get(nth as usize))
        else {
            return Ok(None);
        };
        self.read_at(*start)
    }

    fn read_at(&self, start: u64) -> Result<Option<Record>, SpoolError> {
        let mut header = [0; HEADER_BYTES];
        if !self.fill(&mut header, start)? {
            return Ok(None);
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, crc) = (word(0) as usize, word(4));
        if length > RECORD_BYTES_MAX {
            return Ok(None);
        }
        let mut record = header.to_vec();
        record[4..8].fill(0);
        record.resize(HEADER_BYTES + length, 0);
        if !self.fill(&mut record[HEADER_BYTES..], start + HEADER_BYTES as u64)? || checksum(&record) != crc {
            return Ok(None);
        }
        let millis = u64::from(word(8)) | u64::from(word(12)) << 32;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH);
        Ok(Some(Record { bytes: record.split_off(HEADER_BYTES), at }))
    }

    /// False when the file ends before.
    fn fill(&self, buffer: &mut [u8], start: u64) -> Result<bool, SpoolError> {
        match self.file.read_exact_at(buffer, start) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(io_error("read", &self.path)(e)),
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        if std::mem::take(&mut self.is_dirty) {
            self.file.sync_data().map_err(|e: io::Error| io_error("write", &self.path)(e))?;
        }
        Ok(())
    }
}

/// CRC-32 (IEEE 802.3).
fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
