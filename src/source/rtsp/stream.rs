//! One session with a camera: from the request for its stream to decoded frames.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_core::Stream as _;
use humantime::format_duration;
use image::RgbImage;
use retina::client::{
    Credentials, Demuxed, Described, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions,
    TcpTransportOptions, UdpTransportOptions,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame, VideoParametersCodec};
use tokio::time::timeout;

use super::h264::Decoder;
use super::pace::{Coded, Pace, Step};
use super::{Failure, RtspConfig, Transport};
use crate::photo;
use crate::source::{Capture, Image};

/// A stream without an image for so long, beyond the interval, has no keyframes. A new session begins
/// with one.
const KEYFRAME_MAX: Duration = Duration::from_secs(60);
/// Keyframes in a row that cannot be decoded before the stream is given up.
const BROKEN_MAX: u32 = 5;

/// A session that plays.
pub(super) struct Stream {
    demuxed: Demuxed,
    /// Index of the video among the streams of the session.
    video: usize,
    codec: Codec,
    pace: Pace,
    silence: Duration,
    /// When the last frame came, decoded or not.
    heard: Instant,
    /// When the last image was decoded, or the session began.
    seen: Instant,
    /// How long there may be none.
    unseen_max: Duration,
    n_broken: u32,
}

/// When a coded frame was complete.
#[derive(Clone, Copy)]
struct Arrival {
    captured_at: SystemTime,
    taken: Instant,
}

/// What the frames are coded in.
enum Codec {
    Jpeg,
    /// Without a decoder until its parameters are known.
    H264(Option<Decoder<Arrival>>),
}

impl Stream {
    /// Asks the camera for its video.
    pub(super) async fn open(config: &RtspConfig, sessions: &Arc<SessionGroup>) -> Result<Stream, Failure> {
        let within = config.silence;
        let creds = config.credentials.as_ref();
        let creds = creds.map(|(username, password)| Credentials {
            username: username.clone(),
            password: password.reveal().to_owned(),
        });
        let known = creds.is_some();
        let options = SessionOptions::default()
            .creds(creds)
            .user_agent(concat!("captiond/", env!("CARGO_PKG_VERSION")).to_owned())
            .session_group(sessions.clone());
        let describe = Session::describe(config.address.url().clone(), options);
        let mut session = answered("open", within, describe).await?.map_err(|e| failed("open", &e, known))?;
        let (video, codec) = choose(&session)?;
        let transport = match config.transport {
            Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
            Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
        };
        let setup = SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE);
        answered("set up", within, session.setup(video, setup))
            .await?
            .map_err(|e| failed("set up", &e, known))?;
        let playing = answered("play", within, session.play(PlayOptions::default())).await?;
        let demuxed = playing.and_then(Session::demuxed).map_err(|e| failed("play", &e, known))?;
        let now = Instant::now();
        Ok(Stream {
            demuxed,
            video,
            codec,
            pace: Pace::new(config.interval),
            silence: config.silence,
            heard: now,
            seen: now,
            unseen_max: config.interval + KEYFRAME_MAX,
            n_broken: 0,
        })
    }

    /// Waits for the next frame that is due and decodes it, and what it needs.
    pub(super) async fn next(&mut self) -> Result<Capture, Failure> {
        loop {
            let frame = self.frame().await?;
            let arrival = Arrival { captured_at: SystemTime::now(), taken: Instant::now() };
            self.heard = arrival.taken;
            if let Some(capture) = self.take(&frame, arrival)? {
                return Ok(capture);
            }
            if self.seen.elapsed() > self.unseen_max {
                let why = format!("no keyframe in {}", format_duration(self.unseen_max));
                return Err(Failure::new("decode", why));
            }
        }
    }

    /// The next coded frame.
    async fn frame(&mut self) -> Result<VideoFrame, Failure> {
        loop {
            let left = self.silence.saturating_sub(self.heard.elapsed());
            let item = poll_fn(|cx| Pin::new(&mut self.demuxed).poll_next(cx));
            match timeout(left, item).await {
                Ok(Some(Ok(CodecItem::VideoFrame(frame)))) => return Ok(frame),
                // Reports and the like do not count: a camera can go on sending those.
                Ok(Some(Ok(_))) if !left.is_zero() => {}
                Ok(Some(Err(e))) => return Err(Failure::new("read", e.to_string())),
                Ok(None) => return Err(Failure::new("read", "the camera closed the connection")),
                Ok(Some(Ok(_))) | Err(_) => {
                    let why = format!("no video for {}", format_duration(self.silence));
                    return Err(Failure::new("read", why));
                }
            }
        }
    }

    /// Decodes a frame if it is wanted; an image comes of those that are due.
    fn take(&mut self, frame: &VideoFrame, arrival: Arrival) -> Result<Option<Capture>, Failure> {
        if frame.has_new_parameters() || matches!(self.codec, Codec::H264(None)) {
            self.prepare()?;
        }
        let coded = Coded {
            keyframe: frame.is_random_access_point(),
            disposable: frame.is_disposable(),
            after_loss: frame.loss() > 0,
        };
        let step = self.pace.step(coded, arrival.taken);
        if step == Step::Skip {
            return Ok(None);
        }
        let started = Instant::now();
        let decoded = self.codec.decode(frame.data(), arrival, step, coded.keyframe);
        let now = Instant::now();
        let decode = now.saturating_duration_since(started);
        if self.pace.spent(decode, now) {
            tracing::warn!("this machine is too slow to decode every frame, decoding keyframes alone");
        }
        match decoded {
            Ok(None) => Ok(None),
            Ok(Some((pixels, Arrival { captured_at, taken }))) => {
                (self.n_broken, self.seen) = (0, now);
                self.pace.delivered(arrival.taken);
                Ok(Some(Capture::Image(Image { pixels, file: None, captured_at, taken, decode })))
            }
            Err(why) => self.broken(why).map(Some),
        }
    }

    /// A frame that cannot be decoded takes those up to the next keyframe with it.
    fn broken(&mut self, why: String) -> Result<Capture, Failure> {
        self.pace.lost_track();
        self.n_broken += 1;
        if self.n_broken >= BROKEN_MAX {
            return Err(Failure::new("decode", why));
        }
        // A decoder that failed is not asked again.
        if matches!(self.codec, Codec::H264(_)) {
            self.codec = Codec::H264(None);
        }
        Ok(Capture::Broken { what: "frame".to_owned(), why })
    }

    /// Opens a decoder as soon as the parameters of the stream are known.
    fn prepare(&mut self) -> Result<(), Failure> {
        let Codec::H264(decoder) = &mut self.codec else { return Ok(()) };
        let Some(ParametersRef::Video(parameters)) = self.demuxed.streams()[self.video].parameters() else {
            return Ok(());
        };
        let VideoParametersCodec::H264 { sps, .. } = parameters.codec_params() else { return Ok(()) };
        let size = parameters.pixel_dimensions();
        let opened = Decoder::open(sps, size).map_err(|why| Failure::new("decode", why))?;
        tracing::debug!(codec = parameters.rfc6381_codec(), width = size.0, height = size.1, "stream opened");
        *decoder = Some(opened);
        self.pace.lost_track();
        Ok(())
    }
}

impl Codec {
    /// Decodes a frame; an image comes of one that is to be delivered, with the time of the frame
    /// that it shows.
    fn decode(
        &mut self,
        coded: &[u8],
        arrival: Arrival,
        step: Step,
        keyframe: bool,
    ) -> Result<Option<(RgbImage, Arrival)>, String> {
        let decoder = match self {
            Codec::Jpeg => {
                return photo::decode(coded).map(|image| Some((image, arrival))).map_err(|e| e.to_string());
            }
            Codec::H264(None) => return Ok(None),
            Codec::H264(Some(decoder)) => decoder,
        };
        let picture = if step == Step::DeliverAlone {
            decoder.decode_alone(coded, arrival)?
        } else {
            if keyframe {
                decoder.renew_if_spent()?;
            }
            decoder.decode(coded, arrival)?
        };
        match picture {
            Some(picture) if step != Step::Decode => {
                let image = picture.to_rgb().ok_or_else(|| "the decoded picture is cut off".to_owned())?;
                Ok(Some((image, picture.tag)))
            }
            _ => Ok(None),
        }
    }
}

/// Waits for an answer of the camera, but not for ever.
async fn answered<T>(
    operation: &'static str,
    within: Duration,
    request: impl Future<Output = T>,
) -> Result<T, Failure> {
    let silent = |_| Failure::new(operation, format!("no answer in {}", format_duration(within)));
    timeout(within, request).await.map_err(silent)
}

/// The first video that can be decoded.
fn choose(session: &Session<Described>) -> Result<(usize, Codec), Failure> {
    let mut others = Vec::new();
    for (i, stream) in session.streams().iter().enumerate() {
        match (stream.media(), stream.encoding_name()) {
            ("video", "h264") => return Ok((i, Codec::H264(None))),
            ("video", "jpeg") => return Ok((i, Codec::Jpeg)),
            ("video", other) => others.push(other.to_uppercase()),
            _ => {}
        }
    }
    if others.is_empty() {
        let offered: Vec<_> = session.streams().iter().map(retina::client::Stream::media).collect();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        return Err(Failure::new("open", format!("no video stream, it offers {offered}")));
    }
    let way_out =
        "set the camera to H.264, take the URL of its second stream, or use a source of type \"gstreamer\"";
    let why = format!("its video is {}, which this source cannot decode: {way_out}", others.join(", "));
    Err(Failure::new("open", why))
}

/// What retina says; the answers that the operator can do something about, in our own words.
fn failed(operation: &'static str, e: &retina::Error, credentials: bool) -> Failure {
    match (e.status_code(), credentials) {
        (Some(401), true) => Failure::new(operation, "the camera refuses the username or the password (401)"),
        (Some(401), false) => Failure::new(operation, "the camera wants a username and a password (401)"),
        (Some(404), _) => Failure::new(operation, "the camera has no such stream (404)"),
        _ => Failure::new(operation, e.to_string()),
    }
}
