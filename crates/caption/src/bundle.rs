//! Bundles: a folder with a manifest, graphs and a tokenizer, verified byte by byte.
//!
//! The only file of this crate that touches the disk. What the bytes mean is for others.

mod answers;
mod manifest;
mod ports;
mod search;
mod validate;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

pub use answers::{KindSettings, VqaSettings};
use engine::onnx;
use manifest::FileEntry;
pub use manifest::{
    Affinity, BridgeSettings, ConfidenceSettings, DecoderSettings, EmbeddingSettings, FORMAT, Filter,
    GraphFile, Graphs, Manifest, MemorySettings, PreprocessSettings, RegionSettings, Resize, Role,
    TagSettings, TokenizerSettings,
};
pub use search::{RerankSettings, SampleSettings};
use sha2::{Digest as _, Sha256};

/// The file that makes a folder a bundle.
pub const MANIFEST_FILE: &str = "manifest.toml";
const MAX_MANIFEST_BYTES: u64 = 256 * 1024;

/// Why a folder is no usable bundle. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no bundle here: choose another folder.
    #[error("no bundle in {}: {source}", dir.display())]
    Absent { dir: PathBuf, source: std::io::Error },
    /// The manifest is malformed or contradicts itself or its graphs: it must be written anew.
    #[error("bundle manifest {}: {why}", file.display())]
    Manifest { file: PathBuf, why: String },
    /// A file is missing, or is not the one that the manifest was written for: fetch it again.
    #[error("bundle file {}: {why}", file.display())]
    File { file: PathBuf, why: String },
    /// The bundle cannot be written.
    #[error("write bundle {}: {source}", file.display())]
    Write { file: PathBuf, source: std::io::Error },
}

/// A bundle whose files were read once and found to be those of the manifest.
///
/// It holds their bytes; drop it once the models are loaded.
#[derive(Clone, Debug)]
pub struct Bundle {
    id: String,
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// Reads and verifies the bundle in `dir`. Blocks for as long as it takes to read and hash it.
    ///
    /// # Errors
    /// See [`BundleError`]; a missing, cut, altered or oversized file is named.
    pub fn open(dir: &Path) -> Result<Bundle, BundleError> {
        let file = dir.join(MANIFEST_FILE);
        let absent = |source| BundleError::Absent { dir: dir.to_owned(), source };
        let invalid = |why: String| BundleError::Manifest { file: file.clone(), why };
        let mut bytes = Vec::new();
        File::open(&file)
            .and_then(|open| open.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes))
            .map_err(absent)?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(invalid(format!("is larger than {MAX_MANIFEST_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|e| invalid(e.to_string()))?;
        let manifest = parse(text).map_err(invalid)?;
        let files = manifest
            .files()
            .into_iter()
            .map(|entry| Ok((entry.0.to_owned(), read_verified(dir, &entry)?)))
            .collect::<Result<_, BundleError>>()?;
        let digits: String = sha256_hex(&bytes).chars().take(8).collect();
        Ok(Bundle { id: format!("{}@{digits}", manifest.name), manifest, files })
    }

    /// `name@` and the first eight hexadecimal digits of the manifest's sha256. The manifest holds the
    /// hash of every file, so this identifies them all.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a file that the manifest names, as they were verified.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Every file that the manifest names, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    pub(crate) fn graph(&self, role: Role) -> &[u8] {
        self.manifest.graphs.get(role).and_then(|graph| self.file(&graph.file)).unwrap_or_default()
    }
}

/// Parses and validates the text of a manifest.
///
/// # Errors
/// A message that names the key.
pub fn parse(text: &str) -> Result<Manifest, String> {
    let manifest: Manifest = toml::from_str(text).map_err(|e| e.to_string().trim_end().replace('\n', " "))?;
    validate::validate(&manifest)?;
    Ok(manifest)
}

fn read_verified(dir: &Path, entry: &FileEntry<'_>) -> Result<Vec<u8>, BundleError> {
    let FileEntry(name, size, sha256) = *entry;
    let file = dir.join(name);
    let fail = |why: String| BundleError::File { file: file.clone(), why };
    let found = fs::symlink_metadata(&file).map_err(|e| fail(e.to_string()))?;
    // A link could lead anywhere, and a pipe would block.
    if !found.is_file() {
        return Err(fail("is no regular file".to_owned()));
    }
    if found.len() != size {
        return Err(fail(format!("has {} bytes, the manifest says {size}", found.len())));
    }
    let mut bytes = Vec::new();
    // Room for the file and for one byte more, by which a longer one is noticed; growing would take up to twice as much.
    let room = usize::try_from(size + 1).map_err(|e| fail(e.to_string()))?;
    bytes.try_reserve_exact(room).map_err(|e| fail(e.to_string()))?;
    File::open(&file)
        .and_then(|open| open.take(size + 1).read_to_end(&mut bytes))
        .map_err(|e| fail(e.to_string()))?;
    let hash = sha256_hex(&bytes);
    if hash != sha256 {
        return Err(fail(format!("has sha256 {hash}, the manifest says {sha256}")));
    }
    Ok(bytes)
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a bundle: fills in size, hash and ports of every file that `manifest` names, validates the
/// result, and puts `files` and the manifest in place of the folder `dir` in one step. Files that the
/// manifest does not name (a notice) are written beside the others.
///
/// Returns the manifest as written. Blocks.
///
/// # Errors
/// [`BundleError::Manifest`] when the manifest is invalid or disagrees with a graph,
/// [`BundleError::File`] when it names a file that is not given, [`BundleError::Write`] otherwise.
/// After an error `dir` is as it was.
pub fn write(dir: &Path, manifest: Manifest, files: &[(&str, &[u8])]) -> Result<Manifest, BundleError> {
    let manifest_file = dir.join(MANIFEST_FILE);
    let invalid = |why: String| BundleError::Manifest { file: manifest_file.clone(), why };
    let manifest = filled(dir, manifest, files)?;
    validate::validate(&manifest).map_err(&invalid)?;
    if let Some((name, _)) = files.iter().find(|(name, _)| !validate::is_file_name(name)) {
        return Err(invalid(format!("file `{name}`: is no plain file name")));
    }
    let text = toml::to_string(&manifest).map_err(|e| invalid(e.to_string()))?;

    let fail = |file: &Path, source| BundleError::Write { file: file.to_owned(), source };
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| fail(parent, e))?;
    let fresh =
        tempfile::Builder::new().prefix(".bundle-").tempdir_in(parent).map_err(|e| fail(parent, e))?;
    let inside = fresh.path().join("new");
    fs::create_dir(&inside).map_err(|e| fail(&inside, e))?;
    for (name, bytes) in files.iter().copied().chain([(MANIFEST_FILE, text.as_bytes())]) {
        let file = inside.join(name);
        write_synced(&file, bytes).map_err(|e| fail(&file, e))?;
    }
    replace(&inside, dir, &fresh.path().join("old")).map_err(|e| fail(dir, e))?;
    Ok(manifest)
}

fn filled(dir: &Path, mut manifest: Manifest, files: &[(&str, &[u8])]) -> Result<Manifest, BundleError> {
    let bytes_of = |name: &str| {
        files.iter().find(|(given, _)| *given == name).map(|(_, bytes)| *bytes).ok_or_else(|| {
            BundleError::File { file: dir.join(name), why: "is named but not given".to_owned() }
        })
    };
    for (name, size, sha256) in manifest.files_mut() {
        let bytes = bytes_of(name)?;
        *size = bytes.len() as u64;
        *sha256 = sha256_hex(bytes);
    }
    for role in Role::ALL {
        let Some(graph) = manifest.graphs.get_mut(role) else { continue };
        let signature = onnx::signature_of(bytes_of(&graph.file)?)
            .map_err(|e| BundleError::File { file: dir.join(&graph.file), why: e.to_string() })?;
        graph.inputs = signature.inputs.iter().map(ToString::to_string).collect();
        graph.outputs = signature.outputs.iter().map(ToString::to_string).collect();
    }
    Ok(manifest)
}

fn write_synced(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut open = File::create_new(file)?;
    open.write_all(bytes)?;
    open.sync_all()
}

/// Moves `new` to `dir`; a folder that was there moves to `old`, or back if the move fails.
fn replace(new: &Path, dir: &Path, old: &Path) -> std::io::Result<()> {
    match fs::rename(dir, old) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return fs::rename(new, dir),
        Err(e) => return Err(e),
    }
    fs::rename(new, dir).or_else(|e| fs::rename(old, dir).and(Err(e)))
}
