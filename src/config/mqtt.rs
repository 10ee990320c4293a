//! The table `[mqtt]`.

use std::path::Path;
use std::time::Duration;

use super::environment::state_dir;
use super::reader::Section;
use super::*;
use crate::tls::TlsSettings;

pub(super) fn mqtt(section: &mut Section<'_>, folder: &Path) -> Option<MqttConfig> {
    let default = MqttConfig::default();
    let host = section.string("host").unwrap_or(default.host);
    if host.is_empty() {
        section.problem("host", "is empty");
    }
    let tls = tls(section, folder);
    let usual = if tls.is_some() { MQTT_TLS_PORT } else { default.port };
    let port = section.integer("port", 1..=u64::from(u16::MAX)).map_or(usual, |port| port as u16);
    let protocol = match section.word("protocol", &["5", "3.1.1"]) {
        Some("3.1.1") => Protocol::V311,
        _ => Protocol::V5,
    };
    let credentials = credentials(section, folder);
    let client_id = section.string("client_id");
    if client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > TOPIC_MAX) {
        section.problem("client_id", format!("must have 1 to {TOPIC_MAX} bytes"));
    }
    let base_topic = section.string("base_topic").unwrap_or(default.base_topic);
    if !is_base_topic(&base_topic) {
        let why = "must be topic levels without wildcards, such as \"captiond\" or \"home/captiond\"";
        section.problem("base_topic", format!("{why} (got {base_topic:?})"));
    }
    let qos = match section.integer("qos", 0..=1) {
        Some(0) => Qos::AtMostOnce,
        _ => default.qos,
    };
    let retain = section.boolean("retain").unwrap_or(default.retain);
    let hour = Duration::from_secs(3600);
    let keep_alive =
        section.duration("keep_alive", Duration::from_secs(5)..=hour).unwrap_or(default.keep_alive);
    let discovery = discovery(section);
    let session_expiry = match section.duration("session_expiry", Duration::ZERO..=7 * 24 * hour) {
        Some(expiry) => Some(expiry).filter(|expiry| !expiry.is_zero()),
        // There a session never expires, so it has to be asked for.
        None if protocol == Protocol::V311 => None,
        None => default.session_expiry,
    };
    let queue = queue(section, folder);
    let homie = outputs::homie(section);
    let onvif_prefix = outputs::onvif_prefix(section);
    Some(MqttConfig {
        host,
        port,
        protocol,
        credentials,
        client_id,
        base_topic,
        qos,
        retain,
        keep_alive,
        discovery,
        homie,
        onvif_prefix,
        tls,
        session_expiry,
        queue,
    })
}

/// Without a folder of its own it is in the state directory, if systemd has given one.
fn queue(section: &mut Section<'_>, folder: &Path) -> Option<QueueConfig> {
    let named = section.string("queue_dir").map(|path| folder.join(path));
    let bytes_max = section.integer("queue_bytes_max", QUEUE_BYTES_LEAST..=QUEUE_BYTES_MOST);
    let day = Duration::from_secs(86_400);
    let age_max = section.duration("queue_age_max", Duration::from_secs(1)..=365 * day);
    let limits =
        Limits { bytes_max: bytes_max.unwrap_or(QUEUE.bytes_max), age_max: age_max.unwrap_or(QUEUE.age_max) };
    let dir = named.or_else(|| state_dir().map(|dir| dir.join("queue")))?;
    Some(QueueConfig { dir, limits })
}

/// The files are read here: a name that is misspelt would else be a broker that is down.
fn tls(section: &mut Section<'_>, folder: &Path) -> Option<Tls> {
    let is_wanted = section.boolean("tls").unwrap_or(false);
    let mut path = |key: &str| section.string(key).map(|path| folder.join(path));
    let [ca_file, cert_file, key_file] = ["ca_file", "cert_file", "key_file"].map(&mut path);
    let alpn = section.strings("alpn").unwrap_or_default();
    if !is_wanted {
        if ca_file.is_some() || cert_file.is_some() || key_file.is_some() || !alpn.is_empty() {
            section.problem("tls", "must be true for ca_file, cert_file, key_file and alpn");
        }
        return None;
    }
    let identity = match (cert_file, key_file) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        _ => {
            section.problem("cert_file", "and key_file are needed together");
            return None;
        }
    };
    let loaded = TlsSettings { ca_file, identity, alpn }.load();
    loaded.map_err(|e| section.problem("tls", e.to_string())).ok()
}

fn discovery(section: &mut Section<'_>) -> Option<String> {
    let is_wanted = section.boolean("discovery").unwrap_or(true);
    let prefix = section.string("discovery_prefix").unwrap_or_else(|| DISCOVERY_PREFIX.to_owned());
    if !is_base_topic(&prefix) {
        let why = "must be topic levels without wildcards, such as \"homeassistant\"";
        section.problem("discovery_prefix", format!("{why} (got {prefix:?})"));
    }
    is_wanted.then_some(prefix)
}

pub(super) fn credentials(section: &mut Section<'_>, folder: &Path) -> Option<(String, Secret)> {
    let username = section.string("username");
    let file = section.string("password_file").map(|path| folder.join(path));
    if username.is_none() && file.is_some() {
        section.problem("password_file", "needs a username");
    }
    let password = file.map(|path| secret(section, "password_file", &path));
    username.map(|username| (username, password.unwrap_or_else(|| Secret::new(String::new()))))
}
