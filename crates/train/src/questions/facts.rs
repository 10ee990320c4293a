//! What the captions of one photo agree on. Whatever one caption denies is no fact.

use std::collections::{BTreeMap, BTreeSet};

use super::caption::{Amount, Mention, Reading};
use super::deeds::{self, Done, Held, Stay};
use super::kinds::{is_a, is_used, related, root, wider};
use super::lexicon::{COLORS, SHADES};

/// The colour of a thing; with an owner, of the one that the owner wears or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Colored {
    pub owner: Option<&'static str>,
    pub name: &'static str,
    pub plural: bool,
    pub color: &'static str,
}

/// One photo's captions, read together.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names of everything that a caption mentions, without the wider ones.
    pub named: BTreeSet<&'static str>,
    /// Names that more than one caption mentions (as such or as a narrower thing), or the only caption.
    pub agreed: BTreeSet<&'static str>,
    /// How many there are, 1 to 5.
    pub counts: Vec<(&'static str, usize)>,
    pub colors: Vec<Colored>,
    pub held: Vec<Held>,
    pub done: Vec<Done>,
    pub stay: Option<Stay>,
    /// Deeds and places that any caption mentions, whoever does it and whatever is there.
    pub deeds: BTreeSet<&'static str>,
    pub places: BTreeSet<&'static str>,
    /// Every word of the captions.
    pub words: BTreeSet<String>,
    pub readings: Vec<Reading>,
}

impl Facts {
    pub fn of(captions: &[String]) -> Facts {
        let readings: Vec<Reading> = captions.iter().map(|caption| Reading::of(caption)).collect();
        let named: BTreeSet<&'static str> =
            readings.iter().flat_map(|reading| reading.mentions.iter().map(|mention| mention.name)).collect();
        let all: BTreeSet<&'static str> = named.iter().flat_map(|name| wider(name)).collect();
        let needed = readings.len().min(2);
        let agreed = all.iter().copied().filter(|name| n_mentioning(&readings, name) >= needed).collect();
        let counts = all.iter().filter_map(|name| Some((*name, count(&readings, name)?))).collect();
        Facts {
            colors: colors(&readings),
            held: deeds::held(&readings),
            done: deeds::done(&readings),
            stay: deeds::stay(&readings),
            deeds: deeds::all_deeds(&readings),
            places: deeds::all_places(&readings),
            words: readings.iter().flat_map(|reading| reading.words.iter().cloned()).collect(),
            named,
            agreed,
            counts,
            readings,
        }
    }

    /// Whether a caption names the thing, or something that may be called so.
    pub fn hints_at(&self, name: &'static str) -> bool {
        self.named.iter().any(|named| related(named, name))
            || name.split(' ').all(|word| self.words.contains(word))
    }
}

pub fn n_mentioning(readings: &[Reading], name: &str) -> usize {
    let mentions = |reading: &&Reading| reading.mentions.iter().any(|mention| is_a(mention.name, name));
    readings.iter().filter(mentions).count()
}

/// How many of a kind a caption says there are; none when it names none.
fn amount(reading: &Reading, name: &str) -> Option<Amount> {
    let mut sum: Option<Amount> = None;
    let mut counted: Vec<&Mention> = Vec::new();
    for mention in reading.mentions.iter().filter(|mention| is_a(mention.name, name)) {
        let again = |earlier: &&Mention| {
            let same = is_a(earlier.name, mention.name) || is_a(mention.name, earlier.name);
            // "The dog" after "a dog", "one dog" after "two dogs": no further one.
            same && (mention.definite || mention.partitive && earlier.plural)
        };
        if counted.iter().any(again) {
            continue;
        }
        counted.push(mention);
        sum = Some(sum.map_or(mention.amount, |sum| sum.plus(mention.amount)));
    }
    sum
}

/// The number on which the captions agree, 1 to 5.
fn count(readings: &[Reading], name: &'static str) -> Option<usize> {
    if !is_used(name, 'n') {
        return None;
    }
    let amounts: Vec<Option<Amount>> = readings.iter().map(|reading| amount(reading, name)).collect();
    let exact: Vec<usize> = amounts
        .iter()
        .flatten()
        .filter_map(|amount| if let Amount::Exactly(n) = amount { Some(*n) } else { None })
        .collect();
    let n = *exact.first()?;
    let agree = amounts.iter().flatten().all(|amount| amount.allows(n));
    // Those who speak of "two people" may mean the man and another one.
    let wide = readings.iter().zip(&amounts).filter(|(_, amount)| amount.is_none());
    let hidden = wide.flat_map(|(reading, _)| {
        wider(name).skip(1).filter_map(move |wide| amount_above(reading, wide, name))
    });
    let hidden = hidden.into_iter().any(|amount| !amount.allows(n));
    // One is what a caption says of its subject by default, so that more of them must say so; of several, "dogs" says
    // that it is no slip.
    let alive = matches!(root(name), "person" | "animal");
    let needed = if n == 1 && alive { 3 } else { 2 };
    let saying_so = if n == 1 {
        exact.len()
    } else {
        amounts.iter().flatten().filter(|amount| amount.least() > 1).count()
    };
    let stated = saying_so >= needed.min(readings.len());
    (agree && !hidden && stated && (1..=5).contains(&n)).then_some(n)
}

/// The amount of a wider kind that a caption names without naming the narrow one.
fn amount_above(reading: &Reading, wide: &'static str, name: &'static str) -> Option<Amount> {
    let mut mentions =
        reading.mentions.iter().filter(|mention| mention.name == wide || related_unlike(mention.name, name));
    let first = mentions.next()?.amount;
    Some(mentions.fold(first, |sum, mention| sum.plus(mention.amount)))
}

/// What may be called by the other's name although neither is the wider word: a man and a boy.
fn related_unlike(a: &'static str, b: &'static str) -> bool {
    related(a, b) && !is_a(a, b) && root(a) == root(b)
}

/// The colour that a phrase names: none without one, an empty one for a mixture or a vague word.
fn color(mention: &Mention) -> Option<(&'static str, &'static str)> {
    let plain = |word: &str| COLORS.iter().find(|(name, _)| *name == word).map_or("", |(_, plain)| *plain);
    match mention.colors[..] {
        [] => None,
        [only] => Some((plain(only), only)),
        [..] => Some(("", "")),
    }
}

/// Whose garment it is: the nearest person before it in the caption.
fn owner(reading: &Reading, idx: usize) -> Option<&Mention> {
    let before = reading.mentions[..idx].iter().rev();
    let owner = before.clone().find(|mention| matches!(root(mention.name), "person" | "animal"))?;
    let between = reading.words.get(owner.end..reading.mentions[idx].from)?;
    let links = ["in", "wearing", "with", "wears", "dressed", "'s", "and", "has"];
    let linked = between.iter().any(|word| links.contains(&word.as_str()));
    (linked && between.len() <= 8 && !between.contains(&",".to_owned())).then_some(owner)
}

type ColorKey = (Option<&'static str>, &'static str);

fn colors(readings: &[Reading]) -> Vec<Colored> {
    let mut said: BTreeMap<ColorKey, Vec<(&'static str, &'static str, bool)>> = BTreeMap::new();
    for reading in readings {
        for (idx, mention) in reading.mentions.iter().enumerate().filter(|(_, m)| is_used(m.name, 'c')) {
            let Some((plain, word)) = color(mention) else { continue };
            let worn = is_worn(mention.name);
            let owner = if worn { owner(reading, idx) } else { None };
            // What several people wear is not each one's own.
            if worn && owner.is_none_or(|owner| owner.name == "group") && n_people(readings) != Some(1) {
                continue;
            }
            let owner = owner.map(|owner| owner.name);
            said.entry((owner, mention.name)).or_default().push((plain, word, mention.plural));
        }
    }
    let keys: Vec<ColorKey> = said.keys().copied().collect();
    let fact = |key: &ColorKey| {
        let mine = &said[key];
        let color = mine.iter().map(|(plain, ..)| *plain).find(|plain| !plain.is_empty())?;
        let denies = |(plain, word, _): &(&'static str, &'static str, bool)| {
            *plain != color && !(plain.is_empty() && SHADES.contains(&(*word, color)))
        };
        let alike = keys.iter().filter(|other| same_thing(key, other));
        let denied = alike.flat_map(|other| &said[other]).any(denies);
        let plural = mine.iter().all(|(.., plural)| *plural);
        let fits = is_single(readings, key, plural);
        (!denied && fits).then_some(Colored { owner: key.0, name: key.1, plural, color })
    };
    let facts: Vec<Colored> = keys.iter().filter_map(fact).collect();
    // One question a thing, whatever its owner is called.
    let mut kept: Vec<Colored> = Vec::new();
    for fact in facts {
        if kept.iter().all(|earlier| !same_thing(&(earlier.owner, earlier.name), &(fact.owner, fact.name))) {
            kept.push(fact);
        }
    }
    kept
}

fn is_worn(name: &str) -> bool {
    matches!(
        name,
        "shirt"
            | "sweater"
            | "jacket"
            | "vest"
            | "dress"
            | "skirt"
            | "suit"
            | "uniform"
            | "outfit"
            | "wetsuit"
            | "swimsuit"
            | "shorts"
            | "pants"
            | "shoes"
            | "socks"
            | "hat"
            | "helmet"
            | "bandanna"
            | "sunglasses"
            | "goggles"
            | "glasses"
            | "tie"
            | "apron"
            | "hair"
            | "collar"
            | "harness"
            | "muzzle"
            | "backpack"
            | "mask"
    )
}

/// Whether two captions that say so may speak of one thing.
fn same_thing(a: &ColorKey, b: &ColorKey) -> bool {
    let owners = match (a.0, b.0) {
        (Some(a), Some(b)) => related(a, b) || root(a) == root(b) && (is_a(a, b) || is_a(b, a)),
        _ => true,
    };
    owners && (a.1 == b.1 || is_a(a.1, b.1) || is_a(b.1, a.1) || is_worn(a.1) && related(a.1, b.1))
}

fn n_people(readings: &[Reading]) -> Option<usize> {
    let amounts: Vec<Amount> = readings.iter().filter_map(|reading| amount(reading, "person")).collect();
    let first = amounts.first()?;
    amounts.iter().all(|amount| amount.least() == first.least()).then(|| first.least())
}

/// Whether the question can mean one thing alone, or all of them.
fn is_single(readings: &[Reading], key: &ColorKey, plural: bool) -> bool {
    let name = key.1;
    if let Some(owner) = key.0 {
        let mut owners = readings.iter().filter_map(|reading| amount(reading, owner));
        // "Two people" are no one man for sure, unless the caption tells them apart.
        let apart = |reading: &Reading| reading.mentions.iter().any(|mention| is_a(mention.name, owner));
        let vague = readings.iter().any(|reading| {
            !apart(reading) && amount(reading, root(owner)).is_some_and(|amount| !amount.allows(1))
        });
        return !vague && owners.all(|amount| amount.least() == 1);
    }
    if is_worn(name) {
        return n_people(readings) == Some(1);
    }
    let amounts: Vec<Amount> = readings.iter().filter_map(|reading| amount(reading, name)).collect();
    let several = amounts.iter().any(|amount| amount.least() > 1);
    several == plural && (!plural || is_used(name, 'p') || amounts.iter().all(|amount| amount.least() > 1))
}
