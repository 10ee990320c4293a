//! Files that are whole or absent, whatever ends the process or the machine meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// What a kill leaves of a file begins with this; nothing ever reads it.
const PARTIAL: &str = ".partial-";

/// Writes a file beside its place and renames it into place once its bytes are on the disk. Blocks.
///
/// # Errors
/// When the disk is full or does not take it otherwise: the file that was there before is intact then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = folder_of(path);
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let write = || -> io::Result<()> {
        // The name is another each time, since runs may share a folder. The umask decides who may read the file.
        let everyone = fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(PARTIAL).permissions(everyone).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(dir)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder last: a rename that is not on the disk is lost with the power.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a folder if it is there.
pub(super) fn remove_folder(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/graph.onnx");
        write_atomically(&path, b"a first, longer one").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph.onnx");
        fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, b"bytes").unwrap_err();
        assert!(format!("{error:#}").contains("graph.onnx"), "{error:#}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
