//! A program that writes pictures to its standard output: ffmpeg, gst-launch, rpicam-vid and the like. The way to every
//! camera and video file that such a program can read, with nothing to build.
//!
//! The capture thread reads as fast as the program writes, so that a picture is never old, and decodes what is due.

use std::collections::VecDeque;
use std::fmt;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;
use image::RgbImage;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::runtime::Runtime;

use super::credentials::{secrets_of, without};
use super::jpeg_stream::JpegSplitter;
use super::pixels::decode_mjpg;
use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::shutdown::Shutdown;

/// Largest picture as it comes.
const PICTURE_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 256 << 10;
/// What is kept of the program's complaints, for the error that says why it ended.
const LINES_MAX: usize = 3;
const LINE_CHARS_MAX: usize = 200;
/// A program that was asked to end gets so long.
const END_GRACE: Duration = Duration::from_secs(2);

/// Which program, what it writes, how often a picture is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeConfig {
    /// The program and its arguments; no shell is between.
    pub command: Vec<String>,
    pub format: PipeFormat,
    pub interval: Duration,
}

/// What comes out of the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeFormat {
    /// JPEGs one after the other.
    Mjpeg,
    /// Rows of red, green, blue bytes without padding.
    Rgb24 { width: u32, height: u32 },
}

impl fmt::Display for PipeConfig {
    /// The program alone: arguments hold addresses, and those hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = format_duration(self.interval);
        match self.format {
            PipeFormat::Mjpeg => write!(f, "motion JPEG of the program {} every {interval}", self.program()),
            PipeFormat::Rgb24 { width, height } => {
                write!(f, "{width}x{height} of the program {} every {interval}", self.program())
            }
        }
    }
}

impl PipeConfig {
    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// A running program.
pub struct Pipe {
    runtime: Runtime,
    config: PipeConfig,
    program: Program,
    pictures: Pictures,
    due: Instant,
}

struct Program {
    child: Child,
    stdout: ChildStdout,
    stderr: tokio::io::Lines<BufReader<ChildStderr>>,
    /// Its last words, without secrets.
    said: VecDeque<String>,
    /// What its arguments hold that is not to be printed: programs repeat the address that they were given.
    secrets: Vec<String>,
}

/// Whole pictures out of the bytes.
enum Pictures {
    Jpeg(JpegSplitter),
    Raw { width: u32, height: u32, bytes: Vec<u8> },
}

impl Pipe {
    /// Starts the program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open(config: &PipeConfig) -> Result<Pipe, SourceError> {
        let failed = |why: String| fault("start", config, why);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let guard = runtime.enter();
        let mut command = Command::new(config.program());
        command
            .args(config.command.iter().skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A shell that was started has children of its own, which must end with it.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = pipes.ok_or_else(|| failed("it has no output".to_owned()))?;
        drop(guard);
        let pictures = match config.format {
            PipeFormat::Mjpeg => Pictures::Jpeg(JpegSplitter::new(PICTURE_BYTES_MAX)),
            PipeFormat::Rgb24 { width, height } => Pictures::Raw { width, height, bytes: Vec::new() },
        };
        let stderr = BufReader::new(stderr).lines();
        let secrets = secrets_of(&config.command);
        let program = Program { child, stdout, stderr, said: VecDeque::new(), secrets };
        Ok(Pipe { runtime, config: config.clone(), program, pictures, due: Instant::now() })
    }
}

impl Source for Pipe {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let until = Instant::now() + NEXT_MAX / 2;
        let Pipe { runtime, config, program, pictures, due } = self;
        let mut chunk = vec![0; READ_BYTES];
        runtime.block_on(async {
            loop {
                if let Some(decoded) = pictures.newest(*due) {
                    let taken = Instant::now();
                    *due = (*due + config.interval).max(taken);
                    return Ok(decoded);
                }
                tokio::select! {
                    read = program.stdout.read(&mut chunk) => match read {
                        Ok(n) if n > 0 => pictures.feed(&chunk[..n]),
                        Ok(_) => return Err(fault("read", config, program.epitaph().await)),
                        Err(e) => return Err(fault("read", config, e.to_string())),
                    },
                    Ok(Some(line)) = program.stderr.next_line() => program.note(&line),
                    () = shutdown.requested() => return Ok(Capture::Interrupted),
                    () = tokio::time::sleep_until(until.into()) => return Ok(Capture::Nothing),
                }
            }
        })
    }
}

impl Program {
    fn note(&mut self, line: &str) {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        // Before it is cut: the rest of a secret would not be known for one.
        let line: String = without(&line, &self.secrets).chars().take(LINE_CHARS_MAX).collect();
        if !line.is_empty() {
            self.said.push_back(line);
        }
        if self.said.len() > LINES_MAX {
            self.said.pop_front();
        }
    }

    /// How it ended, and what it said.
    async fn epitaph(&mut self) -> String {
        let rest = async {
            while let Ok(Some(line)) = self.stderr.next_line().await {
                self.note(&line);
            }
            self.child.wait().await
        };
        let ended = match tokio::time::timeout(END_GRACE, rest).await {
            Ok(Ok(status)) => format!("the program ended with {status}"),
            Ok(Err(e)) => format!("the program ended: {e}"),
            Err(_) => "the program closed its output".to_owned(),
        };
        let said: Vec<&str> = self.said.iter().map(String::as_str).collect();
        if said.is_empty() { ended } else { format!("{ended}, and said: {}", said.join(" / ")) }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // The group, not the program alone; then the program is reaped, or it would stay as a zombie.
        if let Some(id) = self.program.child.id().and_then(|id| i32::try_from(id).ok())
            && let Some(group) = rustix::process::Pid::from_raw(id)
            && let Err(e) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
        {
            tracing::debug!(program = self.config.program(), error = %e, "program was not there to be ended");
        }
        let _guard = self.runtime.enter();
        let reaped = self.runtime.block_on(tokio::time::timeout(END_GRACE, self.program.child.wait()));
        if reaped.is_err() {
            tracing::warn!(program = self.config.program(), "program did not end");
        }
    }
}

impl Pictures {
    fn feed(&mut self, chunk: &[u8]) {
        match self {
            Pictures::Jpeg(splitter) => splitter.feed(chunk),
            Pictures::Raw { bytes, .. } => bytes.extend_from_slice(chunk),
        }
    }

    /// The newest whole picture once one is due; older ones are let go.
    fn newest(&mut self, due: Instant) -> Option<Capture> {
        let is_due = Instant::now() >= due;
        match self {
            Pictures::Jpeg(splitter) => {
                let mut newest = None;
                loop {
                    match splitter.next_picture() {
                        Ok(Some(picture)) => newest = Some(picture),
                        Ok(None) => break,
                        Err(e) => return Some(broken(e.to_string())),
                    }
                }
                let picture = newest.filter(|_| is_due)?;
                let taken = Instant::now();
                Some(match decode_mjpg(&picture) {
                    Ok(pixels) => shown(pixels, taken),
                    Err(e) => broken(e.to_string()),
                })
            }
            Pictures::Raw { width, height, bytes } => {
                let length = (*width as usize) * (*height as usize) * 3;
                let n_whole = bytes.len() / length.max(1);
                let end = n_whole.checked_sub(1)?.saturating_add(1) * length;
                let taken = Instant::now();
                let newest = is_due.then(|| bytes[end - length..end].to_vec());
                bytes.drain(..end);
                let pixels = RgbImage::from_raw(*width, *height, newest?)?;
                Some(shown(pixels, taken))
            }
        }
    }
}

fn shown(pixels: RgbImage, taken: Instant) -> Capture {
    let captured_at = SystemTime::now();
    Capture::Image(Image { pixels, file: None, captured_at, taken, decode: taken.elapsed() })
}

fn broken(why: String) -> Capture {
    Capture::Broken { what: "picture".to_owned(), why }
}

fn fault(operation: &'static str, config: &PipeConfig, why: String) -> SourceError {
    SourceError::Remote { operation, remote: config.program().to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/cat.jpg");

    fn pipe(command: &[&str], format: PipeFormat) -> Result<Pipe, SourceError> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Pipe::open(&PipeConfig { command, format, interval: Duration::from_millis(1) })
    }

    fn first(pipe: &mut Pipe) -> Result<Capture, SourceError> {
        loop {
            match pipe.next(&Shutdown::new())? {
                Capture::Nothing => {}
                other => return Ok(other),
            }
        }
    }

    #[test]
    fn reads_motion_jpeg_and_says_how_the_program_ended() {
        let script = format!("cat {CAT} {CAT}; echo 'cannot open rtsp://me:secret@camera/x' >&2; exit 3");
        let mut pipe = pipe(&["sh", "-c", &script], PipeFormat::Mjpeg).unwrap();
        let Capture::Image(image) = first(&mut pipe).unwrap() else { panic!("no picture") };
        assert_eq!(image.pixels.dimensions(), (451, 300));
        let e = loop {
            if let Err(e) = first(&mut pipe) {
                break e.to_string();
            }
        };
        assert!(e.contains("ended with exit status: 3") && e.contains("rtsp://…@camera/x"), "{e}");
        assert!(!e.contains("secret"));
    }

    #[test]
    fn reads_raw_pixels() {
        let format = PipeFormat::Rgb24 { width: 2, height: 1 };
        let mut pipe = pipe(&["sh", "-c", "printf 'abcdefABC'; exec sleep 600"], format).unwrap();
        let Capture::Image(image) = first(&mut pipe).unwrap() else { panic!("no picture") };
        assert_eq!(image.pixels.into_raw(), b"abcdef");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let e = pipe(&["no-such-program"], PipeFormat::Mjpeg).err().unwrap();
        assert!(e.to_string().starts_with("start no-such-program: "), "{e}");
    }

    #[test]
    fn a_silent_program_does_not_hold_the_thread_and_ends_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("child");
        let script = format!("sh -c 'echo $$ > {}; exec sleep 600' & wait", fifo.display());
        let mut pipe = pipe(&["sh", "-c", &script], PipeFormat::Mjpeg).unwrap();
        let shutdown = Shutdown::new();
        let child = loop {
            let id = std::fs::read_to_string(&fifo).unwrap_or_default();
            if id.ends_with('\n') {
                break id.trim().to_owned();
            }
            std::thread::yield_now();
        };
        shutdown.request();
        assert!(matches!(pipe.next(&shutdown), Ok(Capture::Interrupted)));
        drop(pipe);
        let proc = std::path::Path::new("/proc").join(child).join("stat");
        // Gone, or a zombie that nobody has reaped yet.
        let is_gone = || std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z"));
        while !is_gone() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn arguments_are_not_spoken() {
        let command = vec!["ffmpeg".to_owned(), "rtsp://me:secret@camera".to_owned()];
        let config = PipeConfig { command, format: PipeFormat::Mjpeg, interval: Duration::from_secs(1) };
        assert_eq!(config.to_string(), "motion JPEG of the program ffmpeg every 1s");
    }
}
