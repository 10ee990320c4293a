//! Another configuration while the daemon runs: what of it can be applied is, what cannot is said by name.
//!
//! Decides and hands on; `daemon` owns the threads. Cameras keep their places: one that comes gets a place that nobody
//! had, since something may still be on its way about a camera that went.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sd_notify::NotifyState;
use tokio::sync::mpsc;

use crate::captures::Captures;
use crate::config::{CameraConfig, Config, Problems};
use crate::health::{Health, notify};
use crate::inbox::Inbox;
use crate::message::{Changes, Happening, Watch};
use crate::mqtt::payload::Producer;
use crate::mqtt::{News, Post, RosterChange};
use crate::standing::{StandingChange, StandingConfig};

/// Places for cameras in the life of a daemon.
pub const PLACES_MAX: usize = 256;

/// How the configuration is read anew.
pub type Load = Box<dyn FnMut() -> Result<Config, Problems> + Send>;

/// Asks for a reload; clones ask the same daemon.
#[derive(Clone, Debug, Default)]
pub struct ReloadRequest(Arc<AtomicBool>);

impl ReloadRequest {
    /// Several requests that nobody has looked at are one.
    pub fn request(&self) {
        self.0.store(true, Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}

/// What happens to one place.
#[derive(Debug)]
enum Change {
    Add(CameraConfig, usize),
    Remove,
    /// Its source or what is done to its pictures: its thread starts anew.
    Recapture(CameraConfig, Changes),
    /// Only how its frames are looked at.
    Retune(CameraConfig, Changes),
}

/// What another configuration means for a daemon that runs.
#[derive(Debug, Default)]
struct Plan {
    changes: Vec<(usize, Change)>,
    needs_restart: Vec<String>,
}

/// What runs, by its places.
#[derive(Debug)]
pub struct Places {
    /// What was started; its cameras are not looked at.
    config: Config,
    cameras: Vec<Option<CameraConfig>>,
    /// The place of a vision among those that are loaded, by the bundle that a camera names.
    visions: Vec<(Option<PathBuf>, usize)>,
    /// Of each vision.
    producers: Vec<Producer>,
    picture_bytes_max: usize,
}

impl Places {
    /// `of_camera` is the place of each camera's vision; `producers` has one a vision.
    pub fn new(config: &Config, of_camera: &[usize], producers: Vec<Producer>) -> Places {
        let visions = config.cameras.iter().zip(of_camera);
        Places {
            config: Config { cameras: Vec::new(), ..config.clone() },
            cameras: config.cameras.iter().cloned().map(Some).collect(),
            visions: visions.map(|(camera, vision)| (camera.bundle.clone(), *vision)).collect(),
            producers,
            picture_bytes_max: config.cameras.iter().filter_map(picture_bytes).max().unwrap_or(0),
        }
    }

    fn vision_of(&self, bundle: &Option<PathBuf>) -> Option<usize> {
        self.visions.iter().find(|(of, _)| of == bundle).map(|(_, vision)| *vision)
    }

    fn plan(&self, new: &Config) -> Plan {
        let mut plan = Plan { changes: Vec::new(), needs_restart: fixed_changes(&self.config, new) };
        let is_worker_alone = self.cameras.is_empty();
        let mut next = self.cameras.len();
        for camera in &new.cameras {
            let is_it =
                |place: &Option<CameraConfig>| place.as_ref().is_some_and(|old| old.name == camera.name);
            let mut refuse = |key: &str| plan.needs_restart.push(format!("camera {}{key}", camera.name));
            let Some(place) = self.cameras.iter().position(is_it) else {
                let vision = self.vision_of(&camera.bundle);
                match vision {
                    None => refuse(": its bundle"),
                    _ if is_worker_alone => refuse(": the first"),
                    _ if next >= PLACES_MAX => refuse(": too many came and went"),
                    _ if picture_bytes(camera).is_some_and(|bytes| bytes > self.picture_bytes_max) => {
                        refuse(": source.bytes_max")
                    }
                    Some(vision) => {
                        plan.changes.push((next, Change::Add(camera.clone(), vision)));
                        next += 1;
                    }
                }
                continue;
            };
            let Some(old) = &self.cameras[place] else { continue };
            let mut wanted = camera.clone();
            if old.bundle != camera.bundle {
                refuse(": bundle");
                wanted.bundle.clone_from(&old.bundle);
            }
            if picture_bytes(camera).is_some_and(|bytes| bytes > self.picture_bytes_max) {
                refuse(": source.bytes_max");
                wanted.source = old.source.clone();
            }
            if let Some(change) = difference(old, wanted) {
                plan.changes.push((place, change));
            }
        }
        for (place, old) in self.cameras.iter().enumerate() {
            let is_gone = |old: &CameraConfig| !new.cameras.iter().any(|camera| camera.name == old.name);
            if old.as_ref().is_some_and(is_gone) {
                plan.changes.push((place, Change::Remove));
            }
        }
        let is_roster_other =
            plan.changes.iter().any(|(_, change)| matches!(change, Change::Add(..) | Change::Remove));
        if is_roster_other && self.config.mqtt.homie.is_some() {
            plan.needs_restart.push("mqtt.homie: devices of cameras that came or went".to_owned());
        }
        plan
    }
}

fn picture_bytes(camera: &CameraConfig) -> Option<usize> {
    camera.pictures().map(|(_, bytes_max)| bytes_max)
}

/// What of one camera is other than before; none where nothing is.
fn difference(old: &CameraConfig, new: CameraConfig) -> Option<Change> {
    let is_recaptured = (&old.source, &old.geometry, old.silence, old.frozen)
        != (&new.source, &new.geometry, new.silence, new.frozen);
    let gate_but_interval = |camera: &CameraConfig| crate::gate::GateConfig {
        min_interval: std::time::Duration::ZERO,
        ..camera.gate
    };
    let is_gated_anew = is_recaptured || gate_but_interval(old) != gate_but_interval(&new);
    let changes = Changes {
        enabled: None,
        min_interval: (old.gate.min_interval != new.gate.min_interval).then_some(new.gate.min_interval),
        prompt: (old.prompt != new.prompt).then(|| new.prompt.clone()),
        standing: standing_changes(&old.standing, &new.standing),
        gate: is_gated_anew.then_some(new.gate),
        image: (old.image != new.image).then_some(new.image),
    };
    match is_recaptured {
        true => Some(Change::Recapture(new, changes)),
        false if changes != Changes::default() => Some(Change::Retune(new, changes)),
        false => None,
    }
}

/// What is gone, new or other; first what goes, so that there is room.
fn standing_changes(old: &StandingConfig, new: &StandingConfig) -> Vec<StandingChange> {
    fn of<T: Clone + PartialEq>(
        old: &[T],
        new: &[T],
        id: impl Fn(&T) -> &String,
        change: impl Fn(String, Option<T>) -> StandingChange,
    ) -> Vec<StandingChange> {
        let is_gone = |thing: &&T| !new.iter().any(|other| id(other) == id(thing));
        let gone = old.iter().filter(is_gone).map(|thing| change(id(thing).clone(), None));
        let other = new.iter().filter(|thing| !old.contains(thing));
        gone.chain(other.map(|thing| change(id(thing).clone(), Some(thing.clone())))).collect()
    }
    let mut all = of(&old.questions, &new.questions, |thing| &thing.id, StandingChange::Question);
    all.extend(of(&old.labels, &new.labels, |thing| &thing.id, StandingChange::Label));
    all.extend(of(&old.rules, &new.rules, |thing| &thing.id, StandingChange::Rule));
    all
}

/// The keys beside the cameras that are other than before: what they stand for is built once.
fn fixed_changes(old: &Config, new: &Config) -> Vec<String> {
    fn shown(value: &impl std::fmt::Debug) -> String {
        format!("{value:?}")
    }
    let (a, b) = (&old.mqtt, &new.mqtt);
    let (e, f) = (&old.engine, &new.engine);
    let keys = [
        ("bundle", old.bundle != new.bundle),
        ("engine", e.name != f.name),
        ("engine_library", e.library != f.library),
        ("device", e.device != f.device),
        ("device_bytes_max", e.device_bytes_max != f.device_bytes_max),
        ("device_cache", e.device_cache != f.device_cache),
        ("threads", old.threads != new.threads),
        ("http", old.http != new.http),
        ("worker", old.worker != new.worker),
        ("mqtt.host", a.host != b.host),
        ("mqtt.port", a.port != b.port),
        ("mqtt.protocol", a.protocol != b.protocol),
        ("mqtt.username or the password", a.credentials != b.credentials),
        ("mqtt.client_id", a.client_id != b.client_id),
        ("mqtt.base_topic", a.base_topic != b.base_topic),
        ("mqtt.qos", a.qos != b.qos),
        ("mqtt.retain", a.retain != b.retain),
        ("mqtt.keep_alive", a.keep_alive != b.keep_alive),
        ("mqtt.discovery", a.discovery != b.discovery),
        ("mqtt.homie", a.homie != b.homie),
        ("mqtt.onvif_prefix", a.onvif_prefix != b.onvif_prefix),
        ("mqtt.tls", shown(&a.tls) != shown(&b.tls)),
        ("mqtt.session_expiry", a.session_expiry != b.session_expiry),
        ("mqtt.queue_dir, queue_bytes_max or queue_age_max", a.queue != b.queue),
    ];
    keys.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key.to_owned()).collect()
}

/// Reads the configuration anew when somebody asks for it, and hands on what is other.
pub struct Reloader {
    pub request: ReloadRequest,
    pub load: Load,
    pub places: Places,
    pub inbox: Arc<Inbox>,
    pub health: Arc<Health>,
    /// None where there is only a worker.
    pub news: Option<mpsc::Sender<News>>,
}

impl Reloader {
    /// Does what was asked for, if anything was. Reads files; blocks for no longer.
    pub fn heed(&mut self, captures: &mut Captures) {
        if !self.request.take() {
            return;
        }
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        notify(&states);
        let happening = match (self.load)() {
            Ok(config) => {
                let plan = self.places.plan(&config);
                tracing::info!(changes = plan.changes.len(), "configuration read anew");
                for key in &plan.needs_restart {
                    tracing::warn!(key, "needs a restart");
                }
                self.apply(plan.changes, captures);
                Happening::Reloaded { needs_restart: plan.needs_restart }
            }
            Err(problems) => {
                tracing::error!(%problems, "configuration refused, the one before stays");
                Happening::Refused { why: problems.to_string() }
            }
        };
        self.tell(News::Happening(happening));
        notify(&[NotifyState::Ready]);
    }

    fn apply(&mut self, changes: Vec<(usize, Change)>, captures: &mut Captures) {
        let roster =
            changes.iter().filter_map(|(place, change)| self.roster_change(*place, change)).collect();
        // Before anything comes of a new camera, its name has to be known.
        for (place, change) in &changes {
            match change {
                Change::Add(camera, _) => self.health.name_camera(*place, Some(&camera.name)),
                Change::Remove => self.health.name_camera(*place, None),
                Change::Recapture(..) | Change::Retune(..) => {}
            }
        }
        if !changes.is_empty() {
            self.tell(News::Roster(roster));
        }
        for (place, change) in changes {
            match change {
                Change::Add(camera, vision) => {
                    tracing::info!(camera = camera.name, "camera added");
                    self.inbox.watch(place, watch_of(&camera, vision));
                    self.capture(place, &camera, captures);
                    self.places.cameras.push(Some(camera));
                }
                Change::Remove => {
                    let former = self.places.cameras[place].take();
                    tracing::info!(camera = former.as_ref().map(|camera| &camera.name), "camera removed");
                    captures.remove(place);
                    if let Some(former) = former {
                        let vision = self.places.vision_of(&former.bundle).unwrap_or(0);
                        // Its rules end, too.
                        let nothing = CameraConfig { standing: StandingConfig::default(), ..former };
                        self.inbox.watch(place, watch_of(&nothing, vision));
                    }
                    self.health.set_camera_online(place, false);
                }
                Change::Recapture(camera, changes) => {
                    tracing::info!(camera = camera.name, "camera opened anew");
                    self.inbox.change(place, changes);
                    self.capture(place, &camera, captures);
                    self.places.cameras[place] = Some(camera);
                }
                Change::Retune(camera, changes) => {
                    tracing::info!(camera = camera.name, "camera changed");
                    self.inbox.change(place, changes);
                    self.places.cameras[place] = Some(camera);
                }
            }
        }
    }

    fn capture(&self, place: usize, camera: &CameraConfig, captures: &mut Captures) {
        if let Err(e) = captures.put(place, camera) {
            tracing::error!(camera = camera.name, error = %e, "camera cannot be captured");
            self.health.set_camera_fault(place, Some(e.to_string()));
        }
    }

    /// Who has the place, for those who publish.
    fn roster_change(&self, camera: usize, change: &Change) -> Option<RosterChange> {
        let (config, is_gone, is_other) = match change {
            Change::Add(config, _) => (config.clone(), false, true),
            Change::Remove => (self.places.cameras[camera].clone()?, true, true),
            Change::Recapture(config, _) | Change::Retune(config, _) => (config.clone(), false, false),
        };
        let producer = self.places.producers.get(self.places.vision_of(&config.bundle)?)?.clone();
        Some(RosterChange { camera, post: Post { config, producer, is_gone }, is_other })
    }

    /// Waits for the publisher, who never waits for this thread.
    fn tell(&self, news: News) {
        if let Some(to) = &self.news
            && to.blocking_send(news).is_err()
        {
            tracing::debug!("nobody hears of the reload: the publisher has ended");
        }
    }
}

/// How a camera's frames are looked at, by its configuration.
pub fn watch_of(camera: &CameraConfig, vision: usize) -> Watch {
    Watch {
        gate: camera.gate,
        vision,
        prompt: camera.prompt.clone(),
        standing: camera.standing.clone(),
        image: camera.image,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets"))).unwrap()
    }

    fn camera(name: &str, more: &str) -> String {
        format!("[[camera]]\nname = \"{name}\"\nsource = {{ type = \"replay\", path = \"demo\" }}\n{more}\n")
    }

    fn places(config: &Config) -> Places {
        let producer = Producer { bundle: "b".to_owned(), engine: "e".to_owned(), device: "d".to_owned() };
        Places::new(config, &vec![0; config.cameras.len()], vec![producer])
    }

    #[test]
    fn what_did_not_change_is_left_alone() {
        let text = format!("[mqtt]\nhost = \"a\"\nusername = \"u\"\n{}", camera("yard", "rotate = 90"));
        let plan = places(&config(&text)).plan(&config(&text));
        assert!(plan.changes.is_empty() && plan.needs_restart.is_empty(), "{plan:?}");
    }

    #[test]
    fn cameras_come_go_and_change_by_their_names() {
        let old = config(&[camera("a", ""), camera("b", ""), camera("c", ""), camera("d", "")].concat());
        let label = "[[camera.label]]\nid = \"dog\"\ntext = \"a dog\"";
        let new =
            [camera("d", "prompt = \"x\""), camera("e", ""), camera("a", "rotate = 90"), camera("c", label)];
        let plan = places(&old).plan(&config(&new.concat()));
        let told: Vec<String> = plan
            .changes
            .iter()
            .map(|(place, change)| match change {
                Change::Add(camera, vision) => format!("{place} add {} {vision}", camera.name),
                Change::Remove => format!("{place} remove"),
                Change::Recapture(camera, changes) => {
                    format!("{place} recapture {} {}", camera.name, changes.gate.is_some())
                }
                Change::Retune(_, Changes { prompt, standing, gate, .. }) => {
                    format!("{place} retune {prompt:?} {} {}", standing.len(), gate.is_some())
                }
            })
            .collect();
        let expected = [
            "3 retune Some(\"x\") 0 false",
            "4 add e 0",
            "0 recapture a true",
            "2 retune None 1 false",
            "1 remove",
        ];
        assert_eq!(told, expected);
        assert!(plan.needs_restart.is_empty());
    }

    #[test]
    fn a_question_that_goes_makes_room_before_another_comes() {
        let question =
            |id: &str, text: &str| format!("[[camera.question]]\nid = \"{id}\"\nquestion = \"{text}\"\n");
        let old = config(&camera("a", &[question("one", "is it?"), question("two", "is it?")].concat()));
        let new =
            config(&camera("a", &[question("two", "is it not?"), question("three", "is it?")].concat()));
        let changes = standing_changes(&old.cameras[0].standing, &new.cameras[0].standing);
        let told: Vec<_> = changes
            .iter()
            .map(|change| match change {
                StandingChange::Question(id, thing) => (id.as_str(), thing.is_some()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [("one", false), ("two", true), ("three", true)]);
    }

    #[test]
    fn what_is_built_once_is_named() {
        let old = config(&format!("threads = 1\n{}", camera("a", "")));
        let new = config(&format!(
            "threads = 2\nbundle = \"b\"\n[mqtt]\nhost = \"h\"\nqos = 0\nhomie = true\n[worker]\n{}{}",
            camera("a", "bundle = \"x\""),
            camera("b", "bundle = \"y\"")
        ));
        let plan = places(&old).plan(&new);
        let expected = [
            "bundle",
            "threads",
            "worker",
            "mqtt.host",
            "mqtt.qos",
            "mqtt.homie",
            "camera a: bundle",
            "camera b: its bundle",
        ];
        assert_eq!(plan.needs_restart, expected);
        assert!(plan.changes.is_empty(), "{:?}", plan.changes);
        let password = |text: &str| {
            let mut config = old.clone();
            config.mqtt.credentials = Some(("u".to_owned(), crate::config::Secret::new(text.to_owned())));
            config
        };
        assert_eq!(fixed_changes(&password("one"), &password("two")), ["mqtt.username or the password"]);
    }

    #[test]
    fn larger_pictures_than_the_connection_takes_need_a_restart() {
        let pictures = |bytes: u32| {
            config(&format!(
                "[[camera]]\nname = \"a\"\nsource = {{ type = \"mqtt\", topic = \"x\", bytes_max = {bytes} }}\n"
            ))
        };
        let plan = places(&pictures(5000)).plan(&pictures(6000));
        assert_eq!(
            (plan.needs_restart.as_slice(), plan.changes.len()),
            (["camera a: source.bytes_max".to_owned()].as_slice(), 0)
        );
        assert_eq!(places(&pictures(5000)).plan(&pictures(4000)).changes.len(), 1);
    }
}
