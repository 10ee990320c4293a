//! A folder into which somebody puts photos: the newest one at the start, then every one that comes or changes.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;

use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::photo::{self, PhotoError};
use crate::shutdown::Shutdown;

/// Which folder, and how often it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderConfig {
    pub path: PathBuf,
    pub interval: Duration,
}

impl fmt::Display for FolderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "photos put into {}, looked at every {}",
            self.path.display(),
            format_duration(self.interval)
        )
    }
}

/// Most files that are kept in mind: a folder with more is not what this is for.
const FILES_MAX: usize = 10_000;

/// What tells one writing of a file from the next.
type Stamp = (SystemTime, u64);

/// A watched folder.
#[derive(Debug)]
pub struct Folder {
    config: FolderConfig,
    /// What has been shown, or was there before.
    known: HashMap<PathBuf, Stamp>,
    /// What came, as it was at the last look: a file is shown when it has stopped growing.
    settling: HashMap<PathBuf, Stamp>,
    due: Instant,
}

impl Folder {
    /// # Errors
    /// When the folder cannot be listed, or holds too many photos.
    pub fn open(config: &FolderConfig) -> Result<Folder, SourceError> {
        let mut known = stamps(&config.path)?;
        // The newest one is what the folder shows now.
        let newest =
            known.iter().max_by_key(|(path, stamp)| (**stamp, path.as_path())).map(|(path, _)| path.clone());
        if let Some(newest) = newest {
            known.remove(&newest);
        }
        Ok(Folder { config: config.clone(), known, settling: HashMap::new(), due: Instant::now() })
    }

    /// The oldest file that came or changed and has not grown since the last look.
    fn settled(&mut self) -> Result<Option<PathBuf>, SourceError> {
        let now = stamps(&self.config.path)?;
        self.known.retain(|path, _| now.contains_key(path));
        let fresh: HashMap<PathBuf, Stamp> =
            now.into_iter().filter(|(path, stamp)| self.known.get(path) != Some(stamp)).collect();
        let same = |(path, stamp): &(&PathBuf, &Stamp)| self.settling.get(*path) == Some(*stamp);
        let oldest = fresh.iter().filter(same).min_by_key(|(path, stamp)| (**stamp, path.as_path()));
        let settled = oldest.map(|(path, stamp)| (path.clone(), *stamp));
        self.settling = fresh;
        Ok(settled.map(|(path, stamp)| {
            self.known.insert(path.clone(), stamp);
            path
        }))
    }
}

impl Source for Folder {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let until = Instant::now() + NEXT_MAX / 2;
        loop {
            let wait = self.due.min(until).saturating_duration_since(Instant::now());
            if shutdown.wait_for(wait) {
                return Ok(Capture::Interrupted);
            }
            if Instant::now() >= self.due {
                self.due = Instant::now() + self.config.interval;
                if let Some(path) = self.settled()? {
                    return Ok(shown(&path));
                }
            }
            if Instant::now() >= until {
                return Ok(Capture::Nothing);
            }
        }
    }
}

fn shown(path: &Path) -> Capture {
    let started = Instant::now();
    match photo::read(path).and_then(|bytes| photo::decode(&bytes)) {
        Ok(pixels) => Capture::Image(Image {
            pixels,
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()),
            captured_at: SystemTime::now(),
            taken: started,
            decode: started.elapsed(),
        }),
        Err(e) => Capture::Broken { what: path.display().to_string(), why: e.to_string() },
    }
}

/// Every photo of the folder with its stamp.
fn stamps(folder: &Path) -> Result<HashMap<PathBuf, Stamp>, SourceError> {
    let photos = photo::list(folder)?;
    if photos.len() > FILES_MAX {
        return Err(PhotoError::TooMany { folder: folder.to_owned(), limit: FILES_MAX }.into());
    }
    // One that was taken away in between is none.
    let stamp = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        Some((path, (metadata.modified().ok()?, metadata.len())))
    };
    Ok(photos.into_iter().filter_map(stamp).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: &[u8] = include_bytes!("../../assets/demo/cat.jpg");

    fn file_of(capture: Capture) -> String {
        match capture {
            Capture::Image(image) => image.file.unwrap(),
            Capture::Broken { what, .. } => format!("broken {}", what.rsplit('/').next().unwrap()),
            other => format!("{other:?}"),
        }
    }

    fn opened(dir: &Path) -> Folder {
        Folder::open(&FolderConfig { path: dir.to_owned(), interval: Duration::from_millis(1) }).unwrap()
    }

    #[test]
    fn shows_the_newest_photo_and_then_what_comes_or_changes() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8], age_s: u64| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let at = SystemTime::now() - Duration::from_secs(age_s);
            std::fs::File::open(&path).unwrap().set_modified(at).unwrap();
        };
        put("old.jpg", PHOTO, 100);
        put("new.jpg", PHOTO, 50);
        let (mut folder, shutdown) = (opened(dir.path()), Shutdown::new());
        assert_eq!(file_of(folder.next(&shutdown).unwrap()), "new.jpg");
        put("broken.jpg", b"garbage", 40);
        put("old.jpg", PHOTO, 30);
        assert_eq!(file_of(folder.next(&shutdown).unwrap()), "broken broken.jpg");
        assert_eq!(file_of(folder.next(&shutdown).unwrap()), "old.jpg");
    }

    #[test]
    fn waits_until_a_photo_has_stopped_growing() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = opened(dir.path());
        let path = dir.path().join("a.jpg");
        std::fs::write(&path, &PHOTO[..1000]).unwrap();
        assert_eq!(folder.settled().unwrap(), None);
        std::fs::write(&path, PHOTO).unwrap();
        assert_eq!(folder.settled().unwrap(), None, "it has grown");
        assert_eq!(folder.settled().unwrap(), Some(path));
        assert_eq!(folder.settled().unwrap(), None, "shown once");
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let config = FolderConfig { path: "/nonexistent".into(), interval: Duration::from_secs(1) };
        assert!(Folder::open(&config).unwrap_err().to_string().contains("/nonexistent"));
    }
}
