//! A real file system of a few megabytes, which can be filled to the brim.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A tmpfs in a mount namespace of its own; it is gone with the process that holds the namespace.
pub struct SmallDisk {
    holder: Child,
    /// Seen through the holder, so that whoever writes here need not be in the namespace.
    path: PathBuf,
    _mount_point: TempDir,
}

impl SmallDisk {
    /// `None` where the kernel does not let this user mount one.
    pub fn mount(megabytes: usize) -> Option<SmallDisk> {
        let mount_point = tempfile::tempdir().unwrap();
        let script = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .arg(mount_point.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).unwrap();
        let inside = mount_point.path().strip_prefix("/").unwrap();
        let path = PathBuf::from(format!("/proc/{}/root", holder.id())).join(inside);
        let disk = SmallDisk { holder, path, _mount_point: mount_point };
        (line == "mounted\n").then_some(disk)
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Takes all room but `left` bytes.
    pub fn fill(&self, left: u64) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let n_bytes = file.metadata().unwrap().len();
        file.set_len(n_bytes - left).unwrap();
    }

    /// Gives the room back.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
