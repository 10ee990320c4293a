//! `bundle pull`: a model by its name or address, from the network or a mirror, whole and verified or not at all.
//!
//! What has come stays in a folder beside the result until all of it is there, so that a cut costs nothing.

mod download;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use caption::bundle::MANIFEST_FILE;
use caption::{Bundle, bundle};
use import::registry::{self, Entry, File, Kind, Registry};
use sha2::{Digest as _, Sha256};

use self::download::{Downloads, Size};

/// Largest file whose size is not known beforehand, in bytes.
const FILE_BYTES_MAX: u64 = (1 << 31) - 1;
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;
/// What an import needs beside the files themselves, and a margin.
const ROOM: u64 = 64 << 20;

/// What to pull and how.
#[derive(Clone, Debug)]
pub struct Pull {
    /// A name of the registry, or the address of a bundle's folder.
    pub what: String,
    /// The folder of the result.
    pub out: Option<PathBuf>,
    /// A list in the place of the one that ships.
    pub registry: Option<PathBuf>,
    /// An address or a folder that has `NAME/PATH` for every file.
    pub mirror: Option<String>,
    /// Whether the network is off limits.
    pub offline: bool,
    /// How long a server may send next to nothing.
    pub patience: Duration,
    /// Takes the lines of progress.
    pub say: fn(&str),
}

/// Where the files come from.
enum Origin {
    /// Ends in a slash.
    Address(String),
    Folder(PathBuf),
}

/// What was pulled.
pub struct Pulled {
    pub dir: PathBuf,
    pub id: String,
    /// What was assumed in an import, in sentences.
    pub notes: Vec<String>,
}

/// Fetches, verifies and installs. Blocks.
///
/// # Errors
/// When the model is not known, something does not come or is not what it must be, the disk has no room, or the result is
/// there already; what has come is kept for the next try, but for what is wrong.
pub fn pull(job: &Pull) -> Result<Pulled> {
    let entry = entry(job)?;
    let out = job.out.clone().unwrap_or_else(|| PathBuf::from(&entry.name));
    ensure!(!out.exists(), "{} is there already: give another --out, or remove it", out.display());
    let origin = origin(job, &entry);
    let staging = staging(&out, &entry)?;
    fs::create_dir_all(&staging).with_context(|| format!("create {}", staging.display()))?;
    (job.say)(&format!("{}: {}", entry.name, entry.about));
    (job.say)(&format!("license: {}", entry.license));
    let files = files(job, &entry, &origin, &staging)?;
    room(&files, &staging)?;
    fetch(job, &origin, &files, &staging)?;
    if files.iter().any(|file| file.sha256.is_none()) {
        unverified(job, &files, &staging)?;
    }
    install(&entry, &staging, &out)
}

fn entry(job: &Pull) -> Result<Entry> {
    if ["http://", "https://"].iter().any(|scheme| job.what.starts_with(scheme)) {
        let source = job.what.strip_suffix(MANIFEST_FILE).unwrap_or(&job.what);
        let source = format!("{}/", source.trim_end_matches('/'));
        let name = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        registry::check_path(&name).map_err(|why| anyhow!("{}: its last part {why}", job.what))?;
        return Ok(Entry {
            name,
            about: source.clone(),
            license: "as its manifest says".to_owned(),
            kind: Kind::Bundle,
            source,
            files: Vec::new(),
        });
    }
    let registry = registry(job.registry.as_deref())?;
    let names: Vec<&str> = registry.models.iter().map(|entry| entry.name.as_str()).collect();
    let known = registry.get(&job.what).cloned();
    known.with_context(|| format!("no model `{}`: there are {}", job.what, names.join(", ")))
}

/// The list of models in a file, or the one that ships.
///
/// # Errors
/// When it cannot be read or is malformed.
pub fn registry(path: Option<&Path>) -> Result<Registry> {
    let Some(path) = path else { return Registry::shipped().map_err(|why| anyhow!("the registry: {why}")) };
    let read = || format!("read {}", path.display());
    let bytes = fs::metadata(path).with_context(read)?.len();
    ensure!(bytes <= registry::BYTES_MAX, "{}: {bytes} bytes are too many", path.display());
    let text = fs::read_to_string(path).with_context(read)?;
    Registry::parse(&text).map_err(|why| anyhow!("{}: {why}", path.display()))
}

fn origin(job: &Pull, entry: &Entry) -> Origin {
    match &job.mirror {
        None => Origin::Address(entry.source.clone()),
        Some(mirror) if mirror.contains("://") => {
            Origin::Address(format!("{}/{}/", mirror.trim_end_matches('/'), entry.name))
        }
        Some(mirror) => Origin::Folder(Path::new(mirror).join(&entry.name)),
    }
}

/// The folder of what has come so far, another for each source.
fn staging(out: &Path, entry: &Entry) -> Result<PathBuf> {
    let name = out.file_name().with_context(|| format!("{} has no name", out.display()))?;
    let digest = Sha256::digest(&entry.source);
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Ok(out.with_file_name(format!(".{}.{digits}.part", name.to_string_lossy())))
}

/// Every file to fetch; of a bundle at an address, those that its manifest names.
fn files(job: &Pull, entry: &Entry, origin: &Origin, staging: &Path) -> Result<Vec<File>> {
    if !entry.files.is_empty() {
        return Ok(entry.files.clone());
    }
    // It has no hash that it could be held to: an old one must not stand for a new one.
    let stale = staging.join(MANIFEST_FILE);
    if !job.offline && stale.exists() {
        fs::remove_file(&stale).with_context(|| format!("remove {}", stale.display()))?;
    }
    let manifest = File { path: MANIFEST_FILE.to_owned(), bytes: None, sha256: None };
    fetch_within(job, origin, std::slice::from_ref(&manifest), staging, MANIFEST_BYTES_MAX)?;
    let text = fs::read_to_string(&stale).with_context(|| format!("read {}", stale.display()))?;
    let parsed = bundle::parse(&text).map_err(|why| anyhow!("{}{MANIFEST_FILE}: {why}", entry.source))?;
    (job.say)(&format!("license: {}", parsed.license));
    let named = parsed.named_files().into_iter().map(|(path, bytes, sha256)| File {
        path: path.to_owned(),
        bytes: Some(bytes),
        sha256: Some(sha256.to_owned()),
    });
    Ok(named.collect())
}

fn room(files: &[File], staging: &Path) -> Result<()> {
    let there = |file: &File| fs::metadata(staging.join(&file.path)).map_or(0, |found| found.len());
    let needed: u64 = files.iter().map(|file| file.bytes.unwrap_or(0).saturating_sub(there(file))).sum();
    let Ok(disk) = rustix::fs::statvfs(staging) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        free >= needed.saturating_add(ROOM),
        "{}: {} MB are needed, {} MB are free",
        staging.display(),
        (needed + ROOM) / 1_000_000,
        free / 1_000_000
    );
    Ok(())
}

fn fetch(job: &Pull, origin: &Origin, files: &[File], staging: &Path) -> Result<()> {
    fetch_within(job, origin, files, staging, FILE_BYTES_MAX)
}

fn fetch_within(job: &Pull, origin: &Origin, files: &[File], staging: &Path, most: u64) -> Result<()> {
    let mut downloads: Option<Downloads> = None;
    for file in files {
        let to = staging.join(&file.path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        if to.exists() && is_right(&to, file)? {
            continue;
        }
        match origin {
            Origin::Folder(folder) => {
                let from = folder.join(&file.path);
                fs::copy(&from, &to)
                    .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
            }
            Origin::Address(base) => {
                ensure!(!job.offline, "{} is not there, and --offline keeps from fetching it", to.display());
                if downloads.is_none() {
                    downloads = Some(Downloads::open(job.patience, job.say)?);
                }
                let Some(downloads) = &downloads else { bail!("no connection") };
                let size = Size { bytes: file.bytes, most };
                downloads.file(&format!("{base}{}", file.path), &to, size, file.sha256.is_some())?;
            }
        }
        if !is_right(&to, file)? {
            let found = hash(&to)?;
            fs::remove_file(&to).with_context(|| format!("remove {}", to.display()))?;
            let expected = file.sha256.as_deref().unwrap_or("another size");
            bail!("{}: has sha256 {found}, not {expected}: it was thrown away", file.path);
        }
    }
    Ok(())
}

/// Whether a file has the size and the hash that it must have, as far as they are known.
fn is_right(path: &Path, file: &File) -> Result<bool> {
    let found = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if file.bytes.is_some_and(|bytes| bytes != found.len()) {
        return Ok(false);
    }
    match &file.sha256 {
        Some(expected) => Ok(hash(path)? == *expected),
        None => Ok(true),
    }
}

fn hash(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).with_context(|| format!("read {}", path.display()))?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unverified(job: &Pull, files: &[File], staging: &Path) -> Result<()> {
    (job.say)("unverified: the registry does not know what the bytes must be; what came is");
    for file in files {
        let path = staging.join(&file.path);
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        (job.say)(&format!("  {}  {bytes} bytes  sha256 {}", file.path, hash(&path)?));
    }
    Ok(())
}

fn install(entry: &Entry, staging: &Path, out: &Path) -> Result<Pulled> {
    let mut notes = Vec::new();
    match entry.kind {
        Kind::Bundle => {
            Bundle::open(staging).context("what came is no bundle")?;
            fs::rename(staging, out)
                .with_context(|| format!("move {} to {}", staging.display(), out.display()))?;
        }
        Kind::Export => {
            let options = import::ImportOptions {
                name: Some(entry.name.clone()),
                license: Some(entry.license.clone()),
                ..import::ImportOptions::default()
            };
            notes = import::import(staging, out, &options).context("import what came")?.notes;
            fs::remove_dir_all(staging).with_context(|| format!("remove {}", staging.display()))?;
        }
    }
    let id = Bundle::open(out)?.id().to_owned();
    Ok(Pulled { dir: out.to_owned(), id, notes })
}
