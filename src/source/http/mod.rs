//! Cameras on the network that speak HTTP: a motion-JPEG stream, or a picture that is fetched again and again. Which of
//! the two an address gives is seen from its answer.
//!
//! The capture thread drives the connection itself, every wait has an end, and nothing larger than a limit is kept: a
//! camera that drips, lies or never stops talking costs one error.

mod auth;
mod multipart;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;
use reqwest::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::runtime::Runtime;

use self::auth::Login;
use self::multipart::Multipart;
use super::credentials::masked;
use super::pixels::decode_mjpg;
use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::config::Secret;
use crate::photo;
use crate::shutdown::Shutdown;

/// From the request to the answer's headers, and from one piece of a picture to its end.
const PATIENCE: Duration = Duration::from_secs(8);
/// Largest picture as it comes.
const PICTURE_BYTES_MAX: usize = 16 << 20;
/// How a PNG begins.
const PNG: &[u8] = b"\x89PNG\r\n";
const REDIRECTS_MAX: usize = 3;

/// Where, as whom, how often.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Without a password.
    pub url: Url,
    pub credentials: Option<(String, Secret)>,
    /// Certificates that are trusted beside those of the system, PEM.
    pub ca_file: Option<PathBuf>,
    /// From one picture that is looked at to the next.
    pub interval: Duration,
}

impl fmt::Display for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} every {}", spoken(&self.url), format_duration(self.interval))
    }
}

/// The address without its query, and without what is secret in its path: some cameras want the password there.
fn spoken(url: &Url) -> String {
    let mut spoken = url.clone();
    if spoken.query().is_some() {
        spoken.set_query(Some("..."));
    }
    spoken.set_fragment(None);
    masked(spoken.as_str())
}

/// A camera that has answered.
pub struct Http {
    runtime: Runtime,
    camera: Remote,
    mode: Mode,
    due: Instant,
}

/// The other end.
struct Remote {
    config: HttpConfig,
    client: Client,
    login: Option<Login>,
    /// What tells the server which picture is known.
    known: HeaderMap,
}

enum Mode {
    /// A picture a request. The last one is kept for the answer that nothing has changed.
    Poll {
        last: Vec<u8>,
    },
    Stream {
        response: Response,
        multipart: Multipart,
    },
}

/// What came of a look at the stream.
enum Piece {
    Picture(Vec<u8>),
    /// The picture is the one before.
    Same,
    Nothing,
}

impl Http {
    /// Asks for the first picture. Blocks up to [`NEXT_MAX`].
    ///
    /// # Errors
    /// When the camera does not answer, refuses, or gives something else than pictures.
    pub fn open(config: &HttpConfig) -> Result<Http, SourceError> {
        let failed = |why: String| fault("ask", config, why);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let client = client(config).map_err(failed)?;
        let login = config.credentials.clone().map(|(user, password)| Login::new(user, password));
        let camera = Remote { config: config.clone(), client, login, known: HeaderMap::new() };
        Ok(Http { runtime, camera, mode: Mode::Poll { last: Vec::new() }, due: Instant::now() })
    }
}

fn client(config: &HttpConfig) -> Result<Client, String> {
    // Whoever was first in this process is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("captiond/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(PATIENCE)
        // A little more than what is waited for here, whose error says more.
        .read_timeout(PATIENCE + Duration::from_secs(1))
        .redirect(redirect::Policy::limited(REDIRECTS_MAX))
        .no_proxy();
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|e| format!("read certificates of {}: {}", path.display(), chain(&e)))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| chain(&e))
}

impl Source for Http {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let until = Instant::now() + NEXT_MAX / 2;
        if matches!(self.mode, Mode::Poll { .. }) {
            let wait = self.due.min(until).saturating_duration_since(Instant::now());
            if shutdown.wait_for(wait) {
                return Ok(Capture::Interrupted);
            }
            if Instant::now() < self.due {
                return Ok(Capture::Nothing);
            }
        }
        let Http { runtime, camera, mode, due } = self;
        let limit = NEXT_MAX - Duration::from_secs(1);
        let Some(piece) = runtime.block_on(ended_by(shutdown, limit, camera.piece(mode, *due))) else {
            return Ok(if shutdown.is_requested() { Capture::Interrupted } else { Capture::Nothing });
        };
        let piece = piece?;
        let taken = Instant::now();
        *due = (*due + camera.config.interval).max(taken);
        Ok(match (piece, mode) {
            (Piece::Picture(bytes), Mode::Poll { last }) => {
                *last = bytes;
                decoded(last, taken, &camera.config)
            }
            (Piece::Picture(bytes), Mode::Stream { .. }) => decoded(&bytes, taken, &camera.config),
            (Piece::Same, Mode::Poll { last }) if !last.is_empty() => decoded(last, taken, &camera.config),
            _ => Capture::Nothing,
        })
    }
}

/// What `work` gives, or none when it takes longer than `limit` or shutdown is requested.
async fn ended_by<T>(shutdown: &Shutdown, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = tokio::time::timeout(limit, work) => done.ok(),
        () = shutdown.requested() => None,
    }
}

fn decoded(bytes: &[u8], taken: Instant, config: &HttpConfig) -> Capture {
    let decoded = if bytes.starts_with(PNG) {
        photo::decode(bytes).map_err(|e| e.to_string())
    } else {
        decode_mjpg(bytes).map_err(|e| e.to_string())
    };
    match decoded {
        Ok(pixels) => Capture::Image(Image {
            pixels,
            file: None,
            captured_at: SystemTime::now(),
            taken,
            decode: taken.elapsed(),
        }),
        Err(why) => Capture::Broken { what: format!("picture of {}", spoken(&config.url)), why },
    }
}

impl Remote {
    /// The next picture that is due. Those of a stream that come too soon are read and let go, so that none is ever
    /// old.
    async fn piece(&mut self, mode: &mut Mode, due: Instant) -> Result<Piece, SourceError> {
        loop {
            let (piece, in_time) = match mode {
                Mode::Poll { .. } => (self.fetch(mode).await?, true),
                Mode::Stream { response, multipart } => {
                    (self.follow(response, multipart).await?, Instant::now() >= due)
                }
            };
            if in_time && !matches!(piece, Piece::Nothing) {
                return Ok(piece);
            }
        }
    }

    /// One request. Turns the mode into a stream when the answer is one.
    async fn fetch(&mut self, mode: &mut Mode) -> Result<Piece, SourceError> {
        let failed = |why: String, config: &HttpConfig| fault("get a picture of", config, why);
        let in_time = tokio::time::timeout(PATIENCE, self.answer()).await;
        let mut response = in_time
            .unwrap_or_else(|_| Err(format!("no answer for {}", format_duration(PATIENCE))))
            .map_err(|why| failed(why, &self.config))?;
        match response.status() {
            StatusCode::NOT_MODIFIED => return Ok(Piece::Same),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let why =
                    if self.login.is_some() { "it refuses the password" } else { "it wants a password" };
                return Err(failed(format!("{why} ({})", response.status()), &self.config));
            }
            status if !status.is_success() => {
                return Err(failed(format!("it answers {status}"), &self.config));
            }
            _ => {}
        }
        let content_type = header(&response, &CONTENT_TYPE);
        if let Some(multipart) = Multipart::of(&content_type, PICTURE_BYTES_MAX) {
            *mode = Mode::Stream { response, multipart };
            return Ok(Piece::Nothing);
        }
        let is_picture = content_type.is_empty()
            || content_type.to_ascii_lowercase().starts_with("image/")
            || content_type.eq_ignore_ascii_case("application/octet-stream");
        if !is_picture {
            let what: String = content_type.chars().take(60).collect();
            return Err(failed(format!("it answers with {what:?} instead of a picture"), &self.config));
        }
        let known = known(&response);
        let bytes = tokio::time::timeout(PATIENCE, body(&mut response))
            .await
            .unwrap_or_else(|_| Err(format!("the picture takes longer than {}", format_duration(PATIENCE))))
            .map_err(|why| failed(why, &self.config))?;
        self.known = known;
        Ok(Piece::Picture(bytes))
    }

    /// The answer to a request, after logging in where that is asked for.
    async fn answer(&mut self) -> Result<Response, String> {
        let response = self.send().await?;
        let Some(login) = &mut self.login else { return Ok(response) };
        if response.status() != StatusCode::UNAUTHORIZED || !login.challenge(response.headers())? {
            return Ok(response);
        }
        self.send().await
    }

    async fn send(&mut self) -> Result<Response, String> {
        let url = self.config.url.clone();
        let mut request = self.client.get(url.clone()).headers(self.known.clone());
        if let Some(value) = self.login.as_mut().and_then(|login| login.header(&url)) {
            request = request.header(reqwest::header::AUTHORIZATION, value?);
        }
        request.send().await.map_err(|e| chain(&e.without_url()))
    }

    /// The next picture of the stream.
    async fn follow(&self, response: &mut Response, multipart: &mut Multipart) -> Result<Piece, SourceError> {
        let failed = |why: String| fault("follow", &self.config, why);
        // Of several pictures that came at once the last is the newest.
        let mut newest = None;
        while let Some(body) = multipart.next_body().map_err(|e| failed(e.to_string()))? {
            newest = Some(body);
        }
        if let Some(body) = newest {
            return Ok(Piece::Picture(body));
        }
        match response.chunk().await {
            Ok(Some(chunk)) => multipart.feed(&chunk),
            Ok(None) => return Err(failed("the stream ended".to_owned())),
            Err(e) => return Err(failed(chain(&e.without_url()))),
        }
        Ok(Piece::Nothing)
    }
}

/// The whole body, which is bounded.
async fn body(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| chain(&e.without_url()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > PICTURE_BYTES_MAX {
            return Err(format!("the picture has more than {PICTURE_BYTES_MAX} bytes"));
        }
    }
    Ok(bytes)
}

/// What the next request says about this picture.
fn known(response: &Response) -> HeaderMap {
    let mut known = HeaderMap::new();
    for (given, asked) in [(&ETAG, IF_NONE_MATCH), (&LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = response.headers().get(given) {
            known.insert(asked, HeaderValue::clone(value));
        }
    }
    known
}

fn header(response: &Response, name: &reqwest::header::HeaderName) -> String {
    let value = response.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

fn fault(operation: &'static str, config: &HttpConfig, why: String) -> SourceError {
    SourceError::Remote { operation, remote: spoken(&config.url), why }
}

/// An error with what caused it: the outermost alone says "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_spoken() {
        let url: Url = "http://camera:8080/snap.jpg?user=admin&pwd=hunter2#x".parse().unwrap();
        let config = HttpConfig {
            url,
            credentials: Some(("admin".to_owned(), Secret::new("hunter2".to_owned()))),
            ca_file: None,
            interval: Duration::from_secs(1),
        };
        assert_eq!(config.to_string(), "http://camera:8080/snap.jpg?... every 1s");
        assert!(!fault("ask", &config, "x".to_owned()).to_string().contains("hunter2"));
    }
}
