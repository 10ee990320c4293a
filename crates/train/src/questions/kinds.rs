//! Which things are of one kind, and how they are spelled.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lexicon::{CONFUSABLE, ENTRIES, Entry};

static ENTRY: LazyLock<HashMap<&'static str, &'static Entry>> =
    LazyLock::new(|| ENTRIES.iter().map(|entry| (entry.name, entry)).collect());

/// The entry of a name; every name that is handed about is one of the lexicon's.
fn entry(name: &str) -> Option<&'static Entry> {
    ENTRY.get(name).copied()
}

/// Whether a thing may be asked about in the way that a letter of [`Entry::uses`] stands for.
pub fn is_used(name: &str, letter: char) -> bool {
    entry(name).is_some_and(|entry| entry.uses.contains(letter))
}

/// The name itself and every wider one, narrowest first.
pub fn wider(name: &'static str) -> impl Iterator<Item = &'static str> {
    std::iter::successors(Some(name), |name| entry(name).map(|entry| entry.broader).filter(|b| !b.is_empty()))
}

/// The widest kind that a thing belongs to.
pub fn root(name: &'static str) -> &'static str {
    wider(name).last().unwrap_or(name)
}

/// Whether every `narrow` is a `wide`.
pub fn is_a(narrow: &'static str, wide: &str) -> bool {
    wider(narrow).any(|name| name == wide)
}

/// Whether one may be called what the other is called: the same, a wider word, or an easy mistake.
pub fn related(a: &'static str, b: &'static str) -> bool {
    let mistaken = |group: &&[&str]| {
        let within = |name| wider(name).filter(|wide| group.contains(wide));
        within(a).any(|a| within(b).any(|b| a != b))
    };
    is_a(a, b) || is_a(b, a) || CONFUSABLE.iter().any(mistaken)
}

pub fn plural(name: &str) -> String {
    match name {
        "person" => "people".to_owned(),
        "man" => "men".to_owned(),
        "woman" => "women".to_owned(),
        "child" => "children".to_owned(),
        "sheep" | "fish" | "deer" => name.to_owned(),
        name if is_used(name, 'p') => name.to_owned(),
        name if name.ends_with(['s', 'x']) || name.ends_with("ch") || name.ends_with("sh") => {
            format!("{name}es")
        }
        name => format!("{name}s"),
    }
}

/// "A dog", "an elephant", "sunglasses".
pub fn with_article(name: &str) -> String {
    if is_used(name, 'p') || matches!(name, "mud" | "food" | "candy" | "fruit") {
        return name.to_owned();
    }
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) && name != "unicycle" && name != "uniform" {
        "an"
    } else {
        "a"
    };
    format!("{article} {name}")
}

/// "The dog is", "the dogs are": as question and verb, `is` first.
pub fn subject(name: &str, is_plural: bool) -> (&'static str, String) {
    if is_plural {
        ("are", format!("the {}", plural(name)))
    } else {
        (if is_used(name, 'p') { "are" } else { "is" }, format!("the {name}"))
    }
}
