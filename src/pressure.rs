//! Heat and short memory, noticed before the kernel acts on them: then frames are looked at less often.
//!
//! Reads files of the kernel; the paths and the time come in as parameters. What it decides is applied by the inference
//! thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::message::Happening;

/// How often to look.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// From one step to the next: memory and heat answer slowly.
const STEP: Duration = Duration::from_secs(15);
/// The first interval under pressure, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Share of the memory's limit that may be in use, without what the kernel can give back at once.
const MEMORY_SHARE: f64 = 0.9;
/// Percent of the last ten seconds in which something waited for memory.
const STALLED_PERCENT: f64 = 20.0;
/// So many degrees below the temperature at which the machine would be turned off.
const BELOW_CRITICAL: f64 = 10.0;
/// Where the machine names no temperature: most boards slow themselves down from here on.
const HOT: f64 = 85.0;
/// What was the matter must have become better by so much before captions come faster again.
const RELIEF: f64 = 0.95;

/// Where the kernel tells.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/sys/class/thermal`.
    pub thermal: PathBuf,
    /// The folder of the own control group (version 2); none where there is none.
    pub cgroup: Option<PathBuf>,
    /// `/proc/pressure/memory`, for a process without a group of its own.
    pub memory_pressure: PathBuf,
}

impl Paths {
    /// Those of this process.
    pub fn of_system() -> Paths {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = own.lines().find_map(|line| line.strip_prefix("0::/"));
        Paths {
            thermal: PathBuf::from("/sys/class/thermal"),
            cgroup: group.map(|group| Path::new("/sys/fs/cgroup").join(group)),
            memory_pressure: PathBuf::from("/proc/pressure/memory"),
        }
    }

    /// The worst that there is: how near to its limit, 1 at the limit, and what it is.
    fn read(&self) -> Option<(f64, String)> {
        let readings = [self.heat(), self.memory(), self.stalls()];
        readings.into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn heat(&self) -> Option<(f64, String)> {
        let zones = fs::read_dir(&self.thermal).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let zone = |zone: PathBuf| {
            let celsius = number(&zone.join("temp"))? / 1e3;
            let limit = thermal_limit(&zone);
            let name = fs::read_to_string(zone.join("type")).unwrap_or_default();
            Some((celsius / limit, format!("{} has {celsius:.0} of {limit:.0} degrees", name.trim())))
        };
        zones.filter_map(zone).max_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn memory(&self) -> Option<(f64, String)> {
        let group = self.cgroup.as_ref()?;
        let limits = ["memory.high", "memory.max"].map(|file| number(&group.join(file)));
        let limit = limits.into_iter().flatten().min_by(f64::total_cmp).filter(|limit| *limit > 0.0)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cache =
            stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<f64>().ok());
        let used = number(&group.join("memory.current"))? - cache.unwrap_or(0.0);
        let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
        let what = format!("{:.0} of {:.0} MiB of memory are in use", mebibytes(used), mebibytes(limit));
        Some((used / limit / MEMORY_SHARE, what))
    }

    fn stalls(&self) -> Option<(f64, String)> {
        let own =
            self.cgroup.as_ref().and_then(|group| fs::read_to_string(group.join("memory.pressure")).ok());
        let text = own.or_else(|| fs::read_to_string(&self.memory_pressure).ok())?;
        let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
        let percent: f64 = some.split(' ').next()?.parse().ok()?;
        Some((percent / STALLED_PERCENT, format!("memory was waited for {percent:.0} % of the time")))
    }
}

/// The first temperature at which the machine would do something itself, but its being turned off from below.
fn thermal_limit(zone: &Path) -> f64 {
    let trip = |i: u32| {
        let kind = fs::read_to_string(zone.join(format!("trip_point_{i}_type"))).ok()?;
        let celsius =
            number(&zone.join(format!("trip_point_{i}_temp"))).map(|t| t / 1e3).filter(|t| *t > 40.0);
        Some(match (kind.trim(), celsius) {
            ("critical", Some(celsius)) => Some(celsius - BELOW_CRITICAL),
            ("passive" | "hot", celsius) => celsius,
            _ => None,
        })
    };
    (0..16).map_while(trip).flatten().min_by(f64::total_cmp).unwrap_or(HOT)
}

fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// How much slower, and since when.
#[derive(Debug)]
pub struct Pressure {
    paths: Paths,
    interval: Duration,
    looked: Option<Instant>,
    stepped: Option<Instant>,
}

impl Pressure {
    pub fn new(paths: Paths) -> Pressure {
        Pressure { paths, interval: Duration::ZERO, looked: None, stepped: None }
    }

    /// The least time between two frames of a camera that are looked at; zero without pressure.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Looks, if it is time to: twice as slow at each step under pressure, twice as fast at each step without. Returns
    /// what there is to tell: that it begins, and that it is over.
    pub fn look(&mut self, now: Instant) -> Option<Happening> {
        let is_due =
            |since: Option<Instant>, after| since.is_none_or(|at| now.saturating_duration_since(at) >= after);
        if !is_due(self.looked, LOOK_AGAIN) || !is_due(self.stepped, STEP) {
            return None;
        }
        self.looked = Some(now);
        let worst = self.paths.read();
        let load = worst.as_ref().map_or(0.0, |(load, _)| *load);
        let is_slowed = !self.interval.is_zero();
        if load >= 1.0 {
            self.stepped = Some(now);
            self.interval = (2 * self.interval).clamp(FIRST, LONGEST);
            let why = worst.map(|(_, what)| what).unwrap_or_default();
            tracing::warn!(why, interval_s = self.interval.as_secs(), "captions are made less often");
            return (!is_slowed).then_some(Happening::Slowed { why });
        }
        if is_slowed && load < RELIEF {
            self.stepped = Some(now);
            self.interval /= 2;
            if self.interval < FIRST {
                self.interval = Duration::ZERO;
                tracing::info!("captions are made as often as before");
                return Some(Happening::Recovered);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            for folder in ["thermal/thermal_zone0", "group"] {
                fs::create_dir_all(machine.0.path().join(folder)).unwrap();
            }
            machine
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.0.path().join(file), text).unwrap();
        }

        fn pressure(&self) -> Pressure {
            Pressure::new(Paths {
                thermal: self.0.path().join("thermal"),
                cgroup: Some(self.0.path().join("group")),
                memory_pressure: self.0.path().join("pressure"),
            })
        }
    }

    /// The interval in seconds after each of some steps, and what was told.
    fn steps(pressure: &mut Pressure, from: Instant, n: u32) -> (Vec<u64>, Vec<Happening>) {
        let (mut intervals, mut told) = (Vec::new(), Vec::new());
        for i in 0..n {
            told.extend(pressure.look(from + i * STEP));
            intervals.push(pressure.interval().as_secs());
        }
        (intervals, told)
    }

    #[test]
    fn a_machine_that_tells_nothing_is_not_slowed() {
        assert_eq!(steps(&mut Machine::new().pressure(), Instant::now(), 3), (vec![0; 3], vec![]));
    }

    #[test]
    fn memory_that_runs_short_slows_step_by_step_and_its_relief_is_told_once() {
        let machine = Machine::new();
        let mib = |n: u64| (n << 20).to_string();
        machine.write("group/memory.max", "max");
        machine.write("group/memory.high", &mib(1000));
        machine.write("group/memory.stat", &format!("anon 1\ninactive_file {}\n", mib(200)));
        machine.write("group/memory.current", &mib(1090));
        let (mut pressure, start) = (machine.pressure(), Instant::now());
        assert_eq!(steps(&mut pressure, start, 2).0, [0, 0], "what can be given back at once does not count");
        machine.write("group/memory.current", &mib(1110));
        let (intervals, told) = steps(&mut pressure, start + 10 * STEP, 8);
        assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 60, 60]);
        let why = "910 of 1000 MiB of memory are in use".to_owned();
        assert_eq!(told, [Happening::Slowed { why }]);
        machine.write("group/memory.current", &mib(1090));
        assert_eq!(steps(&mut pressure, start + 30 * STEP, 2).0, [60, 60], "not much better");
        machine.write("group/memory.current", &mib(900));
        let (intervals, told) = steps(&mut pressure, start + 40 * STEP, 8);
        assert_eq!(intervals, [30, 15, 7, 3, 1, 0, 0, 0]);
        assert_eq!(told, [Happening::Recovered]);
    }

    #[test]
    fn between_two_steps_nothing_happens() {
        let machine = Machine::new();
        machine.write("pressure", "some avg10=50.00 avg60=1.00 avg300=0.10 total=9\nfull avg10=0.00\n");
        let (mut pressure, now) = (machine.pressure(), Instant::now());
        let why = "memory was waited for 50 % of the time".to_owned();
        assert_eq!(pressure.look(now), Some(Happening::Slowed { why }));
        assert_eq!(pressure.look(now + STEP / 2), None);
        assert_eq!(pressure.interval(), FIRST);
    }

    #[test]
    fn heat_is_measured_by_the_trip_points_of_the_machine() {
        let machine = Machine::new();
        let zone = "thermal/thermal_zone0";
        machine.write(&format!("{zone}/type"), "cpu-thermal\n");
        machine.write(&format!("{zone}/trip_point_0_type"), "critical\n");
        machine.write(&format!("{zone}/trip_point_0_temp"), "100000\n");
        for (temp, is_hot) in [("89000", false), ("90000", true)] {
            machine.write(&format!("{zone}/temp"), temp);
            assert_eq!(machine.pressure().look(Instant::now()).is_some(), is_hot, "{temp}");
        }
        machine.write(&format!("{zone}/trip_point_1_type"), "passive\n");
        machine.write(&format!("{zone}/trip_point_1_temp"), "70000\n");
        machine.write(&format!("{zone}/temp"), "70500");
        let why = "cpu-thermal has 70 of 70 degrees".to_owned();
        assert_eq!(machine.pressure().look(Instant::now()), Some(Happening::Slowed { why }));
        machine.write(&format!("{zone}/temp"), "nonsense");
        assert_eq!(machine.pressure().look(Instant::now()), None);
    }
}
