//! The worker: takes jobs from a shared subscription, on a connection and in a session of its own.
//!
//! A job is acknowledged when the broker has its answer and not before. A worker that dies in between has lost nothing:
//! the broker hands the job over again when the worker comes back, or, where the broker can, to another one. So an
//! answer may come twice, and its requester knows it by the correlation data.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::client::{
    self, Client, Event, EventLoop, Incoming, LinkError, Outgoing, Receipt, Session, Ticket, Will,
};
use super::payload::Producer;
use super::payload::job::{self, JobRequest, parse_job};
use super::topic::{self, Topics};
use super::{BACKOFF_FIRST, BACKOFF_LONGEST, OFFLINE, ONLINE, derived_client_id};
use crate::backoff::Backoff;
use crate::config::{MqttConfig, Qos, WorkerConfig};
use crate::inbox::Inbox;
use crate::job::{Done, JOBS_MAX, Job, JobError};
use crate::shutdown::Shutdown;

/// The jobs of a lost connection may still be under way beside those of the new one.
const DONE_MAX: usize = 2 * JOBS_MAX;

/// The worker task.
pub struct Worker {
    eventloop: EventLoop,
    desk: Desk,
    done: mpsc::Receiver<Done>,
}

/// The jobs in hand, and where their answers go.
struct Desk {
    client: Client,
    inbox: Arc<Inbox>,
    topics: Topics,
    /// Without `$share/<group>/`.
    filter: String,
    config: WorkerConfig,
    producer: Producer,
    client_id: String,
    vision: usize,
    done_tx: mpsc::Sender<Done>,
    /// Those of this connection that are not acknowledged.
    jobs: HashMap<Ticket, Held>,
    n_tickets: Ticket,
    /// Jobs of this connection for which there was no room: neither answered nor acknowledged.
    n_left: usize,
    connected: bool,
    stopping: bool,
}

/// A job that is not acknowledged yet.
struct Held {
    receipt: Receipt,
    reply: Reply,
    /// None for one that is refused.
    request: Option<JobRequest>,
}

/// Where the answer goes.
#[derive(Clone)]
struct Reply {
    topic: String,
    correlation: Option<Vec<u8>>,
}

impl Worker {
    /// Prepares the task; nothing is connected until it runs. `vision` is the one that looks at the jobs' pictures,
    /// `producer` its names in payloads.
    pub fn new(
        mqtt: &MqttConfig,
        config: &WorkerConfig,
        vision: usize,
        producer: Producer,
        inbox: Arc<Inbox>,
    ) -> Worker {
        let topics = Topics::new(&mqtt.base_topic);
        let daemon_id = mqtt.client_id.clone().unwrap_or_else(|| derived_client_id(&mqtt.base_topic));
        let client_id = format!("{daemon_id}-worker");
        let will = Will { topic: topics.worker_state(&client_id), word: OFFLINE };
        let session = Session {
            will: Some(will),
            // A job that is a little too large is answered so; the broker keeps one that is far too large to itself.
            packet_bytes_max: client::PACKET_BYTES_LEAST + 2 * config.bytes_max,
            expiry: Some(config.session_expiry),
            manual_acks: true,
            receive_max: Some(config.receive_max),
            ..Session::new(&client_id)
        };
        // At QoS 0 there is no acknowledgement to hold back.
        let (client, eventloop) =
            client::client(&MqttConfig { qos: Qos::AtLeastOnce, ..mqtt.clone() }, &session);
        let (done_tx, done) = mpsc::channel(DONE_MAX);
        let desk = Desk {
            client,
            inbox,
            filter: config.topic.clone().unwrap_or_else(|| topics.jobs()),
            topics,
            config: config.clone(),
            producer,
            client_id,
            vision,
            done_tx,
            jobs: HashMap::new(),
            n_tickets: 0,
            n_left: 0,
            connected: false,
            stopping: false,
        };
        Worker { eventloop, desk, done }
    }

    /// Takes jobs until shutdown is requested, then finishes the one in inference and says offline. Without a broker it
    /// ends at once.
    pub async fn run(self, shutdown: Shutdown) {
        let Worker { mut eventloop, mut desk, mut done } = self;
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        loop {
            let polled = {
                // A poll must not be dropped half-way, so it stays while answers go out.
                let mut poll = pin!(eventloop.poll());
                loop {
                    tokio::select! {
                        polled = &mut poll => break polled,
                        Some(done) = done.recv() => desk.answer(done),
                        () = shutdown.requested(), if !desk.stopping => {
                            if !desk.connected {
                                return;
                            }
                            desk.stop().await;
                        }
                    }
                }
            };
            match polled {
                Ok(Event::Connected) => {
                    backoff.reset();
                    desk.greet().await;
                }
                // One that comes too late is not acknowledged, so it stays with the broker.
                Ok(Event::Message(message)) if !shutdown.is_requested() => desk.take(*message),
                Ok(Event::Delivered(ticket)) => desk.settle(ticket).await,
                Ok(Event::Disconnected) if desk.stopping => return,
                Ok(Event::Message(_) | Event::Subscribed | Event::Disconnected | Event::Other) => {}
                Err(e) => {
                    desk.forget();
                    let wait = match e {
                        LinkError::TakenOver(_) => BACKOFF_LONGEST,
                        LinkError::Lost(_) => backoff.next_wait(),
                    };
                    tracing::warn!(error = %e, retry_ms = wait.as_millis(), "worker has no broker, retrying");
                    let shut = tokio::time::timeout(wait, shutdown.requested()).await;
                    if shut.is_ok() {
                        return;
                    }
                }
            }
        }
    }
}

impl Desk {
    /// The broker may have kept the subscription, and may not.
    async fn greet(&mut self) {
        self.connected = true;
        let shared = topic::shared(&self.config.group, &self.filter);
        tracing::info!(filter = shared, worker = self.client_id, "worker up");
        let state = Outgoing::state(self.topics.worker_state(&self.client_id), ONLINE);
        if let Err(e) = self.client.subscribe(shared).await.and_then(|()| self.client.try_publish(state)) {
            tracing::warn!(error = %e, "worker not announced");
        }
    }

    /// The broker hands every job that was not acknowledged over again, so what comes of those in hand is of no use:
    /// a packet identifier of the old connection may be another job's on the new one.
    fn forget(&mut self) {
        self.connected = false;
        self.n_left = 0;
        self.jobs.clear();
        self.inbox.forget_jobs();
    }

    fn take(&mut self, message: Incoming) {
        if message.retained {
            return self.drop_job(&message, "it is retained");
        }
        let Some(topic) = message.response_topic.clone() else {
            return self.drop_job(&message, "it has no response topic");
        };
        if !self.topics.is_response_topic(&topic) || topic::matches(&self.filter, &topic) {
            return self.drop_job(&message, "its response topic is not usable");
        }
        let reply = Reply { topic, correlation: message.correlation.clone() };
        self.n_tickets += 1;
        let ticket = self.n_tickets;
        let parsed = self.read(&message);
        let request = parsed.as_ref().ok().cloned();
        self.jobs.insert(ticket, Held { receipt: message.receipt, reply: reply.clone(), request });
        let (request, came) = match parsed {
            Ok(request) => (request, Instant::now()),
            Err(refused) => {
                let (echo, e) = *refused;
                tracing::debug!(error = %e, topic = message.topic, "job refused");
                let payload = job::refusal(&e, echo, &self.client_id, SystemTime::now());
                return self.reply(ticket, reply, payload);
            }
        };
        let left = request.left.into_iter().chain(message.expiry).min();
        let job = Job {
            ticket,
            picture: message.payload,
            question: request.question,
            expires: left.and_then(|left| came.checked_add(left)),
            came,
            vision: self.vision,
            done: self.done_tx.clone(),
        };
        if self.inbox.put_job(job).is_err() {
            // Some brokers hand over more than they were asked to when many jobs wait (Mosquitto 2.0.11 two for each
            // that is acknowledged).
            self.jobs.remove(&ticket);
            self.n_left += 1;
        }
    }

    fn read(&self, message: &Incoming) -> Result<JobRequest, Box<(job::Echo, JobError)>> {
        let request = parse_job(&message.user_properties, SystemTime::now())?;
        let (found, most) = (message.payload.len(), self.config.bytes_max);
        let e = match () {
            () if found > most => {
                JobError::Request(format!("the picture has {found} bytes, more than {most}"))
            }
            () if message.expiry == Some(Duration::ZERO) => JobError::Expired,
            () => return Ok(request),
        };
        Err(Box::new(((&request).into(), e)))
    }

    /// Ends a job that nobody can be told about: it would else come again for ever.
    fn drop_job(&self, message: &Incoming, why: &str) {
        tracing::warn!(topic = message.topic, why, "job dropped");
        self.acknowledge(&message.receipt);
    }

    /// Publishes what came of a job, unless it belongs to a connection that is gone.
    fn answer(&mut self, done: Done) {
        let Some(Held { reply, request: Some(request), .. }) = self.jobs.get(&done.ticket) else { return };
        let now = SystemTime::now();
        let payload = match &done.outcome {
            Ok(finding) => job::found(finding, request, &self.producer, &self.client_id, now),
            Err(e) => job::refusal(e, request.into(), &self.client_id, now),
        };
        let reply = reply.clone();
        self.reply(done.ticket, reply, payload);
    }

    fn reply(&self, ticket: Ticket, reply: Reply, payload: Vec<u8>) {
        let Reply { topic, correlation } = reply;
        let message = Outgoing { correlation, ticket: Some(ticket), ..Outgoing::json(topic, payload) };
        if let Err(e) = self.client.try_publish(message) {
            // The job is not acknowledged, so it comes again with the next connection.
            tracing::warn!(error = %e, "answer of a job dropped");
        }
    }

    /// The broker has the answer.
    async fn settle(&mut self, ticket: Ticket) {
        if let Some(held) = self.jobs.remove(&ticket) {
            self.acknowledge(&held.receipt);
        }
        self.leave_when_done().await;
        if self.jobs.is_empty() && self.n_left > 0 && !self.stopping {
            // What was left comes again with the next connection, and not before.
            tracing::info!(jobs = self.n_left, "more jobs than were asked for, connecting anew");
            self.n_left = 0;
            if let Err(e) = self.client.disconnect().await {
                tracing::warn!(error = %e, "worker not disconnected");
            }
        }
    }

    fn acknowledge(&self, receipt: &Receipt) {
        if let Err(e) = self.client.acknowledge(receipt) {
            tracing::warn!(error = %e, "job not acknowledged, it will come again");
        }
    }

    /// No more jobs. The one in inference is finished; those that wait stay with the broker.
    async fn stop(&mut self) {
        self.stopping = true;
        for ticket in self.inbox.forget_jobs() {
            self.jobs.remove(&ticket);
        }
        let shared = topic::shared(&self.config.group, &self.filter);
        if let Err(e) = self.client.unsubscribe(shared).await {
            tracing::warn!(error = %e, "worker not unsubscribed");
        }
        self.leave_when_done().await;
    }

    async fn leave_when_done(&self) {
        if !self.stopping || !self.jobs.is_empty() {
            return;
        }
        let state = Outgoing::state(self.topics.worker_state(&self.client_id), OFFLINE);
        let said = self.client.try_publish(state);
        if let Err(e) = said.and(self.client.disconnect().await) {
            tracing::warn!(error = %e, "worker did not take its leave");
        }
    }
}
