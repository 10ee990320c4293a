//! HTTP servers: a real one, and one that says whatever a test wants, byte for byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use super::server::free_port;
use super::{find, skipped, wait_until};

/// What the scripted server does next on a connection, which it closes after the last step.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// One byte every tenth of a second, for ever.
    Drip(u8),
    /// As much as the other end takes.
    Flood(u8),
    /// Says nothing more.
    Hang,
}

/// A server that plays the script of the nth connection, or the last one.
pub struct Scripted {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub fn start(scripts: Vec<Vec<Step>>) -> Scripted {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for (n, stream) in listener.incoming().enumerate() {
                    if end.load(Relaxed) {
                        return;
                    }
                    let script = scripts[n.min(scripts.len() - 1)].clone();
                    let end = &end;
                    scope.spawn(move || play(stream.unwrap(), &script, end));
                }
            });
        });
        Scripted { port, ended, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/x", self.port)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn play(mut stream: TcpStream, script: &[Step], end: &AtomicBool) {
    let tick = Duration::from_millis(100);
    stream.set_read_timeout(Some(tick)).unwrap();
    stream.set_write_timeout(Some(tick)).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            Err(_) if !end.load(Relaxed) => {}
            _ => return,
        }
    }
    for step in script {
        match step {
            Step::Send(bytes) => drop(stream.write_all(bytes)),
            Step::Drip(byte) => {
                while !end.load(Relaxed) && stream.write_all(&[*byte]).is_ok() {
                    std::thread::sleep(tick);
                }
            }
            Step::Flood(byte) => {
                let chunk = vec![*byte; 64 << 10];
                while !end.load(Relaxed) && stream.write_all(&chunk).is_ok() {}
            }
            Step::Hang => while !end.load(Relaxed) && stream.read(&mut [0]).map_or(true, |n| n > 0) {},
        }
    }
}

/// An answer with a body of known length.
pub fn answer(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A real lighttpd that serves a folder: `/open`, `/basic` and `/digest` (user `me`, password `hunter2`).
pub struct Lighttpd {
    child: Child,
    pub port: u16,
    pub dir: tempfile::TempDir,
}

impl Lighttpd {
    /// With TLS it speaks nothing else, with a certificate that `ca.pem` in its folder has signed.
    pub fn start(tls: bool) -> Option<Lighttpd> {
        let Some(executable) = find("lighttpd") else {
            skipped("lighttpd is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        for folder in ["open", "basic", "digest"] {
            std::fs::create_dir_all(dir.path().join("www").join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("plain.txt"), "me:hunter2\n").unwrap();
        if tls && !certificates(dir.path()) {
            skipped("openssl is not installed");
            return None;
        }
        (0..5).find_map(|_| launch(&executable, dir.path(), free_port(), tls)).map(|(child, port)| Lighttpd {
            child,
            port,
            dir,
        })
    }

    /// Puts a file under every folder.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        for folder in ["open", "basic", "digest"] {
            std::fs::write(self.dir.path().join("www").join(folder).join(name), bytes).unwrap();
        }
    }
}

impl Drop for Lighttpd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn launch(executable: &Path, dir: &Path, port: u16, tls: bool) -> Option<(Child, u16)> {
    let at = dir.display();
    let tls = if tls {
        format!(
            "server.modules += (\"mod_openssl\")\nssl.engine = \"enable\"\nssl.pemfile = \"{at}/server.pem\"\n"
        )
    } else {
        String::new()
    };
    let text = format!(
        "server.modules = (\"mod_auth\", \"mod_authn_file\")\n\
         server.document-root = \"{at}/www\"\nserver.port = {port}\nserver.bind = \"127.0.0.1\"\n\
         mimetype.assign = (\".jpg\" => \"image/jpeg\", \".png\" => \"image/png\", \".html\" => \"text/html\")\n\
         auth.backend = \"plain\"\nauth.backend.plain.userfile = \"{at}/plain.txt\"\n\
         auth.require = (\n\
         \"/basic\" => (\"method\" => \"basic\", \"realm\" => \"camera\", \"require\" => \"valid-user\"),\n\
         \"/digest\" => (\"method\" => \"digest\", \"realm\" => \"camera\", \"require\" => \"valid-user\"))\n{tls}"
    );
    std::fs::write(dir.join("lighttpd.conf"), text).unwrap();
    let mut child = Command::new(executable)
        .args(["-D", "-f"])
        .arg(dir.join("lighttpd.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ended = false;
    wait_until("lighttpd listens", || {
        ended = child.try_wait().unwrap().is_some();
        ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    (!ended).then_some((child, port))
}

/// `ca.pem`, and `server.pem` with key and certificate for 127.0.0.1.
pub fn certificates(dir: &Path) -> bool {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem \
                  -addext basicConstraints=critical,CA:TRUE && \
                  openssl req -newkey rsa:2048 -nodes -subj /CN=camera -keyout server.key -out server.csr && \
                  printf 'subjectAltName=IP:127.0.0.1\\n' > ext && \
                  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                  -extfile ext -out server.crt && cat server.key server.crt > server.pem";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
