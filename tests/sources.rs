//! Cameras of every kind but V4L2 and RTSP, with real servers, real programs and hostile bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use captiond::config::{CameraConfig, Config, Protocol, Secret};
use captiond::health::Health;
use captiond::inbox::{Inbox, Work};
use captiond::mailbox::Mailbox;
use captiond::shutdown::Shutdown;
use captiond::source::{self, Capture, Capturer, Image, Source, SourceConfig, SourceError, Tenure};
use serde_json::json;

use crate::support::client::Client;
use crate::support::http::{Lighttpd, Scripted, Step, answer};
use crate::support::{self, RunningDaemon, find, server, skipped, wait_until};

const CAT: &[u8] = include_bytes!("../assets/demo/cat.jpg");
const BOATS: &[u8] = include_bytes!("../assets/demo/boats.jpg");
const CAT_SIZE: (u32, u32) = (451, 300);

/// The source of a camera that a configuration names.
fn configured(source: &str) -> CameraConfig {
    let text = format!("[[camera]]\nname = \"c\"\n[camera.source]\n{source}\n");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Config::parse(&text, folder).unwrap().cameras.remove(0)
}

fn http(url: &str, more: &str) -> SourceConfig {
    configured(&format!("type = \"http\"\nurl = \"{url}\"\ninterval = \"10ms\"\n{more}")).source
}

fn open(config: &SourceConfig) -> Result<Box<dyn Source>, SourceError> {
    source::open(config, &Arc::new(Mailbox::default()))
}

/// The next picture.
fn picture(source: &mut dyn Source) -> Result<Image, String> {
    let until = Instant::now() + support::DEADLINE;
    while Instant::now() < until {
        match source.next(&Shutdown::new()) {
            Ok(Capture::Image(image)) => return Ok(image),
            Ok(Capture::Broken { what, why }) => return Err(format!("{what}: {why}")),
            Ok(Capture::Nothing) => {}
            Ok(other) => return Err(format!("{other:?}")),
            Err(e) => return Err(e.to_string()),
        }
    }
    Err("waited too long".to_owned())
}

/// The first picture of a source, or what is wrong with it.
fn first(config: &SourceConfig) -> Result<Image, String> {
    picture(&mut *open(config).map_err(|e| e.to_string())?)
}

#[test]
fn a_picture_is_fetched_again_and_again_and_only_when_it_changed() {
    let Some(server) = Lighttpd::start(false) else { return };
    server.put("a.jpg", CAT);
    let mut source = open(&http(&format!("http://127.0.0.1:{}/open/a.jpg", server.port), "")).unwrap();
    assert_eq!(picture(&mut *source).unwrap().pixels.dimensions(), CAT_SIZE);
    // The server says that nothing changed; the picture is there all the same.
    assert_eq!(picture(&mut *source).unwrap().pixels.dimensions(), CAT_SIZE);
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(5, 4).write_to(&mut png, image::ImageFormat::Png).unwrap();
    server.put("a.png", png.get_ref());
    let png = first(&http(&format!("http://127.0.0.1:{}/open/a.png", server.port), "")).unwrap();
    assert_eq!(png.pixels.dimensions(), (5, 4));
    server.put("a.jpg", BOATS);
    let size = image::load_from_memory(BOATS).unwrap().to_rgb8().dimensions();
    wait_until("the new picture comes", || picture(&mut *source).unwrap().pixels.dimensions() == size);
}

#[test]
fn logs_in_as_the_camera_asks_and_says_when_it_is_refused() {
    let Some(server) = Lighttpd::start(false) else { return };
    server.put("a.jpg", CAT);
    for method in ["basic", "digest"] {
        let url = |user: &str| format!("http://{user}127.0.0.1:{}/{method}/a.jpg", server.port);
        let mut source = open(&http(&url("me:hunter2@"), "")).unwrap();
        for _ in 0..3 {
            assert_eq!(picture(&mut *source).unwrap().pixels.dimensions(), CAT_SIZE, "{method}");
        }
        let refused = first(&http(&url("me:wrong-one@"), "")).unwrap_err();
        assert!(
            refused.contains("it refuses the password (401") && !refused.contains("wrong-one"),
            "{refused}"
        );
        let unasked = first(&http(&url(""), "")).unwrap_err();
        assert!(unasked.contains("it wants a password (401"), "{unasked}");
    }
}

#[test]
fn tls_is_trusted_by_the_certificate_that_the_configuration_names_and_no_other() {
    let Some(server) = Lighttpd::start(true) else { return };
    server.put("a.jpg", CAT);
    let url = format!("https://127.0.0.1:{}/open/a.jpg", server.port);
    let ca = format!("ca_file = \"{}\"", server.dir.path().join("ca.pem").display());
    assert_eq!(first(&http(&url, &ca)).unwrap().pixels.dimensions(), CAT_SIZE);
    let e = first(&http(&url, "")).unwrap_err();
    assert!(e.contains("certificate"), "{e}");
}

#[test]
fn follows_a_motion_jpeg_stream_and_notices_its_end() {
    let Some(ffmpeg) = find("ffmpeg") else { return skipped("ffmpeg is not installed") };
    let port = server::free_port();
    let url = format!("http://127.0.0.1:{port}/stream");
    let mut child = std::process::Command::new(ffmpeg)
        .args(["-loglevel", "quiet", "-re", "-loop", "1", "-i"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/cat.jpg"))
        .args(["-r", "25", "-f", "mpjpeg"])
        .args(["-content_type", "multipart/x-mixed-replace;boundary=ffmpeg", "-listen", "1", &url])
        .spawn()
        .unwrap();
    let mut source = open(&http(&url, "")).unwrap();
    let mut seen = None;
    wait_until("pictures come", || {
        seen = picture(&mut *source).ok();
        seen.is_some()
    });
    for _ in 0..3 {
        assert_eq!(picture(&mut *source).unwrap().pixels.dimensions(), CAT_SIZE);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let until_lost = std::iter::repeat_with(|| picture(&mut *source)).find_map(Result::err).unwrap();
    assert!(until_lost.contains(&url), "{until_lost}");
}

/// Answers that no camera should give, and what is said about them.
fn hostile() -> Vec<(&'static str, Vec<Step>, &'static str)> {
    let send = |bytes: &[u8]| Step::Send(bytes.to_vec());
    let stream = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n";
    let mut bomb = CAT.to_vec();
    let sof = bomb.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    bomb[sof + 5..sof + 9].copy_from_slice(&[0xFF; 4]);
    let mut png = Vec::new();
    image::RgbImage::new(1, 1)
        .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .unwrap();
    // Width and height of the header; its checksum no longer fits, or the size is refused before.
    png[16..24].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    vec![
        ("truncated JPEG", vec![send(&answer("image/jpeg", &CAT[..300]))], "is cut short"),
        ("a JPEG of absurd size", vec![send(&answer("image/jpeg", &bomb))], "picture of"),
        ("a PNG of absurd size", vec![send(&answer("image/png", &png))], "picture of"),
        ("garbage as picture", vec![send(&answer("image/jpeg", &[7; 5000]))], "does not begin as a JPEG"),
        ("a page", vec![send(&answer("text/html; charset=utf-8", b"<html>"))], "answers with \"text/html"),
        ("nothing", vec![], "get a picture of"),
        ("no HTTP", vec![send(b"SSH-2.0-OpenSSH_9.9\r\n"), Step::Hang], "get a picture of"),
        ("not found", vec![send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")], "answers 404"),
        ("silence", vec![Step::Hang], "no answer for 8s"),
        ("a header that drips", vec![send(b"HTTP/1.1 200 OK\r\nX: "), Step::Drip(b'a')], "no answer for 8s"),
        (
            "a header without end",
            vec![send(b"HTTP/1.1 200 OK\r\nX: "), Step::Flood(b'a')],
            "get a picture of",
        ),
        (
            "a picture that drips",
            vec![
                send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 9000\r\n\r\n"),
                Step::Drip(7),
            ],
            "takes longer than 8s",
        ),
        (
            "a picture without end",
            vec![send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"), Step::Flood(7)],
            "more than 16777216 bytes",
        ),
        ("a stream of nothing", vec![send(stream), Step::Flood(7)], "without a boundary"),
        (
            "a part without end",
            vec![send(stream), send(b"--b\r\n\r\n"), Step::Flood(7)],
            "a part of more than 16777216 bytes",
        ),
        ("a stream that ends", vec![send(stream), send(b"--b\r\n")], "follow"),
        (
            "a redirect to itself",
            vec![send(
                b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )],
            "redirect",
        ),
    ]
}

#[test]
fn every_hostile_answer_is_one_clear_error_in_bounded_time() {
    std::thread::scope(|scope| {
        for (what, script, expected) in hostile() {
            scope.spawn(move || {
                let server = Scripted::start(vec![script]);
                let started = Instant::now();
                let e = first(&http(&server.url(), "")).unwrap_err();
                assert!(e.contains(expected), "{what}: {e}");
                assert!(e.lines().count() == 1 && e.len() < 400, "{what}: {e}");
                assert!(started.elapsed() < Duration::from_secs(15), "{what}: {:?}", started.elapsed());
            });
        }
    });
}

/// A capture thread of its own.
struct Running {
    inbox: Inbox,
    health: Health,
    shutdown: Shutdown,
}

impl Running {
    fn with(camera: CameraConfig, test: impl FnOnce(&Running)) {
        let running =
            Running { inbox: Inbox::new(1), health: Health::new(1, None), shutdown: Shutdown::new() };
        let office = Arc::<Tenure>::default().appoint(Instant::now());
        let capturer = Capturer::new(0, &camera, Arc::default(), office);
        std::thread::scope(|scope| {
            scope.spawn(|| capturer.run(&running.inbox, &running.health, &running.shutdown));
            test(&running);
            running.shutdown.request();
        });
    }

    fn frame_size(&self) -> (u32, u32) {
        match self.inbox.next(support::DEADLINE) {
            Work::Frame(frame, _) => frame.image.dimensions(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_camera_that_lied_is_counted_and_comes_back() {
    let good = Step::Send(answer("image/jpeg", CAT));
    let bad = |bytes: &[u8]| vec![Step::Send(bytes.to_vec())];
    let scripts = vec![
        bad(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        vec![good.clone()],
        bad(&answer("image/jpeg", &CAT[..99])),
        vec![good],
    ];
    let server = Scripted::start(scripts);
    let camera = configured(&format!("type = \"http\"\nurl = \"{}\"\ninterval = \"10ms\"", server.url()));
    Running::with(camera, |running| {
        assert_eq!(running.frame_size(), CAT_SIZE);
        wait_until("the broken picture is counted", || running.health.counters(0).failed == 1);
        wait_until("pictures go on", || running.health.counters(0).captured >= 3);
        assert_eq!(running.health.counters(0).lost, 1);
        assert_eq!(running.health.camera_fault(0), None);
    });
}

#[test]
fn a_stream_that_freezes_is_lost_and_opened_anew() {
    let part = |photo: &[u8]| {
        let head = format!("--b\r\nContent-Length: {}\r\n\r\n", photo.len());
        Step::Send([head.as_bytes(), photo, b"\r\n"].concat())
    };
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n";
    let script = |photo: &[u8]| vec![Step::Send(head.to_vec()), part(photo), Step::Hang];
    let server = Scripted::start(vec![script(CAT), script(BOATS)]);
    let source = format!("type = \"http\"\nurl = \"{}\"\ninterval = \"10ms\"", server.url());
    let camera = CameraConfig { silence: Some(Duration::from_secs(2)), ..configured(&source) };
    Running::with(camera, |running| {
        assert_eq!(running.frame_size(), CAT_SIZE);
        wait_until("the camera is lost", || running.health.counters(0).lost == 1);
        assert!(!running.health.cameras_online().borrow()[0]);
        assert_ne!(running.frame_size(), CAT_SIZE);
    });
}

#[test]
fn a_video_file_is_read_through_a_program() {
    let Some(_) = find("ffmpeg") else { return skipped("ffmpeg is not installed") };
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/boats.jpg");
    for (format, out) in
        [("mjpeg", "\"-f\", \"mjpeg\""), ("rgb24", "\"-f\", \"rawvideo\", \"-pix_fmt\", \"rgb24\"")]
    {
        let size = if format == "rgb24" { "width = 64\nheight = 48\n" } else { "" };
        let source = format!(
            "type = \"pipe\"\nformat = \"{format}\"\n{size}interval = \"10ms\"\ncommand = [\"ffmpeg\", \"-loglevel\", \
             \"error\", \"-loop\", \"1\", \"-i\", \"{photo}\", \"-t\", \"2\", \"-vf\", \"scale=64:48\", {out}, \"-\"]"
        );
        let mut source = open(&configured(&source).source).unwrap();
        let image = picture(&mut *source).unwrap().pixels;
        assert_eq!(image.dimensions(), (64, 48));
        let shrunk = image::load_from_memory(BOATS).unwrap().thumbnail_exact(64, 48).to_rgb8();
        let gap = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
        let mean = image.iter().zip(shrunk.iter()).map(gap).sum::<u64>() as f64 / image.len() as f64;
        assert!(mean < 8.0, "{format}: {mean} levels apart");
        let end = std::iter::repeat_with(|| picture(&mut *source)).find_map(Result::err).unwrap();
        assert!(end.contains("ended with exit status: 0"), "{end}");
    }
}

#[test]
fn pictures_over_mqtt_are_captioned_and_hostile_ones_counted() {
    for server in server::all() {
        for protocol in [Protocol::V5, Protocol::V311] {
            let photos = support::color_photos();
            let mut config = support::config(server.port(), protocol, photos.path());
            let source = configured("type = \"mqtt\"\ntopic = \"gate/picture\"\nbytes_max = 400000").source;
            config.cameras = vec![CameraConfig::new("wall", source)];
            let client = Client::connect(server.port(), protocol, "viewer", "captiond/#");
            // What was retained before is not what is there now.
            client.publish("gate/picture", std::fs::read(photos.path().join("3-blue.png")).unwrap(), true);
            let daemon = RunningDaemon::start(config);
            client.wait_for_text("captiond/bridge/state", "online");
            for hostile in [&b""[..], b"no picture", &CAT[..99], &[7; 400_001]] {
                client.publish("gate/picture", hostile.to_vec(), false);
            }
            let mut large = std::fs::read(photos.path().join("1-red.png")).unwrap();
            large.resize(390_000, 0);
            client.publish("gate/picture", large, false);
            let caption = client.wait_for_topic("captiond/wall/caption").json();
            assert_eq!(caption["caption"], "a red wall");
            let counters = &caption["counters"];
            let n = |key: &str| counters[key].as_u64().unwrap();
            assert_eq!(n("captured"), 1, "{counters}");
            // Some may have been overwritten before anybody looked at them.
            assert_eq!(n("failed") + n("overwritten"), 4, "{counters}");
            client.publish("gate/picture", Vec::new(), true);
            daemon.stop();
        }
    }
}

#[test]
fn a_caption_is_made_when_somebody_asks_for_it() {
    let site = server::embedded();
    let photos = support::color_photos();
    std::fs::remove_file(photos.path().join("1-red.png")).unwrap();
    std::fs::remove_file(photos.path().join("2-green.png")).unwrap();
    let client = Client::connect(site.port(), Protocol::V5, "viewer", "captiond/#");
    let daemon = RunningDaemon::start(support::config(site.port(), Protocol::V5, photos.path()));
    let first = client.wait_for_topic("captiond/wall/caption").json();
    assert_eq!(first["changed"], json!(true));
    client.publish("captiond/wall/describe", "", false);
    let asked = client.wait_for_topic("captiond/wall/caption").json();
    assert_eq!((&asked["caption"], &asked["changed"]), (&json!("a blue wall"), &json!(false)));
    assert_eq!(asked["counters"]["captioned"], 2, "made anew, not repeated");
    daemon.stop();
}

#[test]
fn secrets_of_cameras_are_in_no_debug_text() {
    let SourceConfig::Http(config) = http("http://me:hunter2@c/x", "") else { panic!("not http") };
    assert_eq!(config.credentials.as_ref().unwrap().1, Secret::new("hunter2".to_owned()));
    assert!(!format!("{config:?} {config}").contains("hunter2"));
}
