//! Replays photos at a set rate: for the demonstration, for tests, for soaking.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;

use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::photo::{self, PhotoError};
use crate::shutdown::Shutdown;

/// Which photos, how fast, how often.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// Shown in this order; folders in the order of their files' names.
    pub photos: Vec<Photo>,
    /// From one photo to the next.
    pub interval: Duration,
    /// From the last photo back to the first. Folders are listed anew at every pass.
    pub repeat: bool,
}

impl fmt::Display for ReplayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let often = if self.repeat { "again and again" } else { "once" };
        write!(f, "replay of {:?} every {}, {often}", self.photos, format_duration(self.interval))
    }
}

/// One photo, or a folder of them.
#[derive(Clone, PartialEq)]
pub enum Photo {
    Folder(PathBuf),
    File(PathBuf),
    /// Part of the executable.
    Embedded {
        name: &'static str,
        bytes: &'static [u8],
    },
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Photo::Folder(path) | Photo::File(path) => write!(f, "{}", path.display()),
            Photo::Embedded { name, .. } => write!(f, "embedded:{name}"),
        }
    }
}

/// An opened replay.
#[derive(Debug)]
pub struct Replay {
    config: ReplayConfig,
    /// The photos of this pass that are still to come, last first.
    pending: Vec<Photo>,
    due: Instant,
}

impl Replay {
    /// # Errors
    /// When a folder cannot be listed, or there is no photo at all.
    pub fn open(config: &ReplayConfig) -> Result<Replay, SourceError> {
        Ok(Replay { config: config.clone(), pending: pass(&config.photos)?, due: Instant::now() })
    }
}

impl Source for Replay {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        if self.pending.is_empty() {
            if !self.config.repeat {
                return Ok(Capture::End);
            }
            self.pending = pass(&self.config.photos)?;
        }
        let wait = self.due.saturating_duration_since(Instant::now());
        if shutdown.wait_for(wait.min(NEXT_MAX / 2)) {
            return Ok(Capture::Interrupted);
        }
        if wait > NEXT_MAX / 2 {
            return Ok(Capture::Nothing);
        }
        // A pass that fell behind goes on from now instead of catching up in a burst.
        self.due = (self.due + self.config.interval).max(Instant::now());
        let Some(photo) = self.pending.pop() else { return Ok(Capture::End) };
        Ok(match decode(&photo) {
            Ok(image) => Capture::Image(image),
            Err(e) => Capture::Broken { what: format!("{photo:?}"), why: e.to_string() },
        })
    }
}

/// The photos of one pass, last first.
fn pass(photos: &[Photo]) -> Result<Vec<Photo>, SourceError> {
    let mut all = Vec::new();
    for photo in photos {
        match photo {
            Photo::Folder(folder) => {
                let found = photo::list(folder)?;
                if found.is_empty() {
                    return Err(SourceError::Empty(folder.clone()));
                }
                all.extend(found.into_iter().map(Photo::File));
            }
            Photo::File(_) | Photo::Embedded { .. } => all.push(photo.clone()),
        }
    }
    all.reverse();
    Ok(all)
}

fn decode(photo: &Photo) -> Result<Image, PhotoError> {
    let (captured_at, taken) = (SystemTime::now(), Instant::now());
    let (pixels, file) = match photo {
        Photo::Folder(path) | Photo::File(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (photo::decode(&photo::read(path)?)?, name)
        }
        Photo::Embedded { name, bytes } => (photo::decode(bytes)?, Some((*name).to_owned())),
    };
    Ok(Image { pixels, file, captured_at, taken, decode: taken.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: Photo =
        Photo::Embedded { name: "cat.jpg", bytes: include_bytes!("../../assets/demo/cat.jpg") };

    fn replay(photos: Vec<Photo>, interval: Duration, repeat: bool) -> Result<Replay, SourceError> {
        Replay::open(&ReplayConfig { photos, interval, repeat })
    }

    fn names(replay: &mut Replay, n: usize) -> Vec<String> {
        let shutdown = Shutdown::new();
        let name = |capture| match capture {
            Capture::Image(image) => image.file.unwrap(),
            Capture::Broken { .. } => "broken".to_owned(),
            Capture::Nothing => "nothing".to_owned(),
            Capture::End => "end".to_owned(),
            Capture::Interrupted => "interrupted".to_owned(),
        };
        (0..n).map(|_| name(replay.next(&shutdown).unwrap())).collect()
    }

    #[test]
    fn shows_a_folder_in_name_order_once_or_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let Photo::Embedded { bytes, .. } = CAT else { unreachable!() };
        for name in ["b.jpg", "a.jpg"] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::write(dir.path().join("c.png"), b"garbage").unwrap();
        let folder = || vec![Photo::Folder(dir.path().to_owned())];
        let mut once = replay(folder(), Duration::ZERO, false).unwrap();
        assert_eq!(names(&mut once, 5), ["a.jpg", "b.jpg", "broken", "end", "end"]);
        let mut again = replay(folder(), Duration::ZERO, true).unwrap();
        assert_eq!(names(&mut again, 5), ["a.jpg", "b.jpg", "broken", "a.jpg", "b.jpg"]);
    }

    #[test]
    fn an_empty_or_missing_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let empty = replay(vec![Photo::Folder(dir.path().to_owned())], Duration::ZERO, true);
        assert!(matches!(empty, Err(SourceError::Empty(_))));
        let missing = replay(vec![Photo::Folder(dir.path().join("no"))], Duration::ZERO, true);
        assert!(matches!(missing, Err(SourceError::Photo(_))));
    }

    #[test]
    fn keeps_its_interval_and_is_interrupted_by_shutdown() {
        let interval = Duration::from_millis(30);
        let mut replay = replay(vec![CAT], interval, true).unwrap();
        let started = Instant::now();
        names(&mut replay, 3);
        assert!(started.elapsed() >= interval * 2);
        let shutdown = Shutdown::new();
        shutdown.request();
        replay.due = Instant::now() + Duration::from_secs(600);
        assert!(matches!(replay.next(&shutdown), Ok(Capture::Interrupted)));
    }
}
