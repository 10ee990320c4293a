//! Takes a TOML table apart and remembers everything that is wrong with it.
//!
//! A derived deserializer stops at the first surprise; an operator wants them all at once.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::outline::{Kind, Outline, Variants};
use super::{Problem, Problems};

/// One table of the file. Keys are taken out as they are read; what is left over is unknown.
pub(super) struct Section<'a> {
    table: Table,
    path: String,
    known: Vec<String>,
    problems: &'a RefCell<Vec<Problem>>,
    /// Where the keys that are asked for are noted, when that is all that is wanted.
    outline: Option<Outline>,
    /// The text of the key that decides which others there are, while an outline is drawn.
    variant: Option<&'static str>,
}

/// Reads the root table.
///
/// # Errors
/// Every problem that `read` or a section of it reported, and every unknown key.
pub(super) fn read<T>(table: Table, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<T, Problems> {
    let problems = RefCell::new(Vec::new());
    let mut root = Section::new(table, String::new(), &problems);
    let value = read(&mut root);
    root.report_unknown_keys();
    let found = problems.into_inner();
    match value {
        Some(value) if found.is_empty() => Ok(value),
        _ => Err(Problems(found)),
    }
}

/// Which keys `read` asks for.
pub(super) fn outline<T>(mut read: impl FnMut(&mut Section<'_>) -> T) -> Outline {
    let problems = RefCell::new(Vec::new());
    let mut draw = |variant: Option<&'static str>| {
        let mut section = Section::new(Table::new(), String::new(), &problems);
        section.outline = Some(Outline::default());
        section.variant = variant;
        drop(read(&mut section));
        section.outline.unwrap_or_default()
    };
    let mut outline = draw(None);
    if let Some(variants) = &mut outline.variants {
        variants.of.iter_mut().for_each(|(kind, keys)| *keys = draw(Some(*kind)));
    }
    outline
}

impl<'a> Section<'a> {
    fn new(table: Table, path: String, problems: &'a RefCell<Vec<Problem>>) -> Section<'a> {
        Section { table, path, known: Vec::new(), problems, outline: None, variant: None }
    }

    fn note(&mut self, key: &str, kind: impl FnOnce() -> Kind) {
        if let Some(outline) = &mut self.outline {
            outline.note(key, kind());
        }
    }

    pub(super) fn problem(&self, key: &str, why: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place: None, path: self.path_of(key), why: why.into() });
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.table.remove(key)
    }

    /// Takes a value of one type; another type is a problem.
    fn typed<T>(&mut self, key: &str, wanted: &str, convert: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = self.take(key)?;
        let found = value.type_str();
        let converted = convert(value);
        if converted.is_none() {
            self.problem(key, format!("must be {wanted} (got {found})"));
        }
        converted
    }

    pub(super) fn string(&mut self, key: &str) -> Option<String> {
        self.note(key, || Kind::Text);
        self.text(key)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    pub(super) fn required_string(&mut self, key: &str) -> Option<String> {
        self.report_missing(key);
        self.string(key)
    }

    /// One of a few texts.
    pub(super) fn word(&mut self, key: &str, allowed: &[&'static str]) -> Option<&'static str> {
        self.note(key, || Kind::Word(allowed.to_vec()));
        let text = self.text(key)?;
        let word = allowed.iter().find(|word| **word == text).copied();
        if word.is_none() {
            let wanted = match allowed {
                [one, other] => format!("{one:?} or {other:?}"),
                more => format!("one of {}", more.join(", ")),
            };
            self.problem(key, format!("must be {wanted} (got {text:?})"));
        }
        word
    }

    /// The text that decides which other keys there are: one of `kinds`. None is a problem already.
    pub(super) fn variant(&mut self, key: &'static str, kinds: &[&'static str]) -> Option<&'static str> {
        if let Some(outline) = &mut self.outline {
            if self.variant.is_none() {
                let of = kinds.iter().map(|kind| (*kind, Outline::default())).collect();
                outline.variants = Some(Variants { key, of });
            }
            return self.variant;
        }
        self.report_missing(key);
        let kind = self.word(key, kinds);
        if kind.is_none() {
            // Which keys there may be is not known either.
            self.forgive_unknown_keys();
        }
        kind
    }

    pub(super) fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        self.note(key, || Kind::Texts);
        let text = |value: Value| value.as_str().map(str::to_owned);
        self.typed(key, "a list of strings", |value| match value {
            Value::Array(values) => values.into_iter().map(text).collect(),
            _ => None,
        })
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        self.note(key, || Kind::Flag);
        self.typed(key, "true or false", |value| value.as_bool())
    }

    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.note(key, || Kind::Integer(range.clone()));
        let n = self.typed(key, "an integer", |value| value.as_integer())?;
        let in_range = u64::try_from(n).ok().filter(|n| range.contains(n));
        if in_range.is_none() {
            self.problem(key, format!("must be {} to {} (got {n})", range.start(), range.end()));
        }
        in_range
    }

    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<f32>) -> Option<f32> {
        self.note(key, || Kind::Number(range.clone()));
        let n = self.typed(key, "a number", |value| match value {
            Value::Float(n) => Some(n as f32),
            Value::Integer(n) => Some(n as f32),
            _ => None,
        })?;
        if !range.contains(&n) {
            self.problem(key, format!("must be {:?} to {:?} (got {n:?})", range.start(), range.end()));
            return None;
        }
        Some(n)
    }

    /// A list of numbers.
    pub(super) fn numbers(&mut self, key: &str) -> Option<Vec<f32>> {
        self.note(key, || Kind::Numbers);
        self.typed(key, "a list of numbers", |value| numbers(&value))
    }

    /// A list of lists of numbers, each of which may itself be in lists: `[[[0, 0], [1, 0]], ...]`.
    pub(super) fn number_lists(&mut self, key: &str) -> Option<Vec<Vec<f32>>> {
        self.note(key, || Kind::NumberLists);
        self.typed(key, "a list of lists of numbers", |value| value.as_array()?.iter().map(numbers).collect())
    }

    /// Takes the value when it is this word.
    pub(super) fn takes_word(&mut self, key: &str, word: &'static str) -> bool {
        self.note(key, || Kind::Alternative(word));
        let is_word = self.table.get(key).and_then(Value::as_str) == Some(word);
        is_word && self.take(key).is_some()
    }

    /// A string with a unit, such as `"500ms"`.
    pub(super) fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.note(key, || Kind::Duration(range.clone()));
        let text = self.typed(key, "a string with a unit, such as \"500ms\"", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })?;
        match humantime::parse_duration(&text) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(duration) => {
                let [low, high, got] =
                    [*range.start(), *range.end(), duration].map(humantime::format_duration);
                self.problem(key, format!("must be {low} to {high} (got {got})"));
                None
            }
            Err(e) => {
                self.problem(key, format!("{text:?} is not a duration such as \"500ms\": {e}"));
                None
            }
        }
    }

    pub(super) fn section<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        self.note(key, || Kind::Table(outline(&mut read)));
        let table = self.typed(key, "a table", |value| match value {
            Value::Table(table) => Some(table),
            _ => None,
        })?;
        self.inner(self.path_of(key), table, read)
    }

    pub(super) fn required_section<T>(
        &mut self,
        key: &str,
        read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        self.report_missing(key);
        self.section(key, read)
    }

    /// An array of tables; a broken one is none, so that the others keep their index.
    pub(super) fn sections<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Vec<Option<T>> {
        self.note(key, || Kind::Tables(outline(&mut read)));
        let tables = self.typed(key, "an array of tables", |value| match value {
            Value::Array(values) => Some(values),
            _ => None,
        });
        let mut all = Vec::new();
        for (i, value) in tables.unwrap_or_default().into_iter().enumerate() {
            let path = format!("{}[{i}]", self.path_of(key));
            all.push(match value {
                Value::Table(table) => self.inner(path, table, &mut read),
                _ => {
                    self.problem(&format!("{key}[{i}]"), "must be a table");
                    None
                }
            });
        }
        all
    }

    /// Takes every key that is left, for a table whose keys are not known beforehand.
    pub(super) fn rest(&mut self) -> Table {
        if let Some(outline) = &mut self.outline {
            outline.is_open = true;
        }
        std::mem::take(&mut self.table)
    }

    fn inner<T>(
        &self,
        path: String,
        table: Table,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut section = Section::new(table, path, self.problems);
        let value = read(&mut section);
        section.report_unknown_keys();
        value
    }

    pub(super) fn report_missing(&mut self, key: &str) {
        if let Some(outline) = &mut self.outline {
            outline.note_required(key);
        }
        if !self.table.contains_key(key) {
            self.problem(key, "is missing");
        }
    }

    /// For a section whose kind is not known: which keys it may have is not known either.
    pub(super) fn forgive_unknown_keys(&mut self) {
        if let Some(outline) = &mut self.outline {
            outline.is_open = true;
        }
        self.table.clear();
    }

    fn report_unknown_keys(&self) {
        for key in self.table.keys() {
            self.problem(key, format!("unknown key, known are: {}", self.known.join(", ")));
        }
    }
}

/// The numbers of a list, of whatever depth.
fn numbers(value: &Value) -> Option<Vec<f32>> {
    fn collect(value: &Value, depth: usize, found: &mut Vec<f32>) -> Option<()> {
        match value {
            Value::Float(n) => found.push(*n as f32),
            Value::Integer(n) => found.push(*n as f32),
            Value::Array(values) if depth < 3 => {
                for value in values {
                    collect(value, depth + 1, found)?;
                }
            }
            _ => return None,
        }
        Some(())
    }
    let mut found = Vec::new();
    matches!(value, Value::Array(_)).then_some(())?;
    collect(value, 0, &mut found)?;
    Some(found)
}
