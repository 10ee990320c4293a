//! No line that the daemon writes holds a secret, not even at `trace`, whatever its brokers and cameras do to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{Rng, SeedableRng};

use crate::support::http::{Scripted, Step};
use crate::support::{shipped_bundle, skipped, wait_until};

/// Secrets of every kind that passwords are made of; each that was made is looked for.
struct Secrets {
    random: rand_chacha::ChaCha8Rng,
    made: Vec<String>,
}

impl Secrets {
    /// Of these letters, and long enough to be nowhere by accident.
    fn make(&mut self, letters: &str) -> String {
        let letters: Vec<char> = letters.chars().collect();
        let secret: String = (0..16).map(|_| letters[self.random.random_range(0..letters.len())]).collect();
        self.made.push(secret.clone());
        secret
    }

    fn word(&mut self) -> String {
        self.make("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789")
    }

    /// For a query: with letters that end a word elsewhere.
    fn token(&mut self) -> String {
        format!("{}_{}/{}", self.word(), self.word(), self.word())
    }

    /// For an address, where some letters stand encoded, and as it is sent.
    fn password(&mut self) -> String {
        let plain = self.make("abcdefghjkmnpqrstuvwxyz@:/ ");
        let encoded: String = plain.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.made.extend([encoded.clone(), base64(format!("me:{plain}").as_bytes())]);
        encoded
    }

    fn assert_none_in(&self, text: &str, what: &str) {
        for line in text.lines() {
            for secret in &self.made {
                assert!(!line.contains(secret), "{what} holds {secret}:\n{line}");
            }
        }
    }
}

/// As `Authorization: Basic` has it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextets = |chunk: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        (0..=chunk.len())
            .map(|i| char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]))
            .collect::<String>()
    };
    bytes.chunks(3).map(sextets).collect()
}

/// A broker that refuses everybody, in both versions of the protocol. Ends with the process.
fn refusing_broker() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut connect = [0; 1024];
            let n = stream.read(&mut connect).unwrap_or_default();
            // Behind the name "MQTT" stands the version.
            let is_v5 = connect[..n].windows(5).any(|bytes| bytes == b"MQTT\x05");
            drop(stream.write_all(if is_v5 { &[0x20, 3, 0, 0x87, 0] } else { &[0x20, 2, 0, 5] }));
        }
    });
    port
}

fn says(head: &str) -> Vec<Step> {
    let text = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    vec![Step::Send(text.into_bytes())]
}

/// Cameras with a secret in every place that can hold one, and what they are told.
fn cameras(secrets: &mut Secrets, dir: &Path) -> (String, Vec<Scripted>) {
    let redirect = says(&format!("302 Found\r\nLocation: /y?token={}", secrets.token()));
    let servers = vec![
        Scripted::start(vec![says("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"")]),
        Scripted::start(vec![says("401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"n\"")]),
        Scripted::start(vec![redirect]),
        Scripted::start(vec![says("200 OK\r\nContent-Type: text/html")]),
        Scripted::start(vec![vec![Step::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n".to_vec(),
        )]]),
    ];
    let mut sources = Vec::new();
    for server in &servers {
        let host = server.url().replace("http://", "").replace("/x", "");
        let (password, token, in_path) = (secrets.password(), secrets.token(), secrets.word());
        let url = format!("http://me:{password}@{host}/token={in_path}/x?n=1&token={token}#f");
        sources.push(format!(r#"type = "http", url = "{url}", interval = "100ms""#));
    }
    let port = crate::support::server::free_port();
    let name = format!("camera-password-{port}");
    std::fs::write(dir.join(&name), secrets.word()).unwrap();
    let token = secrets.token();
    sources.push(format!(
        r#"type = "http", url = "https://127.0.0.1:{port}/x?pwd={token}", username = "me", password_file = "{name}""#
    ));
    let (password, token, bearer, word) =
        (secrets.password(), secrets.token(), secrets.word(), secrets.word());
    let long = "x".repeat(150);
    sources.push(format!(
        r#"type = "pipe", command = ["sh", "-c", "echo \"{long} $0 failed\" >&2; echo \"$1: $0\" >&2; exit 3", "rtsp://me:{password}@cam/x?token={token}", "Authorization: Bearer {bearer}"]"#
    ));
    sources.push(format!(r#"type = "pipe", command = ["/nonexistent/program", "--password={word}"]"#));
    if cfg!(feature = "rtsp") {
        let (password, token) = (secrets.password(), secrets.token());
        sources
            .push(format!(r#"type = "rtsp", url = "rtsp://me:{password}@127.0.0.1:{port}/x?token={token}""#));
    }
    let camera = |(i, source)| format!("[[camera]]\nname = \"c{i}\"\nsource = {{ {source} }}\n");
    (sources.into_iter().enumerate().map(camera).collect(), servers)
}

#[test]
fn no_secret_is_in_the_log_when_brokers_and_cameras_refuse() {
    let Some(bundle) = shipped_bundle() else { return skipped("the shipped bundle is not there") };
    for (seed, protocol) in [(1, "5"), (2, "3.1.1")] {
        let mut secrets = Secrets { random: rand_chacha::ChaCha8Rng::seed_from_u64(seed), made: Vec::new() };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), secrets.word()).unwrap();
        let (cameras, _servers) = cameras(&mut secrets, dir.path());
        let text = format!(
            "bundle = \"{}\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nprotocol = \"{protocol}\"\nusername = \"me\"\n\
             password_file = \"password\"\nhomie = true\n{cameras}",
            bundle.display(),
            refusing_broker()
        );
        let file = dir.path().join("captiond.toml");
        std::fs::write(&file, text).unwrap();
        let captiond = |command: &str| {
            let mut process = Command::new(env!("CARGO_BIN_EXE_captiond"));
            process.args(["--log", "trace", command, "--config"]).arg(&file);
            process
        };
        let output = captiond("check").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for stream in [&output.stdout, &output.stderr] {
            secrets.assert_none_in(&String::from_utf8_lossy(stream), "check");
        }
        let log = dir.path().join("log");
        let both = std::fs::File::create(&log).unwrap();
        let mut child = captiond("run").stdout(both.try_clone().unwrap()).stderr(both).spawn().unwrap();
        let n_cameras = cameras.matches("[[camera]]").count();
        let said = || std::fs::read_to_string(&log).unwrap();
        wait_until("every camera and the broker have failed", || {
            let said = said();
            let is_lost =
                |line: &str, i| line.contains("camera lost") && line.contains(&format!("camera=\"c{i}\""));
            said.contains("no broker, retrying")
                && (0..n_cameras).all(|i| said.lines().any(|line| is_lost(line, i)))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        secrets.assert_none_in(&said(), "the log");
    }
}

#[test]
fn no_secret_is_in_what_is_said_of_a_wrong_configuration() {
    let mut secrets = Secrets { random: rand_chacha::ChaCha8Rng::seed_from_u64(3), made: Vec::new() };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("captiond.toml");
    let camera = |source: String| format!("[[camera]]\nname = \"c\"\nsource = {{ {source} }}\n");
    let mut url =
        |scheme: &str| format!("{scheme}://me:{}@cam/x?token={}", secrets.password(), secrets.token());
    let mut texts = vec![
        camera(format!("type = \"http\", url = \"{}", url("http"))),
        camera(format!("type = \"http\", url = \"{}\", speed = 7", url("ftp"))),
        camera(format!("type = \"http\", url = \"{}\", interval = \"never\"", url("http"))),
        camera(format!("type = \"http\", url = \"{}\", username = \"you\"", url("http"))),
        camera(format!("type = \"rtsp\", url = \"{}\"", url("http"))),
        camera(format!("type = \"pipe\", command = \"ffmpeg -i {}\"", url("rtsp"))),
        camera(format!("type = \"gstreamer\", pipeline = [\"{}\"]", url("rtsp"))),
    ];
    texts.push(format!("[mqtt]\nusername = \"me\"\npassword = \"{}\"\n", secrets.word()));
    texts.push(format!("[mqtt]\nusername = \"me\"\npassword = {}\n", secrets.word()));
    for text in texts {
        std::fs::write(&file, &text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_captiond"))
            .args(["--log", "trace", "run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}");
        for stream in [&output.stdout, &output.stderr] {
            secrets.assert_none_in(&String::from_utf8_lossy(stream), "the complaint");
        }
    }
}
