//! One table `[[camera]]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Section;
use super::{GATE, source, standing};
use crate::gate::GateConfig;
use crate::source::SourceConfig;
use crate::source::geometry::{Area, Geometry, Polygon, Rotation};
use crate::standing::StandingConfig;

/// A live picture that stays the same bit for bit for so long is frozen.
pub const FROZEN: Duration = Duration::from_secs(60);
/// Longest name of a camera.
pub const NAME_MAX: usize = 32;
/// Longest prompt, in characters.
pub const PROMPT_CHARS_MAX: usize = 100;
pub(super) const MASKS_MAX: usize = 32;
pub(super) const CORNERS_MAX: usize = 64;
pub(super) const BURST_MAX: u64 = 100;

/// One camera.
#[derive(Clone, Debug)]
pub struct CameraConfig {
    /// A level of its topics: lower-case letters, digits, `_` and `-`.
    pub name: String,
    pub source: SourceConfig,
    /// Another bundle than that of the daemon.
    pub bundle: Option<PathBuf>,
    /// The words that every caption begins with; may be empty.
    pub prompt: String,
    pub geometry: Geometry,
    pub gate: GateConfig,
    /// Whether the picture of a caption is published with it.
    pub image: bool,
    /// What is asked of every scene.
    pub standing: StandingConfig,
    /// After so long without a picture the source is opened anew.
    pub silence: Option<Duration>,
    /// After so long with the same picture, bit for bit, the source is opened anew.
    pub frozen: Option<Duration>,
}

impl CameraConfig {
    /// A camera with every default.
    pub fn new(name: &str, source: SourceConfig) -> CameraConfig {
        CameraConfig {
            name: name.to_owned(),
            bundle: None,
            prompt: String::new(),
            geometry: Geometry::default(),
            gate: GATE,
            image: false,
            standing: StandingConfig::default(),
            silence: source.silence(),
            frozen: source.is_live().then_some(FROZEN),
            source,
        }
    }

    /// The topic on which this camera's pictures come, and how large they may be, when they come over MQTT.
    pub fn pictures(&self) -> Option<(&str, usize)> {
        match &self.source {
            SourceConfig::Mqtt(pictures) => Some((&pictures.topic, pictures.bytes_max)),
            _ => None,
        }
    }

    /// How long a caption stays true without being confirmed: three times the longest silence of a camera that is well.
    pub fn caption_expiry(&self) -> Duration {
        let GateConfig { heartbeat, min_interval, .. } = self.gate;
        heartbeat.max(min_interval).max(self.source.interval()) * 3
    }
}

pub(super) fn camera(section: &mut Section<'_>, folder: &Path) -> Option<CameraConfig> {
    let name = section.required_string("name");
    if name.as_ref().is_some_and(|name| !is_camera_name(name)) {
        let why = format!("must be 1 to {NAME_MAX} of a-z, 0-9, _ and -, and not \"bridge\"");
        section.problem("name", format!("{why} (got {:?})", name.as_deref().unwrap_or_default()));
    }
    let source = section.required_section("source", |section| source::source(section, folder));
    let bundle = section.string("bundle").map(|path| folder.join(path));
    let prompt = section.string("prompt").unwrap_or_default();
    if !is_prompt(&prompt) {
        section.problem("prompt", format!("must be one line of at most {PROMPT_CHARS_MAX} characters"));
    }
    let geometry = geometry(section);
    let gate = gate(section);
    let standing = standing::standing(section);
    let image = section.boolean("image").unwrap_or(false);
    let silence = limit(section, "silence");
    let frozen = limit(section, "frozen");
    let default = CameraConfig::new(&name?, source?);
    let silence = silence.unwrap_or(default.silence);
    let frozen = frozen.unwrap_or(default.frozen);
    let source = default.source.clone().with_patience(silence);
    Some(CameraConfig { source, bundle, prompt, geometry, gate, image, standing, silence, frozen, ..default })
}

fn gate(section: &mut Section<'_>) -> GateConfig {
    let day = Duration::from_secs(86_400);
    let second = Duration::from_secs(1);
    let min_interval = section.duration("min_interval", Duration::ZERO..=day).unwrap_or(GATE.min_interval);
    let burst = section.integer("burst", 1..=BURST_MAX).map_or(GATE.burst, |n| n as u32);
    let heartbeat = section.duration("heartbeat", second..=day).unwrap_or(GATE.heartbeat);
    let gate = section.section("gate", |section| {
        Some(GateConfig {
            enabled: section.boolean("enabled").unwrap_or(GATE.enabled),
            pixel_change: section.number("pixel_change", 0.0..=1.0).unwrap_or(GATE.pixel_change),
            similarity: section.number("similarity", -1.0..=1.0).unwrap_or(GATE.similarity),
            deviations: section.number("deviations", 0.0..=100.0).unwrap_or(GATE.deviations),
            refresh: section.duration("refresh", second..=day).unwrap_or(GATE.refresh),
            ..GATE
        })
    });
    GateConfig { min_interval, burst, heartbeat, ..gate.unwrap_or(GATE) }
}

/// A duration, or `"off"`.
fn limit(section: &mut Section<'_>, key: &str) -> Option<Option<Duration>> {
    if section.takes_word(key, "off") {
        return Some(None);
    }
    let range = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
    section.duration(key, range).map(Some)
}

fn geometry(section: &mut Section<'_>) -> Geometry {
    let degrees = section.integer("rotate", 0..=270).unwrap_or(0);
    let rotation = Rotation::of_degrees(degrees).unwrap_or_else(|| {
        section.problem("rotate", format!("must be 0, 90, 180 or 270 (got {degrees})"));
        Rotation::None
    });
    let mirror = section.boolean("mirror").unwrap_or(false);
    let crop = section.numbers("crop").and_then(|sides| {
        let area = <[f32; 4]>::try_from(sides).ok().and_then(Area::new);
        if area.is_none() {
            section.problem("crop", "must be [left, top, width, height] within the picture, each 0 to 1");
        }
        area
    });
    Geometry { rotation, mirror, masks: masks(section), crop }
}

fn masks(section: &mut Section<'_>) -> Vec<Polygon> {
    let all = section.number_lists("masks").unwrap_or_default();
    if all.len() > MASKS_MAX {
        section.problem("masks", format!("must be at most {MASKS_MAX} polygons (got {})", all.len()));
    }
    let mut masks = Vec::with_capacity(all.len());
    for (i, corners) in all.into_iter().enumerate() {
        let (pairs, odd) = corners.as_chunks::<2>();
        let polygon = Polygon::new(pairs.to_vec()).filter(|_| odd.is_empty() && pairs.len() <= CORNERS_MAX);
        match polygon {
            Some(polygon) => masks.push(polygon),
            None => section.problem(
                &format!("masks[{i}]"),
                format!("must be 3 to {CORNERS_MAX} corners [x, y], each 0 to 1"),
            ),
        }
    }
    masks
}

/// One line that is not too long.
pub fn is_prompt(text: &str) -> bool {
    text.chars().count() <= PROMPT_CHARS_MAX && !text.contains(char::is_control)
}

fn is_camera_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed) && name != "bridge"
}
