//! Which cameras a machine has, what they offer, and by which paths they are found again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::IN_PLANES;
use super::device::{Code, Device, Identity, Role};
use super::negotiate::{Rates, Sizes};
use crate::source::pixels::PixelFormat;

/// A capture device.
#[derive(Debug)]
pub struct Node {
    pub path: PathBuf,
    /// Links that name the camera itself, and so survive another socket and another number.
    pub by_id: Vec<PathBuf>,
    /// Links that name the socket, which tell two cameras of one make apart.
    pub by_path: Vec<PathBuf>,
    /// None where it could not be asked.
    pub description: Result<Description, String>,
}

impl Node {
    /// The path for a configuration.
    pub fn stable_path(&self) -> &Path {
        self.by_id.first().or(self.by_path.first()).unwrap_or(&self.path)
    }
}

/// What a capture device says about itself.
#[derive(Debug)]
pub struct Description {
    pub card: String,
    pub driver: String,
    pub bus: String,
    pub formats: Vec<Format>,
    /// Names of what can be set, and to what.
    pub controls: Vec<(String, String)>,
}

/// A pixel format of a device.
#[derive(Debug)]
pub struct Format {
    pub name: String,
    pub is_understood: bool,
    pub sizes: Vec<Size>,
}

/// A size, or a range of sizes, with its frames a second.
#[derive(Debug)]
pub struct Size {
    pub least: (u32, u32),
    pub greatest: (u32, u32),
    pub step: (u32, u32),
    /// Each rate, or the extremes of a range; of a range of sizes, those of the greatest.
    pub rates: Vec<f64>,
}

/// Lists the capture devices beneath `dev`, which is `/dev`, in the order of their numbers. Nodes for
/// metadata, output and codecs are left out; one that cannot be asked is not.
///
/// # Errors
/// When the folder cannot be listed.
pub fn scan(dev: &Path) -> io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir(dev)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number) {
            nodes.push((number, entry.path()));
        }
    }
    nodes.sort();
    let (by_id, by_path) = (links(&dev.join("v4l/by-id")), links(&dev.join("v4l/by-path")));
    let leading_to = |links: &[(PathBuf, PathBuf)], path: &Path| {
        let target = fs::canonicalize(path).ok();
        let hits = links.iter().filter(|(_, to)| target.as_ref() == Some(to));
        hits.map(|(link, _)| link.clone()).collect()
    };
    let described = nodes.into_iter().filter_map(|(_, path)| {
        let description = describe(&path).transpose()?.map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => format!("{e}; the group video may open it"),
            _ => e.to_string(),
        });
        let (by_id, by_path) = (leading_to(&by_id, &path), leading_to(&by_path, &path));
        Some(Node { path, by_id, by_path, description })
    });
    Ok(described.collect())
}

/// The number of a device node by its name.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix("video")?.parse().ok()
}

/// The links of a folder and where they lead, in the order of their names.
fn links(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut links: Vec<_> =
        entries.filter_map(|link| Some((link.clone(), fs::canonicalize(link).ok()?))).collect();
    links.sort();
    links
}

/// None of a node that is no capture device.
fn describe(path: &Path) -> io::Result<Option<Description>> {
    let device = Device::open(path)?;
    let Identity { card, driver, bus, role } = device.identity()?;
    match role {
        Role::Other => return Ok(None),
        Role::CaptureInPlanes => return Err(io::Error::other(format!("{card}: {IN_PLANES}"))),
        Role::Capture => {}
    }
    let format = |code: Code| Format {
        name: name(code),
        is_understood: PixelFormat::of(code).is_some(),
        sizes: device.sizes(code).into_iter().map(|sizes| size(&device, code, sizes)).collect(),
    };
    let formats = device.formats().into_iter().map(format).collect();
    let controls = device.controls().iter().filter_map(|control| control.entry()).collect();
    Ok(Some(Description { card, driver, bus, formats, controls }))
}

fn size(device: &Device, code: Code, sizes: Sizes) -> Size {
    let (least, greatest, step) = match sizes {
        Sizes::One { width, height } => ((width, height), (width, height), (0, 0)),
        Sizes::Range { width: w, height: h } => ((w.0, h.0), (w.1, h.1), (w.2, h.2)),
    };
    let rates = device.rates(code, greatest).into_iter().flat_map(Rates::extremes).collect();
    Size { least, greatest, step, rates }
}

/// A code as text; its last byte may hold a flag, others anything.
pub(super) fn name(code: Code) -> String {
    code.map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { '.' }).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_video_nodes_are_asked() {
        assert_eq!(
            ["video0", "video12", "video", "video-1", "vbi0", "v4l"].map(number),
            [Some(0), Some(12), None, None, None, None]
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_one_without_cameras_is_empty() {
        assert!(scan(Path::new("/nonexistent")).is_err());
        let dir = tempfile::tempdir().unwrap();
        assert!(scan(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_node_that_cannot_be_asked_is_listed_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("video3"), "").unwrap();
        let nodes = scan(dir.path()).unwrap();
        assert_eq!(nodes.len(), 1);
        assert!(nodes[0].description.as_ref().unwrap_err().contains("ioctl"), "{nodes:?}");
        assert_eq!(nodes[0].stable_path(), dir.path().join("video3"));
    }
}
