//! Turns results into messages, and publishes the whole retained state again on every new connection, since the broker
//! may have forgotten it.

mod news;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use tokio::sync::mpsc;

use super::client::{Client, LinkError, Outgoing, Ticket};
use super::outbox::{Kept, Outbox};
use super::outputs::Outputs;
use super::payload;
use super::{Connection, Link, OFFLINE, ONLINE, SWEEP, Shared};
use crate::health::{self, Count};
use crate::message::{Captioned, Publication, Settings};
use crate::standing::StandingConfig;
pub use news::{News, RosterChange};

const STATS_INTERVAL: Duration = Duration::from_secs(60);
/// How long the last messages may take to be acknowledged.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// `systemctl status` may lag by so much.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The publishing task.
pub struct Publisher {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    /// Tickets of what the broker has acknowledged.
    pub(super) deliveries: mpsc::Receiver<Ticket>,
    pub(super) outbox: Outbox,
    pub(super) is_connected: bool,
    /// The connection that was greeted last, and how often.
    pub(super) greeted: Link,
    /// The current captions are to be said again, after what is older.
    pub(super) owes_captions: bool,
    pub(super) settings: Vec<Settings>,
    /// The retained state of labels and standing questions, by topic. As many as stand.
    pub(super) states: BTreeMap<String, Outgoing>,
    /// Which cameras came and went so far.
    pub(super) said_online: Vec<bool>,
    /// The latest caption of each camera and when it was made.
    pub(super) captions: Vec<Option<(Instant, Captioned)>>,
    pub(super) started: Instant,
    /// Since when former descriptions are listened for.
    pub(super) sweeping: Option<Instant>,
    pub(super) outputs: Outputs,
    pub(super) news: mpsc::Receiver<News>,
}

impl Publisher {
    /// Publishes until `publications` is closed, then says offline and disconnects. True when the
    /// broker is there to hear it; the listener then ends by itself.
    pub async fn run(mut self, mut publications: mpsc::Receiver<Publication>) -> bool {
        let mut online = self.shared.health.cameras_online();
        let mut stats = tokio::time::interval(STATS_INTERVAL);
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        stats.tick().await;
        loop {
            let done = tokio::select! {
                publication = publications.recv() => match publication {
                    Some(publication) => self.publish(publication).await,
                    None => break,
                },
                Some(news) = self.news.recv() => self.hear(news).await,
                changed = self.connection.changed() => match changed {
                    Ok(()) => self.turn().await,
                    // The listener is gone before its time: nothing can be published any more.
                    Err(_) => return false,
                },
                Some(ticket) = self.deliveries.recv() => {
                    self.outbox.delivered(ticket);
                    self.catch_up().await
                }
                _ = online.changed() => match self.publish_availability().await {
                    Ok(()) => self.publish_changes().await,
                    Err(e) => Err(e),
                },
                _ = stats.tick() => self.publish_stats().await,
                _ = status.tick() => {
                    self.shared.health.set_queued(self.outbox.n_waiting());
                    health::notify(&[NotifyState::Status(&self.shared.health.status_line())]);
                    tokio::task::block_in_place(|| self.outbox.sync());
                    self.end_sweep().await
                }
            };
            if let Err(e) = done {
                tracing::error!(error = %e, "publishing ended");
                return false;
            }
        }
        let said = self.is_connected && self.say_goodbye().await.is_ok();
        self.put_away();
        tokio::task::block_in_place(|| self.outbox.sync());
        said
    }

    /// The connection has come or gone.
    async fn turn(&mut self) -> Result<(), LinkError> {
        let link = *self.connection.borrow_and_update();
        // Also when it has come back meanwhile: what was on its way over the last one is not.
        if self.greeted.connection != link.connection {
            self.put_away();
        }
        self.greeted = link;
        self.is_connected = link.connection > 0;
        if self.is_connected { self.greet().await } else { Ok(()) }
    }

    /// Keeps what the lost connection did not deliver.
    fn put_away(&mut self) {
        // Acknowledgements that came before the loss.
        while let Ok(ticket) = self.deliveries.try_recv() {
            self.outbox.delivered(ticket);
        }
        let n_lost = self.outbox.disconnected(SystemTime::now());
        self.count_dropped(0, n_lost);
    }

    /// Sends what waits, as much as may be on its way; when all of it is out, says how things stand now.
    async fn catch_up(&mut self) -> Result<(), LinkError> {
        if !self.is_connected {
            return Ok(());
        }
        while let Some(message) = self.outbox.replay() {
            self.client.publish(message).await?;
        }
        if self.owes_captions && !self.outbox.is_behind() {
            self.publish_captions().await?;
        }
        Ok(())
    }

    /// The current caption of each camera, once more.
    async fn publish_captions(&mut self) -> Result<(), LinkError> {
        self.owes_captions = false;
        for (made_at, captioned) in self.captions.iter_mut().flatten() {
            let Some(message) = self.shared.caption(captioned, made_at.elapsed()) else { continue };
            self.client.publish(message).await?;
            captioned.changed = false;
        }
        Ok(())
    }

    /// Other devices' descriptions are of no interest once the broker has sent what it kept.
    async fn end_sweep(&mut self) -> Result<(), LinkError> {
        let is_over = self.sweeping.is_some_and(|since| since.elapsed() >= SWEEP);
        if !is_over || !self.is_connected {
            return Ok(());
        }
        self.sweeping = None;
        for filter in self.shared.sweep_filters() {
            self.client.unsubscribe(filter).await?;
        }
        Ok(())
    }

    /// Everything that a new connection must know.
    async fn greet(&mut self) -> Result<(), LinkError> {
        let topics = &self.shared.topics;
        self.client.subscribe(topics.ask_filter()).await?;
        self.client.subscribe(topics.describe("+")).await?;
        self.client.subscribe(topics.set_filter()).await?;
        self.client.subscribe(topics.standing_filter()).await?;
        self.client.subscribe(topics.request_filter()).await?;
        // What was said before comes back, and what is not configured any more is taken away.
        for filter in self.shared.sweep_filters() {
            self.client.subscribe(filter).await?;
        }
        self.sweeping = Some(Instant::now());
        let present = self.shared.cameras.present();
        for (_, camera) in &present {
            if let Some((topic, _)) = camera.config.pictures() {
                self.client.subscribe(topic.to_owned()).await?;
            }
        }
        let info = self.shared.info();
        let info = Outgoing { retain: true, ..Outgoing::json(topics.bridge_info(), payload::json(&info)) };
        self.client.publish(info).await?;
        self.publish_availability().await?;
        self.publish_changes().await?;
        for (camera, _) in &present {
            self.publish_settings(*camera).await?;
        }
        for state in self.states.values() {
            self.client.publish(state.clone()).await?;
        }
        self.owes_captions = true;
        self.catch_up().await?;
        if let Some(discovery) = &self.shared.discovery {
            self.client.subscribe(discovery.status()).await?;
            for description in self.shared.descriptions() {
                self.client.publish(description).await?;
            }
        }
        // Last, so that whoever sees `online` finds the rest in place.
        let online = Outgoing::state(self.shared.topics.bridge_state(), ONLINE);
        self.client.publish(online).await
    }

    /// How things stand is retained; that they changed is an event.
    async fn publish_changes(&mut self) -> Result<(), LinkError> {
        let online = self.shared.health.cameras_online().borrow().clone();
        for (camera, _) in self.shared.cameras.present() {
            let is_online = online[camera];
            // What cannot be kept is said over the next connection, if it is still so.
            if self.said_online[camera] != is_online {
                let event = self.shared.bridge_event(camera, is_online);
                if self.keep(camera, event).await? {
                    self.said_online[camera] = is_online;
                }
            }
        }
        Ok(())
    }

    async fn publish_availability(&self) -> Result<(), LinkError> {
        if !self.is_connected {
            return Ok(());
        }
        let online = self.shared.health.cameras_online().borrow().clone();
        for (camera, post) in self.shared.cameras.present() {
            let word = if online[camera] { ONLINE } else { OFFLINE };
            let topic = self.shared.topics.availability(&post.config.name);
            self.client.publish(Outgoing::state(topic, word)).await?;
        }
        Ok(())
    }

    async fn publish_settings(&self, camera: usize) -> Result<(), LinkError> {
        if !self.is_connected {
            return Ok(());
        }
        let post = self.shared.cameras.at(camera);
        let (topics, name) = (&self.shared.topics, &post.config.name);
        let Settings { enabled, min_interval, prompt } = &self.settings[camera];
        let interval = min_interval.as_secs_f64().to_string();
        for (topic, word) in [
            (topics.enabled(name), if *enabled { "ON" } else { "OFF" }),
            (topics.interval(name), &interval),
            (topics.prompt(name), prompt),
        ] {
            self.client.publish(Outgoing::state(topic, word)).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, publication: Publication) -> Result<(), LinkError> {
        // A new connection is greeted first, or the greeting would say this caption once more.
        if self.connection.has_changed().unwrap_or(false) {
            self.turn().await?;
        }
        // A camera is known before anything comes of it.
        while let Ok(news) = self.news.try_recv() {
            self.hear(news).await?;
        }
        let post = self.shared.cameras.at(publication.camera());
        if post.is_gone {
            return Ok(());
        }
        self.outputs.forward(&publication, &self.shared.health);
        if let Some(event) = self.outputs.event(&publication, &post.config.name) {
            self.keep(publication.camera(), event).await?;
        }
        match publication {
            Publication::Caption(captioned) => self.publish_caption(captioned).await,
            Publication::Settings(camera, settings) => {
                self.settings[camera] = settings;
                self.publish_settings(camera).await
            }
            Publication::Standing(camera, config) => self.stand(camera, config).await,
            Publication::StandingAnswer(id, answered) => {
                let state = self.shared.standing_answer(&id, &answered);
                self.publish_state(state).await
            }
            Publication::Labels(labels) => {
                let state = self.shared.labels(&labels);
                self.publish_state(state).await
            }
            Publication::Image(camera, jpeg) => {
                let state = self.shared.image(camera, jpeg);
                self.publish_state(state).await
            }
            Publication::Event(event) => {
                let message = self.shared.event(&event);
                self.keep(event.frame.camera, message).await.map(drop)
            }
            Publication::Answer(answered) if self.is_connected => {
                self.client.publish(self.shared.answer(&answered)).await
            }
            Publication::Answer(answered) => {
                self.count_dropped(answered.ask.camera, 1);
                Ok(())
            }
        }
    }

    /// Publishes what is retained, and remembers it for the next connection.
    async fn publish_state(&mut self, state: Outgoing) -> Result<(), LinkError> {
        self.states.insert(state.topic.clone(), state.clone());
        if self.is_connected { self.client.publish(state).await } else { Ok(()) }
    }

    /// Takes over what stands for a camera: the state of what is gone goes, and Home Assistant hears of it.
    async fn stand(&mut self, camera: usize, config: StandingConfig) -> Result<(), LinkError> {
        let name = self.shared.cameras.at(camera).config.name.clone();
        let former = self.shared.replace_standing(camera, config);
        let current = self.shared.standing(camera);
        let is_gone = |id: &String| !current.questions.iter().any(|question| question.id == *id);
        let ids = former.questions.iter().map(|question| question.id.clone()).filter(is_gone);
        let mut gone: Vec<String> = ids.map(|id| self.shared.topics.question(&name, &id)).collect();
        if current.labels.is_empty() && !former.labels.is_empty() {
            gone.push(self.shared.topics.labels(&name));
        }
        gone.iter().for_each(|topic| drop(self.states.remove(topic)));
        if !self.is_connected {
            return Ok(());
        }
        for topic in gone {
            self.client.publish(Outgoing::nothing(topic)).await?;
        }
        for message in self.shared.redescribed(camera, &former) {
            self.client.publish(message).await?;
        }
        Ok(())
    }

    /// A new scene is kept until the broker has it; that an old one is still true is not.
    async fn publish_caption(&mut self, captioned: Captioned) -> Result<(), LinkError> {
        let (camera, is_new) = (captioned.frame.camera, captioned.changed);
        tracing::debug!(camera, seq = captioned.frame.seq, "caption");
        let Some(message) = self.shared.caption(&captioned, Duration::ZERO) else { return Ok(()) };
        if is_new {
            let arrives = self.keep(camera, message).await?;
            // Said again, it is no news, unless nobody has heard of it.
            let captioned = Captioned { changed: !arrives, ..captioned };
            self.captions[camera] = Some((Instant::now(), captioned));
            return Ok(());
        }
        self.captions[camera] = Some((Instant::now(), captioned));
        if self.is_connected && !self.outbox.is_behind() {
            return self.client.publish(message).await;
        }
        self.owes_captions = true;
        Ok(())
    }

    /// Publishes a message that is to arrive, sooner or later. False when it is lost.
    async fn keep(&mut self, camera: usize, message: Outgoing) -> Result<bool, LinkError> {
        match self.outbox.keep(message, self.is_connected, SystemTime::now()) {
            Kept::Send(message) => self.client.publish(message).await?,
            Kept::Stored { n_dropped } => {
                self.count_dropped(camera, n_dropped);
                self.catch_up().await?;
            }
            Kept::Lost => {
                self.count_dropped(camera, 1);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Old messages of the queue do not say whose they were: they count for the camera that needed the room.
    fn count_dropped(&self, camera: usize, n: u64) {
        for _ in 0..n {
            self.shared.health.count(camera, Count::Dropped);
        }
    }

    async fn publish_stats(&self) -> Result<(), LinkError> {
        if !self.is_connected {
            return Ok(());
        }
        let stats = self.shared.stats(self.started.elapsed(), self.outbox.n_waiting());
        let topic = self.shared.topics.bridge_stats();
        self.client.publish(Outgoing::json(topic, payload::json(&stats))).await
    }

    async fn say_goodbye(&mut self) -> Result<(), LinkError> {
        self.publish_availability().await?;
        self.client.publish(Outgoing::state(self.shared.topics.bridge_state(), OFFLINE)).await?;
        // What is not acknowledged by then waits for the next start.
        let acknowledged = async {
            while self.outbox.n_in_flight() > 0 {
                let Some(ticket) = self.deliveries.recv().await else { return };
                self.outbox.delivered(ticket);
            }
        };
        drop(tokio::time::timeout(LAST_WORDS, acknowledged).await);
        self.client.disconnect().await
    }
}
