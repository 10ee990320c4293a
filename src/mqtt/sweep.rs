//! What an earlier configuration left at the broker: devices, entities and states that nobody would take away.

use super::client::{Incoming, Outgoing};
use super::{Shared, payload};
use crate::config::CameraConfig;
use crate::standing::StandingConfig;

impl Shared {
    /// What is listened to for a while after every connection.
    pub(super) fn sweep_filters(&self) -> Vec<String> {
        let discovery = self.discovery.as_ref().map(|discovery| discovery.config_filter());
        discovery.into_iter().chain(self.topics.aspect_filters()).collect()
    }

    /// What takes it away, if a message is a leftover.
    pub(super) fn leftover(&self, message: &Incoming) -> Vec<Outgoing> {
        if !message.retained || message.payload.is_empty() {
            return Vec::new();
        }
        let topic = &message.topic;
        if self.is_stale_device(topic) || self.is_stale_state(topic) {
            return vec![Outgoing::nothing(topic.clone())];
        }
        self.without_stale_entities(topic, &message.payload)
    }

    /// Whether this describes a device of ours that is not in the configuration any more.
    fn is_stale_device(&self, topic: &str) -> bool {
        let Some(discovery) = &self.discovery else { return false };
        let current = |id: String| discovery.config(&id) == topic;
        let is_current = current(discovery.bridge_id())
            || self.place_of(|camera| current(discovery.camera_id(&camera.name))).is_some();
        discovery.is_ours(topic) && !is_current
    }

    /// Whether this is the state of a camera, a question or labels that are not there any more.
    fn is_stale_state(&self, topic: &str) -> bool {
        let Some((name, aspect)) = self.topics.aspect_of(topic) else { return false };
        let Some(camera) = self.camera_named(name) else { return true };
        let standing = self.standing(camera);
        match aspect.strip_prefix("question/") {
            Some(id) => !standing.questions.iter().any(|question| question.id == id),
            None if aspect == "labels" => standing.labels.is_empty(),
            None => aspect == "image" && !self.cameras.at(camera).config.image,
        }
    }

    /// A description of ours that names entities which are not there any more: they go when they are named once without
    /// their keys, and then not at all.
    fn without_stale_entities(&self, topic: &str, payload: &[u8]) -> Vec<Outgoing> {
        let Some(discovery) = &self.discovery else { return Vec::new() };
        let is_it = |camera: &CameraConfig| discovery.config(&discovery.camera_id(&camera.name)) == topic;
        let Some(camera) = self.place_of(is_it) else { return Vec::new() };
        let Ok(old) = serde_json::from_slice(payload) else { return Vec::new() };
        self.described_after(camera, &old, &self.standing(camera))
    }

    /// What Home Assistant is told when other things stand for a camera.
    pub(super) fn redescribed(&self, camera: usize, former: &StandingConfig) -> Vec<Outgoing> {
        let Some(discovery) = &self.discovery else { return Vec::new() };
        let (_, old) =
            payload::discovery::camera(discovery, &self.topics, &self.cameras.at(camera).config, former);
        let mut messages = self.described_after(camera, &old, &self.standing(camera));
        if messages.is_empty() {
            messages.extend(self.described(camera));
        }
        messages
    }

    /// The farewell to what only the old description has, and the new one; nothing when nothing goes.
    fn described_after(
        &self,
        camera: usize,
        old: &serde_json::Value,
        standing: &StandingConfig,
    ) -> Vec<Outgoing> {
        let Some(discovery) = &self.discovery else { return Vec::new() };
        let (topic, new) =
            payload::discovery::camera(discovery, &self.topics, &self.cameras.at(camera).config, standing);
        let Some(farewell) = payload::discovery::farewell(old, &new) else { return Vec::new() };
        let message =
            |payload| Outgoing { retain: true, ..Outgoing::json(topic.clone(), payload::json(&payload)) };
        vec![message(farewell), message(new)]
    }

    /// The description of a camera.
    pub(super) fn described(&self, camera: usize) -> Option<Outgoing> {
        let discovery = self.discovery.as_ref()?;
        let standing = self.standing(camera);
        let (topic, payload) =
            payload::discovery::camera(discovery, &self.topics, &self.cameras.at(camera).config, &standing);
        Some(Outgoing { retain: true, ..Outgoing::json(topic, payload::json(&payload)) })
    }
}
