//! Whether the broker of a configuration can be used: reached, logged in to, published to and heard from.

use std::time::Duration;

use super::client::{self, Event, LinkError, Outgoing, Session};
use super::derived_client_id;
use super::topic::Topics;
use crate::config::MqttConfig;

/// Longest time without a word from the broker.
const SILENCE: Duration = Duration::from_secs(5);

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("no connection: {0}")]
    NoConnection(LinkError),
    #[error("nothing answers within {SILENCE:?}")]
    Silent,
    #[error("the connection was lost: {0}")]
    Lost(#[from] LinkError),
    #[error("a message to {topic} was taken and did not come back")]
    NotHeard { topic: String },
}

/// Connects beside a daemon that may run, publishes a message that nobody keeps, and hears it. Blocks the task.
///
/// # Errors
/// The first thing that does not work.
pub async fn probe(config: &MqttConfig) -> Result<(), ProbeError> {
    let client_id = config.client_id.clone().unwrap_or_else(|| derived_client_id(&config.base_topic));
    let config = MqttConfig { session_expiry: None, ..config.clone() };
    let (client, mut eventloop) = client::client(&config, &Session::new(&format!("{client_id}-d")));
    loop {
        match tokio::time::timeout(SILENCE, eventloop.poll()).await {
            Ok(Ok(Event::Connected)) => break,
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(ProbeError::NoConnection(e)),
            Err(_) => return Err(ProbeError::Silent),
        }
    }
    let topic = Topics::new(&config.base_topic).bridge_marker();
    client.subscribe(topic.clone()).await?;
    client.publish(Outgoing::json(topic.clone(), b"{}".to_vec())).await?;
    let heard = async {
        loop {
            if let Event::Message(message) = eventloop.poll().await?
                && message.topic == topic
            {
                return Ok::<(), LinkError>(());
            }
        }
    };
    match tokio::time::timeout(SILENCE, heard).await {
        Ok(heard) => heard?,
        Err(_) => return Err(ProbeError::NotHeard { topic }),
    }
    client.disconnect().await?;
    // An orderly end is a courtesy: the answer is known.
    drop(tokio::time::timeout(SILENCE, eventloop.closed()).await);
    Ok(())
}
