//! The topics of events in ONVIF's JSON (Core Specification, chapter "Event broker"):
//! `<prefix>/onvif-ej/<topic>/&<source>`.

/// Says that the payloads are events in JSON.
const PAYLOAD_PREFIX: &str = "onvif-ej";
/// The topic of scenes in words. ONVIF has none of its own, so it carries our name in the place of a namespace.
const SCENE_TEXT: &str = "RuleEngine/captiond:SceneText";

/// The topics beneath one prefix.
#[derive(Clone, Debug)]
pub struct OnvifTopics {
    prefix: String,
}

impl OnvifTopics {
    /// `prefix` tells this daemon from other devices at the same broker.
    ///
    /// ```
    /// let topics = captiond::mqtt::topic::OnvifTopics::new("MyDev");
    /// assert_eq!(topics.scene_text("porch"), "MyDev/onvif-ej/RuleEngine/captiond:SceneText/&porch");
    /// ```
    pub fn new(prefix: &str) -> OnvifTopics {
        OnvifTopics { prefix: prefix.to_owned() }
    }

    /// What a camera shows, in words.
    pub fn scene_text(&self, camera: &str) -> String {
        format!("{}/{PAYLOAD_PREFIX}/{SCENE_TEXT}/&{camera}", self.prefix)
    }
}
