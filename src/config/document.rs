//! `docs/config.md`: the reference and what is to know about it.

use super::reference::{gstreamer, rtsp, text, worker};
use super::{FILE, FRAGMENTS};

/// The text of `docs/config.md`.
pub fn document() -> String {
    format!(
        r#"# Configuration

This file is generated from the code (`src/config/document.rs`); a test keeps the two in step.
`UPDATE_DOCS=1 cargo test --release config` writes it anew.

`captiond run` reads `{FILE}`, or what `--config FILE` names.
`captiond check` reads the same, opens the bundle and prints what the daemon would run with, secrets left out.
`captiond config reference` prints the file below, which is valid as it stands; `captiond config schema` prints a JSON Schema of it for editors.

What is said later in this list holds:

1. the defaults;
2. the file;
3. the files `{FRAGMENTS}/*.toml` beside it, in the order of their names: a key replaces the one before, table by table, and `[[camera]]` adds a camera;
4. variables of the environment, named after the key: `CAPTIOND_MQTT_HOST` for `mqtt.host`, `CAPTIOND_THREADS` for `threads`. Cameras have no variables; an empty variable is none. `$CAPTIOND_BUNDLE` is the exception: it is looked at where no file names a bundle.

Every problem is reported at once, with its file and line, its TOML path and what is allowed, and the exit code is 78:

```text
/etc/captiond/captiond.toml:4: mqtt.prot: unknown key, known are: host, tls, ca_file, cert_file, key_file, alpn, port, protocol, username, password_file, client_id, base_topic, qos, retain, keep_alive, discovery, discovery_prefix, session_expiry, queue_dir, queue_bytes_max, queue_age_max, homie, homie_domain, onvif_prefix
/etc/captiond/conf.d/yard.toml:3: camera[1].source.interval: must be 10ms to 1day (got 1ms)
$CAPTIOND_MQTT_PORT: mqtt.port: must be 1 to 65535 (got 0)
```

Durations are strings with units (`"500ms"`, `"2s"`, `"5m"`).
Relative paths start at the folder of the file, also those of `{FRAGMENTS}` and of variables.

SIGHUP (`systemctl reload captiond`) reads everything anew while the daemon runs.
Cameras come, go and change without a word to the others, and so do their prompts, intervals, gates, questions, labels and rules; what was changed over MQTT stays unless the files say something new about it.
What cannot change is named in the log and in an event on `bridge/event`, and waits for a restart: `bundle`, `engine`, `engine_library`, `device`, `device_bytes_max`, `device_cache`, `threads`, `[http]`, `[worker]` and everything of `[mqtt]`; of a camera its `bundle`, and a larger `bytes_max` than that of any camera at the start.
A configuration with a problem changes nothing: the problems are in the log and in an event.
`$CAPTIOND_LOG` or `--log` sets what is logged to stderr, such as `debug` or `captiond::mqtt=debug`; `$CAPTIOND_LOG_FORMAT` or `--log-format` sets how, `text` or `json`.
A level for everything leaves out what the inference engine says while it loads, which is hundreds of megabytes; `trace,tract=trace` asks for that too.

Every key with its default, except the cameras, which have no default:

```toml
{}```

These two kinds of source need a build with the feature of their name, which the packages are:

```toml
{}
{}```

A daemon may look at pictures that others publish as jobs ([docs/scaling.md](scaling.md)), beside its cameras or instead of them.
This needs MQTT 5, and every worker needs a client id of its own:

```toml
{}```
"#,
        text(),
        rtsp(),
        gstreamer(),
        worker()
    )
}
