//! What is said in several places, put together: the file, the files of `conf.d` beside it in the order of their names,
//! and the environment. What is said later holds; cameras are gathered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::outline::{Kind, Outline};
use super::problem::Place;
use super::{Problem, Problems, syntax_error};

/// The folder beside the file, whose files ending in `.toml` are read as well.
pub const FRAGMENTS: &str = "conf.d";
const FRAGMENTS_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Of each of these every file may have some: they are gathered, not replaced.
const GATHERED: [&str; 1] = ["camera"];
/// What the variables of keys begin with.
const VARIABLE_PREFIX: &str = "CAPTIOND_";
/// `$CAPTIOND_BUNDLE` names the bundle of every command that is told none; what the file says goes first.
const NOT_BY_VARIABLE: [&str; 1] = ["bundle"];

/// Everything that was said, and where.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) table: Table,
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Layers {
    /// Reads the file at `path` and those of the folder beside it.
    ///
    /// # Errors
    /// Every file that cannot be read, and every mistake in the syntax of any.
    pub(super) fn read(path: &Path) -> Result<Layers, Problems> {
        let mut layers = Layers::default();
        layers.add_file(path);
        match fragments(&path.parent().unwrap_or(Path::new("")).join(FRAGMENTS)) {
            Ok(files) => files.iter().for_each(|file| layers.add_file(file)),
            Err(why) => layers.problems.push(Problem { place: None, path: String::new(), why }),
        }
        if layers.problems.is_empty() { Ok(layers) } else { Err(Problems(layers.problems)) }
    }

    fn add_file(&mut self, path: &Path) {
        let file: Arc<str> = path.display().to_string().into();
        match read_bounded(path) {
            Ok(text) => self.add_text(&file, &text),
            Err(why) => {
                let why = format!("read {file}: {why}");
                self.problems.push(Problem { place: None, path: String::new(), why });
            }
        }
    }

    fn add_text(&mut self, file: &Arc<str>, text: &str) {
        let (document, errors) = DeTable::parse_recoverable(text);
        for e in &errors {
            let (line, why) = syntax_error(text, e);
            let place = Some(Place::Line(Arc::clone(file), line));
            self.problems.push(Problem { place, path: String::new(), why });
        }
        // Only a text without mistakes is taken as a table: the rest of a broken one may mean anything.
        let (true, Ok(mut table)) = (errors.is_empty(), text.parse::<Table>()) else { return };
        let lines = Lines::of(text);
        for (key, value) in document.get_ref() {
            let name = key.get_ref().to_string();
            let place = Place::Line(Arc::clone(file), lines.number_at(key.span().start));
            let already = self.table.get(&name).and_then(Value::as_array).map_or(0, Vec::len);
            let first = if GATHERED.contains(&name.as_str()) { already } else { 0 };
            self.places.insert(name.clone(), place);
            self.locate(&name, value.get_ref(), first, &|at| {
                Place::Line(Arc::clone(file), lines.number_at(at))
            });
        }
        for name in GATHERED {
            if let (Some(Value::Array(old)), Some(Value::Array(new))) =
                (self.table.get_mut(name), table.get_mut(name))
            {
                old.append(new);
                table.remove(name);
            }
        }
        merge(&mut self.table, table);
    }

    /// Notes where everything beneath `path` stands; the first of a list has the number `first`.
    fn locate(&mut self, path: &str, value: &DeValue<'_>, first: usize, place: &dyn Fn(usize) -> Place) {
        match value {
            DeValue::Table(table) => {
                for (key, value) in table {
                    let path = format!("{path}.{}", key.get_ref());
                    self.places.insert(path.clone(), place(key.span().start));
                    self.locate(&path, value.get_ref(), 0, place);
                }
            }
            DeValue::Array(values) => {
                for (i, value) in values.iter().enumerate() {
                    let path = format!("{path}[{}]", first + i);
                    self.places.insert(path.clone(), place(value.span().start));
                    self.locate(&path, value.get_ref(), 0, place);
                }
            }
            _ => {}
        }
    }

    /// Lets `variables` of the environment replace what the files say. A variable is named after its key: the path in
    /// capital letters, `_` for `.`.
    ///
    /// # Errors
    /// Every variable of a section of the file that names no key of it, and every one that is no value of TOML where
    /// its key takes no text.
    pub(super) fn override_by(
        &mut self,
        variables: &[(String, String)],
        outline: &Outline,
    ) -> Result<(), Problems> {
        let keys = outline.single();
        let name_of = |path: &str| format!("{VARIABLE_PREFIX}{}", path.replace('.', "_").to_uppercase());
        let mut problems = Vec::new();
        for (name, text) in variables {
            let key = keys
                .iter()
                .find(|(path, _)| name_of(path) == *name && !NOT_BY_VARIABLE.contains(&path.as_str()));
            let mut problem = |path: &str, why: String| {
                let place = Some(Place::Variable(name.clone()));
                problems.push(Problem { place, path: path.to_owned(), why });
            };
            match key {
                Some((path, kind)) => match value_of(kind, text) {
                    Some(value) => {
                        set(&mut self.table, path, value);
                        self.places.insert(path.clone(), Place::Variable(name.clone()));
                    }
                    None => problem(path, format!("{text:?} is no such value")),
                },
                None => {
                    let section = keys.iter().filter_map(|(path, _)| Some(path.split_once('.')?.0));
                    let mut sections = section.map(|section| format!("{}_", name_of(section)));
                    if sections.any(|section| name.starts_with(&section)) {
                        problem("", "names no key of the configuration".to_owned());
                    }
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }

    /// Says of every problem where it stands: its key, or the nearest thing around it that is there.
    pub(super) fn place(&self, problems: Problems) -> Problems {
        let place = |mut problem: Problem| {
            let mut path = problem.path.as_str();
            while problem.place.is_none() && !path.is_empty() {
                problem.place = self.places.get(path).cloned();
                let cut = path.rfind(['.', '[']).unwrap_or(0);
                path = path.get(..cut).unwrap_or_default();
            }
            problem
        };
        Problems(problems.0.into_iter().map(place).collect())
    }
}

/// Where lines begin in a text.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The number, from 1, of the line that a byte stands in.
    fn number_at(&self, byte: usize) -> usize {
        self.0.partition_point(|newline| *newline < byte) + 1
    }
}

/// The files of a folder that are read, in the order of their names; none where there is no folder.
fn fragments(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |e: std::io::Error| format!("read {}: {e}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let is_hidden = name.to_string_lossy().starts_with('.');
        if !is_hidden && Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
            files.push(folder.join(name));
        }
    }
    if files.len() > FRAGMENTS_MAX {
        return Err(format!("{} holds more than {FRAGMENTS_MAX} files", folder.display()));
    }
    files.sort();
    Ok(files)
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes are more than {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

/// Lets what `newer` says hold, table by table.
fn merge(table: &mut Table, newer: Table) {
    for (key, value) in newer {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// Sets a value by its path; what is in the way and is no table stays, since that is a problem of its own.
fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(table.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// The value of a variable: a text as it is, and all else as TOML has it.
fn value_of(kind: &Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Text | Kind::Word(_) | Kind::Duration(_) => Some(Value::String(text.to_owned())),
        _ => format!("value = {text}").parse::<Table>().ok()?.remove("value"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, outline};
    use super::*;

    /// A configuration of several files, by their names beneath one folder.
    fn load(
        files: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> (tempfile::TempDir, Result<Config, Problems>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FRAGMENTS)).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let variables: Vec<_> =
            variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let config = Config::load_with(&dir.path().join("captiond.toml"), &variables);
        (dir, config)
    }

    fn problems(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<String> {
        let (dir, config) = load(files, variables);
        let text = config.unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "");
        text.lines().map(str::to_owned).collect()
    }

    const YARD: &str = "[[camera]]\nname = \"yard\"\nsource = { type = \"folder\", path = \".\" }\n";

    #[test]
    fn what_is_said_later_holds_and_cameras_are_gathered() {
        let main = format!("threads = 1\n[mqtt]\nhost = \"one\"\nport = 1001\nbase_topic = \"a\"\n{YARD}");
        let files = [
            ("captiond.toml", main.as_str()),
            ("conf.d/10-two.toml", "[mqtt]\nhost = \"two\"\nport = 1002\n"),
            (
                "conf.d/20-gate.toml",
                "[[camera]]\nname = \"gate\"\nsource = { type = \"folder\", path = \".\" }\n",
            ),
            ("conf.d/05-first.toml", "[mqtt]\nport = 9\n"),
            ("conf.d/.hidden.toml", "nonsense"),
            ("conf.d/old.toml.bak", "nonsense"),
        ];
        let (dir, config) = load(
            &files,
            &[("CAPTIOND_MQTT_HOST", "three"), ("CAPTIOND_THREADS", "2"), ("CAPTIOND_LOG", "x")],
        );
        let config = config.unwrap();
        assert_eq!((config.mqtt.host.as_str(), config.mqtt.port, config.threads.get()), ("three", 1002, 2));
        assert_eq!(config.mqtt.base_topic, "a");
        assert_eq!(
            config.cameras.iter().map(|camera| camera.name.as_str()).collect::<Vec<_>>(),
            ["yard", "gate"]
        );
        let crate::source::SourceConfig::Folder(folder) = &config.cameras[1].source else {
            panic!("no folder")
        };
        assert_eq!(folder.path, dir.path().join("."), "relative to the folder of the main file");
    }

    #[test]
    fn every_problem_of_every_file_names_its_file_and_line() {
        let main = format!("[mqtt]\nport = 0\n\n{YARD}interval = 3\n");
        let second = "# A camera\n[[camera]]\nname = \"Gate\"\n[camera.source]\ntype = \"http\"\n";
        let found = problems(
            &[("captiond.toml", &main), ("conf.d/gate.toml", second)],
            &[("CAPTIOND_MQTT_KEEP_ALIVE", "soon"), ("CAPTIOND_MQTT_HOTS", "x"), ("CAPTIOND_MQTT_QOS", "[")],
        );
        let expected = [
            "$CAPTIOND_MQTT_HOTS: names no key of the configuration",
            "$CAPTIOND_MQTT_QOS: mqtt.qos: \"[\" is no such value",
            "captiond.toml:2: mqtt.port: must be 1 to 65535 (got 0)",
            "$CAPTIOND_MQTT_KEEP_ALIVE: mqtt.keep_alive: \"soon\" is not a duration",
            "captiond.toml:7: camera[0].interval: unknown key",
            "conf.d/gate.toml:3: camera[1].name: must be",
            "conf.d/gate.toml:4: camera[1].source.url: is missing",
        ];
        for expected in expected {
            assert!(found.iter().any(|found| found.starts_with(expected)), "{expected} is not in {found:#?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn every_mistake_in_the_syntax_is_reported_without_the_line_itself() {
        let broken = "[mqtt]\npassword = \"hunter2\nport = = 3\n";
        let found = problems(&[("captiond.toml", broken), ("conf.d/x.toml", "a = \n")], &[]);
        assert!(found.iter().any(|found| found.starts_with("captiond.toml:2: column ")), "{found:#?}");
        assert!(found.iter().any(|found| found.starts_with("captiond.toml:3: column ")), "{found:#?}");
        assert!(found.iter().any(|found| found.starts_with("conf.d/x.toml:1: column ")), "{found:#?}");
        assert!(!found.iter().any(|found| found.contains("hunter2")), "{found:#?}");
    }

    #[test]
    fn a_camera_of_two_files_is_a_problem_at_the_second() {
        let found = problems(&[("captiond.toml", YARD), ("conf.d/again.toml", YARD)], &[]);
        assert_eq!(found, ["conf.d/again.toml:2: camera[1].name: \"yard\" is taken"]);
    }

    #[test]
    fn what_is_too_much_is_refused_and_named() {
        let (dir, _) = load(&[("captiond.toml", YARD)], &[]);
        let folder = dir.path().join(FRAGMENTS);
        for i in 0..=FRAGMENTS_MAX {
            std::fs::write(folder.join(format!("{i}.toml")), "").unwrap();
        }
        let found = Config::load_with(&dir.path().join("captiond.toml"), &[]).unwrap_err().to_string();
        assert!(found.ends_with("holds more than 64 files"), "{found}");
    }

    #[test]
    fn no_two_keys_have_one_variable() {
        let outline = outline();
        let mut names: Vec<_> =
            outline.single().into_iter().map(|(path, _)| path.replace('.', "_")).collect();
        let n_keys = names.len();
        names.sort();
        names.dedup();
        assert_eq!((names.len(), n_keys > 20), (n_keys, true));
    }
}
