//! Which keys there are and what each of them takes, as the readers ask for them: there is no second list of keys that
//! could differ from what is read.

use std::ops::RangeInclusive;
use std::time::Duration;

/// One key of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// What a key takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    /// One of these texts.
    Word(Vec<&'static str>),
    Texts,
    Flag,
    Integer(RangeInclusive<u64>),
    Number(RangeInclusive<f32>),
    Numbers,
    NumberLists,
    /// A text with a unit.
    Duration(RangeInclusive<Duration>),
    /// This text in the place of what the same key takes else.
    Alternative(&'static str),
    Table(Outline),
    Tables(Outline),
}

/// The keys of one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outline {
    pub(super) keys: Vec<Key>,
    /// Where the text of one key decides which others there are: that key, and the keys by its text.
    pub(super) variants: Option<Variants>,
    /// Keys that nobody knows beforehand.
    pub(super) is_open: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variants {
    pub(super) key: &'static str,
    pub(super) of: Vec<(&'static str, Outline)>,
}

impl Outline {
    /// Notes that a key is asked for.
    pub(super) fn note(&mut self, name: &str, kind: Kind) {
        match self.keys.iter_mut().find(|key| key.name == name) {
            // It was reported as missing before it was asked for.
            Some(key) if key.kind == Kind::Text => key.kind = kind,
            _ => self.keys.push(Key { name: name.to_owned(), kind, is_required: false }),
        }
    }

    /// Notes that a key must be there; it is asked for next.
    pub(super) fn note_required(&mut self, name: &str) {
        self.keys.push(Key { name: name.to_owned(), kind: Kind::Text, is_required: true });
    }

    /// Every key with one value, by its path; those of lists of tables are left out.
    pub(super) fn single(&self) -> Vec<(String, &Kind)> {
        let mut all = Vec::new();
        for key in &self.keys {
            match &key.kind {
                Kind::Tables(_) => {}
                Kind::Table(inner) => {
                    all.extend(
                        inner.single().into_iter().map(|(path, kind)| (format!("{}.{path}", key.name), kind)),
                    );
                }
                kind => all.push((key.name.clone(), kind)),
            }
        }
        all
    }
}
