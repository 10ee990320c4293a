use super::*;
#[cfg(any(feature = "rtsp", feature = "gstreamer"))]
use crate::source::SourceConfig;
use crate::source::replay::Photo;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets")))
}

fn problems(text: &str) -> Vec<String> {
    parse(text).unwrap_err().0.iter().map(Problem::to_string).collect()
}

const CAMERA: &str = "[[camera]]\nname = \"yard\"\nsource = { type = \"replay\", path = \"demo\" }\n";

#[test]
fn the_least_file_gets_every_default() {
    let config = parse(CAMERA).unwrap();
    assert_eq!(config.engine, EngineConfig::default());
    assert_eq!((config.mqtt.host.as_str(), config.mqtt.port), (MQTT_HOST, MQTT_PORT));
    assert_eq!(config.cameras[0].gate, GATE);
    let crate::source::SourceConfig::Replay(replay) = &config.cameras[0].source else {
        panic!("not a replay")
    };
    assert_eq!(replay.interval, REPLAY_INTERVAL);
    assert!(replay.repeat);
    assert!(matches!(&replay.photos[..], [Photo::Folder(folder)] if folder.ends_with("assets/demo")));
}

#[test]
fn reports_every_problem_with_its_path() {
    let found = problems(
        r#"
        engine = "abacus"
        device = "gpu"
        threads = 0
        colour = "red"
        [mqtt]
        port = 70000
        protocol = "4"
        base_topic = "a/#"
        password_file = "missing"
        keep_alive = 30
        [[camera]]
        name = "Front Door"
        source = { type = "replay", path = "nowhere", interval = "1ms" }
        [[camera]]
        source = { type = "v4l2", width = "wide" }
        gate = { similarity = 2 }
        [[camera]]
        name = "yard"
        source = { type = "smoke", url = "rtsp://camera" }
        "#,
    );
    let expected = [
        "engine: engine abacus on cpu: this build has the engines: tract",
        "device: must be \"cpu\", \"cuda:N\", \"tensorrt:N\" or \"cuda-or-cpu\" (got \"gpu\")",
        "threads: must be 1 to 64 (got 0)",
        "mqtt.port: must be 1 to 65535 (got 70000)",
        "mqtt.protocol: must be \"5\" or \"3.1.1\" (got \"4\")",
        "mqtt.password_file: needs a username",
        "mqtt.password_file: read ",
        "mqtt.base_topic: must be topic levels without wildcards",
        "mqtt.keep_alive: must be a string with a unit, such as \"500ms\" (got integer)",
        "camera[0].name: must be 1 to 32 of",
        "camera[0].source.interval: must be 10ms to 1day (got 1ms)",
        "camera[0].source.path: ",
        "camera[1].name: is missing",
        "camera[1].source.device: is missing",
        "camera[1].source.width: must be an integer (got string)",
        "camera[1].gate.similarity: must be -1.0 to 1.0 (got 2.0)",
        "camera[2].source.type: must be one of v4l2, rtsp, http, pipe, gstreamer, mqtt, folder, replay (got \"smoke\")",
        "colour: unknown key, known are: bundle, engine, engine_library, device,",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} does not start with {expected}");
    }
}

#[test]
fn every_mistake_about_a_camera_is_named_by_camera_and_key() {
    let source = |keys: &str| format!("[[camera]]\nname = \"c\"\nsource = {{ {keys} }}\n");
    for (text, expected) in [
        (format!("{CAMERA}rotate = 45\n"), "camera[0].rotate: must be 0, 90, 180 or 270 (got 45)"),
        (format!("{CAMERA}crop = [0.5, 0, 0.6, 1]\n"), "camera[0].crop: must be [left, top, width, height]"),
        (format!("{CAMERA}masks = [[[0, 0], [1, 1]]]\n"), "camera[0].masks[0]: must be 3 to 64 corners"),
        (
            format!("{CAMERA}masks = [[[0, 0], [1, 2], [1, 0]]]\n"),
            "camera[0].masks[0]: must be 3 to 64 corners",
        ),
        (format!("{CAMERA}masks = \"all\"\n"), "camera[0].masks: must be a list of lists of numbers"),
        (format!("{CAMERA}silence = \"1ms\"\n"), "camera[0].silence: must be 1s to 7days"),
        (format!("{CAMERA}burst = 0\n"), "camera[0].burst: must be 1 to 100"),
        (format!("{CAMERA}prompt = \"a\\nb\"\n"), "camera[0].prompt: must be one line"),
        (source("type = \"http\", url = \"ftp://x/y\""), "camera[0].source.url: must be an address"),
        (
            source("type = \"http\", url = \"http://c/\", password_file = \"x\""),
            "camera[0].source.password_file",
        ),
        (
            source("type = \"http\", url = \"http://u:p@c/\", username = \"x\""),
            "camera[0].source.username: stands",
        ),
        (source("type = \"http\", url = \"http://c/\", ca_file = \"none\""), "camera[0].source.ca_file: "),
        (source("type = \"pipe\", command = []"), "camera[0].source.command: must name a program"),
        (source("type = \"pipe\""), "camera[0].source.command: is missing"),
        (
            source("type = \"pipe\", command = [\"x\"], format = \"rgb24\""),
            "camera[0].source.format: \"rgb24\" needs",
        ),
        (source("type = \"pipe\", command = [\"x\"], width = 4"), "camera[0].source.width: and height"),
        (source("type = \"mqtt\", topic = \"a/#\""), "camera[0].source.topic: must be a topic"),
        (source("type = \"folder\", path = \"nowhere\""), "camera[0].source.path: "),
    ] {
        let found = problems(&text);
        assert!(found[0].starts_with(expected), "{found:?} does not start with {expected}");
    }
}

#[test]
fn silence_and_frozen_are_those_of_the_kind_unless_they_are_said() {
    let limits = |text: &str| {
        let camera = parse(text).unwrap().cameras.remove(0);
        (camera.silence.map(|d| d.as_secs()), camera.frozen.map(|d| d.as_secs()))
    };
    let http =
        "[[camera]]\nname = \"c\"\nsource = { type = \"http\", url = \"http://c/\", interval = \"20s\" }\n";
    assert_eq!(limits(CAMERA), (None, None));
    assert_eq!(limits(http), (Some(60), Some(60)));
    assert_eq!(limits(&format!("{http}silence = \"off\"\nfrozen = \"5m\"\n")), (None, Some(300)));
}

#[test]
fn credentials_in_an_address_are_moved_out_of_it() {
    let text = "[[camera]]\nname = \"c\"\nsource = { type = \"http\", url = \"http://me:hunter%32@c/x\" }\n";
    let config = parse(text).unwrap();
    let crate::source::SourceConfig::Http(http) = &config.cameras[0].source else { panic!("not http") };
    let (user, password) = http.credentials.clone().unwrap();
    assert_eq!((user.as_str(), password.reveal(), http.url.as_str()), ("me", "hunter2", "http://c/x"));
    assert!(!format!("{config:?}").contains("hunter"));
}

#[test]
fn a_camera_is_told_its_format_and_controls_and_mistakes_in_them_are_named() {
    let camera = |more: &str| {
        format!(
            "[[camera]]\nname = \"porch\"\n[camera.source]\ntype = \"v4l2\"\ndevice = \"/dev/video0\"\n{more}"
        )
    };
    let config = parse(&camera("format = \"NV12\"\n[camera.source.controls]\nBrightness = 7\nfocus_auto = false\n\"Power Line Frequency\" = \"50hz\"")).unwrap();
    let expected = "/dev/video0 at 640x480 every 500ms in NV12 with brightness = 7, power_line_frequency = \"50hz\", focus_auto = false";
    assert_eq!(config.cameras[0].source.to_string(), expected);
    let found = problems(&camera(
        "format = \"H264\"\n[camera.source.controls]\ngain = 1.5\n\"Gain\" = 2\n\"gain\\u0020\" = 3\n\"?\" = 4",
    ));
    let expected = [
        "camera[0].source.format: must be one of MJPG, NV12, YUYV, UYVY, RGB3, BGR3, GREY (got \"H264\")",
        "camera[0].source.controls.?: is no name of a control, such as brightness",
        "camera[0].source.controls.gain: must be an integer, true or false, or the text of a menu's entry (got float)",
        "camera[0].source.controls.gain : gain is set twice",
    ];
    assert_eq!(found, expected);
    assert_eq!(
        problems(&camera("controls = 3")),
        ["camera[0].source.controls: must be a table (got integer)"]
    );
}

#[test]
fn homie_is_refused_where_it_would_make_one_camera_of_two() {
    let two = CAMERA.replace("yard", "back_yard") + &CAMERA.replace("yard", "back-yard");
    assert!(parse(&two).is_ok(), "without Homie they are two");
    let why = "needs another name for \"back-yard\" or \"back_yard\": both are \"back-yard\" there";
    assert_eq!(problems(&format!("[mqtt]\nhomie = true\n{two}")), [format!("mqtt.homie: {why}")]);
}

#[test]
fn outputs_are_off_unless_they_are_asked_for() {
    let of = |keys: &str| parse(&format!("[mqtt]\n{keys}\n{CAMERA}")).map(|config| config.mqtt);
    let mqtt = of("homie_domain = \"house\"").unwrap();
    assert_eq!((mqtt.homie, mqtt.onvif_prefix), (None, None));
    let mqtt = of("homie = true\nonvif_prefix = \"site/box\"").unwrap();
    assert_eq!((mqtt.homie.as_deref(), mqtt.onvif_prefix.as_deref()), (Some("homie"), Some("site/box")));
    for (keys, problem) in [
        ("homie_domain = \"a/b\"", "mqtt.homie_domain: must be one topic level"),
        ("homie_domain = \"\"", "mqtt.homie_domain: must be one topic level"),
        ("onvif_prefix = \"a/#\"", "mqtt.onvif_prefix: must be topic levels"),
    ] {
        let found = problems(&format!("[mqtt]\n{keys}\n{CAMERA}"));
        assert!(matches!(&found[..], [one] if one.starts_with(problem)), "{found:?}");
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let found = problems("[mqtt]\nhost = \n");
    assert!(found.len() == 1 && found[0].contains("line 2, column 8: "), "{found:?}");
    let found = problems("[[camera]]\nsource = { url = \"http://me:hunter2@camera/ }\n");
    assert!(found.len() == 1 && found[0].contains("line 2"), "{found:?}");
    assert!(!found[0].contains("hunter2"), "the line itself may hold a password: {found:?}");
}

#[test]
fn cameras_are_needed_and_their_names_distinct() {
    assert_eq!(problems(""), ["camera: at least one [[camera]] is needed, or a [worker]"]);
    assert_eq!(problems(&CAMERA.repeat(2)), ["camera[1].name: \"yard\" is taken"]);
}

#[test]
fn a_secret_is_read_from_its_file_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), "hunter2\n").unwrap();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo");
    let text = format!(
        "[mqtt]\nusername = \"u\"\npassword_file = \"password\"\n{}",
        CAMERA.replace("\"demo\"", &format!("\"{demo}\""))
    );
    let config = Config::parse(&text, dir.path()).unwrap();
    let (username, password) = config.mqtt.credentials.clone().unwrap();
    assert_eq!((username.as_str(), password.reveal()), ("u", "hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    std::fs::write(dir.path().join("password"), "\n").unwrap();
    let e = Config::parse(&text, dir.path()).unwrap_err().to_string();
    assert!(e.contains("mqtt.password_file") && e.contains("is empty"), "{e}");
}

#[test]
fn the_reference_holds_every_default_and_parses_with_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let text = reference::text();
    let config = Config::parse(&text, dir.path()).unwrap();
    let least = parse(CAMERA).unwrap();
    assert_eq!(format!("{:?}", config.mqtt), format!("{:?}", least.mqtt));
    assert_eq!(config.cameras[0].gate, GATE);
    assert!(config.cameras.iter().all(|camera| camera.caption_expiry() == GATE.heartbeat * 3));
    let standing = config.cameras[0].standing.clone();
    let default = CameraConfig { standing, ..CameraConfig::new("porch", config.cameras[0].source.clone()) };
    assert_eq!(format!("{:?}", config.cameras[0]), format!("{default:?}"));
    let label = parse(&format!("{CAMERA}\n[[camera.label]]\nid = \"dog\"\ntext = \"a dog\"")).unwrap();
    assert_eq!(default.standing.labels, label.cameras[0].standing.labels);

    // The keys behind a bare `#` exist too; only their values need a machine that has them.
    let found = Config::parse(&uncommented(&text), dir.path()).unwrap_err().to_string();
    assert!(!found.contains("unknown key"), "{found}");
}

#[test]
fn the_whole_reference_is_valid_as_it_stands_and_knows_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::parse(&reference::everything(), dir.path()).unwrap();
    assert!(config.cameras.len() >= 6 && config.worker.is_none() && config.http.is_none());
    let found = Config::parse(&uncommented(&reference::everything()), dir.path()).unwrap_err().to_string();
    assert!(!found.contains("unknown key"), "{found}");
}

/// The text with the keys that stand behind a bare `#`.
fn uncommented(text: &str) -> String {
    let bare = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    text.lines().fold(String::new(), |all, line| all + &bare(line).unwrap_or(line.to_owned()) + "\n")
}

#[test]
#[cfg(feature = "rtsp")]
fn the_reference_of_rtsp_holds_every_default_and_parses_with_every_key() {
    let text = reference::rtsp();
    let SourceConfig::Rtsp(full) = &parse(&text).unwrap().cameras[0].source else { panic!("not rtsp") };
    let least = CAMERA.replace(
        "type = \"replay\", path = \"demo\"",
        "type = \"rtsp\", url = \"rtsp://192.168.1.20:554/stream1\"",
    );
    let SourceConfig::Rtsp(least) = &parse(&least).unwrap().cameras[0].source else { panic!("not rtsp") };
    assert_eq!((full, full.interval, full.silence), (least, RTSP_INTERVAL, STREAM_SILENCE));
    let found = problems(&uncommented(&text));
    assert!(
        matches!(&found[..], [one] if one.starts_with("camera[0].source.password_file: read ")),
        "{found:?}"
    );
}

#[test]
fn the_reference_of_the_worker_holds_every_default_and_needs_no_camera() {
    let text = reference::worker();
    let config = parse(&text).unwrap();
    assert_eq!((config.worker, config.cameras.len()), (Some(WorkerConfig::default()), 0));
    assert_eq!(parse("[worker]").unwrap().worker, Some(WorkerConfig::default()));
    let uncommented = parse(&uncommented(&text)).unwrap().worker.unwrap();
    assert_eq!(uncommented.topic.as_deref(), Some("captiond/work/+"));
    assert_eq!(parse(CAMERA).unwrap().worker, None);
}

#[test]
fn every_mistake_about_the_worker_is_named_by_its_key() {
    let worker = |keys: &str| problems(&format!("[worker]\n{keys}\n"));
    for (keys, expected) in [
        ("group = \"a/b\"", "worker.group: must be one topic level without wildcards (got \"a/b\")"),
        (
            "topic = \"a/#/b\"",
            "worker.topic: must be a topic filter such as \"captiond/work/+\" (got \"a/#/b\")",
        ),
        ("session_expiry = \"0s\"", "worker.session_expiry: must be 1s to 1day (got 0s)"),
        ("receive_max = 65", "worker.receive_max: must be 1 to 64 (got 65)"),
        ("bytes_max = 0", "worker.bytes_max: must be 1 to 33554432 (got 0)"),
        (
            "qos = 2",
            "worker.qos: unknown key, known are: group, topic, session_expiry, receive_max, bytes_max",
        ),
        ("[mqtt]\nprotocol = \"3.1.1\"", "worker: needs mqtt.protocol = \"5\""),
    ] {
        assert_eq!(worker(keys), [expected]);
    }
}

#[test]
#[cfg(feature = "gstreamer")]
fn the_reference_of_gstreamer_holds_every_default() {
    let SourceConfig::Gstreamer(full) = &parse(&reference::gstreamer()).unwrap().cameras[0].source else {
        panic!("not gstreamer")
    };
    assert_eq!((full.interval, full.silence), (GSTREAMER_INTERVAL, STREAM_SILENCE));
}

#[test]
#[cfg(not(all(feature = "rtsp", feature = "gstreamer")))]
fn a_source_that_this_build_lacks_is_one_clear_problem() {
    for (kind, built) in [("rtsp", cfg!(feature = "rtsp")), ("gstreamer", cfg!(feature = "gstreamer"))] {
        let text = CAMERA.replace("type = \"replay\"", &format!("type = \"{kind}\""));
        let why = format!("\"{kind}\" needs a build with the feature {kind} (the packages have it)");
        if !built {
            assert_eq!(problems(&text), [format!("camera[0].source.type: {why}")]);
        }
    }
}

#[test]
fn docs_config_md_is_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, document::document()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == document::document(), "docs/config.md is stale: UPDATE_DOCS=1 writes it anew");
}
