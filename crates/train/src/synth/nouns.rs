//! From a caption to the objects and the scene that it names.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::vocabulary::{BOUNDARIES, HEADS, MEASURES, NOUNS, NUMBERS, SCENES};

/// Most objects of one collage.
pub const OBJECTS_MAX: usize = 6;
/// Words before a noun among which its number is looked for.
const REACH: usize = 4;

/// How many things a noun stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A singular; its regular plural is found by it.
    One,
    /// A plural, with what it counts as when no number stands before it.
    Some(usize),
    /// A collective, whatever stands before it.
    Exactly(usize),
}

/// What a regular plural without a number counts as.
const PLURAL: Amount = Amount::Some(2);

/// Objects of one class that a caption names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the detector.
    pub label: &'static str,
    pub n: usize,
}

struct Noun {
    labels: &'static [&'static str],
    amount: Amount,
}

static INDEX: LazyLock<HashMap<&'static str, Noun>> = LazyLock::new(|| {
    let nouns = NOUNS.iter().flat_map(|(labels, amount, words)| {
        words.iter().map(move |word| (*word, Noun { labels, amount: *amount }))
    });
    nouns.collect()
});

/// Lower-case words of a caption; a mark between two words is a word.
pub fn words(caption: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(caption.len() + 8);
    for c in caption.chars() {
        match c {
            c if c.is_alphanumeric() => spaced.extend(c.to_lowercase()),
            // "man's" is no two words.
            '\'' | '’' => {}
            ',' | '.' | ';' => spaced.push_str(" , "),
            _ => spaced.push(' '),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// What a word, or a pair of them, means: as it stands, or as the singular of a regular plural.
fn noun(phrase: &str) -> Option<(&'static [&'static str], Amount)> {
    if let Some(noun) = INDEX.get(phrase) {
        return Some((noun.labels, noun.amount));
    }
    let y = phrase.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let plain = [phrase.strip_suffix('s'), phrase.strip_suffix("es"), y.as_deref()];
    let singular = plain.into_iter().flatten().find_map(|stem| INDEX.get(stem))?;
    (singular.amount == Amount::One).then_some((singular.labels, PLURAL))
}

/// The noun that starts at a word, and the number of its words.
fn noun_at(words: &[String], at: usize) -> Option<(&'static [&'static str], Amount, usize)> {
    let pair = words.get(at..at + 2).and_then(|pair| noun(&pair.join(" ")));
    if let Some((labels, amount)) = pair {
        return Some((labels, amount, 2));
    }
    let word = words.get(at)?;
    let counts_others = MEASURES.contains(&word.as_str()) && words.get(at + 1).is_some_and(|w| w == "of");
    if counts_others {
        return None;
    }
    noun(word).map(|(labels, amount)| (labels, amount, 1))
}

/// The number that stands before the noun at a word.
fn number_before(words: &[String], at: usize) -> Option<usize> {
    let before = words[at.saturating_sub(REACH)..at].iter().rev();
    let mut near = before.take_while(|word| !BOUNDARIES.contains(&word.as_str()));
    near.find_map(|word| NUMBERS.iter().find(|(name, _)| name == word).map(|(_, n)| *n))
}

/// The objects that a caption names, in its order, at most [`OBJECTS_MAX`] together.
pub fn objects(words: &[String]) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let Some((labels, amount, n_words)) = noun_at(words, at) else {
            at += 1;
            continue;
        };
        let next = at + n_words;
        // "A bus driver", "a baby elephant", "a train station": the last noun is what is seen.
        let modifies = noun_at(words, next).is_some()
            || words.get(next).is_some_and(|word| HEADS.contains(&word.as_str()));
        if !modifies {
            let again = words[at.saturating_sub(2)..at].iter().any(|word| word == "the");
            let n = match amount {
                Amount::One => 1,
                Amount::Some(n) => number_before(words, at).unwrap_or(n),
                Amount::Exactly(n) => n,
            };
            labels.iter().for_each(|label| count(&mut wanted, label, n, again));
        }
        at = next;
    }
    limit(&mut wanted);
    wanted
}

/// Adds `n` of a class; `again` when the caption may speak of those that it has named already.
fn count(wanted: &mut Vec<Wanted>, label: &'static str, n: usize, again: bool) {
    match wanted.iter_mut().find(|wanted| wanted.label == label) {
        Some(earlier) if again => earlier.n = earlier.n.max(n),
        Some(earlier) => earlier.n += n,
        None => wanted.push(Wanted { label, n }),
    }
}

/// Takes from the most numerous class until there is room for one of each.
fn limit(wanted: &mut Vec<Wanted>) {
    wanted.truncate(OBJECTS_MAX);
    while wanted.iter().map(|wanted| wanted.n).sum::<usize>() > OBJECTS_MAX {
        if let Some(most) = wanted.iter_mut().max_by_key(|wanted| wanted.n) {
            most.n -= 1;
        }
    }
}

/// The classes that show the scene which a caption names; empty when it names none.
pub fn scene(words: &[String]) -> &'static [&'static str] {
    let named = |name: &str| words.iter().any(|word| word == name || word.strip_suffix('s') == Some(name));
    let found = SCENES.iter().find(|(names, _)| names.iter().any(|name| named(name)));
    found.map_or(&[], |(_, labels)| labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(caption: &str) -> Vec<(&'static str, usize)> {
        objects(&words(caption)).into_iter().map(|wanted| (wanted.label, wanted.n)).collect()
    }

    #[test]
    fn nouns_of_captions_map_to_the_detectors_classes() {
        assert_eq!(of("A man rides his bike beside a puppy."), [("person", 1), ("bicycle", 1), ("dog", 1)]);
        assert_eq!(of("A surfer near two canoes"), [("person", 1), ("surfboard", 1), ("boat", 2)]);
        assert_eq!(of("A boy eats a hot dog"), [("person", 1), ("hot dog", 1)]);
        assert_eq!(of("Clouds over the mountains"), []);
    }

    #[test]
    fn plurals_and_number_words_give_counts() {
        assert_eq!(of("Three brown dogs"), [("dog", 3)]);
        assert_eq!(of("puppies and buses"), [("dog", 2), ("bus", 2)]);
        assert_eq!(of("a group of men"), [("person", 4)]);
        assert_eq!(of("A couple on a bench"), [("person", 2), ("bench", 1)]);
        assert_eq!(of("a couple of cats"), [("cat", 2)]);
        assert_eq!(of("a sheep"), [("sheep", 1)]);
    }

    #[test]
    fn a_caption_gives_at_most_six_objects_and_keeps_every_class() {
        assert_eq!(of("A crowd of people, dogs, and a cat"), [("person", 3), ("dog", 2), ("cat", 1)]);
    }

    #[test]
    fn a_noun_that_qualifies_another_is_no_object() {
        assert_eq!(of("A baby elephant"), [("elephant", 1)]);
        assert_eq!(of("The bus driver at a train station"), [("person", 1)]);
        assert_eq!(of("men, women"), [("person", 4)]);
    }

    #[test]
    fn what_is_named_again_is_not_another_one() {
        assert_eq!(of("A dog runs and a man chases the dog"), [("dog", 1), ("person", 1)]);
    }

    #[test]
    fn scene_words_give_the_classes_that_show_the_scene() {
        assert!(scene(&words("A dog on the grass")).contains(&"sheep"));
        assert!(scene(&words("Waves at the shore")).contains(&"surfboard"));
        assert!(scene(&words("A dog")).is_empty());
    }
}
