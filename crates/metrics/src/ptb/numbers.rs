//! Rules for digits: numbers, fractions, decades, telephone numbers.

use super::chars::{is_apostrophe, is_blank};
use super::rules::{Claim, at, from, is_at, span};

fn digits(rest: &[char]) -> usize {
    span(rest, |c| c.is_ascii_digit())
}

/// The length of an unsigned number with inner separators (`1,000`, `10:30`, `.5`), or 0.
pub(super) fn decimal_len(rest: &[char]) -> usize {
    let mut len = digits(rest);
    while is_at(rest, len, |c| matches!(c, '.' | ',' | ':' | '\u{66B}' | '\u{66C}')) {
        let more = digits(from(rest, len + 1));
        if more == 0 {
            break;
        }
        len += 1 + more;
    }
    len
}

/// `3.5`, `1,000`, `-5`, `+1`.
pub(super) fn number(rest: &[char]) -> Option<Claim> {
    let sign = usize::from(is_at(rest, 0, |c| matches!(c, '+' | '-')));
    let len = decimal_len(from(rest, sign));
    if len > 0 { Claim::text(sign + len) } else { None }
}

/// `$`, `US$`.
pub(super) fn currency(rest: &[char]) -> Option<Claim> {
    let country = span(rest, |c| c.is_ascii_uppercase());
    if at(rest, country) == Some('$') { Claim::text(country + 1) } else { None }
}

/// `1/2`, `22 3/4`, `22-3/4`: up to four digits in each place.
pub(super) fn fraction(rest: &[char]) -> Option<Claim> {
    let whole = short_digits(rest);
    let mixed = whole > 0 && is_at(rest, whole, |c| c == '-' || is_blank(c));
    let simple = ratio_len(rest);
    let behind = if mixed { ratio_len(from(rest, whole + 1)) } else { 0 };
    if behind > 0 { Claim::text(whole + 1 + behind) } else { Claim::text(simple) }
}

fn ratio_len(rest: &[char]) -> usize {
    let above = short_digits(rest);
    let bar = match (at(rest, above), at(rest, above + 1)) {
        (Some('/' | '\u{2044}'), _) => 1,
        (Some('\\'), Some('/')) => 2,
        _ => return 0,
    };
    let below = digits(from(rest, above + bar)).min(4);
    if above > 0 && below > 0 { above + bar + below } else { 0 }
}

/// A run of one to four digits, or 0 where the run is longer.
fn short_digits(rest: &[char]) -> usize {
    let len = digits(rest);
    if len <= 4 { len } else { 0 }
}

/// `'90s`, `'90`.
pub(super) fn decade(rest: &[char]) -> Option<Claim> {
    if !is_at(rest, 0, is_apostrophe) || digits(from(rest, 1)) < 2 {
        return None;
    }
    if is_at(rest, 3, |c| matches!(c, 's' | 'S')) {
        return Claim::text(4);
    }
    let bare = digits(from(rest, 1)) == 2 && is_at(rest, 3, is_blank) || rest.len() == 3;
    if bare { Claim::text(3) } else { None }
}

/// A place in a telephone number: how few and how many digits, then whether a blank or hyphen must or may follow.
struct Group(usize, usize, Gap);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    Needed,
    Optional,
    None,
}

/// `555 555 1234`, `+44 20 7946 0958`, `(555) 555-1234`.
pub(super) fn telephone(rest: &[char]) -> Option<Claim> {
    const LOCAL: [Group; 2] = [Group(3, 4, Gap::Optional), Group(3, 5, Gap::None)];
    const AREA: Group = Group(2, 4, Gap::Needed);
    let bracketed = bracketed_area(rest);
    let plus = span(rest, |c| c == '+');
    let plain = if plus > 2 { 0 } else { plus };
    let [near, far] = LOCAL;
    let local = [near, far];
    let mut best =
        groups_len(from(rest, bracketed), &local).filter(|_| bracketed > 0).map_or(0, |n| bracketed + n);
    for areas in [&[AREA][..], &[AREA, AREA][..]] {
        if plain > 0 && areas.len() == 1 {
            continue;
        }
        let tail = from(rest, plain);
        if let Some(head) = groups_len(tail, areas)
            && let Some(end) = groups_len(from(tail, head), &local)
        {
            best = best.max(plain + head + end);
        }
    }
    Claim::text(best)
}

/// `(555)` with at most one blank behind it, or 0.
fn bracketed_area(rest: &[char]) -> usize {
    let area = digits(from(rest, 1));
    if at(rest, 0) == Some('(') && (2..=3).contains(&area) && at(rest, area + 1) == Some(')') {
        area + 2 + usize::from(is_at(rest, area + 2, is_blank))
    } else {
        0
    }
}

/// How far the groups reach, each as long as it can be.
fn groups_len(rest: &[char], groups: &[Group]) -> Option<usize> {
    let Some((Group(least, most, gap), others)) = groups.split_first() else { return Some(0) };
    let most = digits(rest).min(*most);
    for len in (*least..=most).rev() {
        let separated = is_at(rest, len, |c| c == '-' || is_blank(c));
        let skips: &[usize] = match (gap, separated) {
            (Gap::Needed, true) => &[1],
            (Gap::Needed, false) => &[],
            (Gap::Optional, true) => &[1, 0],
            (Gap::Optional, false) | (Gap::None, _) => &[0],
        };
        for skip in skips {
            if let Some(tail) = groups_len(from(rest, len + skip), others) {
                return Some(len + skip + tail);
            }
        }
    }
    None
}
