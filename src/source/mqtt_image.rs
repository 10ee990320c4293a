//! Pictures that somebody publishes over MQTT. The listener takes them from the broker; here they become frames.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::mailbox::{Letter, Mailbox};
use crate::photo;
use crate::shutdown::Shutdown;

/// Which messages are pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttImageConfig {
    /// JPEG or PNG, one a message; no wildcards.
    pub topic: String,
    /// Larger ones are refused before they are decoded.
    pub bytes_max: usize,
}

impl fmt::Display for MqttImageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pictures on the topic {}, at most {} bytes", self.topic, self.bytes_max)
    }
}

/// The end of the mailbox.
#[derive(Debug)]
pub struct MqttImages {
    config: MqttImageConfig,
    mailbox: Arc<Mailbox>,
}

impl MqttImages {
    pub fn open(config: &MqttImageConfig, mailbox: &Arc<Mailbox>) -> MqttImages {
        MqttImages { config: config.clone(), mailbox: Arc::clone(mailbox) }
    }
}

/// Between two looks at the switch that ends the daemon.
const PATIENCE: Duration = Duration::from_millis(500);

impl Source for MqttImages {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let until = Instant::now() + NEXT_MAX / 2;
        while !shutdown.is_requested() {
            if let Some(letter) = self.mailbox.take(PATIENCE) {
                return Ok(decoded(&letter, &self.config));
            }
            if Instant::now() >= until {
                return Ok(Capture::Nothing);
            }
        }
        Ok(Capture::Interrupted)
    }
}

fn decoded(letter: &Letter, config: &MqttImageConfig) -> Capture {
    let broken = |why: String| Capture::Broken { what: format!("message on {}", config.topic), why };
    if letter.bytes.len() > config.bytes_max {
        return broken(format!("{} bytes are more than {}", letter.bytes.len(), config.bytes_max));
    }
    let started = Instant::now();
    match photo::decode(&letter.bytes) {
        Ok(pixels) => Capture::Image(Image {
            pixels,
            file: None,
            captured_at: letter.came_at,
            taken: letter.came,
            decode: started.elapsed(),
        }),
        Err(e) => broken(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;

    const PHOTO: &[u8] = include_bytes!("../../assets/demo/cat.jpg");

    fn after(bytes: &'static [u8], bytes_max: usize) -> Capture {
        let mailbox = Arc::new(Mailbox::default());
        let config = MqttImageConfig { topic: "gate/picture".to_owned(), bytes_max };
        let mut source = MqttImages::open(&config, &mailbox);
        let bytes = Bytes::from_static(bytes);
        mailbox.put(Letter { bytes, came: Instant::now(), came_at: SystemTime::now() });
        source.next(&Shutdown::new()).unwrap()
    }

    #[test]
    fn a_message_becomes_a_picture_and_a_bad_one_is_named() {
        assert!(
            matches!(after(PHOTO, 1 << 20), Capture::Image(image) if image.pixels.dimensions() == (451, 300))
        );
        let Capture::Broken { what, why } = after(PHOTO, 1000) else { panic!("not refused") };
        assert!(what.contains("gate/picture") && why.contains("more than 1000"), "{what}: {why}");
        assert!(matches!(after(b"no picture", 1000), Capture::Broken { .. }));
    }
}
