//! Rules for contractions, elisions and names: everything that an apostrophe opens, closes or joins.

use super::chars::{is_apostrophe, is_blank, is_letter, is_word};
use super::rules::{Claim, Emit, ascii_letter, at, from, is_at, span};
use super::words::text_of;

/// `n't` itself.
pub(super) fn negated(rest: &[char]) -> Option<Claim> {
    Claim::with(negation(rest), Emit::Straight)
}

/// The length of an `n't` at the start, or 0. Here a quotation mark serves as the apostrophe too.
fn negation(rest: &[char]) -> usize {
    let found = is_at(rest, 0, |c| matches!(c, 'n' | 'N'))
        && is_at(rest, 1, |c| is_apostrophe(c) || matches!(c, '`' | '\u{2018}' | '\u{201B}'))
        && is_at(rest, 2, |c| matches!(c, 't' | 'T'));
    if found { 3 } else { 0 }
}

/// The `do` of `don't`: letters up to the negation, the last of them no `n`.
pub(super) fn before_negation(rest: &[char]) -> Option<Claim> {
    let letters = span(rest, ascii_letter);
    let stem = letters.checked_sub(1)?;
    let stem_ends_well = is_at(rest, stem.checked_sub(1)?, |c| !matches!(c, 'n' | 'N'));
    let negation = negation(from(rest, stem));
    if negation > 0 && stem_ends_well { Claim::before(stem, stem + negation) } else { None }
}

/// The `it` of `it's`. It must outrank the joined word that `IT'S` would else be.
pub(super) fn before_clitic(rest: &[char]) -> Option<Claim> {
    let letters = span(rest, ascii_letter);
    let clitic = clitic_len(from(rest, letters));
    if letters > 0 && clitic > 0 { Claim::before(letters, letters + clitic) } else { None }
}

/// `'s`, `'ll`, ...
pub(super) fn clitic(rest: &[char]) -> Option<Claim> {
    Claim::with(clitic_len(rest), Emit::Straight)
}

/// The length of a clitic at the start, or 0. No letter may follow a typewriter apostrophe's clitic; behind a
/// typographic one the original does not look.
fn clitic_len(rest: &[char]) -> usize {
    if !is_at(rest, 0, is_apostrophe) {
        return 0;
    }
    let tail = from(rest, 1);
    let letters = span(tail, ascii_letter);
    let typewritten = at(rest, 0) == Some('\'');
    let known = ["ll", "re", "ve", "s", "m", "d"]
        .into_iter()
        .find(|clitic| text_of(tail, clitic.len()) == **clitic && (!typewritten || letters == clitic.len()));
    known.map_or(0, |clitic| 1 + clitic.len())
}

/// Words that keep a leading or trailing apostrophe: `'em`, `'til`, `'n'`, `ol'`, `y'all`, `'tis`.
pub(super) fn elided(rest: &[char]) -> Option<Claim> {
    if is_at(rest, 0, is_apostrophe) {
        let tail = from(rest, 1);
        for word in ["cause", "till", "til", "em"] {
            if text_of(tail, word.len()) == word {
                return Claim::text(1 + word.len());
            }
        }
        for word in ["tis", "twas"] {
            if at(rest, 0) == Some('\'') && text_of(tail, word.len()) == word {
                return Claim::with(1 + word.len(), Emit::Split(2));
            }
        }
        if is_at(tail, 0, |c| matches!(c, 'n' | 'N')) {
            return match at(tail, 1) {
                Some(c) if is_apostrophe(c) => Claim::text(3),
                Some(c) if !is_blank(c) && at(rest, 0) == Some('\'') => None,
                _ => Claim::text(2),
            };
        }
        return None;
    }
    let letters = span(rest, ascii_letter);
    let apostrophe = is_at(rest, letters, is_apostrophe);
    let followed = is_at(rest, letters + 1, ascii_letter);
    match text_of(rest, letters).as_str() {
        "d" | "j" | "l" | "ol" | "dunkin" | "somethin" if apostrophe => Claim::text(letters + 1),
        "y" if apostrophe && followed => Claim::before(letters + 1, letters + 2),
        _ => None,
    }
}

/// Words with an apostrophe inside: `o'neil`, and between vowels `ma'am`, `Xi'an`, `Ha'Tikva`.
pub(super) fn apostrophe_word(rest: &[char]) -> Option<Claim> {
    let letters = span(rest, ascii_letter);
    if !is_at(rest, letters, is_apostrophe) {
        return None;
    }
    let prefix = prefix_len(rest);
    if prefix > 0 {
        return Claim::text(prefix + span(from(rest, prefix), is_word));
    }
    let tail = from(rest, letters + 1);
    let whole = text_of(rest, letters + 1 + span(tail, ascii_letter)).replace(is_apostrophe, "'");
    if matches!(whole.as_str(), "c'mon" | "e'er" | "li'l" | "s'mores") {
        return Claim::text(whole.len());
    }
    let vowel_before = letters >= 2 && is_at(rest, letters - 1, |c| "aeiouyAEIOUY".contains(c));
    let joins = is_at(tail, 0, |c| c.is_ascii_uppercase() || "aeiou".contains(c));
    if vowel_before && joins { Claim::text(letters + 1 + span(tail, ascii_letter)) } else { None }
}

/// The length of a name's prefix (`O'`, `d'`) at the start, or 0. Two letters must follow.
pub(super) fn prefix_len(rest: &[char]) -> usize {
    let capital = is_at(rest, 0, |c| c.is_ascii_uppercase());
    let first = capital || is_at(rest, 0, |c| matches!(c, 'd' | 'l' | 'n' | 'o'));
    let follows = is_at(rest, 2, if capital { is_letter } else { is_word }) && is_at(rest, 3, is_word);
    if first && is_at(rest, 1, is_apostrophe) && follows { 2 } else { 0 }
}
