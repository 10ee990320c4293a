//! Reading one caption: the things that it names, how many of each, and their colours.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::kinds::root;
use super::lexicon::{AMOUNTS, BOUNDARIES, COLORS, DEFINITE, ENTRIES, Entry, HEADS, IRREGULAR, MEASURES};
use super::verbs::DEEDS;

/// Words before a noun that may belong to it.
const REACH: usize = 6;

/// How many a caption says there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Exactly(usize),
    AtLeast(usize),
}

impl Amount {
    pub fn least(self) -> usize {
        match self {
            Amount::Exactly(n) | Amount::AtLeast(n) => n,
        }
    }

    pub fn plus(self, other: Amount) -> Amount {
        let sum = self.least() + other.least();
        match (self, other) {
            (Amount::Exactly(_), Amount::Exactly(_)) => Amount::Exactly(sum),
            _ => Amount::AtLeast(sum),
        }
    }

    /// Whether it may be that there are `n`.
    pub fn allows(self, n: usize) -> bool {
        match self {
            Amount::Exactly(exactly) => exactly == n,
            Amount::AtLeast(least) => n >= least,
        }
    }
}

/// A thing that a caption names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    pub name: &'static str,
    /// First word of the phrase, of the noun in it, and the first word after it.
    pub from: usize,
    pub noun: usize,
    pub end: usize,
    pub amount: Amount,
    pub plural: bool,
    /// "The dog": it may have been named before.
    pub definite: bool,
    /// "One dog" after "two dogs": one of them.
    pub partitive: bool,
    /// Colour words of the phrase, nearest to the noun first.
    pub colors: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Reading {
    pub words: Vec<String>,
    pub mentions: Vec<Mention>,
}

static INDEX: LazyLock<HashMap<&'static str, &'static Entry>> = LazyLock::new(|| {
    let names = ENTRIES.iter().map(|entry| (entry.name, entry));
    names.chain(ENTRIES.iter().flat_map(|entry| entry.words.iter().map(move |word| (*word, entry)))).collect()
});

/// Lower-case words; a comma or full stop is a word, and so is the `'s` of an owner.
pub fn words(caption: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(caption.len() + 8);
    for c in caption.replace('’', "'").replace("'s ", " @ ").chars() {
        match c {
            '@' => spaced.push_str("'s"),
            c if c.is_alphanumeric() => spaced.extend(c.to_lowercase()),
            '\'' => {}
            ',' | '.' | ';' => spaced.push_str(" , "),
            _ => spaced.push(' '),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// What a word, or a pair of them, names, and whether it is a plural.
pub fn thing(phrase: &str) -> Option<(&'static Entry, bool)> {
    if let Some(entry) = INDEX.get(phrase) {
        return Some((entry, entry.uses.contains('p')));
    }
    if let Some((_, singular)) = IRREGULAR.iter().find(|(plural, _)| *plural == phrase) {
        return INDEX.get(singular).map(|entry| (*entry, true));
    }
    let y = phrase.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let stems = [phrase.strip_suffix('s'), phrase.strip_suffix("es"), y.as_deref()];
    stems.into_iter().flatten().find_map(|stem| INDEX.get(stem)).map(|entry| (*entry, true))
}

impl Reading {
    pub fn of(caption: &str) -> Reading {
        let words = words(caption);
        let mut mentions: Vec<Mention> = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let Some((entry, plural, end)) = thing_at(&words, at) else {
                at += 1;
                continue;
            };
            let is_verb = is_verb(&words, at, end, mentions.last());
            if !is_verb && !qualifies(&words, at, end, entry) {
                let start = mentions.last().map_or(0, |last| last.end);
                mentions.push(mention(&words, entry, plural, at, end, start));
            }
            at = end;
        }
        Reading { words, mentions }
    }

    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }
}

fn thing_at(words: &[String], at: usize) -> Option<(&'static Entry, bool, usize)> {
    let pair = words.get(at..at + 2).and_then(|pair| thing(&pair.join(" ")));
    if let Some((entry, plural)) = pair {
        return Some((entry, plural, at + 2));
    }
    let word = words.get(at)?;
    let measures = MEASURES.iter().any(|(name, ..)| name == word);
    if measures && words.get(at + 1).is_some_and(|next| next == "of") {
        return None;
    }
    thing(word).map(|(entry, plural)| (entry, plural, at + 1))
}

/// "The man slides", "a boy about to swing": a form of a verb that is spelled as a noun.
fn is_verb(words: &[String], at: usize, end: usize, last: Option<&Mention>) -> bool {
    const OTHERS: [&str; 8] = ["steps", "falls", "hurdles", "tops", "bears", "rings", "fans", "drums"];
    let word = words[at].as_str();
    let spelled_so = OTHERS.contains(&word)
        || word
            .strip_suffix('s')
            .is_some_and(|stem| OTHERS.iter().any(|other| other.strip_suffix('s') == Some(stem)))
        || DEEDS.iter().any(|deed| deed.forms.contains(&word));
    let Some(before) = at.checked_sub(1).map(|idx| words[idx].as_str()) else { return false };
    let follows_subject =
        last.is_some_and(|last| last.end == at && matches!(root(last.name), "person" | "animal"));
    end == at + 1
        && spelled_so
        && (follows_subject || before == "to" || before == "who" || before.ends_with("ly"))
}

/// "A dog house": the last noun is what is seen.
fn qualifies(words: &[String], at: usize, end: usize, entry: &Entry) -> bool {
    let Some(next) = words.get(end) else { return false };
    if matches!(root(entry.name), "person" | "animal")
        && DEEDS.iter().any(|deed| deed.forms.contains(&next.as_str()))
    {
        return false;
    }
    if let Some((_, _, next_end)) = thing_at(words, end) {
        return next_end > end && at < end;
    }
    HEADS.contains(&next.as_str())
}

/// The mention of a noun, with the words before it that belong to it; none stands before `start`.
fn mention(
    words: &[String],
    entry: &'static Entry,
    plural: bool,
    noun: usize,
    end: usize,
    start: usize,
) -> Mention {
    let mut colors = Vec::new();
    let (mut amount, mut definite, mut another, mut partitive) = (None, false, false, false);
    let mut from = noun;
    while from > start.max(noun.saturating_sub(REACH)) {
        let word = words[from - 1].as_str();
        let color = COLORS.iter().find(|(name, _)| *name == word);
        let joins = matches!(word, "and" | ",") && !colors.is_empty() && from >= 2;
        if let Some((name, _)) = color {
            colors.push(*name);
        } else if joins && is_color(&words[from - 2]) {
            // "Red and white", whose second colour comes next.
        } else if DEFINITE.contains(&word) {
            definite = true;
            from -= 1;
            break;
        } else if word == "another" {
            (amount, another) = (Some(Amount::Exactly(1)), true);
            from -= 1;
            break;
        } else if let Some((_, n, exact)) = AMOUNTS.iter().find(|(name, ..)| *name == word) {
            partitive = word == "one";
            amount = amount.or(Some(if *exact { Amount::Exactly(*n) } else { Amount::AtLeast(*n) }));
        } else if amount.is_some() || BOUNDARIES.contains(&word) {
            break;
        }
        from -= 1;
    }
    if from >= 2 && words[from - 1] == "of" && amount.is_none() {
        let measure = MEASURES.iter().find(|(name, ..)| *name == words[from - 2]);
        amount = measure.map(|(_, n, exact)| {
            if *exact && !entry.uses.contains('p') { Amount::Exactly(*n) } else { Amount::AtLeast(*n) }
        });
    }
    let amount = match words[noun].as_str() {
        "couple" => Amount::Exactly(2),
        _ if entry.name == "group" => Amount::AtLeast(3),
        // A pair of shorts is no two things, and cattle are no one.
        _ if plural => match amount {
            Some(Amount::Exactly(n)) if n >= 2 => Amount::Exactly(n),
            Some(Amount::AtLeast(n)) => Amount::AtLeast(n.max(2)),
            _ => Amount::AtLeast(2),
        },
        // "Two woman": the number is right, not the noun.
        _ => match amount {
            Some(Amount::Exactly(n)) if n >= 2 => Amount::Exactly(n),
            // "The man" may be one of several.
            _ if definite => Amount::AtLeast(1),
            _ => Amount::Exactly(1),
        },
    };
    let plural = plural || amount.least() > 1;
    Mention {
        name: entry.name,
        from,
        noun,
        end,
        amount,
        plural,
        definite: definite && !another,
        partitive,
        colors,
    }
}

fn is_color(word: &str) -> bool {
    COLORS.iter().any(|(name, _)| *name == word)
}
