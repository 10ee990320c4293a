//! Takes everything of a daemon away that a broker keeps: its topics, its devices in Home Assistant and in Homie.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::{self, Client, Event, EventLoop, Incoming, LinkError, Outgoing, Session};
use super::topic::{DiscoveryTopics, HomieTopics, Topics};
use super::{ONLINE, derived_client_id};
use crate::config::MqttConfig;

/// Longest time without a message from the broker.
const SILENCE: Duration = Duration::from_secs(10);

/// Why nothing, or not everything, was taken away.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    #[error("the daemon is running, and would publish all of it again: stop it first")]
    Running,
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("the broker said nothing for {SILENCE:?}")]
    Silent,
}

/// The topics that were taken away, in order. Blocks the task until the broker has acknowledged all of them.
///
/// # Errors
/// When the daemon of this configuration is online, or the broker does not answer.
pub async fn purge(config: &MqttConfig) -> Result<Vec<String>, PurgeError> {
    let topics = Topics::new(&config.base_topic);
    let client_id = config.client_id.clone().unwrap_or_else(|| derived_client_id(&config.base_topic));
    // The daemon's own client id would throw the daemon out.
    let (client, eventloop) = client::client(config, &Session::new(&format!("{client_id}-p")));
    let discovery = config.discovery.as_deref().map(|prefix| DiscoveryTopics::new(prefix, &client_id));
    let homie = config.homie.as_deref().map(|domain| HomieTopics::new(domain, &client_id));
    let mut purge = Purge { client, eventloop, topics, discovery, homie, found: BTreeSet::new() };
    purge.find().await?;
    purge.remove().await
}

struct Purge {
    client: Client,
    eventloop: EventLoop,
    topics: Topics,
    discovery: Option<DiscoveryTopics>,
    homie: Option<HomieTopics>,
    found: BTreeSet<String>,
}

impl Purge {
    async fn next(&mut self) -> Result<Event, PurgeError> {
        Ok(tokio::time::timeout(SILENCE, self.eventloop.poll())
            .await
            .map_err(|_elapsed| PurgeError::Silent)??)
    }

    /// Collects what is retained. The broker sends that before what is published later, so a message of our own is the
    /// end of it.
    async fn find(&mut self) -> Result<(), PurgeError> {
        while !matches!(self.next().await?, Event::Connected) {}
        let discovery = self.discovery.as_ref().map(DiscoveryTopics::config_filter);
        let homie = self.homie.as_ref().map(HomieTopics::every_filter);
        for filter in [discovery, homie].into_iter().flatten().chain([self.topics.every_filter()]) {
            self.client.subscribe(filter).await?;
        }
        let end = self.topics.bridge_marker();
        self.client.publish(Outgoing::json(end.clone(), b"{}".to_vec())).await?;
        loop {
            if let Event::Message(message) = self.next().await? {
                if message.topic == end {
                    return Ok(());
                }
                self.take(*message)?;
            }
        }
    }

    fn take(&mut self, message: Incoming) -> Result<(), PurgeError> {
        let Incoming { topic, payload, retained, .. } = message;
        if !retained || payload.is_empty() {
            return Ok(());
        }
        if topic == self.topics.bridge_state() && payload == ONLINE.as_bytes() {
            return Err(PurgeError::Running);
        }
        let is_ours = self.topics.is_ours(&topic)
            || self.discovery.as_ref().is_some_and(|discovery| discovery.is_ours(&topic))
            || self.homie.as_ref().is_some_and(|homie| homie.is_ours(&topic));
        if is_ours {
            self.found.insert(topic);
        }
        Ok(())
    }

    async fn remove(mut self) -> Result<Vec<String>, PurgeError> {
        let found: Vec<String> = std::mem::take(&mut self.found).into_iter().collect();
        for (n_removed, topic) in found.iter().enumerate() {
            let message = Outgoing { ticket: Some(n_removed as u64), ..Outgoing::nothing(topic.clone()) };
            self.client.publish(message).await?;
            // One at a time: the queue to the connection is short, and only polling empties it.
            while !matches!(self.next().await?, Event::Delivered(_)) {}
        }
        self.client.disconnect().await?;
        while !matches!(self.next().await?, Event::Disconnected) {}
        self.eventloop.closed().await;
        Ok(found)
    }
}
