//! Publishes results as values, the state of every device, and all of it again on every new connection.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::{DISCONNECTED, Devices, INIT, LOST, READY, Said, description};
use crate::message::{Captioned, Publication, Settings};
use crate::mqtt::client::{Client, LinkError};
use crate::mqtt::{SWEEP, payload, settings_of};

/// How often is looked whether the sweep is over, and for faults: those of a camera that could not even be opened are no
/// news to the watch, and others are known a moment after the camera is gone.
const TICK: Duration = Duration::from_secs(5);

pub(super) struct Publisher {
    client: Client,
    /// The same connection with QoS 0.
    momentary: Client,
    devices: Devices,
    connection: watch::Receiver<u64>,
    /// The connection that knows the devices; nothing else is said on one before that.
    greeted: u64,
    settings: Vec<Settings>,
    /// The latest caption of each camera and when it was made.
    captions: Vec<Option<(Instant, Captioned)>>,
    /// What was said last about each camera.
    states: Vec<&'static str>,
    /// Since when descriptions are listened for.
    sweeping: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(
        client: Client,
        momentary: Client,
        devices: Devices,
        connection: watch::Receiver<u64>,
    ) -> Publisher {
        let settings = devices.cameras().map(|post| settings_of(&post.config)).collect();
        let (captions, states) = (vec![None; devices.n_cameras], vec![INIT; devices.n_cameras]);
        Publisher {
            client,
            momentary,
            devices,
            connection,
            greeted: 0,
            settings,
            captions,
            states,
            sweeping: None,
        }
    }

    /// Publishes until `publications` is closed, then says goodbye and disconnects. True when the broker is there to
    /// hear it.
    pub(super) async fn run(
        mut self,
        mut publications: mpsc::Receiver<Publication>,
        mut batches: mpsc::Receiver<Vec<Said>>,
    ) -> bool {
        let mut online = self.devices.shared.health.cameras_online();
        let mut ticks = tokio::time::interval(TICK);
        loop {
            let done = tokio::select! {
                publication = publications.recv() => match publication {
                    Some(publication) => self.publish(publication).await,
                    None => break,
                },
                changed = self.connection.changed() => match changed {
                    Ok(()) => self.greet().await,
                    Err(_) => return false,
                },
                Some(batch) = batches.recv() => self.say(batch).await,
                _ = online.changed() => self.look_at_cameras().await,
                _ = ticks.tick() => self.tick().await,
            };
            if let Err(e) = done {
                tracing::error!(error = %e, "publishing by Homie ended");
                return false;
            }
        }
        self.greet().await.is_ok() && self.is_connected() && self.say_goodbye().await.is_ok()
    }

    fn is_connected(&self) -> bool {
        let now = *self.connection.borrow();
        now > 0 && now == self.greeted
    }

    async fn say(&self, batch: Vec<Said>) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Ok(());
        }
        for Said { message, is_momentary } in batch {
            let client = if is_momentary { &self.momentary } else { &self.client };
            client.publish(message).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, publication: Publication) -> Result<(), LinkError> {
        self.greet().await?;
        match publication {
            Publication::Caption(captioned) => {
                let values = self.devices.caption(&captioned, Duration::ZERO);
                let camera = captioned.frame.camera;
                self.captions[camera] = Some((Instant::now(), captioned));
                self.say(values).await
            }
            Publication::Settings(camera, settings) => {
                let values = self.devices.settings(camera, &settings);
                self.settings[camera] = settings;
                self.say(values).await
            }
            Publication::Answer(answered) => self.say(self.devices.answer(&answered)).await,
            // What stands is not among the convention's nodes of a camera.
            Publication::Standing(..)
            | Publication::StandingAnswer(..)
            | Publication::Labels(_)
            | Publication::Image(..)
            | Publication::Event(_) => Ok(()),
        }
    }

    /// Everything that a new connection must know, unless it does: `init`, descriptions and values, `ready`.
    async fn greet(&mut self) -> Result<(), LinkError> {
        let connection = *self.connection.borrow_and_update();
        if connection == std::mem::replace(&mut self.greeted, connection) || connection == 0 {
            return Ok(());
        }
        let (topics, ids) = (&self.devices.topics, self.devices.camera_ids());
        let all = || std::iter::once(topics.root_id()).chain(ids.iter().map(String::as_str));
        // A description may change in this state alone.
        self.say(all().map(|id| Said::retained(topics.state(id), INIT)).collect()).await?;
        // What was described before comes back, and what is not ours any more is taken away.
        self.client.subscribe(topics.description_filter()).await?;
        self.sweeping = Some(Instant::now());
        for id in &ids {
            self.client.subscribe(topics.set_filter(id)).await?;
        }
        let of_cameras =
            self.devices.cameras().map(|post| description::camera(topics.root_id(), &post.config));
        let documents = std::iter::once(description::root(&ids)).chain(of_cameras);
        let described = |(id, document): (&str, serde_json::Value)| {
            let text = String::from_utf8_lossy(&payload::json(&document)).into_owned();
            Said::retained(topics.description(id), &text).json()
        };
        self.say(all().zip(documents).map(described).collect()).await?;
        for (camera, settings) in self.settings.iter().enumerate() {
            self.say(self.devices.settings(camera, settings)).await?;
        }
        for (made_at, captioned) in self.captions.iter().flatten() {
            self.say(self.devices.caption(captioned, made_at.elapsed())).await?;
        }
        let root_state = topics.state(topics.root_id());
        self.states.fill(INIT);
        self.look_at_cameras().await?;
        self.say(vec![Said::retained(root_state, READY)]).await
    }

    async fn tick(&mut self) -> Result<(), LinkError> {
        self.look_at_cameras().await?;
        // Other devices' descriptions are of no interest once the broker has sent what it kept.
        if self.sweeping.is_some_and(|since| since.elapsed() >= SWEEP) && self.is_connected() {
            self.sweeping = None;
            self.client.unsubscribe(self.devices.topics.description_filter()).await?;
        }
        Ok(())
    }

    /// Says which cameras have come or gone.
    async fn look_at_cameras(&mut self) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Ok(());
        }
        let health = &self.devices.shared.health;
        let online = health.cameras_online().borrow().clone();
        let mut news = Vec::new();
        for (camera, (online, said)) in online.into_iter().zip(&mut self.states).enumerate() {
            let word = state(online, said, health.camera_fault(camera).is_some());
            if std::mem::replace(said, word) != word {
                news.push(Said::retained(self.devices.topics.state(&self.devices.camera_id(camera)), word));
            }
        }
        self.say(news).await
    }

    async fn say_goodbye(&self) -> Result<(), LinkError> {
        let (topics, ids) = (&self.devices.topics, self.devices.camera_ids());
        let all = ids.iter().map(String::as_str).chain([topics.root_id()]);
        self.say(all.map(|id| Said::retained(topics.state(id), DISCONNECTED)).collect()).await?;
        self.client.disconnect().await
    }
}

/// The state of a camera after `before`. One that has neither delivered nor failed is still being opened; one that ends
/// without a fault, as every camera does when the daemon stops, has left in good order.
fn state(online: bool, before: &str, has_failed: bool) -> &'static str {
    match online {
        true => READY,
        false if has_failed => LOST,
        false if before == INIT => INIT,
        false => DISCONNECTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_is_ready_while_it_delivers_and_lost_when_it_has_failed() {
        assert_eq!(state(false, INIT, false), INIT);
        assert_eq!(state(false, INIT, true), LOST);
        assert_eq!(state(true, INIT, false), READY);
        assert_eq!(state(true, LOST, true), READY);
        assert_eq!(state(false, READY, true), LOST);
        assert_eq!(state(false, READY, false), DISCONNECTED);
        assert_eq!(state(false, DISCONNECTED, true), LOST);
    }
}
