//! Where results go beside the daemon's own topics, each of them optional.

use tokio::sync::mpsc;

use super::client::Outgoing;
use super::payload;
use super::payload::onvif::scene_event;
use super::topic::OnvifTopics;
use crate::health::{Count, Health};
use crate::message::Publication;

/// The outputs that are configured.
pub(super) struct Outputs {
    /// To the devices of the Homie convention, which have a connection of their own, and how many cameras it knows.
    pub(super) homie: Option<(mpsc::Sender<Publication>, usize)>,
    pub(super) onvif: Option<OnvifTopics>,
}

impl Outputs {
    /// Hands a result on. Never waits: full means dropped and counted.
    pub(super) fn forward(&self, publication: &Publication, health: &Health) {
        let Some((homie, n_cameras)) = &self.homie else { return };
        if publication.camera() < *n_cameras && homie.try_send(publication.clone()).is_err() {
            health.count(publication.camera(), Count::Dropped);
        }
    }

    /// The ONVIF event of a result, where there is one.
    pub(super) fn event(&self, publication: &Publication, camera: &str) -> Option<Outgoing> {
        let topics = self.onvif.as_ref()?;
        let event = scene_event(publication, camera)?;
        Some(Outgoing::json(topics.scene_text(camera), payload::json(&event)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Settings;

    #[test]
    fn what_finds_the_channel_full_is_dropped_and_counted() {
        let (homie, mut publications) = mpsc::channel(1);
        let (outputs, health) = (Outputs { homie: Some((homie, 2)), onvif: None }, Health::new(2, None));
        for prompt in ["first", "second"] {
            let settings =
                Settings { enabled: true, min_interval: Duration::ZERO, prompt: prompt.to_owned() };
            outputs.forward(&Publication::Settings(1, settings), &health);
        }
        assert_eq!((health.counters(0).dropped, health.counters(1).dropped), (0, 1));
        let kept = publications.try_recv().unwrap();
        assert!(matches!(kept, Publication::Settings(1, settings) if settings.prompt == "first"));
        assert!(publications.try_recv().is_err());
    }
}
