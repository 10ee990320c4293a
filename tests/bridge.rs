//! What the daemon says of itself and of its cameras, and how all of it is taken away again.

use captiond::config::{Config, Protocol};
use captiond::mqtt::purge::{PurgeError, purge};
use serde_json::json;

use crate::support::client::Client;
use crate::support::{RunningDaemon, color_photos, config, server};

fn named(port: u16, photos: &std::path::Path) -> Config {
    let mut config = config(port, Protocol::V5, photos);
    config.mqtt.client_id = Some("captiond-bridge".to_owned());
    config
}

fn purged(config: &Config) -> Result<Vec<String>, PurgeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(purge(&config.mqtt))
}

#[test]
fn what_the_broker_keeps_goes_when_the_daemon_does_not_run() {
    for server in server::all() {
        let photos = color_photos();
        let mut config = named(server.port(), photos.path());
        config.mqtt.homie = Some("homie".to_owned());
        let home = Client::connect(server.port(), Protocol::V5, "home", "#");
        for foreign in
            ["homeassistant/device/zigbee2mqtt_lamp/config", "captiond2/x/caption", "homie/5/lamp/$state"]
        {
            home.publish(foreign, "{}", true);
        }
        let daemon = RunningDaemon::start(config.clone());
        home.wait_for_text("captiond/bridge/state", "online");
        home.wait_for_topic("captiond/wall/caption");
        home.wait_for_text("homie/5/captiond-bridge/$state", "ready");
        assert!(matches!(purged(&config), Err(PurgeError::Running)), "it would come back");
        daemon.stop();
        let gone = purged(&config).unwrap();
        for topic in [
            "captiond/bridge/state",
            "captiond/wall/caption",
            "homeassistant/device/captiond_bridge_wall/config",
            "homie/5/captiond-bridge-wall/$description",
        ] {
            assert!(gone.iter().any(|gone| gone == topic), "{topic} is not among {gone:?}");
        }
        assert!(
            gone.iter().all(|topic| !topic.contains("lamp") && !topic.starts_with("captiond2")),
            "{gone:?}"
        );
        assert!(purged(&config).unwrap().is_empty(), "once is enough");
    }
}

#[test]
fn pictures_are_published_only_where_they_are_wanted() {
    for wanted in [true, false] {
        let server = server::embedded();
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/wall/#");
        let mut config = named(server.port(), photos.path());
        config.cameras[0].image = wanted;
        let daemon = RunningDaemon::start(config);
        if wanted {
            let picture = client.wait_for_topic("captiond/wall/image");
            assert_eq!(picture.content_type.as_deref(), Some("image/jpeg"));
            let image = captiond::photo::decode(&picture.payload).unwrap();
            assert_eq!(image.dimensions(), (64, 48));
        } else {
            for _ in 0..3 {
                client.wait_for("captions and no picture", |m| {
                    assert_ne!(m.topic, "captiond/wall/image");
                    m.topic == "captiond/wall/caption"
                });
            }
        }
        daemon.stop();
    }
}

#[test]
fn requests_are_answered_and_cameras_that_come_and_go_are_events() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/#");
        let daemon = RunningDaemon::start(named(server.port(), photos.path()));
        let up = client.wait_for_topic("captiond/bridge/event").json();
        assert_eq!((&up["event_type"], &up["camera"]), (&json!("camera_up"), &json!("wall")));
        client.wait_for_text("captiond/bridge/state", "online");
        client.publish("captiond/bridge/request/health_check", r#"{"transaction": 5}"#, false);
        let health = client.wait_for_topic("captiond/bridge/response/health_check").json();
        assert_eq!((&health["status"], &health["transaction"]), (&json!("ok"), &json!(5)));
        assert_eq!(health["data"], json!({ "healthy": true, "cameras": { "wall": true } }));
        client.publish("captiond/bridge/request/dance", "", false);
        let refused = client.wait_for_topic("captiond/bridge/response/dance").json();
        assert_eq!(refused["status"], "error");
        client.publish("captiond/bridge/request/republish", "", false);
        client.wait_for_topic("captiond/bridge/info");
        client.wait_for_text("captiond/bridge/state", "online");
        daemon.stop();
    }
}

#[test]
fn what_an_earlier_configuration_left_is_taken_away() {
    for server in server::all() {
        let photos = color_photos();
        let home = Client::connect(server.port(), Protocol::V5, "home", "#");
        let device = "homeassistant/device/captiond_bridge_wall/config";
        let old = json!({ "components": { "label_dog": { "platform": "binary_sensor", "unique_id": "x" } } });
        let leftovers = [
            ("captiond/gone/caption", "{}"),
            ("captiond/gone/availability", "online"),
            ("captiond/wall/question/old", "{}"),
            ("captiond/wall/labels", "{}"),
            ("captiond/wall/image", "x"),
        ];
        let foreign =
            [("captiond/wall/notes", "mine"), ("captiond/x/y/z", "mine"), ("other/gone/caption", "{}")];
        for (topic, payload) in leftovers.iter().chain(&foreign) {
            home.publish(topic, *payload, true);
            home.wait_for_topic(topic);
        }
        home.publish(device, old.to_string(), true);
        home.wait_for_topic(device);
        let daemon = RunningDaemon::start(named(server.port(), photos.path()));
        for (topic, _) in leftovers {
            home.wait_for(topic, |m| m.topic == topic && m.payload.is_empty());
        }
        home.wait_for("the entity goes", |m| {
            m.topic == device
                && m.json()["components"]["label_dog"] == json!({ "platform": "binary_sensor" })
                && m.json()["components"]["caption"]["state_topic"].is_string()
        });
        home.wait_for("and is not named any more", |m| {
            m.topic == device && m.json()["components"]["label_dog"].is_null()
        });
        daemon.stop();
        let late = Client::connect(server.port(), Protocol::V5, "late", "#");
        for (topic, _) in foreign {
            late.wait_for("what is not ours", |m| m.retained && m.topic == topic);
            late.publish(topic, "", true);
        }
    }
}

#[test]
fn nothing_of_a_scene_is_retained_where_that_is_not_wanted() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/#");
        let mut config = named(server.port(), photos.path());
        config.mqtt.retain = false;
        let daemon = RunningDaemon::start(config);
        client.wait_for_topic("captiond/wall/caption");
        let late = Client::connect(server.port(), Protocol::V5, "late", "captiond/#");
        late.wait_for("what is retained", |m| {
            assert!(!(m.retained && m.topic.ends_with("/caption")), "{m:?}");
            m.retained && m.topic == "captiond/wall/interval"
        });
        late.wait_for("what comes later", |m| !m.retained && m.topic == "captiond/wall/caption");
        daemon.stop();
    }
}
