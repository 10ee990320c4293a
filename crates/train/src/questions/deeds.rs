//! Who does what to what, and where: read off the order of the words, with the agreement of all captions.

use std::collections::{BTreeMap, BTreeSet};

use super::caption::{Mention, Reading};
use super::kinds::{is_used, related, root};
use super::verbs::{DEEDS, FAINT, PLACES, THERE, TRANSITIVE};

/// Words between somebody and the deed.
const REACH: usize = 9;

/// Somebody, and whether it is several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    pub name: &'static str,
    pub plural: bool,
}

/// "The man is sitting on a bench."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub who: Who,
    /// The participle and the word after it, if any: "holding", "sitting on".
    pub deed: String,
    pub what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub who: Who,
    pub deed: &'static str,
}

/// Where the photo is, and who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    pub who: Option<Who>,
    pub phrase: &'static str,
}

/// A deed of a caption: its name, whose it is, and the first word after it.
struct Deed {
    name: &'static str,
    who: Who,
    end: usize,
}

fn deed_name(word: &str) -> Option<(&'static str, bool)> {
    let deed = DEEDS.iter().find(|deed| deed.name == word || deed.forms.contains(&word))?;
    Some((deed.name, deed.name == word))
}

/// Whether the word at `at` is a verb and no noun: "a slide", "to run", "the swing".
fn is_deed(reading: &Reading, at: usize, participle: bool) -> bool {
    let before = at.checked_sub(1).map_or("", |idx| reading.word(idx));
    let noun =
        ["a", "an", "the", "to", "his", "her", "their", "of", "'s", "no", "water", "for"].contains(&before);
    let named = reading.mentions.iter().any(|mention| (mention.from..mention.end).contains(&at));
    !noun && !named && (participle || !["in", "on", "with", "at", "and"].contains(&before))
}

fn who(reading: &Reading, at: usize) -> Option<Who> {
    let alive = |mention: &&Mention| {
        mention.end <= at
            && at - mention.end < REACH
            && matches!(root(mention.name), "person" | "animal")
            && mention.name != "group"
    };
    let near: Vec<&Mention> = reading.mentions.iter().filter(alive).collect();
    let chosen = near.iter().rev().find(|mention| {
        let before = mention.from.checked_sub(1).map_or("", |idx| reading.word(idx));
        // "A man with a dog walks": the dog is beside.
        !["with", "to", "near", "by", "behind", "for", "from", "and"].contains(&before)
            || near.len() == 1
            || mention.end == at
    })?;
    let joined = chosen.from.checked_sub(1).is_some_and(|idx| reading.word(idx) == "and");
    Some(Who { name: chosen.name, plural: chosen.plural || joined }).filter(|_| !joined)
}

fn deeds(reading: &Reading) -> Vec<Deed> {
    let mut all = Vec::new();
    for (at, word) in reading.words.iter().enumerate() {
        let Some((name, participle)) = deed_name(word) else { continue };
        if let (true, Some(who)) = (is_deed(reading, at, participle), who(reading, at)) {
            all.push(Deed { name, who, end: at + 1 });
        }
    }
    all
}

pub fn all_deeds(readings: &[Reading]) -> BTreeSet<&'static str> {
    readings.iter().flat_map(|r| &r.words).filter_map(|word| deed_name(word)).map(|(name, _)| name).collect()
}

/// What somebody does according to at least two captions, or to the only one.
pub fn done(readings: &[Reading]) -> Vec<Done> {
    let mut votes: BTreeMap<(Who, &'static str), usize> = BTreeMap::new();
    let mut by_deed: BTreeMap<(&'static str, &'static str, bool), usize> = BTreeMap::new();
    for reading in readings {
        let mine: BTreeSet<(Who, &'static str)> =
            deeds(reading).iter().map(|deed| (deed.who, deed.name)).collect();
        for (who, deed) in mine {
            *votes.entry((who, deed)).or_default() += 1;
            *by_deed.entry((root(who.name), deed, who.plural)).or_default() += 1;
        }
    }
    let needed = readings.len().min(2);
    let mut found: Vec<(usize, Done)> = votes
        .into_iter()
        .filter(|((who, deed), _)| {
            by_deed[&(root(who.name), *deed, who.plural)] >= needed && !FAINT.contains(deed)
        })
        .map(|((who, deed), n)| (n, Done { who, deed }))
        .collect();
    found.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    // One question for each of those who do something: the deed that most captions name.
    let mut kept: Vec<Done> = Vec::new();
    for (_, done) in found {
        if kept.iter().all(|earlier| root(earlier.who.name) != root(done.who.name)) {
            kept.push(done);
        }
    }
    kept
}

/// Things that somebody does something to; another caption may leave it out but not name another thing.
pub fn held(readings: &[Reading]) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    for reading in readings {
        all.extend(deeds(reading).iter().flat_map(|deed| objects(reading, deed)));
        all.extend(in_mouth(reading));
    }
    let mut kept: Vec<Held> = Vec::new();
    for held in &all {
        let same = |other: &&Held| other.deed == held.deed && root(other.who.name) == root(held.who.name);
        let denied = all.iter().filter(same).any(|other| !related(other.what, held.what));
        if !denied && !kept.iter().any(|earlier| same(&earlier)) && is_used(held.what, 'o') {
            kept.push(held.clone());
        }
    }
    kept
}

fn objects<'r>(reading: &'r Reading, deed: &'r Deed) -> Option<Held> {
    let (_, words) = TRANSITIVE.iter().find(|(name, _)| *name == deed.name)?;
    words.iter().find_map(|between| {
        let n_words = between.split_whitespace().count();
        let fits = between.split_whitespace().enumerate().all(|(i, word)| reading.word(deed.end + i) == word);
        let at = deed.end + n_words;
        let what = reading.mentions.iter().find(|mention| mention.from == at && mention.noun >= at)?;
        let alive = root(what.name) == root(deed.who.name);
        let name = format!("{} {between}", deed.name).trim().to_owned();
        (fits && !alive).then_some(Held { who: deed.who, deed: name, what: what.name })
    })
}

/// "A dog with a stick in its mouth."
fn in_mouth(reading: &Reading) -> Option<Held> {
    let what = reading.mentions.iter().find(|mention| {
        reading.word(mention.end) == "in"
            && ["its", "his", "their"].contains(&reading.word(mention.end + 1))
            && reading.word(mention.end + 2).starts_with("mouth")
    })?;
    let alive = |mention: &&Mention| mention.end <= what.from && root(mention.name) == "animal";
    let dog = reading.mentions.iter().rfind(alive)?;
    Some(Held {
        who: Who { name: dog.name, plural: dog.plural },
        deed: "carrying".to_owned(),
        what: what.name,
    })
}

fn place_at(reading: &Reading, at: usize) -> Option<&'static str> {
    let word = reading.word(at);
    let stem = word.strip_suffix('s').unwrap_or(word);
    let place = PLACES.iter().find(|place| place.words.contains(&word) || place.words.contains(&stem));
    // "A beach ball", "a pool table", "the street sign".
    let qualifies = reading
        .mentions
        .iter()
        .any(|mention| mention.from <= at && at < mention.noun || mention.noun == at + 1);
    place.filter(|_| !qualifies).map(|place| place.phrase)
}

/// Places by any word for them, even "grassy" or "a beach ball".
pub fn all_places(readings: &[Reading]) -> BTreeSet<&'static str> {
    let words = readings.iter().flat_map(|reading| &reading.words);
    let named = |word: &String| {
        let stem = word.strip_suffix('s').or(word.strip_suffix('y')).unwrap_or(word).to_owned();
        let is = |known: &&str| {
            *known == word.as_str() || *known == stem || stem.len() > 3 && stem.starts_with(*known)
        };
        PLACES
            .iter()
            .filter(move |place| place.words.iter().any(&is))
            .map(|place| place.phrase)
            .collect::<Vec<_>>()
    };
    words.flat_map(named).collect()
}

/// The place that most captions put the photo at, at least two (or the only one).
pub fn stay(readings: &[Reading]) -> Option<Stay> {
    let mut votes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut subjects: BTreeMap<Who, usize> = BTreeMap::new();
    for reading in readings {
        let there = |at: &usize| {
            (at.saturating_sub(4)..*at)
                .rev()
                .take_while(|i| reading.word(*i) != ",")
                .any(|i| THERE.contains(&reading.word(i)))
        };
        let mine: BTreeSet<&'static str> =
            (0..reading.words.len()).filter(there).filter_map(|at| place_at(reading, at)).collect();
        if let (false, Some(first)) = (mine.is_empty(), reading.mentions.first())
            && matches!(root(first.name), "person" | "animal")
            && first.name != "group"
        {
            *subjects.entry(Who { name: first.name, plural: first.plural }).or_default() += 1;
        }
        mine.into_iter().for_each(|phrase| *votes.entry(phrase).or_default() += 1);
    }
    let (phrase, n) = votes.iter().max_by_key(|(_, n)| **n)?;
    let tied = votes.values().filter(|votes| *votes == n).count() > 1;
    let who = subjects.iter().max_by_key(|(_, n)| **n).map(|(who, _)| *who);
    (*n >= readings.len().min(2) && !tied).then_some(Stay { who, phrase })
}
