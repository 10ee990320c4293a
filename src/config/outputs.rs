//! The keys of `[mqtt]` about outputs beside the daemon's own topics.

use super::reader::Section;
use super::{CameraConfig, HOMIE_DOMAIN, is_base_topic};
use crate::mqtt::topic::homie_id;

/// The first level of the topics by the Homie convention, where they are wanted.
pub(super) fn homie(section: &mut Section<'_>) -> Option<String> {
    let is_wanted = section.boolean("homie").unwrap_or(false);
    let domain = section.string("homie_domain").unwrap_or_else(|| HOMIE_DOMAIN.to_owned());
    if !is_base_topic(&domain) || domain.contains('/') {
        let why = "must be one topic level without wildcards, such as \"homie\"";
        section.problem("homie_domain", format!("{why} (got {domain:?})"));
    }
    is_wanted.then_some(domain)
}

/// The first levels of the topics of ONVIF events, where they are wanted.
pub(super) fn onvif_prefix(section: &mut Section<'_>) -> Option<String> {
    let prefix = section.string("onvif_prefix")?;
    if !is_base_topic(&prefix) {
        let why = "must be topic levels without wildcards, such as \"MyDev\"";
        section.problem("onvif_prefix", format!("{why} (got {prefix:?})"));
    }
    Some(prefix)
}

/// Homie knows no `_`: two cameras must not become one.
pub(super) fn refuse_same_homie_ids(root: &Section<'_>, cameras: &[CameraConfig]) {
    for (i, camera) in cameras.iter().enumerate() {
        let (name, id) = (&camera.name, homie_id(&camera.name));
        if let Some(other) =
            cameras[..i].iter().find(|other| other.name != *name && homie_id(&other.name) == id)
        {
            let why = format!("needs another name for {name:?} or {:?}: both are {id:?} there", other.name);
            root.problem("mqtt.homie", why);
        }
    }
}
