//! Cameras that are not there: an emulated V4L2 device under the real code, in a process of its own.

use std::io::Cursor;
use std::time::Duration;

use captiond::config::{Config, Protocol};
use captiond::source::SourceConfig;
use image::RgbImage;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::v4l2::{Site, Viewer, view};
use crate::support::{Hold, config, eyes, server, wait_until};

/// A camera with one format of one size and a rate that serves any interval.
fn camera(format: &str, (width, height): (u32, u32)) -> String {
    format!("card Test Camera\ndriver uvcvideo\nbus usb-1\nformat {format}\nsize {width} {height} 30\n")
}

const FAST: &str = "width = 2\nheight = 2\ninterval = \"10ms\"\n";

/// Two lines of two gray pixels, padded to four bytes.
const GREY: [u8; 8] = [0, 255, 7, 7, 128, 1, 7, 7];
const GREY_PIXELS: [u8; 12] = [0, 0, 0, 255, 255, 255, 128, 128, 128, 1, 1, 1];

/// A site with one camera that gives [`GREY`], and its scenario.
fn grey_site() -> (Site, String) {
    let site = Site::new();
    let scenario = camera("GREY", (2, 2)) + "stride 4\n" + &site.frame("grey", &GREY);
    site.plug(0, &scenario);
    (site, scenario)
}

fn open(site: &Site, number: u32, keys: &str) -> Viewer {
    let mut viewer = site.viewer(&site.node(number), keys);
    viewer.open().unwrap();
    viewer
}

fn sees_grey(viewer: &mut Viewer) {
    assert_eq!(viewer.image(), (2, 2, GREY_PIXELS.to_vec()));
}

#[test]
#[ignore = "the child process of the tests of this file"]
fn child_viewer() {
    view();
}

#[test]
fn every_pixel_format_arrives_as_the_pixels_it_stands_for() {
    let red_and_white = [254, 0, 0, 254, 0, 0, 255, 255, 255, 255, 255, 255];
    let (full, hd) = ("quantization 1\n", "colorspace 3\n");
    let cases: [(&str, &str, Vec<u8>, [u8; 12]); 9] = [
        ("YUYV", full, vec![76, 85, 76, 255, 255, 128, 255, 128], red_and_white),
        ("UYVY", full, vec![85, 76, 255, 76, 128, 255, 128, 255], red_and_white),
        // Limited range of BT.601 is what a driver means that says nothing.
        (
            "YUYV",
            "",
            vec![65, 100, 65, 212, 180, 128, 180, 128],
            [191, 0, 0, 191, 0, 0, 191, 191, 191, 191, 191, 191],
        ),
        (
            "UYVY",
            hd,
            vec![109, 51, 212, 51, 128, 180, 128, 180],
            [192, 1, 0, 192, 1, 0, 191, 191, 191, 191, 191, 191],
        ),
        // Lines of two pixels and two bytes of padding, in both planes.
        (
            "NV12",
            "quantization 1\nstride 4\n",
            vec![76, 76, 9, 9, 76, 76, 9, 9, 85, 255, 9, 9],
            [254, 0, 0].repeat(4).try_into().unwrap(),
        ),
        (
            "YUYV",
            "quantization 1\nstride 6\n",
            vec![76, 85, 76, 255, 9, 9, 255, 128, 255, 128, 9, 9],
            red_and_white,
        ),
        ("GREY", "stride 4\n", GREY.to_vec(), GREY_PIXELS),
        ("RGB3", "", (1..=12).collect(), std::array::from_fn(|i| i as u8 + 1)),
        ("BGR3", "", vec![3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10], std::array::from_fn(|i| i as u8 + 1)),
    ];
    for (format, more, bytes, pixels) in cases {
        let site = Site::new();
        site.plug(0, camera(format, (2, 2)) + more + &site.frame("frame", &bytes));
        let mut viewer = open(&site, 0, FAST);
        let (width, height, found) = viewer.image();
        assert_eq!((width, height), (2, 2));
        let farthest = found.iter().zip(pixels).map(|(a, b)| a.abs_diff(b)).max();
        assert!(farthest <= Some(1), "{format} {more:?}: {found:?} is not {pixels:?}");
        viewer.end();
    }
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(16, 16, image::Rgb([200, 200, 200]))
        .write_to(&mut bytes, image::ImageFormat::Jpeg)
        .unwrap();
    bytes.into_inner()
}

/// As AVI files and most USB cameras have it.
fn without_huffman_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut kept, mut rest) = (jpeg[..2].to_vec(), &jpeg[2..]);
    while rest[1] != 0xDA {
        let (segment, after) = rest.split_at(2 + usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        if segment[1] != 0xC4 {
            kept.extend(segment);
        }
        rest = after;
    }
    [&kept[..], rest].concat()
}

#[test]
fn whole_motion_jpeg_is_seen_and_what_is_partial_or_corrupt_is_reported() {
    let site = Site::new();
    let base = camera("MJPG", (16, 16));
    let whole = jpeg();
    let frames = [
        ("whole", whole.clone(), None),
        ("partial", whole[..whole.len() - 40].to_vec(), Some("is cut short")),
        ("bare", without_huffman_tables(&whole), None),
        ("noise", vec![0x5A; 300], Some("does not begin as a JPEG does")),
        ("empty", vec![], Some("does not begin as a JPEG does")),
        ("padded", [&whole[..], &[0; 100]].concat(), None),
    ];
    let mut viewer = None;
    for (name, bytes, trouble) in frames {
        site.plug(0, base.clone() + &site.frame(name, &bytes));
        let viewer = viewer.get_or_insert_with(|| open(&site, 0, FAST));
        // Frames of before the change may be on their way, but not for long.
        wait_until(name, || {
            viewer.tell("next");
            let answer = viewer.answer();
            match trouble {
                None => answer.starts_with("image 16 16 200 200 200"),
                Some(why) => answer.starts_with("broken") && answer.contains(why),
            }
        });
    }
}

#[test]
fn a_frame_that_the_driver_flags_is_reported_and_the_next_one_seen() {
    let (site, scenario) = grey_site();
    site.plug(0, scenario.clone() + "flags 0x40\n");
    let mut viewer = open(&site, 0, FAST);
    assert_eq!(viewer.trouble(), "broken the driver flags the frame as damaged");
    site.plug(0, scenario);
    wait_until("a good frame", || {
        viewer.tell("next");
        viewer.answer().starts_with("image")
    });
    sees_grey(&mut viewer);
}

#[test]
fn a_camera_that_flags_every_frame_is_lost_in_the_end() {
    let (site, scenario) = grey_site();
    site.plug(0, scenario + "flags 0x40\n");
    let mut viewer = open(&site, 0, FAST);
    let mut last = String::new();
    wait_until("the camera is given up", || {
        last = viewer.trouble();
        last.starts_with("error")
    });
    assert!(last.contains("none but damaged frames for 5s"), "{last}");
}

#[test]
fn a_camera_that_fails_or_falls_silent_is_torn_down_and_opened_anew() {
    let failures = [
        ("fail DQBUF 5\n", "Input/output error"),
        ("fail QBUF 5\n", "Input/output error"),
        ("fail DQBUF 5\nfail STREAMOFF 5\nfail REQBUFS 5\n", "Input/output error"),
        ("silent\n", "no frame for 5s"),
    ];
    for (failure, expected) in failures {
        let (site, scenario) = grey_site();
        let mut viewer = open(&site, 0, FAST);
        sees_grey(&mut viewer);
        site.plug(0, scenario.clone() + failure);
        let mut answer = String::new();
        wait_until("the failure is seen", || {
            viewer.tell("next");
            answer = viewer.answer();
            answer.starts_with("error")
        });
        assert!(
            answer.contains(expected) && answer.contains("read ") && answer.contains("video0"),
            "{answer}"
        );
        site.plug(0, scenario);
        viewer.open().unwrap();
        sees_grey(&mut viewer);
        viewer.end();
        let log = site.log().join(", ").replace("video0 ", "");
        let life = "open, S_FMT GREY 2x2, S_PARM 1/30, REQBUFS 4, STREAMON";
        let end = "STREAMOFF, REQBUFS 0, close";
        // Where the driver refuses to stop, the descriptor is closed all the same.
        let first_end = if failure.contains("STREAMOFF") { "close" } else { end };
        assert_eq!(log, format!("{life}, {first_end}, {life}, {end}"), "{failure}");
    }
}

#[test]
fn a_camera_that_is_plugged_in_again_under_another_number_is_found_by_its_link() {
    let (site, scenario) = grey_site();
    let link = site.link("by-id", "usb-Test_Camera-video-index0", 0);
    let mut viewer = site.viewer(&link, FAST);
    viewer.open().unwrap();
    sees_grey(&mut viewer);
    site.unplug(0);
    let mut answer = String::new();
    wait_until("the loss is seen", || {
        viewer.tell("next");
        answer = viewer.answer();
        answer.starts_with("error")
    });
    assert!(answer.contains("No such device"), "{answer}");
    let e = viewer.open().unwrap_err();
    assert!(e.contains("open ") && e.contains("No such file"), "{e}");
    site.plug(1, scenario);
    site.link("by-id", "usb-Test_Camera-video-index0", 1);
    viewer.open().unwrap();
    sees_grey(&mut viewer);
    viewer.close();
    assert!(site.has_logged("video1 STREAMON") && site.has_logged("video1 close"), "{:?}", site.log());
}

#[test]
fn another_camera_at_the_same_node_is_not_mistaken_for_the_first() {
    let (site, scenario) = grey_site();
    let mut viewer = open(&site, 0, FAST);
    sees_grey(&mut viewer);
    site.plug(0, scenario + "serial 2\n");
    wait_until("the loss is seen", || {
        viewer.tell("next");
        viewer.answer().contains("No such device")
    });
    viewer.open().unwrap();
    sees_grey(&mut viewer);
}

#[test]
fn a_camera_that_cannot_be_had_says_why_and_can_be_had_later() {
    let cases = [
        ("gives MJPG\n", "set format of ", "it gives MJPG instead of GREY"),
        ("fail open 16\n", "open ", "busy (os error 16): another program uses it"),
        ("fail open 13\n", "open ", "Permission denied (os error 13): the group video may open it"),
        ("fail QUERYCAP 25\n", "ask ", "ioctl"),
        ("fail S_FMT 16\n", "set format of ", "busy"),
        ("fail REQBUFS 12\n", "map buffers of ", "memory"),
        ("fail QBUF 5\n", "queue buffers of ", "Input/output error"),
        ("fail STREAMON 28\n", "start ", "the USB bus has no room left for its frames"),
        ("refuse GREY 22\n", "set format of ", "Invalid argument"),
        ("gives H264\n", "set format of ", "it gives H264 instead of GREY"),
        ("gives_size 0 0\n", "set format of ", "0x0 is no size of a picture"),
        ("stride 1\n", "set format of ", "do not hold 2 pixels"),
        ("caps 0x04a00000\n", "use ", "no capture device"),
        ("caps 0x04201000\n", "use ", "several planes"),
    ];
    for (trouble, operation, why) in cases {
        let (site, scenario) = grey_site();
        site.plug(0, scenario.clone() + trouble);
        let forced = if trouble.starts_with("gives MJPG") { "format = \"GREY\"" } else { "" };
        let mut viewer = site.viewer(&site.node(0), &format!("{FAST}{forced}"));
        let e = viewer.open().unwrap_err();
        assert!(e.contains(operation) && e.contains("video0") && e.contains(why), "{trouble:?}: {e}");
        site.plug(0, scenario);
        viewer.open().unwrap();
        sees_grey(&mut viewer);
        viewer.end();
        let (opened, closed) = (site.log(), "video0 close");
        let n = |what: &str| opened.iter().filter(|line| line.as_str() == what).count();
        let n_opened = n("video0 open") - usize::from(trouble.contains("fail open"));
        assert_eq!(n_opened, n(closed), "no descriptor is lost: {opened:?}");
    }
}

#[test]
fn a_refused_format_gives_way_to_the_next_and_a_forced_one_does_not() {
    let (site, grey) = grey_site();
    let both = grey + "format MJPG\nsize 2 2 30\nformat H264\nsize 2 2 30\n";
    site.plug(0, both.clone() + "refuse MJPG 22\n");
    let mut viewer = open(&site, 0, FAST);
    sees_grey(&mut viewer);
    assert!(site.has_logged("video0 S_FMT MJPG 2x2") && site.has_logged("video0 S_FMT GREY 2x2"));
    viewer.end();
    for (format, expected) in [("YUYV", "offers GREY, MJPG, H264, and not YUYV"), ("MJPG", "set format of ")]
    {
        let mut viewer = site.viewer(&site.node(0), &format!("{FAST}format = \"{format}\""));
        let e = viewer.open().unwrap_err();
        assert!(e.contains(expected), "{e}");
    }
    site.plug(0, both);
    let mut viewer = open(&site, 0, &format!("{FAST}format = \"GREY\""));
    sees_grey(&mut viewer);
    viewer.end();
    site.plug(0, camera("H264", (2, 2)) + "format MPEG\n");
    let e = site.viewer(&site.node(0), FAST).open().unwrap_err();
    assert!(e.ends_with("offers H264, MPEG, and not one of MJPG, NV12, YUYV, UYVY, RGB3, BGR3, GREY"), "{e}");
}

#[test]
fn a_camera_that_calls_its_frames_jpeg_is_asked_for_them_by_that_name() {
    let site = Site::new();
    site.plug(0, camera("JPEG", (16, 16)) + &site.frame("whole", &jpeg()));
    let mut viewer = open(&site, 0, &format!("{FAST}format = \"MJPG\""));
    assert_eq!((viewer.image().0, viewer.image().1), (16, 16));
    assert!(site.has_logged("video0 S_FMT JPEG 16x16") && site.has_logged("video0 S_PARM 1/30"));
}

#[test]
fn a_camera_for_whose_raw_pixels_the_bus_has_no_room_is_taken_in_mjpg() {
    let site = Site::new();
    let whole = site.frame("whole", &jpeg());
    let scenario = camera("YUYV", (16, 16)) + "format MJPG\nsize 16 16 30\nnarrow YUYV\n" + &whole;
    site.plug(0, &scenario);
    let mut viewer = open(&site, 0, FAST);
    assert_eq!((viewer.image().0, viewer.image().1), (16, 16));
    assert!(site.has_logged("video0 S_FMT YUYV 16x16") && site.has_logged("video0 S_FMT MJPG 16x16"));
    viewer.end();
    let mut forced = site.viewer(&site.node(0), &format!("{FAST}format = \"YUYV\""));
    assert!(forced.open().unwrap_err().contains("no room left"));
}

#[test]
fn size_format_and_rate_are_chosen_from_what_is_offered() {
    let webcam = "format MJPG\nsize 640 480 30 5\nsize 1280 720 30 10 5\nsize 1920 1080 30\n\
        format YUYV\nsize 640 480 30 5 1\nsize 1280 720 10 5\n";
    let ranges =
        "format MJPG\nrange 16 1920 16 16 1088 16 1 60\nformat UYVY\nrange 16 1920 16 16 1088 16 1 60\n";
    let cases = [
        (webcam, "", "YUYV 640x480", "1/5"),
        (webcam, "width = 1000\nheight = 700", "MJPG 1280x720", "1/5"),
        (webcam, "width = 1000\nheight = 700\nformat = \"YUYV\"", "YUYV 1280x720", "1/5"),
        (webcam, "width = 4000\nheight = 3000", "MJPG 1920x1080", "1/30"),
        (webcam, "interval = \"1m\"", "YUYV 640x480", "1/1"),
        (webcam, "interval = \"20ms\"", "MJPG 640x480", "1/30"),
        (ranges, "width = 100\nheight = 100", "UYVY 112x112", "500000/1000000"),
        (ranges, "width = 1900\nheight = 1000\ninterval = \"1m\"", "UYVY 1904x1008", "1/1"),
        (ranges, "width = 1900\nheight = 1000\ninterval = \"100ms\"", "MJPG 1904x1008", "100000/1000000"),
    ];
    for (formats, keys, format, rate) in cases {
        let site = Site::new();
        site.plug(0, format!("card Test\n{formats}"));
        let viewer = open(&site, 0, keys);
        let log = site.log();
        assert!(log.contains(&format!("video0 S_FMT {format}")), "{keys}: {log:?}");
        assert!(log.contains(&format!("video0 S_PARM {rate}")), "{keys}: {log:?}");
        viewer.end();
    }
}

#[test]
fn a_driver_that_lists_nothing_and_keeps_its_rate_is_used_all_the_same() {
    let (site, scenario) = grey_site();
    for less in [
        "fail ENUM_FRAMESIZES 25\nfail ENUM_FRAMEINTERVALS 25\nfail S_PARM 25\n",
        "fail S_PARM 25\n",
        "fail ENUM_FMT 25\nfail ENUM_FRAMESIZES 25\nfail ENUM_FRAMEINTERVALS 25\ngives GREY\n",
    ] {
        site.plug(0, scenario.clone() + less);
        let mut viewer = open(&site, 0, FAST);
        sees_grey(&mut viewer);
        viewer.end();
    }
}

#[test]
fn nonsense_of_a_driver_is_an_error_or_a_picture_and_never_the_end() {
    let mut seed = 1_u64;
    let mut random = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let odd = [0, 1, 2, 3, 7, 64, 640, 65_535, 1 << 30, u64::from(u32::MAX)];
    let site = Site::new();
    let frame = site.frame("frame", &[0x5A; 5000]);
    let mut viewer = site.viewer(&site.node(0), "interval = \"10ms\"\ncontrols = { gain = 1, mode = 2 }");
    let mut n_opened = 0;
    for _ in 0..80 {
        let mut odds = |n: usize| {
            (0..n).map(|_| odd[random(odd.len() as u64) as usize].to_string()).collect::<Vec<_>>().join(" ")
        };
        let codes = ["MJPG", "YUYV", "UYVY", "NV12", "GREY", "RGB3", "BGR3"];
        let mut scenario = format!("card \u{FFFD}\u{7}\n{frame}serial 0\n");
        for code in codes {
            scenario += &format!("format {code}\nsize {}\nrange {}\n", odds(4), odds(8));
        }
        for (i, name) in ["Gain", "Mode", "Gain"].iter().enumerate() {
            let kind = odds(1).len() + i;
            scenario += &format!("control {} {kind} {} {name}\nentry {}\n", i + 1, odds(4), odds(2));
        }
        scenario += &format!(
            "stride {}\ncolorspace {}\nycbcr {}\nquantization {}\n",
            odds(1),
            odds(1),
            odds(1),
            odds(1)
        );
        scenario += &format!("gives {}\ngives_size {}\n", codes[odds(1).len() % 7], odds(2));
        site.plug(0, &scenario);
        if viewer.open().is_ok() {
            n_opened += 1;
            viewer.tell("next");
            let answer = viewer.answer();
            assert!(answer.starts_with("image") || answer.starts_with("broken"), "{answer}: {scenario}");
        }
        captiond_cameras(&site, &["--json"]);
    }
    assert!(n_opened > 10, "{n_opened}");
}

const CONTROLS: &str = "control 0x980001 6 0 0 0 0 User Controls
control 0x980900 1 -64 64 1 0 Brightness
control 0x98090c 2 0 1 1 0 White Balance, Automatic
control 0x980918 3 0 2 1 0 Power Line Frequency
entry 0 Disabled
entry 1 50 Hz
entry 2 60 Hz
control 0x9a0901 3 0 3 1 0 Auto Exposure
entry 1 Manual Mode
entry 3 Aperture Priority Mode
control 0x9a0902 1 3 2047 1 0x10 Exposure Time, Absolute
needs 0x9a0902 0x9a0901 1
";

#[test]
fn controls_are_set_at_each_opening_the_automatic_before_the_number() {
    let keys = format!(
        "{FAST}controls = {{ exposure_absolute = 150, exposure_auto = \"manual mode\", \
         power_line_frequency = \"50hz\", brightness = -10, white_balance_automatic = false }}"
    );
    for less in ["", "fail QUERY_EXT_CTRL 25\n"] {
        let (site, scenario) = grey_site();
        site.plug(0, scenario + CONTROLS + less);
        let mut viewer = open(&site, 0, &keys);
        sees_grey(&mut viewer);
        viewer.open().unwrap();
        viewer.end();
        let log = site.log();
        let set: Vec<&str> = log.iter().filter_map(|line| line.strip_prefix("video0 S_CTRL ")).collect();
        let once = [
            "Auto Exposure 1",
            "Power Line Frequency 1",
            "White Balance, Automatic 0",
            "Brightness -10",
            "Exposure Time, Absolute 150",
        ];
        assert_eq!(set, [once, once].concat());
    }
}

#[test]
fn a_control_that_cannot_be_set_is_a_warning_that_says_what_can() {
    let keys = format!(
        "{FAST}controls = {{ zoom = 2, brightness = 100, power_line_frequency = \"70 Hz\", \
         exposure_time_absolute = 150 }}"
    );
    let (site, scenario) = grey_site();
    site.plug(0, scenario + CONTROLS);
    let mut viewer = open(&site, 0, &keys);
    sees_grey(&mut viewer);
    let stderr = viewer.stderr();
    for expected in [
        "control=\"zoom\" why=\"the camera does not have it; it has: brightness, white_balance_automatic, ",
        "control=\"brightness\" why=\"must be -64 to 64 (got 100)\"",
        "control=\"power_line_frequency\" why=\"must be 0 \\\"Disabled\\\", 1 \\\"50 Hz\\\", 2 ",
        "control=\"exposure_time_absolute\" value=150 why=Permission denied",
    ] {
        assert_eq!(stderr.matches(expected).count(), 1, "{expected} in {stderr}");
    }
    assert_eq!(stderr.matches(" WARN ").count(), 4, "{stderr}");
}

#[test]
fn a_wait_that_never_ends_can_be_emulated() {
    let (site, scenario) = grey_site();
    let mut viewer = open(&site, 0, FAST);
    sees_grey(&mut viewer);
    site.plug(0, scenario.clone() + "hang\n");
    // Images of before the change may still come; the one that is asked for in the end does not.
    let mut n_asked = 0;
    wait_until("the camera hangs", || {
        if site.has_logged("video0 hang") {
            return true;
        }
        viewer.tell("next");
        n_asked += 1;
        false
    });
    site.plug(0, scenario);
    for _ in 0..n_asked {
        assert!(viewer.answer().starts_with("image"));
    }
    let n_hangs = site.log().iter().filter(|line| line.as_str() == "video0 hang").count();
    assert_eq!(n_hangs, 1, "the time-out of the wait did not end it");
}

fn captiond_cameras(site: &Site, more: &[&str]) -> String {
    let dev = site.dev().to_str().unwrap();
    let mut command = site.command(env!("CARGO_BIN_EXE_captiond"));
    let output = command.args(["cameras", "--dev", dev]).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A camera with its metadata node, one that cannot be opened, and one of several planes.
fn busy_site() -> Site {
    let (site, scenario) = grey_site();
    site.plug(0, scenario.clone() + "format H264\nrange 16 1920 16 16 1088 8 1 60\n" + CONTROLS);
    site.plug(1, "card Test Camera\ncaps 0x04a00000\n");
    site.plug(2, scenario.clone() + "fail open 13\n");
    site.plug(10, scenario + "caps 0x04201000\n");
    site.link("by-id", "usb-Test_Camera-video-index0", 0);
    site.link("by-path", "pci-usb-0:1:1.0-video-index0", 0);
    site.link("by-id", "usb-Test_Camera-video-index1", 1);
    site
}

#[test]
fn cameras_lists_what_each_camera_offers_with_a_block_to_paste() {
    let site = busy_site();
    let text = captiond_cameras(&site, &[]);
    let dev = site.dev().display();
    for expected in [
        &format!("{dev}/video0: Test Camera\n  driver uvcvideo, bus usb-1\n"),
        &format!(
            "  {dev}/v4l/by-id/usb-Test_Camera-video-index0\n  {dev}/v4l/by-path/pci-usb-0:1:1.0-video-index0\n"
        ),
        "  GREY\n    2x2 at 30 fps\n  H264 (not supported)\n",
        "    16x16 to 1920x1088 in steps of 16x8 at 60, 1 fps\n",
        "    brightness: -64 to 64\n",
        "    power_line_frequency: 0 \"Disabled\", 1 \"50 Hz\", 2 \"60 Hz\"\n",
        &format!("{dev}/video2: Permission denied"),
        &format!("{dev}/video10: Test Camera: it gives each frame in several planes"),
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert!(!text.contains("video1:") && !text.contains("User Controls"), "{text}");
    assert!(text.find("video2:") < text.find("video10:"), "in the order of their numbers");
    let block: String = text.split("\n\n").find(|part| part.starts_with("[[camera]]")).unwrap().to_owned();
    let config = Config::parse(&block, site.dev()).unwrap();
    let SourceConfig::V4l2(v4l2) = &config.cameras[0].source else { panic!("not V4L2") };
    assert_eq!(config.cameras[0].name, "test-camera");
    assert!(v4l2.device.ends_with("by-id/usb-Test_Camera-video-index0"));
}

#[test]
fn cameras_as_json_is_one_object_a_line() {
    let site = busy_site();
    let text = captiond_cameras(&site, &["--json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let first = &lines[0];
    assert_eq!(first["card"], "Test Camera");
    assert_eq!((&first["driver"], &first["bus"]), (&json!("uvcvideo"), &json!("usb-1")));
    assert_eq!(first["by_id"].as_array().unwrap().len(), 1);
    assert_eq!(
        first["formats"],
        json!([
            { "format": "GREY", "supported": true, "sizes": [{ "width": 2, "height": 2, "rates": [30.0] }] },
            { "format": "H264", "supported": false, "sizes": [
                { "min": [16, 16], "max": [1920, 1088], "step": [16, 8], "rates": [60.0, 1.0] }
            ] },
        ])
    );
    assert_eq!(first["controls"]["brightness"], "-64 to 64");
    assert!(first["config"].as_str().unwrap().starts_with("[[camera]]\n"));
    assert!(
        lines[1]["error"].as_str().unwrap().starts_with("Permission denied") && lines[1]["card"].is_null()
    );
}

const PORT_VARIABLE: &str = "CAPTIOND_TEST_V4L2_PORT";
const DEVICE_VARIABLE: &str = "CAPTIOND_TEST_V4L2_DEVICE";
const PHOTOS_VARIABLE: &str = "CAPTIOND_TEST_V4L2_PHOTOS";

/// The scenario of a camera that sees one color.
fn plain(site: &Site, color: [u8; 3]) -> String {
    let name = format!("{color:?}").replace([' ', ','], "");
    camera("RGB3", (2, 2)) + &site.frame(&name, &color.repeat(4))
}

/// A daemon in a process of its own that sees the emulated camera at `device` as `wall`.
fn daemon(site: &Site, port: u16, device: &std::path::Path) -> std::process::Command {
    let mut command = site.this_test("v4l2::child_daemon");
    command.env(PORT_VARIABLE, port.to_string()).env(DEVICE_VARIABLE, device);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

#[test]
fn the_daemon_says_when_a_camera_goes_and_captions_again_when_it_is_back() {
    let site = Site::new();
    let scenario = |color| plain(&site, color);
    site.plug(0, scenario([255, 0, 0]));
    let link = site.link("by-id", "usb-Test_Camera-video-index0", 0);
    let server = server::embedded();
    let client = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mut child = daemon(&site, server.port(), &link).spawn().unwrap();
    let caption = |color: &str| {
        client.wait_for(color, |message| {
            message.topic == "captiond/wall/caption" && message.json()["caption"] == format!("a {color} wall")
        });
    };
    client.wait_for_text("captiond/wall/availability", "online");
    caption("red");
    site.unplug(0);
    client.wait_for_text("captiond/wall/availability", "offline");
    site.plug(1, scenario([0, 0, 255]));
    site.link("by-id", "usb-Test_Camera-video-index0", 1);
    client.wait_for_text("captiond/wall/availability", "online");
    caption("blue");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_camera_that_hangs_in_its_driver_stops_neither_the_others_nor_the_end() {
    let site = Site::new();
    let scenario = |color| plain(&site, color);
    site.plug(0, scenario([255, 0, 0]));
    let link = site.link("by-id", "usb-Test_Camera-video-index0", 0);
    let photos = crate::support::color_photos();
    let server = server::embedded();
    let client = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mut child = daemon(&site, server.port(), &link).env(PHOTOS_VARIABLE, photos.path()).spawn().unwrap();
    let caption = |camera: &str, color: &str| {
        client.wait_for(color, |message| {
            message.topic == format!("captiond/{camera}/caption")
                && message.json()["caption"] == format!("a {color} wall")
        });
    };
    caption("wall", "red");
    site.plug(0, scenario([255, 0, 0]) + "hang\n");
    wait_until("the camera hangs", || site.has_logged("video0 hang"));
    client.wait_for_text("captiond/wall/availability", "offline");
    for color in ["red", "green", "blue", "red"] {
        caption("yard", color);
    }
    // The one that hangs still does, and another thread opens what the link names by now.
    site.plug(1, scenario([0, 0, 255]));
    site.link("by-id", "usb-Test_Camera-video-index0", 1);
    caption("wall", "blue");
    let stopping = std::time::Instant::now();
    let id = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    client.wait_for_text("captiond/bridge/state", "offline");
    let mut ended = None;
    wait_until("the daemon ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    assert!(stopping.elapsed() < captiond::daemon::SHUTDOWN_GRACE, "{:?}", stopping.elapsed());
}

#[test]
#[ignore = "the child process of the_daemon_says_when_a_camera_goes_and_captions_again_when_it_is_back"]
fn child_daemon() {
    let Ok(port) = std::env::var(PORT_VARIABLE) else { return };
    let device = std::env::var_os(DEVICE_VARIABLE).unwrap();
    let mut config = config(port.parse().unwrap(), Protocol::V5, std::path::Path::new(""));
    let keys = format!("type = \"v4l2\"\ndevice = {:?}\ninterval = \"50ms\"\n", device.to_str().unwrap());
    let source = format!("[[camera]]\nname = \"wall\"\n[camera.source]\n{keys}");
    config.cameras[0].source =
        Config::parse(&source, std::path::Path::new("")).unwrap().cameras.remove(0).source;
    config.cameras[0].gate.refresh = Duration::from_secs(60);
    let shutdown = captiond::shutdown::Shutdown::new();
    captiond::daemon::heed_signals(&shutdown, None).unwrap();
    let mut options = captiond::daemon::Options::default();
    if let Some(photos) = std::env::var_os(PHOTOS_VARIABLE) {
        let other = crate::support::config(0, Protocol::V5, std::path::Path::new(&photos)).cameras.remove(0);
        config.cameras.push(captiond::config::CameraConfig { name: "yard".to_owned(), ..other });
        options.hang = Duration::from_secs(2);
    }
    let eyes = eyes(&Hold::default(), config.cameras.len());
    captiond::daemon::run_with(&config, eyes, &shutdown, options).unwrap();
}
