//! One file after another over HTTP: resumed after a cut, bounded in size and in how slow a server may be.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, redirect};
use tokio::runtime::Runtime;

const REDIRECTS_MAX: usize = 5;
/// Tries in a row that bring next to nothing.
const TRIES_MAX: u32 = 4;
/// Between two of them, times their number.
const PAUSE: Duration = Duration::from_millis(500);
/// Least bytes that a server must send for each time of the patience.
const LEAST: u64 = 1024;
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// A client and what drives it.
pub(super) struct Downloads {
    runtime: Runtime,
    client: Client,
    patience: Duration,
    say: fn(&str),
}

/// How a try ended, other than well.
enum Stopped {
    /// The connection broke or the server was busy: the rest may come with the next try.
    Cut(anyhow::Error),
    /// Nothing will be otherwise the next time.
    Refused(anyhow::Error),
}

impl Downloads {
    /// Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    pub(super) fn open(patience: Duration, say: fn(&str)) -> Result<Downloads> {
        // Whoever was first in this process is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let safe = redirect::Policy::custom(|attempt| {
            let left = |from: &reqwest::Url| from.scheme() == "https" && attempt.url().scheme() != "https";
            if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error("too many redirects")
            } else if attempt.previous().last().is_some_and(left) {
                attempt.error("a redirect from https to http")
            } else {
                attempt.follow()
            }
        });
        let client = Client::builder()
            .user_agent(concat!("captiond/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience)
            .read_timeout(patience)
            .redirect(safe)
            .build()
            .context("set up HTTP")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Downloads { runtime, client, patience, say })
    }

    /// Fetches `url` to the file `to`, of `bytes` bytes if that is known, else at most `most`. `hashed` says that its
    /// bytes will be compared with a hash. Blocks.
    ///
    /// # Errors
    /// When several tries in a row bring next to nothing, or the server refuses; what has come stays beside `to`.
    pub(super) fn file(&self, url: &str, to: &Path, size: Size, hashed: bool) -> Result<()> {
        let part = beside(to, ".part");
        let mut tries = 0;
        loop {
            let (before, started) = (length(&part), Instant::now());
            match self.runtime.block_on(self.part(url, &part, size, hashed)) {
                Ok(()) => break,
                Err(Stopped::Refused(e)) => return Err(e.context(format!("fetch {url}"))),
                Err(Stopped::Cut(e)) => {
                    // A byte a try is no progress, or a server that drips would be asked for ever.
                    let came = length(&part).saturating_sub(before);
                    let is_slow = is_slow(came, started.elapsed(), self.patience);
                    tries = if is_slow { tries + 1 } else { 1 };
                    if tries > TRIES_MAX {
                        let kept = length(&part);
                        return Err(e.context(format!("fetch {url} ({kept} bytes are kept)")));
                    }
                    (self.say)(&format!("{url}: {e:#}; again after {} bytes", length(&part)));
                    std::thread::sleep(PAUSE * tries);
                }
            }
        }
        fs::rename(&part, to).with_context(|| format!("move {} to {}", part.display(), to.display()))?;
        // Without the part its tag means nothing; that it is gone already is as good.
        drop(fs::remove_file(beside(&part, ".etag")));
        Ok(())
    }

    /// One request for what is missing of a part.
    async fn part(&self, url: &str, part: &Path, size: Size, hashed: bool) -> Result<(), Stopped> {
        let tag_file = beside(part, ".etag");
        let tag = fs::read_to_string(&tag_file).unwrap_or_default();
        // Without a tag nobody knows whether the rest belongs to what is there, unless a hash will tell.
        let mut have = if hashed || !tag.is_empty() { length(part) } else { 0 };
        let mut request = self.client.get(url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
            if !tag.is_empty() {
                request = request.header(IF_RANGE, &tag);
            }
        }
        let response = request.send().await.map_err(|e| unsent(&e))?;
        let status = response.status();
        match status {
            StatusCode::PARTIAL_CONTENT if have > 0 && begins_at(&response, have) => {}
            StatusCode::OK => have = 0,
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                drop(fs::remove_file(part));
                return Err(Stopped::Cut(anyhow!("it has nothing after byte {have}")));
            }
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Stopped::Cut(anyhow!("it answers {status}")));
            }
            _ => return Err(Stopped::Refused(anyhow!("it answers {status}"))),
        }
        let Size { bytes, most } = size;
        let limit = bytes.unwrap_or(most);
        let whole = response.content_length().map(|rest| rest + have);
        if let Some(whole) =
            whole.filter(|whole| *whole > limit || bytes.is_some_and(|bytes| bytes != *whole))
        {
            let expected = if bytes.is_some() { "not" } else { "more than" };
            return Err(Stopped::Refused(anyhow!("it has {whole} bytes, {expected} {limit}")));
        }
        let found = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        // A weak tag is not for ranges (RFC 9110, 13.1.5).
        let strong = if found.starts_with("W/") { "" } else { found };
        let kept = |e: std::io::Error| Stopped::Refused(anyhow!("write {}: {e}", part.display()));
        fs::write(&tag_file, strong).map_err(kept)?;
        let file = OpenOptions::new().create(true).append(true).open(part).map_err(kept)?;
        file.set_len(have).map_err(kept)?;
        self.body(response, file, have, Size { bytes, most: limit }, url).await
    }

    async fn body(
        &self,
        mut response: Response,
        mut file: File,
        mut have: u64,
        Size { bytes, most }: Size,
        url: &str,
    ) -> Result<(), Stopped> {
        let mut said = Instant::now();
        let (mut window, mut before) = (Instant::now(), have);
        loop {
            let piece = response.chunk().await.map_err(|e| Stopped::Cut(anyhow!("{}", chain(&e))))?;
            let Some(piece) = piece else { break };
            have += piece.len() as u64;
            if have > most {
                return Err(Stopped::Refused(anyhow!("it sends more than {most} bytes")));
            }
            file.write_all(&piece).map_err(|e| Stopped::Refused(anyhow!("write: {e}")))?;
            if window.elapsed() >= self.patience {
                let (came, within) = (have - before, window.elapsed());
                if is_slow(came, within, self.patience) {
                    let (within, patience) = (within.as_secs_f32(), self.patience.as_secs_f32());
                    let why =
                        format!("it sends {came} bytes in {within:.1} s, less than {LEAST} in {patience} s");
                    return Err(Stopped::Cut(anyhow!(why)));
                }
                (window, before) = (Instant::now(), have);
            }
            if said.elapsed() >= PROGRESS_EVERY {
                said = Instant::now();
                let of = bytes.map_or(String::new(), |bytes| format!(" of {:.1}", bytes as f64 / 1e6));
                (self.say)(&format!("{url}: {:.1}{of} MB", have as f64 / 1e6));
            }
        }
        file.sync_all().map_err(|e| Stopped::Refused(anyhow!("write: {e}")))?;
        match bytes {
            Some(bytes) if have < bytes => {
                Err(Stopped::Cut(anyhow!("it ended after {have} of {bytes} bytes")))
            }
            _ => Ok(()),
        }
    }
}

/// What a file may hold.
#[derive(Clone, Copy)]
pub(super) struct Size {
    /// What it must have, if that is known.
    pub(super) bytes: Option<u64>,
    /// What it may have at most.
    pub(super) most: u64,
}

/// Whether so many bytes in that time are less than [`LEAST`] for each time of the patience in it, or for one.
///
/// A rate and no number, so that what lay in buffers while this process had to wait makes no slow server a fast one.
fn is_slow(bytes: u64, within: Duration, patience: Duration) -> bool {
    let times = within.as_secs_f64() / patience.as_secs_f64().max(f64::MIN_POSITIVE);
    (bytes as f64) < LEAST as f64 * times.max(1.0)
}

/// Whether a request that could not be sent may fare better the next time.
fn unsent(e: &reqwest::Error) -> Stopped {
    let why = anyhow!("{}", chain(e));
    if e.is_redirect() || e.is_builder() { Stopped::Refused(why) } else { Stopped::Cut(why) }
}

fn chain(e: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(e.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(e.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

fn begins_at(response: &Response, byte: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {byte}-")))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_slow_by_its_rate_however_long_nobody_looked() {
        let second = Duration::from_secs(1);
        for stalled in [1, 10, 3600] {
            let within = second * stalled;
            assert!(is_slow(20 * u64::from(stalled), within, second), "20 bytes a second");
            assert!(!is_slow(2 * LEAST * u64::from(stalled), within, second), "twice what it must");
        }
        assert!(is_slow(LEAST - 1, Duration::ZERO, second), "a short try must bring as much as a window");
        assert!(!is_slow(LEAST, Duration::ZERO, second));
    }
}
