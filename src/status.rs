//! What the daemon tells over HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! The least of HTTP/1.1 (RFC 9112) that a scraper needs: one `GET` or `HEAD` a connection, which is closed after the
//! answer. Every length and time is bounded, and what asks is not trusted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::health::Health;
use crate::metrics;
use crate::shutdown::Shutdown;

/// Connections that are answered at a time; others wait in the system's queue.
const CONNECTIONS_MAX: usize = 4;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// From the connection to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After an error of the listener, such as too many open files.
const REST: Duration = Duration::from_secs(1);
/// Without a sign of life for so long the inference thread hangs.
pub const INFERENCE_HANG: Duration = Duration::from_secs(60);

/// Listens, so that an address that is taken is known before anything starts.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until shutdown is requested.
pub async fn serve(listener: TcpListener, health: &Health, shutdown: &Shutdown) {
    let desk = || async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::time::timeout(PATIENCE, answer(stream, health)).await),
                Err(e) => {
                    tracing::debug!(error = %e, "no connection accepted");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    };
    let desks: [_; CONNECTIONS_MAX] = [desk(), desk(), desk(), desk()];
    let [a, b, c, d] = desks;
    tokio::select! {
        () = a => {}
        () = b => {}
        () = c => {}
        () = d => {}
        () = shutdown.requested() => {}
    }
}

async fn answer(mut stream: TcpStream, health: &Health) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let response = match head.as_deref().map(std::str::from_utf8) {
        None => response(431, TEXT, "the head of the request is too long\n"),
        Some(Err(_)) => response(400, TEXT, "the request is no text\n"),
        Some(Ok(head)) => respond(head, health),
    };
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Everything up to the empty line; none where there is too much of it.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1024);
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..n]);
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Some(head));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn respond(head: &str, health: &Health) -> String {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.starts_with("HTTP/1.")) && words.next().is_none();
    let (Some(method), Some(target), true) = (method, target, is_http) else {
        return response(400, TEXT, "no request of HTTP/1.1\n");
    };
    if !["GET", "HEAD"].contains(&method) {
        return response(405, TEXT, "only GET and HEAD are answered\n");
    }
    let path = target.split('?').next().unwrap_or_default();
    let whole = match path {
        "/metrics" => response(200, METRICS, &metrics::exposition(health)),
        "/healthz" => verdict(unhealthy(health)),
        "/readyz" => verdict(unhealthy(health).or_else(|| unready(health))),
        _ => response(404, TEXT, "there are /metrics, /healthz and /readyz\n"),
    };
    match (method, whole.split_once("\r\n\r\n")) {
        ("HEAD", Some((head, _))) => format!("{head}\r\n\r\n"),
        _ => whole,
    }
}

/// Why a restart would help.
fn unhealthy(health: &Health) -> Option<String> {
    let age = health.inference_age();
    (age >= INFERENCE_HANG)
        .then(|| format!("the inference thread gave no sign of life for {} s\n", age.as_secs()))
}

/// Why nobody gets captions now.
fn unready(health: &Health) -> Option<String> {
    let online = health.cameras_online().borrow().clone();
    let names = health.names();
    if !health.is_broker_online() {
        return Some("no connection to the broker\n".to_owned());
    }
    if let Some(why) = health.engine_fault() {
        return Some(format!("degraded: {why}\n"));
    }
    let is_any_up = names.is_empty() || names.iter().any(|(camera, _)| online[*camera]);
    (!is_any_up).then(|| "no camera is up\n".to_owned())
}

fn verdict(trouble: Option<String>) -> String {
    match trouble {
        None => response(200, TEXT, "ok\n"),
        Some(why) => response(503, TEXT, &why),
    }
}

fn response(status: u16, content_type: &str, body: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str, health: &Health) -> String {
        let response = respond(&format!("{request}\r\nHost: x\r\n\r\n"), health);
        response.split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn answers_what_it_knows_and_refuses_the_rest() {
        let health = Health::new(1, None);
        for (request, expected) in [
            ("GET /metrics HTTP/1.1", "200"),
            ("GET /metrics?x=1 HTTP/1.0", "200"),
            ("HEAD /healthz HTTP/1.1", "200"),
            ("GET / HTTP/1.1", "404"),
            ("POST /metrics HTTP/1.1", "405"),
            ("GET /metrics", "400"),
            ("GET /metrics HTTP/1.1 more", "400"),
            ("GET /metrics HTTP/2", "400"),
            ("", "400"),
        ] {
            assert_eq!(status(request, &health), expected, "{request}");
        }
        let head = respond("HEAD /metrics HTTP/1.1\r\n\r\n", &health);
        assert!(head.ends_with("\r\n\r\n") && !head.contains("captiond_"), "{head}");
    }

    #[test]
    fn it_is_ready_with_a_broker_and_a_camera() {
        let health = Health::new(2, None);
        health.name_camera(0, Some("yard"));
        let ready = || status("GET /readyz HTTP/1.1", &health);
        assert_eq!(ready(), "503");
        health.set_broker_online(true);
        assert_eq!(ready(), "503");
        health.set_camera_online(0, true);
        assert_eq!(ready(), "200");
        assert_eq!(status("GET /healthz HTTP/1.1", &health), "200");
    }
}
