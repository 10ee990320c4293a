//! The contest between the rules, and those for words without apostrophes.
//!
//! A rule looks at the rest of the sentence and says how far it reaches. Nothing here looks back.

use super::apostrophes::{
    apostrophe_word, before_clitic, before_negation, clitic, elided, negated, prefix_len,
};
use super::chars::{is_alone, is_amp, is_blank, is_comparison, is_letter, is_word};
use super::words::{
    ABBREVIATIONS, BEFORE_NUMBERS, CAPITALISED, COMPANIES, SENTENCE_STARTERS, TWO_WORDS, has, text_of,
};
use super::{marks, numbers};

/// What becomes of the characters a rule has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emit {
    Text,
    /// As text, with typewriter quotes for typographic ones.
    Straight,
    /// Two tokens, the second from this character on.
    Split(usize),
    As(&'static str),
    Nothing,
}

/// A rule's claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Characters that the rule consumes.
    pub(super) len: usize,
    /// Characters that it has seen, the context behind the token included: what the contest compares.
    pub(super) reach: usize,
    pub(super) emit: Emit,
}

impl Claim {
    pub(super) fn text(len: usize) -> Option<Claim> {
        Claim::with(len, Emit::Text)
    }

    /// A claim on the first `len` characters that also needs the next ones, up to `reach`.
    pub(super) fn before(len: usize, reach: usize) -> Option<Claim> {
        (len > 0).then_some(Claim { len, reach, emit: Emit::Text })
    }

    pub(super) fn with(len: usize, emit: Emit) -> Option<Claim> {
        (len > 0).then_some(Claim { len, reach: len, emit })
    }
}

type Rule = fn(&[char]) -> Option<Claim>;

/// In order of precedence among claims of one reach.
const RULES: [Rule; 29] = [
    marks::tag,
    marks::numeric_entity,
    two_words,
    negated,
    before_negation,
    before_clitic,
    clitic,
    elided,
    apostrophe_word,
    numbers::decade,
    hyphenated,
    glued,
    programming_language,
    word,
    slashed,
    marks::url,
    marks::bare_url,
    marks::email,
    marks::handle,
    company,
    initials,
    abbreviation,
    dot_before_comma,
    numbers::telephone,
    numbers::fraction,
    numbers::number,
    numbers::currency,
    marks::emoticon,
    marks::punctuation,
];

/// The claim that reaches farthest from the start of `rest`, the earlier rule winning a draw.
pub(super) fn longest(rest: &[char]) -> Claim {
    // Most of a caption is blanks and letters up to a blank, where no rule reaches farther.
    if let Some(blanks) = marks::blank(rest) {
        return blanks;
    }
    let letters = span(rest, ascii_letter);
    if letters > 0 && !is_at(rest, letters, |c| !is_blank(c)) {
        let plain = Claim { len: letters, reach: letters, emit: Emit::Text };
        return two_words(rest).unwrap_or(plain);
    }
    let mut best: Option<Claim> = None;
    for claim in RULES.iter().filter_map(|rule| rule(rest)) {
        if best.is_none_or(|b| claim.reach > b.reach) {
            best = Some(claim);
        }
    }
    best.unwrap_or(Claim { len: 1, reach: 1, emit: Emit::Nothing })
}

/// How many leading characters satisfy `class`.
pub(super) fn span(rest: &[char], class: impl Fn(char) -> bool) -> usize {
    rest.iter().position(|&c| !class(c)).unwrap_or(rest.len())
}

pub(super) fn at(rest: &[char], index: usize) -> Option<char> {
    rest.get(index).copied()
}

pub(super) fn is_at(rest: &[char], index: usize, class: impl Fn(char) -> bool) -> bool {
    at(rest, index).is_some_and(class)
}

/// The characters from `index` on; empty beyond the end.
pub(super) fn from(rest: &[char], index: usize) -> &[char] {
    rest.get(index..).unwrap_or(&[])
}

pub(super) fn ascii_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
}

/// `cannot`, `gonna`, ... are two words unless more letters follow.
fn two_words(rest: &[char]) -> Option<Claim> {
    let len = span(rest, is_word);
    let &(_, split) = TWO_WORDS.iter().find(|(word, _)| text_of(rest, len) == *word)?;
    Claim::with(len, Emit::Split(split))
}

/// `word`, and words that a mark of a sentence's end joins: `end.And`.
fn word(rest: &[char]) -> Option<Claim> {
    if !is_at(rest, 0, is_letter) {
        return None;
    }
    let mut len = span(rest, is_word);
    while is_at(rest, len, |c| matches!(c, '.' | '!' | '?')) && is_at(rest, len + 1, is_letter) {
        len += 1 + span(from(rest, len + 1), is_word);
    }
    Claim::text(len)
}

/// `well-known`, `5-year-old`, `snake_case`, `U.S.-based`.
fn hyphenated(rest: &[char]) -> Option<Claim> {
    // Initials and numbers may lead, but on their own they have rules of their own.
    let number = if is_at(rest, 0, |c| c.is_ascii_digit()) { numbers::decimal_len(rest) } else { 0 };
    let lead = initials_len(rest).max(number);
    let mut len = if at(rest, lead) == Some('-') { lead } else { 0 }.max(part_len(rest));
    while len > 0 && is_at(rest, len, is_hyphen) {
        let tail = from(rest, len + 1);
        let dotted = if at(rest, len) == Some('-') { initials_len(tail) } else { 0 };
        let part = if dotted > 2 { dotted } else { part_len(tail) };
        if part == 0 {
            break;
        }
        len += 1 + part;
    }
    Claim::text(len)
}

/// `black,t-shirt`, `2.5-inch`: a hyphen joins what it follows to the words glued to it by dots and commas.
fn glued(rest: &[char]) -> Option<Claim> {
    let part = |i: usize| span(from(rest, i), |c| c.is_ascii_alphanumeric());
    let mut len = part(0);
    while len > 0 && is_at(rest, len, |c| matches!(c, '.' | ',')) {
        len += 1 + part(len + 1);
    }
    let mut end = len;
    while len > 0 && at(rest, end) == Some('-') && part(end + 1) > 0 {
        end += 1 + part(end + 1);
    }
    if end > len { Claim::text(end) } else { None }
}

/// `C++`, `C#`, `F#`.
fn programming_language(rest: &[char]) -> Option<Claim> {
    match (at(rest, 0)?, at(rest, 1), at(rest, 2)) {
        ('c' | 'C', Some('+'), Some('+')) => Claim::text(3),
        ('c' | 'C' | 'f' | 'F', Some('#'), _) => Claim::text(2),
        _ => None,
    }
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '_' | '\u{58A}' | '\u{2010}' | '\u{2011}')
}

fn part_len(rest: &[char]) -> usize {
    let prefix = prefix_len(rest);
    prefix + span(from(rest, prefix), is_word)
}

/// `red/yellow/blue`, `black-and-white/red`: two or three alternatives with up to two hyphens each.
fn slashed(rest: &[char]) -> Option<Claim> {
    let mut len = alternative_len(rest);
    for _ in 0..if len > 0 { 2 } else { 0 } {
        let slash = match (at(rest, len), at(rest, len + 1)) {
            (Some('/'), _) => 1,
            (Some('\\'), Some('/')) => 2,
            _ => break,
        };
        let part = alternative_len(from(rest, len + slash));
        if part == 0 {
            break;
        }
        len += slash + part;
    }
    Claim::text(len)
}

fn alternative_len(rest: &[char]) -> usize {
    let mut len = span(rest, |c| c.is_ascii_alphanumeric());
    for _ in 0..2 {
        let part = span(from(rest, len + 1), ascii_letter);
        if len == 0 || part == 0 || at(rest, len) != Some('-') {
            break;
        }
        len += 1 + part;
    }
    len
}

/// `AT&T`, `A+E`: capitals on both sides.
fn company(rest: &[char]) -> Option<Claim> {
    let capitals = |i: usize| span(from(rest, i), |c| c.is_ascii_uppercase());
    let mut len = capitals(0);
    while len > 0 && is_at(rest, len, |c| c == '+' || is_amp(c)) && capitals(len + 1) > 0 {
        len += 1 + capitals(len + 1);
    }
    Claim::text(len)
}

/// `U.S.`, `p.m.`, and the lone initial of a name, whose dot stays unless a new sentence begins behind it.
fn initials(rest: &[char]) -> Option<Claim> {
    let len = initials_len(rest);
    if len == 2 && starts_sentence(from(rest, 2)) {
        return Claim::with(2, Emit::Split(1));
    }
    Claim::text(len)
}

/// The length of single letters with a dot behind each, or 0. The last dot may not be followed by a letter.
fn initials_len(rest: &[char]) -> usize {
    let mut len = 0;
    while is_at(rest, len, ascii_letter) && at(rest, len + 1) == Some('.') {
        len += 2;
    }
    if is_at(rest, len, is_letter) { 0 } else { len }
}

/// Blanks, then a tag or a capitalised word that opens sentences, alone.
fn starts_sentence(rest: &[char]) -> bool {
    let blanks = span(rest, is_blank);
    let word = from(rest, blanks);
    let letters = span(word, ascii_letter);
    let opens = if at(word, letters) == Some('.') {
        has(&["mr", "ms"], word, letters)
    } else {
        has(&SENTENCE_STARTERS, word, letters) && is_at(word, letters, is_blank)
    };
    let tagged = marks::tag(word).is_some_and(|tag| is_at(word, tag.len, is_blank));
    blanks > 0 && (opens && is_at(word, 0, |c| c.is_ascii_uppercase()) || tagged)
}

/// Any word with a dot right before a comma, semicolon or colon: a dot there ends no sentence.
fn dot_before_comma(rest: &[char]) -> Option<Claim> {
    let len =
        [word(rest), hyphenated(rest), apostrophe_word(rest)].into_iter().flatten().map(|c| c.len).max()?;
    let closes = at(rest, len) == Some('.') && is_at(rest, len + 1, |c| matches!(c, ',' | ';' | ':'));
    if closes { Claim::before(len + 1, len + 2) } else { None }
}

/// Abbreviations, which keep their dot.
fn abbreviation(rest: &[char]) -> Option<Claim> {
    let letters = span(rest, ascii_letter);
    let dot = letters + 1;
    if letters == 0 || at(rest, letters) != Some('.') {
        return None;
    }
    let degree = has(&["ph", "ed"], rest, letters)
        && is_at(rest, dot, |c| matches!(c, 'd' | 'D'))
        && at(rest, dot + 1) == Some('.');
    if degree {
        return Claim::text(dot + 2);
    }
    let capital = is_at(rest, 0, |c| c.is_ascii_uppercase());
    let shouted = capital && letters > 1 && span(rest, |c| c.is_ascii_uppercase()) == letters;
    let blanks = span(from(rest, dot), is_blank);
    let number = is_at(rest, dot + blanks, |c| c.is_ascii_digit());
    let known = has(&ABBREVIATIONS, rest, letters)
        || capital && has(&CAPITALISED, rest, letters)
        || !shouted && has(&COMPANIES, rest, letters)
        || number && has(&BEFORE_NUMBERS, rest, letters);
    if known { Claim::text(dot) } else { None }
}

/// Symbols that are a token wherever they stand.
pub(super) fn stands_alone(c: char) -> bool {
    is_alone(c) || is_amp(c) || is_comparison(c)
}
