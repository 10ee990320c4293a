use super::*;
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
    assert_eq!((config.engine.as_str(), config.device), (ENGINE, Device::Cpu));
    assert_eq!((config.mqtt.host.as_str(), config.mqtt.port), (MQTT_HOST, MQTT_PORT));
    assert_eq!(config.cameras[0].gate, GATE);
    let SourceConfig::Replay(replay) = &config.cameras[0].source else { panic!("not a replay") };
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
        source = { type = "onvif", url = "rtsp://camera" }
        "#,
    );
    let expected = [
        "engine: engine abacus on cpu: this build has the engines: tract",
        "device: must be \"cpu\" or \"cuda:N\" (got \"gpu\")",
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
        "camera[2].source.type: must be \"replay\", \"v4l2\", \"rtsp\" or \"gstreamer\" (got \"onvif\")",
        "colour: unknown key, known are: bundle, engine, device, threads, mqtt, camera",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} does not start with {expected}");
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let found = problems("[mqtt]\nhost = \n");
    assert!(found.len() == 1 && found[0].contains("line 2"), "{found:?}");
}

#[test]
fn cameras_are_needed_and_their_names_distinct() {
    assert_eq!(problems(""), ["camera: at least one [[camera]] is needed"]);
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
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    let text = reference::text();
    let config = Config::parse(&text, dir.path()).unwrap();
    let least = parse(CAMERA).unwrap();
    assert_eq!(format!("{:?}", config.mqtt), format!("{:?}", least.mqtt));
    assert_eq!(config.cameras[0].gate, GATE);
    let intervals: Vec<_> = config.cameras.iter().map(CameraConfig::caption_expiry).collect();
    assert_eq!(intervals, [(GATE.refresh + V4L2_INTERVAL) * 3, (GATE.refresh + REPLAY_INTERVAL) * 3]);

    // The keys behind a bare `#` exist too; only their values need a machine that has them.
    let found = Config::parse(&uncommented(&text), dir.path()).unwrap_err().to_string();
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
        std::fs::write(&path, reference::document()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == reference::document(), "docs/config.md is stale: UPDATE_DOCS=1 writes it anew");
}
