//! Every topic of the program, rendered and parsed. `docs/mqtt.md` describes them.

mod homie;
mod onvif;

pub use homie::{HomieTopics, homie_id, is_homie_id};
pub use onvif::OnvifTopics;

/// The topics beneath one base topic.
#[derive(Clone, Debug)]
pub struct Topics {
    base: String,
}

impl Topics {
    /// ```
    /// let topics = captiond::mqtt::topic::Topics::new("captiond");
    /// assert_eq!(topics.bridge_state(), "captiond/bridge/state");
    /// assert_eq!(topics.caption("porch"), "captiond/porch/caption");
    /// assert_eq!(topics.asked_camera("captiond/porch/ask"), Some("porch"));
    /// ```
    pub fn new(base: &str) -> Topics {
        Topics { base: base.to_owned() }
    }

    /// `online` or `offline`, retained; the last will.
    pub fn bridge_state(&self) -> String {
        self.of("bridge", "state")
    }

    /// What runs, retained.
    pub fn bridge_info(&self) -> String {
        self.of("bridge", "info")
    }

    /// Counters of every camera, once a minute.
    pub fn bridge_stats(&self) -> String {
        self.of("bridge", "stats")
    }

    /// What happens to cameras.
    pub fn bridge_event(&self) -> String {
        self.of("bridge", "event")
    }

    /// The requests to the daemon.
    pub fn request_filter(&self) -> String {
        self.of("bridge", "request/+")
    }

    /// The name of a request.
    pub fn requested<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix("/bridge/request/")?;
        (!rest.is_empty() && !rest.contains('/')).then_some(rest)
    }

    /// Where the response to a request goes that names no response topic.
    pub fn response(&self, name: &str) -> String {
        self.of("bridge", &format!("response/{name}"))
    }

    /// The end of what a broker keeps, for those who collect it.
    pub fn bridge_marker(&self) -> String {
        self.of("bridge", "marker")
    }

    /// Everything of the daemon.
    pub fn every_filter(&self) -> String {
        format!("{}/#", self.base)
    }

    /// Whether a topic is beneath the base topic.
    pub fn is_ours(&self, topic: &str) -> bool {
        topic.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The picture of the current caption, retained.
    pub fn image(&self, camera: &str) -> String {
        self.of(camera, "image")
    }

    /// `online` or `offline`, retained.
    pub fn availability(&self, camera: &str) -> String {
        self.of(camera, "availability")
    }

    /// The current caption, retained.
    pub fn caption(&self, camera: &str) -> String {
        self.of(camera, "caption")
    }

    /// Questions.
    pub fn ask(&self, camera: &str) -> String {
        self.of(camera, "ask")
    }

    /// Answers to questions that named no response topic.
    pub fn answer(&self, camera: &str) -> String {
        self.of(camera, "answer")
    }

    /// How the labels stand, retained.
    pub fn labels(&self, camera: &str) -> String {
        self.of(camera, "labels")
    }

    /// The answer to a standing question, retained.
    pub fn question(&self, camera: &str, id: &str) -> String {
        self.of(camera, &format!("question/{id}"))
    }

    /// What rules report.
    pub fn event(&self, camera: &str) -> String {
        self.of(camera, "event")
    }

    /// The wishes for standing questions, labels and rules of every camera.
    pub fn standing_filter(&self) -> String {
        self.of("+", "+/+/set")
    }

    /// The camera, the kind and the name of such a wish's topic.
    pub fn standing_of<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?.strip_suffix("/set")?;
        let (camera, rest) = rest.split_once('/')?;
        let (kind, id) = rest.split_once('/')?;
        (!id.contains('/')).then_some((camera, kind, id))
    }

    /// Asks for a caption now.
    pub fn describe(&self, camera: &str) -> String {
        self.of(camera, "describe")
    }

    /// Whether a camera's frames are looked at: `ON` or `OFF`, retained. Beneath it, `set` changes it.
    pub fn enabled(&self, camera: &str) -> String {
        self.of(camera, "enabled")
    }

    /// Mean seconds between two captions at least, retained. Beneath it, `set` changes it.
    pub fn interval(&self, camera: &str) -> String {
        self.of(camera, "interval")
    }

    /// The words that every caption begins with, retained. Beneath it, `set` changes it.
    pub fn prompt(&self, camera: &str) -> String {
        self.of(camera, "prompt")
    }

    /// Jobs for workers.
    pub fn jobs(&self) -> String {
        self.of("work", "+")
    }

    /// `online` or `offline`, retained; the last will of a worker.
    pub fn worker_state(&self, client_id: &str) -> String {
        let is_special = |c: char| matches!(c, '/' | '+' | '#');
        self.of("worker", &format!("{}/state", client_id.replace(is_special, "_")))
    }

    /// Where wishes for another value of a setting go.
    pub fn set(state: &str) -> String {
        format!("{state}/set")
    }

    /// The wishes for other settings of every camera.
    pub fn set_filter(&self) -> String {
        self.of("+", "+/set")
    }

    /// The camera and the setting of a wish's topic.
    pub fn set_camera<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?.strip_suffix("/set")?;
        rest.split_once('/').filter(|(_, setting)| !setting.contains('/'))
    }

    /// What the daemon retains of every camera. None of the filters matches a topic that it listens to: a broker may
    /// send a message once for each subscription that it matches.
    pub fn aspect_filters(&self) -> impl Iterator<Item = String> {
        RETAINED.into_iter().chain(["question/+"]).map(|aspect| self.of("+", aspect))
    }

    /// The camera and the aspect of a state that the daemon retains.
    pub fn aspect_of<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        let (camera, aspect) = rest.split_once('/')?;
        let is_question = aspect.strip_prefix("question/").is_some_and(|id| !id.contains('/'));
        (is_question || RETAINED.contains(&aspect)).then_some((camera, aspect))
    }

    /// The questions to every camera.
    pub fn ask_filter(&self) -> String {
        self.ask("+")
    }

    /// The camera of a question's topic.
    pub fn asked_camera<'a>(&self, topic: &'a str) -> Option<&'a str> {
        self.camera_of(topic, "/ask")
    }

    /// The camera of the topic that asks for a caption.
    pub fn described_camera<'a>(&self, topic: &'a str) -> Option<&'a str> {
        self.camera_of(topic, "/describe")
    }

    fn camera_of<'a>(&self, topic: &'a str, leaf: &str) -> Option<&'a str> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        rest.strip_suffix(leaf).filter(|camera| !camera.contains('/'))
    }

    /// May an answer go to this response topic? It must be a topic without wildcards, and none that
    /// the daemon listens to: an answer would be a question, whose answer would be a question.
    pub fn is_response_topic(&self, topic: &str) -> bool {
        let valid =
            !topic.is_empty() && topic.len() <= RESPONSE_TOPIC_MAX && !topic.contains(['+', '#', '\0']);
        valid
            && !topic.starts_with('$')
            && self.asked_camera(topic).is_none()
            && self.described_camera(topic).is_none()
            && self.set_camera(topic).is_none()
            && self.standing_of(topic).is_none()
            && self.requested(topic).is_none()
    }

    fn of(&self, thing: &str, aspect: &str) -> String {
        format!("{}/{thing}/{aspect}", self.base)
    }
}

/// What the daemon retains of a camera, beside the answers to standing questions.
const RETAINED: [&str; 7] = ["availability", "caption", "enabled", "interval", "prompt", "labels", "image"];

/// Longest response topic that is answered to, in bytes.
pub const RESPONSE_TOPIC_MAX: usize = 512;
/// A message on a longer topic is not read: no camera has such a name, and an answer on a topic that is made of one
/// could be longer than the protocol allows.
pub const TOPIC_BYTES_MAX: usize = 1024;

/// The subscription by which the clients of a group share the messages of a filter (MQTT 5, 4.8.2).
pub fn shared(group: &str, filter: &str) -> String {
    format!("$share/{group}/{filter}")
}

/// Whether a topic filter takes a topic (MQTT 5, 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The topics by which Home Assistant learns of this daemon.
#[derive(Clone, Debug)]
pub struct DiscoveryTopics {
    prefix: String,
    node: String,
}

impl DiscoveryTopics {
    /// `client_id` tells this daemon from others at the same broker.
    pub fn new(prefix: &str, client_id: &str) -> DiscoveryTopics {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let own = client_id.strip_prefix("captiond-").unwrap_or(client_id);
        let node = own.chars().map(allowed).collect::<String>();
        DiscoveryTopics { prefix: prefix.to_owned(), node: format!("captiond_{node}") }
    }

    /// The daemon's own id.
    pub fn bridge_id(&self) -> String {
        // No camera may be called so.
        format!("{}_bridge", self.node)
    }

    pub fn camera_id(&self, camera: &str) -> String {
        format!("{}_{camera}", self.node)
    }

    /// Where the device of this id is described, retained.
    pub fn config(&self, id: &str) -> String {
        format!("{}/device/{id}/config", self.prefix)
    }

    /// The descriptions of every device.
    pub fn config_filter(&self) -> String {
        self.config("+")
    }

    /// Whether this describes a device of this daemon, of now or of former times.
    pub fn is_ours(&self, topic: &str) -> bool {
        let id = topic.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix("/device/"));
        let id = id.and_then(|rest| rest.strip_suffix("/config"));
        id.and_then(|id| id.strip_prefix(&self.node))
            .is_some_and(|rest| rest.starts_with('_') && !rest.contains('/'))
    }

    /// Where Home Assistant says that it has started.
    pub fn status(&self) -> String {
        format!("{}/status", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_descriptions_from_those_of_others() {
        let topics = DiscoveryTopics::new("homeassistant", "captiond-a1b2c3");
        assert!(topics.is_ours(&topics.config(&topics.camera_id("porch"))));
        assert!(topics.is_ours("homeassistant/device/captiond_a1b2c3_gone/config"));
        for other in [
            "homeassistant/device/captiond_a1b2c34_porch/config",
            "homeassistant/device/captiond_a1b2c3/config",
            "homeassistant/sensor/captiond_a1b2c3_porch/config",
            "other/device/captiond_a1b2c3_porch/config",
            "homeassistant/device/captiond_a1b2c3_a/b/config",
        ] {
            assert!(!topics.is_ours(other), "{other}");
        }
        assert_eq!(DiscoveryTopics::new("h", "my client#1").bridge_id(), "captiond_my_client_1_bridge");
    }

    #[test]
    fn finds_the_camera_of_a_question_and_of_nothing_else() {
        let topics = Topics::new("home/captiond");
        assert_eq!(topics.asked_camera(&topics.ask("porch")), Some("porch"));
        for other in
            ["home/captiond/porch/caption", "home/captiond/a/b/ask", "captiond/porch/ask", "porch/ask"]
        {
            assert_eq!(topics.asked_camera(other), None, "{other}");
        }
        assert_eq!(topics.ask_filter(), "home/captiond/+/ask");
    }

    #[test]
    fn knows_which_topics_a_filter_takes() {
        for (filter, topic, taken) in [
            ("captiond/work/+", "captiond/work/porch", true),
            ("captiond/work/+", "captiond/work", false),
            ("captiond/work/+", "captiond/work/a/b", false),
            ("captiond/#", "captiond", true),
            ("captiond/#", "captiond/a/b", true),
            ("#", "a", true),
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
        ] {
            assert_eq!(matches(filter, topic), taken, "{filter} {topic}");
        }
        assert_eq!(Topics::new("c").worker_state("a/b#-worker"), "c/worker/a_b_-worker/state");
    }

    #[test]
    fn refuses_response_topics_that_would_loop_or_are_none() {
        let topics = Topics::new("captiond");
        assert!(topics.is_response_topic("clients/7/answers"));
        assert!(topics.is_response_topic("captiond/porch/answer"));
        let long = "x".repeat(RESPONSE_TOPIC_MAX + 1);
        let heard =
            ["ask", "describe", "prompt/set", "question/a/set"].map(|leaf| format!("captiond/porch/{leaf}"));
        let none = ["", "a/#", "a/+/b", "$SYS/x", "captiond/bridge/request/republish", &long];
        for bad in none.into_iter().chain(heard.iter().map(String::as_str)) {
            assert!(!topics.is_response_topic(bad), "{bad}");
        }
    }
}
