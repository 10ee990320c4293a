//! The topics of the Homie convention, version 5: `<domain>/5/<device>/<node>/<property>`.

/// The version of the convention as a level of its topics.
const VERSION_LEVEL: &str = "5";

/// The topics of this daemon, the root device, and of its cameras, the children.
#[derive(Clone, Debug)]
pub struct HomieTopics {
    domain: String,
    root: String,
}

impl HomieTopics {
    /// `client_id` tells this daemon from others at the same broker; `domain` is the first level of every topic.
    ///
    /// ```
    /// let topics = captiond::mqtt::topic::HomieTopics::new("homie", "captiond-a1b2c3");
    /// let camera = topics.camera_id("front_door");
    /// assert_eq!(camera, "captiond-a1b2c3-front-door");
    /// assert_eq!(topics.state(&camera), "homie/5/captiond-a1b2c3-front-door/$state");
    /// ```
    pub fn new(domain: &str, client_id: &str) -> HomieTopics {
        HomieTopics { domain: domain.to_owned(), root: homie_id(client_id) }
    }

    /// The id of the daemon.
    pub fn root_id(&self) -> &str {
        &self.root
    }

    /// The id of a camera. Two cameras whose names differ in `_` and `-` alone have the same; the configuration
    /// refuses those.
    pub fn camera_id(&self, camera: &str) -> String {
        format!("{}-{}", self.root, homie_id(camera))
    }

    /// The state of a device in the life cycle, retained.
    pub fn state(&self, id: &str) -> String {
        self.of(id, "$state")
    }

    /// What a device is made of, retained.
    pub fn description(&self, id: &str) -> String {
        self.of(id, "$description")
    }

    /// Everything of every device at the broker.
    pub fn every_filter(&self) -> String {
        format!("{}/{VERSION_LEVEL}/#", self.domain)
    }

    /// Whether a topic belongs to the daemon or to a camera of it.
    pub fn is_ours(&self, topic: &str) -> bool {
        let id = self.beneath(topic).and_then(|rest| rest.split('/').next());
        let rest = id.and_then(|id| id.strip_prefix(&self.root));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The descriptions of every device at the broker.
    pub fn description_filter(&self) -> String {
        self.description("+")
    }

    /// The device whose description is on this topic.
    pub fn described_id<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let id = self.beneath(topic)?.strip_suffix("/$description")?;
        is_homie_id(id).then_some(id)
    }

    /// The value of a property.
    pub fn value(&self, id: &str, node: &str, property: &str) -> String {
        format!("{}/{node}/{property}", self.of_device(id))
    }

    /// The wishes for other values of every property of a device.
    pub fn set_filter(&self, id: &str) -> String {
        format!("{}/+/+/set", self.of_device(id))
    }

    /// The device, the node and the property of a wish's topic.
    pub fn set_property<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let mut levels = self.beneath(topic)?.strip_suffix("/set")?.split('/');
        let found = (levels.next()?, levels.next()?, levels.next()?);
        levels.next().is_none().then_some(found)
    }

    fn beneath<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.domain)?.strip_prefix('/')?.strip_prefix(VERSION_LEVEL)?.strip_prefix('/')
    }

    fn of(&self, id: &str, attribute: &str) -> String {
        format!("{}/{attribute}", self.of_device(id))
    }

    fn of_device(&self, id: &str) -> String {
        format!("{}/{VERSION_LEVEL}/{id}", self.domain)
    }
}

/// A name in the letters that ids may have: a to z, 0 to 9 and `-`.
pub fn homie_id(name: &str) -> String {
    let allowed = |c: char| if is_id_char(c) { c } else { '-' };
    name.to_lowercase().chars().map(allowed).collect()
}

/// Whether this is an id of the convention.
pub fn is_homie_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(is_id_char)
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_letters_of_the_convention_alone() {
        let topics = HomieTopics::new("homie", "My client#1/ß");
        assert_eq!(topics.root_id(), "my-client-1--");
        for id in [topics.root_id(), &topics.camera_id("front_door"), &topics.camera_id("_")] {
            assert!(is_homie_id(id), "{id}");
        }
        assert!(!is_homie_id("") && !is_homie_id("a_b") && !is_homie_id("A") && !is_homie_id("$state"));
    }

    #[test]
    fn finds_the_property_of_a_wish_and_of_nothing_else() {
        let topics = HomieTopics::new("home", "c");
        let value = topics.value("c-porch", "control", "enabled");
        assert_eq!(value, "home/5/c-porch/control/enabled");
        let wish = format!("{value}/set");
        assert_eq!(topics.set_property(&wish), Some(("c-porch", "control", "enabled")));
        for other in [
            &value,
            "home/5/c-porch/enabled/set",
            "home/5/a/b/c/d/set",
            "homie/5/a/b/c/set",
            "home/4/a/b/c/set",
        ] {
            assert_eq!(topics.set_property(other), None, "{other}");
        }
        assert_eq!(topics.set_filter("c-porch"), "home/5/c-porch/+/+/set");
    }

    #[test]
    fn finds_the_device_of_a_description_and_of_nothing_else() {
        let topics = HomieTopics::new("homie", "c");
        assert_eq!(topics.described_id(&topics.description("c-porch")), Some("c-porch"));
        for other in
            ["homie/5/c/$state", "homie/5/a/b/$description", "homie/5/$description", "x/5/c/$description"]
        {
            assert_eq!(topics.described_id(other), None, "{other}");
        }
    }
}
