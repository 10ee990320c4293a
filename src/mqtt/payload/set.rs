//! Reads wishes for other settings: plain words and numbers, as switches and sliders send them.

use std::time::Duration;

use crate::config::{PROMPT_CHARS_MAX, is_prompt};
use crate::message::Changes;

/// Longest payload of a wish, in bytes.
const SET_BYTES_MAX: usize = 1 << 10;
/// Longest time between two captions.
pub const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// The wish of a payload on the topic of a setting.
///
/// # Errors
/// What would be understood.
pub fn parse_set(setting: &str, payload: &[u8]) -> Result<Changes, String> {
    let text = match std::str::from_utf8(payload) {
        Ok(text) if payload.len() <= SET_BYTES_MAX => text.trim(),
        _ => return Err(format!("at most {SET_BYTES_MAX} bytes of text are understood")),
    };
    let changes = Changes::default();
    match setting {
        "enabled" => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" => Ok(Changes { enabled: Some(true), ..changes }),
            "off" | "false" | "0" => Ok(Changes { enabled: Some(false), ..changes }),
            _ => Err("ON or OFF is understood".to_owned()),
        },
        "interval" => {
            let seconds = text.parse().ok().and_then(|s: f64| Duration::try_from_secs_f64(s).ok());
            let min_interval = seconds.filter(|interval| *interval <= INTERVAL_MAX);
            min_interval
                .map(|interval| Changes { min_interval: Some(interval), ..changes })
                .ok_or_else(|| format!("0 to {} seconds are understood", INTERVAL_MAX.as_secs()))
        }
        "prompt" if !is_prompt(text) => {
            Err(format!("one line of at most {PROMPT_CHARS_MAX} characters is understood"))
        }
        "prompt" => Ok(Changes { prompt: Some(text.to_owned()), ..changes }),
        _ => Err("there is no such setting: enabled, interval and prompt are".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_switches_and_sliders_send() {
        for (setting, payload, changes) in [
            ("enabled", "OFF", Changes { enabled: Some(false), ..Changes::default() }),
            ("enabled", " true\n", Changes { enabled: Some(true), ..Changes::default() }),
            (
                "interval",
                "2.5",
                Changes { min_interval: Some(Duration::from_millis(2500)), ..Changes::default() },
            ),
            ("prompt", "", Changes { prompt: Some(String::new()), ..Changes::default() }),
            (
                "prompt",
                "at the gate",
                Changes { prompt: Some("at the gate".to_owned()), ..Changes::default() },
            ),
        ] {
            assert_eq!(parse_set(setting, payload.as_bytes()), Ok(changes), "{setting} {payload}");
        }
    }

    #[test]
    fn refuses_everything_else_with_what_it_understands() {
        let long = "x".repeat(PROMPT_CHARS_MAX + 1);
        for (setting, payload) in [
            ("enabled", &b"maybe"[..]),
            ("interval", b"-1"),
            ("interval", b"NaN"),
            ("interval", b"1e30"),
            ("interval", b"86401"),
            ("prompt", b"a\nb"),
            ("prompt", long.as_bytes()),
            ("prompt", b"\xFF"),
            ("prompt", &[b' '; SET_BYTES_MAX + 1]),
            ("volume", b"11"),
        ] {
            assert!(parse_set(setting, payload).unwrap_err().contains(' '), "{setting}");
        }
    }
}
