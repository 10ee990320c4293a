//! The daemon: cameras in, sentences out over MQTT.
//!
//! Start reading at [`daemon`], then [`pipeline`]. Modules that never import each other (`source`,
//! `pipeline`, `mqtt`) meet in [`inbox`] and in `daemon`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`allocator`] | settings of the C library's allocator |
//! | [`cli`] | the commands, their output and exit codes |
//! | [`clock`] | the local time of day |
//! | [`config`] | the configuration file, checked; where a bundle is looked for |
//! | [`daemon`] | the only place that spawns: builds the parts, waits, drains in order |
//! | [`source`] | where frames come from, and what is done to every picture |
//! | [`captures`] | looks after the capture threads, and replaces one that hangs |
//! | [`inbox`] | hands the newest frame of each camera, and questions, to the inference thread |
//! | [`job`] | pictures that others publish, and what was found in them |
//! | [`metrics`] | how long the stages take, and every counter for Prometheus |
//! | [`status`] | what is told over HTTP |
//! | [`pressure`] | heat and short memory, noticed before the kernel acts |
//! | [`reload`] | another configuration while the daemon runs |
//! | [`mailbox`] | hands pictures that come over MQTT to their camera's capture thread |
//! | [`gate`] | decides whether a frame is worth a caption |
//! | [`pipeline`] | the loop of the inference thread |
//! | [`message`] | what travels between the threads |
//! | [`mqtt`] | topics, payloads, the client and its reconnects |
//! | [`spool`] | the queue on disk for what cannot be delivered |
//! | [`standing`] | what is asked of every scene: questions, labels, rules |
//! | [`tls`] | whom to trust, and who we are, toward the broker |
//! | [`health`] | counters, camera availability, systemd notifications |
//! | [`demo`] | `captiond demo`: bundled photos and a loopback broker |

#![warn(unreachable_pub)]

pub mod allocator;
pub mod backoff;
pub mod captures;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod frame;
pub mod gate;
pub mod health;
pub mod inbox;
pub mod job;
pub mod logging;
pub mod mailbox;
pub mod message;
pub mod metrics;
pub mod mqtt;
pub mod photo;
pub mod pipeline;
pub mod pressure;
pub mod pull;
pub mod reload;
pub mod shutdown;
pub mod source;
pub mod spool;
pub mod standing;
pub mod status;
pub mod tls;
