//! From what the captions of a photo agree on to questions.

use rand::Rng;
use rand::seq::SliceRandom;

use super::deeds::{Held, Who};
use super::facts::{Colored, Facts, n_mentioning};
use super::kinds::{is_a, is_used, plural, related, root, subject, with_article};
use super::lexicon::NUMBERS;
use super::scenes::{Scenes, draw};
use super::verbs::{ALIKE, FAINT, PLACES};
use super::{Kind, Question};

/// Wrong answers beside the right one.
const N_WRONG: usize = 5;
const N_WRONG_MIN: usize = 3;
/// Likely things among which those are drawn that a photo does not show, and how many are drawn.
const N_LIKELY: usize = 14;
const N_ABSENT: usize = 4;
/// Photos in which a wrong answer must have been a right one.
const N_SEEN_MIN: f64 = 2.0;

pub(super) fn all(facts: &Facts, scenes: &Scenes, rng: &mut impl Rng) -> Vec<Question> {
    let mut all = things(facts, scenes, rng);
    all.extend(counts(facts));
    for colored in &facts.colors {
        all.push(color(colored));
        all.extend(is_color(colored, scenes, rng));
    }
    all.extend(facts.held.iter().filter_map(|held| object(held, facts, scenes, rng)));
    all.extend(["animal", "vehicle"].into_iter().filter_map(|kind| what_kind(kind, facts, scenes, rng)));
    all.extend(place(facts, scenes, rng));
    all.extend(activities(facts, scenes, rng));
    all
}

fn yes_no(question: String, yes: bool, about: &str) -> Question {
    let answer = if yes { "yes" } else { "no" };
    let choices = vec!["yes".to_owned(), "no".to_owned()];
    Question { kind: Kind::YesNo, question, answer: answer.to_owned(), choices, about: about.to_owned() }
}

/// "Is there a dog?": what two captions name, and what would fit the scene but stands in none.
fn things(facts: &Facts, scenes: &Scenes, rng: &mut impl Rng) -> Vec<Question> {
    let ask = |name: &'static str, yes: bool| {
        let verb = if is_used(name, 'p') { "Are" } else { "Is" };
        yes_no(format!("{verb} there {}?", with_article(name)), yes, name)
    };
    let there = facts.agreed.iter().filter(|name| is_used(name, 'y')).map(|name| ask(name, true));
    let mut likely = scenes.likely(facts);
    likely.retain(|(name, _)| is_used(name, 'y') && !facts.hints_at(name));
    likely.truncate(N_LIKELY);
    let absent = draw(likely, N_ABSENT, rng);
    there.chain(absent.into_iter().map(|name| ask(name, false))).collect()
}

/// "How many dogs are there?": of the narrowest kinds, and of a wider one where it counts more or where captions
/// count by it themselves.
fn counts(facts: &Facts) -> Vec<Question> {
    let choices: Vec<String> = NUMBERS.iter().map(|number| (*number).to_owned()).collect();
    let said_by_narrower = |name: &str, n: usize| {
        facts.counts.iter().any(|(narrow, n_narrow)| *narrow != name && is_a(narrow, name) && *n_narrow == n)
    };
    let ask = |(name, n): &(&'static str, usize)| Question {
        kind: Kind::Count,
        question: format!("How many {} are there?", plural(name)),
        answer: NUMBERS[n - 1].to_owned(),
        choices: choices.clone(),
        about: (*name).to_owned(),
    };
    let asked = |(name, n): &&(&'static str, usize)| {
        !said_by_narrower(name, *n) || *n > 1 && facts.named.contains(name)
    };
    facts.counts.iter().filter(asked).map(ask).collect()
}

/// "is" or "are" with the thing, its owner before it.
fn owned(colored: &Colored) -> (&'static str, String) {
    let (verb, the_thing) = subject(colored.name, colored.plural && !is_used(colored.name, 'p'));
    match colored.owner {
        Some(owner) => (verb, the_thing.replacen("the ", &format!("the {owner}'s "), 1)),
        None => (verb, the_thing),
    }
}

fn color(colored: &Colored) -> Question {
    let (verb, thing) = owned(colored);
    Question {
        kind: Kind::Color,
        question: format!("What color {verb} {thing}?"),
        answer: colored.color.to_owned(),
        choices: Vec::new(),
        about: colored.name.to_owned(),
    }
}

fn capitalized(verb: &str) -> &'static str {
    if verb == "are" { "Are" } else { "Is" }
}

fn is_color(colored: &Colored, scenes: &Scenes, rng: &mut impl Rng) -> Vec<Question> {
    let (verb, thing) = owned(colored);
    let ask = |color: &str, yes| yes_no(format!("{} {thing} {color}?", capitalized(verb)), yes, color);
    let mut others = scenes.colors(colored.name);
    others.retain(|(other, _)| *other != colored.color);
    let wrong = draw(others, 1, rng).into_iter().map(|other| ask(other, false));
    std::iter::once(ask(colored.color, true)).chain(wrong).collect()
}

/// The right answer among wrong ones, in random order; none when too few wrong ones are known.
fn chosen(
    kind: Kind,
    question: String,
    answer: &str,
    wrong: Vec<&str>,
    rng: &mut impl Rng,
) -> Option<Question> {
    if wrong.len() < N_WRONG_MIN {
        return None;
    }
    let mut choices: Vec<String> = wrong.into_iter().chain([answer]).map(str::to_owned).collect();
    choices.shuffle(rng);
    Some(Question { kind, question, answer: answer.to_owned(), choices, about: answer.to_owned() })
}

/// "What is the man holding?"
fn object(held: &Held, facts: &Facts, scenes: &Scenes, rng: &mut impl Rng) -> Option<Question> {
    let mut pool = scenes.held(&held.deed);
    pool.retain(|(other, n)| *n >= N_SEEN_MIN && !facts.hints_at(other) && !related(other, held.what));
    let wrong = draw(pool, N_WRONG, rng);
    let (verb, who) = subject(held.who.name, held.who.plural);
    chosen(Kind::Object, format!("What {verb} {who} {}?", held.deed), held.what, wrong, rng)
}

/// "What animal is there?", when three captions name the only one.
fn what_kind(kind: &'static str, facts: &Facts, scenes: &Scenes, rng: &mut impl Rng) -> Option<Question> {
    let mut named = facts.named.iter().filter(|name| **name != kind && root(name) == kind);
    let (only, None) = (named.next()?, named.next()) else { return None };
    if !is_used(only, 'o') || n_mentioning(&facts.readings, only) < facts.readings.len().min(3) {
        return None;
    }
    let mut pool = scenes.of_kind(kind);
    pool.retain(|(other, _)| is_used(other, 'o') && !facts.hints_at(other) && !related(other, only));
    // The commonest would be a sure guess otherwise.
    pool.iter_mut().for_each(|(_, weight)| *weight = weight.sqrt());
    let wrong = draw(pool, N_WRONG, rng);
    chosen(Kind::Object, format!("What {kind} is there?"), only, wrong, rng)
}

/// "Where is the dog?"
fn place(facts: &Facts, scenes: &Scenes, rng: &mut impl Rng) -> Option<Question> {
    let stay = facts.stay.as_ref()?;
    let alike = |a: &str, b: &str| {
        let of =
            |phrase: &str| PLACES.iter().find(|place| place.phrase == phrase).map_or(&[][..], |p| p.alike);
        a == b || of(a).contains(&b) || of(b).contains(&a)
    };
    let mut pool = scenes.places();
    pool.retain(|(other, _)| {
        !alike(other, stay.phrase) && !facts.places.iter().any(|named| alike(other, named))
    });
    pool.iter_mut().for_each(|(_, weight)| *weight = weight.sqrt());
    let wrong = draw(pool, N_WRONG, rng);
    let question = stay.who.map_or("Where is this?".to_owned(), |who| {
        let (verb, who) = subject(who.name, who.plural);
        format!("Where {verb} {who}?")
    });
    chosen(Kind::Place, question, stay.phrase, wrong, rng)
}

fn alike(a: &str, b: &str) -> bool {
    a == b || ALIKE.iter().any(|group| group.contains(&a) && group.contains(&b))
}

/// "What is the man doing?", "Is the man running?"
fn activities(facts: &Facts, scenes: &Scenes, rng: &mut impl Rng) -> Vec<Question> {
    let mut all = Vec::new();
    for done in &facts.done {
        let mut pool = scenes.done(done.who);
        pool.retain(|(other, n)| {
            *n >= N_SEEN_MIN
                && !facts.deeds.contains(other)
                && !FAINT.contains(other)
                && !alike(other, done.deed)
        });
        pool.iter_mut().for_each(|(_, weight)| *weight = weight.sqrt());
        let Who { name, plural } = done.who;
        let (verb, who) = subject(name, plural);
        let wrong = draw(pool, N_WRONG, rng);
        all.push(yes_no(format!("{} {who} {}?", capitalized(verb), done.deed), true, done.deed));
        if let Some(other) = wrong.first() {
            all.push(yes_no(format!("{} {who} {other}?", capitalized(verb)), false, other));
        }
        all.extend(chosen(Kind::Activity, format!("What {verb} {who} doing?"), done.deed, wrong, rng));
    }
    all
}
