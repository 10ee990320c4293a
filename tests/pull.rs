//! `captiond bundle pull` against a server on loopback that cuts, lies, redirects, drips and never ends.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use caption::Bundle;
use caption::testing::write_tiny_bundle;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// What the server does with one request in the place of answering it.
#[derive(Clone)]
enum Mischief {
    None,
    /// Ends the connection after so many bytes of the body.
    Cut(usize),
    Redirect(String),
    /// A few bytes, and then one now and then.
    Drip,
    Status(u16),
    /// A body without a declared length, for ever.
    Endless,
    /// The whole file under another tag, whatever range is asked for.
    Changed,
}

/// A request: its target as sent, and its range.
type Asked = (String, Option<String>);

struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What all connections share.
struct Shared {
    files: HashMap<String, Vec<u8>>,
    mischief: Mutex<VecDeque<Mischief>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Serves `files` by their paths; the nth request meets the nth mischief, those after the last none.
    fn start(files: HashMap<String, Vec<u8>>, mischief: &[Mischief]) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let shared = Shared {
            files,
            mischief: Mutex::new(mischief.iter().cloned().collect()),
            asked: Arc::clone(&asked),
            ended: Arc::clone(&ended),
        };
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if shared.ended.load(Relaxed) {
                        return;
                    }
                    let shared = &shared;
                    // A client that goes away is no fault of the server.
                    scope.spawn(move || drop(answer(&stream.unwrap(), shared)));
                }
            });
        });
        Server { port, asked, ended, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let target = lines.next().unwrap_or(Ok(String::new()))?.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let value = |line: &String| {
            line.split_once(':')
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.trim().to_owned())
        };
        headers.iter().find_map(value)
    };
    let range = header("range");
    shared.asked.lock().unwrap().push((target.clone(), range.clone()));
    let mischief = shared.mischief.lock().unwrap().pop_front().unwrap_or(Mischief::None);
    let path = target.rsplit_once("://").map_or(target.as_str(), |(_, rest)| rest);
    let path = path.split_once('/').map_or(path, |(_, path)| path);
    let Some(file) = shared.files.get(path) else {
        return reply(stream, "404 Not Found", "", b"");
    };
    let tag = "etag: \"one\"\r\n";
    match mischief {
        Mischief::Redirect(to) => reply(stream, "302 Found", &format!("location: {to}\r\n"), b""),
        Mischief::Status(status) => reply(stream, &format!("{status} Because"), "", b""),
        Mischief::Changed => reply(stream, "200 OK", "etag: \"two\"\r\n", file),
        Mischief::Endless => {
            head(stream, "200 OK", "")?;
            while !shared.ended.load(Relaxed) {
                (&mut &*stream).write_all(&[7; 65_536])?;
            }
            Ok(())
        }
        Mischief::Drip => {
            head(stream, "200 OK", &format!("content-length: {}\r\n", file.len()))?;
            for byte in file {
                if shared.ended.load(Relaxed) {
                    break;
                }
                (&mut &*stream).write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }
        Mischief::None | Mischief::Cut(_) => {
            let from = range.filter(|_| header("if-range").is_none_or(|tag| tag == "\"one\""));
            let from =
                from.and_then(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().ok());
            let from: usize = from.unwrap_or(0);
            let (status, more) = match from {
                0 => ("200 OK", String::new()),
                from => (
                    "206 Partial Content",
                    format!("content-range: bytes {from}-{}/{}\r\n", file.len() - 1, file.len()),
                ),
            };
            let body = &file[from..];
            head(stream, status, &format!("{tag}{more}content-length: {}\r\n", body.len()))?;
            let sent = if let Mischief::Cut(n) = mischief { n.min(body.len()) } else { body.len() };
            (&mut &*stream).write_all(&body[..sent])
        }
    }
}

fn head(mut stream: &TcpStream, status: &str, headers: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n")
}

fn reply(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    head(stream, status, &format!("{headers}content-length: {}\r\n", body.len()))?;
    stream.write_all(body)
}

/// A bundle as a server has it, under `tiny/`.
fn served() -> (TempDir, HashMap<String, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bundle(&dir.path().join("tiny"), 1).unwrap();
    let entries = fs::read_dir(dir.path().join("tiny")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| format!("tiny/{}", path.file_name().unwrap().to_str().unwrap());
    let files = entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
    (dir, files)
}

fn pull(work: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.args(["bundle", "pull"]).args(args).current_dir(work).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_pulled(work: &Path, output: &Output) {
    assert!(output.status.success(), "{}", said(output));
    Bundle::open(&work.join("tiny")).unwrap();
    assert_eq!(left(work), ["tiny"], "nothing lies beside it");
}

/// Refused in one sentence with these words, and nothing installed.
fn assert_refused(work: &Path, output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("captiond: pull: ") && words.iter().all(|word| last.contains(word)), "{said}");
    assert!(!work.join("tiny").exists());
}

fn left(work: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(work)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".toml"))
        .collect();
    names.sort();
    names
}

/// A registry with one bundle, whose files lie at `source`; `None` leaves their hashes out.
fn registry(work: &Path, source: &str, files: &HashMap<String, Vec<u8>>, hashed: bool) -> PathBuf {
    let mut text = format!(
        "format = 1\n[[model]]\nname = \"tiny\"\nabout = \"a test\"\nlicense = \"MIT\"\nkind = \"bundle\"\nsource = \"{source}\"\n"
    );
    let sorted: std::collections::BTreeMap<&String, &Vec<u8>> = files.iter().collect();
    for (path, bytes) in sorted {
        text += &format!("[[model.file]]\npath = \"{}\"\n", path.trim_start_matches("tiny/"));
        if hashed {
            let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("bytes = {}\nsha256 = \"{hex}\"\n", bytes.len());
        }
    }
    let path = work.join("registry.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_bundle_at_an_address_comes_whole_with_its_licence_said() {
    let (dir, files) = served();
    let server = Server::start(files, &[]);
    let work = tempfile::tempdir().unwrap();
    let output = pull(work.path(), &[&server.url("tiny")]);
    assert_pulled(work.path(), &output);
    assert!(said(&output).contains("license: MIT OR Apache-2.0"), "{}", said(&output));
    let id = Bundle::open(&dir.path().join("tiny")).unwrap().id().to_owned();
    assert_eq!(Bundle::open(&work.path().join("tiny")).unwrap().id(), id, "byte for byte");
    let again = pull(work.path(), &[&server.url("tiny")]);
    assert!(said(&again).contains("is there already"), "{}", said(&again));
}

#[test]
fn what_is_cut_off_goes_on_where_it_was() {
    let (_dir, files) = served();
    // The manifest comes whole, the first file in three parts.
    let server = Server::start(files, &[Mischief::None, Mischief::Cut(100), Mischief::Cut(50)]);
    let work = tempfile::tempdir().unwrap();
    let output = pull(work.path(), &[&server.url("tiny")]);
    assert_pulled(work.path(), &output);
    let asked = server.asked();
    let ranges: Vec<Option<&str>> = asked.iter().skip(1).take(3).map(|(_, range)| range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=100-"), Some("bytes=150-")]);
}

#[test]
fn a_pull_that_gave_up_is_taken_up_by_the_next_one() {
    let (_dir, files) = served();
    let mischief = [vec![Mischief::None, Mischief::Cut(64)], vec![Mischief::Status(503); 4]].concat();
    let server = Server::start(files, &mischief);
    let work = tempfile::tempdir().unwrap();
    let output = pull(work.path(), &[&server.url("tiny")]);
    assert_refused(work.path(), &output, &["503", "64 bytes are kept"]);
    let output = pull(work.path(), &[&server.url("tiny")]);
    assert_pulled(work.path(), &output);
    let resumed = server.asked().iter().any(|(_, range)| range.as_deref() == Some("bytes=64-"));
    assert!(resumed, "{:?}", server.asked());
}

#[test]
fn a_file_that_changed_between_two_parts_is_fetched_anew() {
    let (_dir, files) = served();
    let server = Server::start(files, &[Mischief::None, Mischief::Cut(100), Mischief::Changed]);
    let work = tempfile::tempdir().unwrap();
    assert_pulled(work.path(), &pull(work.path(), &[&server.url("tiny")]));
}

#[test]
fn wrong_bytes_are_thrown_away_and_named() {
    let (_dir, files) = served();
    let work = tempfile::tempdir().unwrap();
    let mut wrong = files.clone();
    wrong.get_mut("tiny/decoder.onnx").unwrap()[40] ^= 1;
    let server = Server::start(wrong, &[]);
    let list = registry(work.path(), &server.url("tiny/"), &files, true);
    let output = pull(work.path(), &["tiny", "--registry", list.to_str().unwrap()]);
    assert_refused(work.path(), &output, &["decoder.onnx", "has sha256", "thrown away"]);
    // Once the server has the right bytes, the same command ends well.
    let server = Server::start(files.clone(), &[]);
    let mirror = server.url("");
    let output = pull(work.path(), &["tiny", "--registry", list.to_str().unwrap(), "--mirror", &mirror]);
    assert_pulled(work.path(), &output);
}

#[test]
fn redirects_are_followed_so_far() {
    let (_dir, files) = served();
    let target = Server::start(files.clone(), &[]);
    let to = |path: &str| Mischief::Redirect(target.url(path));
    let server = Server::start(files.clone(), &[to("tiny/manifest.toml")]);
    let work = tempfile::tempdir().unwrap();
    assert_pulled(work.path(), &pull(work.path(), &[&server.url("tiny")]));
    let server = Server::start(files, &vec![Mischief::Redirect("/tiny/manifest.toml".to_owned()); 20]);
    let other = tempfile::tempdir().unwrap();
    let output = pull(other.path(), &[&server.url("tiny")]);
    assert_refused(other.path(), &output, &["too many redirects"]);
}

#[test]
fn a_server_that_drips_is_given_up() {
    let (_dir, files) = served();
    let server = Server::start(files, &vec![Mischief::Drip; 64]);
    let work = tempfile::tempdir().unwrap();
    let output = pull(work.path(), &[&server.url("tiny"), "--patience", "1s"]);
    assert_refused(work.path(), &output, &["it sends", "less than 1024 in 1 s"]);
    // One try and four more, each of which brings a byte or more: no number that hangs on how busy the machine is.
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn no_more_is_taken_than_a_file_may_have() {
    let (_dir, files) = served();
    let server = Server::start(files, &[Mischief::Endless]);
    let work = tempfile::tempdir().unwrap();
    let output = pull(work.path(), &[&server.url("tiny")]);
    assert_refused(work.path(), &output, &["manifest.toml", "more than 262144 bytes"]);
    let (_dir, files) = served();
    let list = registry(work.path(), "http://127.0.0.1:1/tiny/", &files, true);
    let mut longer = files;
    longer.get_mut("tiny/decoder.onnx").unwrap().push(0);
    let server = Server::start(longer, &[]);
    let mirror = server.url("");
    let output = pull(work.path(), &["tiny", "--registry", list.to_str().unwrap(), "--mirror", &mirror]);
    assert_refused(work.path(), &output, &["decoder.onnx", "bytes, not"]);
}

#[test]
fn what_cannot_be_verified_is_said_with_what_came() {
    let (_dir, files) = served();
    let server = Server::start(files.clone(), &[]);
    let work = tempfile::tempdir().unwrap();
    let list = registry(work.path(), &server.url("tiny/"), &files, false);
    let output = pull(work.path(), &["tiny", "--registry", list.to_str().unwrap()]);
    assert_pulled(work.path(), &output);
    let hash: String =
        Sha256::digest(&files["tiny/decoder.onnx"]).iter().map(|b| format!("{b:02x}")).collect();
    let said = said(&output);
    assert!(said.contains("unverified") && said.contains(&hash), "{said}");
}

#[test]
fn offline_takes_a_folder_and_nothing_else() {
    let (dir, files) = served();
    let work = tempfile::tempdir().unwrap();
    let list = registry(work.path(), "http://127.0.0.1:1/tiny/", &files, true);
    let list = list.to_str().unwrap();
    let output = pull(work.path(), &["tiny", "--registry", list, "--offline"]);
    assert_refused(work.path(), &output, &["--offline"]);
    let mirror = dir.path().to_str().unwrap();
    let output = pull(work.path(), &["tiny", "--registry", list, "--offline", "--mirror", mirror]);
    assert_pulled(work.path(), &output);
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let (_dir, files) = served();
    let proxy = Server::start(files, &[]);
    let work = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_captiond"))
        .args(["bundle", "pull", "http://models.invalid/tiny"])
        .env("http_proxy", proxy.url(""))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .current_dir(work.path())
        .output()
        .unwrap();
    assert_pulled(work.path(), &output);
    assert!(proxy.asked().iter().all(|(target, _)| target.starts_with("http://models.invalid/tiny/")));
}

#[test]
fn a_disk_without_room_is_said_before_anything_is_fetched() {
    let work = tempfile::tempdir().unwrap();
    let files: HashMap<String, Vec<u8>> = HashMap::from([("tiny/a.onnx".to_owned(), vec![])]);
    let server = Server::start(files.clone(), &[]);
    let list = registry(work.path(), &server.url("tiny/"), &files, true);
    let text = fs::read_to_string(&list).unwrap().replace("bytes = 0", "bytes = 900000000000000");
    fs::write(&list, text).unwrap();
    let output = pull(work.path(), &["tiny", "--registry", list.to_str().unwrap()]);
    assert_refused(work.path(), &output, &["MB are needed"]);
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn an_unknown_name_is_answered_with_those_that_there_are() {
    let work = tempfile::tempdir().unwrap();
    let output = pull(work.path(), &["clip-vit-b-33"]);
    assert_refused(work.path(), &output, &["clip-vit-b-33", "clip-vit-b-32"]);
    let listed = pull(work.path(), &[]);
    let names = String::from_utf8(listed.stdout.clone()).unwrap();
    assert!(listed.status.success() && names.contains("clip-vit-b-32"), "{names}");
    assert!(names.contains("(unverified)"), "{names}");
}

#[test]
fn an_export_by_its_name_is_imported() {
    let export = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/import/tests/golden/tiny");
    let names = [
        "config.json",
        "preprocessor_config.json",
        "merges.txt",
        "onnx/vision_model.onnx",
        "onnx/text_model.onnx",
    ];
    let files: HashMap<String, Vec<u8>> =
        names.iter().map(|name| (format!("tiny/{name}"), fs::read(export.join(name)).unwrap())).collect();
    let server = Server::start(files.clone(), &[]);
    let work = tempfile::tempdir().unwrap();
    let list = registry(work.path(), &server.url("tiny/"), &files, true);
    let text = fs::read_to_string(&list).unwrap().replace("kind = \"bundle\"", "kind = \"export\"");
    fs::write(&list, text).unwrap();
    let output = pull(work.path(), &["tiny", "--registry", list.to_str().unwrap()]);
    assert_pulled(work.path(), &output);
    assert!(Bundle::open(&work.path().join("tiny")).unwrap().manifest().decoder.is_none());
}
