//! Rules for everything that is no word and no number: blanks, tags, addresses, emoticons, punctuation.

use super::chars::{is_blank, is_letter, is_quote};
use super::rules::{Claim, Emit, at, from, is_at, span, stands_alone};
use super::words::text_of;

pub(super) fn blank(rest: &[char]) -> Option<Claim> {
    Claim::with(span(rest, is_blank), Emit::Nothing)
}

/// `<b>`, `</b>`, `<a href="x">`, `<!-- x -->`.
pub(super) fn tag(rest: &[char]) -> Option<Claim> {
    if at(rest, 0) != Some('<') {
        return None;
    }
    if is_at(rest, 1, |c| matches!(c, '!' | '?')) && is_at(rest, 2, |c| c.is_ascii_alphabetic() || c == '-') {
        let inside = span(rest, |c| c != '>');
        return if inside < rest.len() { Claim::text(inside + 1) } else { None };
    }
    let mut len = 1 + usize::from(at(rest, 1) == Some('/'));
    let name = name_len(from(rest, len));
    if name == 0 {
        return None;
    }
    len += name;
    loop {
        let blanks = span(from(rest, len), is_blank);
        let attribute = attribute_len(from(rest, len + blanks));
        if blanks == 0 || attribute == 0 {
            len += blanks;
            break;
        }
        len += blanks + attribute;
    }
    len += usize::from(at(rest, len) == Some('/'));
    if at(rest, len) == Some('>') { Claim::text(len + 1) } else { None }
}

fn name_len(rest: &[char]) -> usize {
    if is_at(rest, 0, |c| c.is_ascii_alphabetic() || matches!(c, '_' | ':')) {
        span(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '-'))
    } else {
        0
    }
}

/// `name`, `name="value"` or `name='value'`.
fn attribute_len(rest: &[char]) -> usize {
    let name = name_len(rest);
    let quote = at(rest, name + 1).filter(|c| matches!(c, '"' | '\''));
    let (Some('='), Some(quote)) = (at(rest, name), quote) else { return name };
    let value = span(from(rest, name + 2), |c| c != quote);
    if at(rest, name + 2 + value) == Some(quote) { name + value + 3 } else { 0 }
}

/// `&#39;` stays as it is written.
pub(super) fn numeric_entity(rest: &[char]) -> Option<Claim> {
    let digits = span(from(rest, 2), |c| c.is_ascii_digit());
    let found = at(rest, 0) == Some('&')
        && at(rest, 1) == Some('#')
        && digits > 0
        && at(rest, 2 + digits) == Some(';');
    if found { Claim::text(digits + 3) } else { None }
}

/// `https://example.com/a?b=c`, up to a blank, bracket or quote, without the sentence's own mark behind it.
pub(super) fn url(rest: &[char]) -> Option<Claim> {
    let scheme = ["http://", "https://"].into_iter().find(|s| text_of(rest, s.len()) == **s)?.len();
    let body = address_len(from(rest, scheme), ends_address);
    if body >= 2 { Claim::text(scheme + body) } else { None }
}

/// `www.example.tv/path`, `example.org/path`: hosts without a scheme, the latter in lower case only.
pub(super) fn bare_url(rest: &[char]) -> Option<Claim> {
    let world_wide = text_of(rest, 4) == "www.";
    let labels = from(rest, if world_wide { 4 } else { 0 });
    let label = |c: char| {
        let plain = !ends_address(c) && !matches!(c, '.' | '!' | '?' | ',');
        plain && (world_wide || !matches!(c, '\'' | '`' | '$' | ','..='_'))
    };
    let mut len = 0;
    let mut host = 0;
    loop {
        let part = span(from(labels, len), label);
        if part == 0 || at(labels, len + part) != Some('.') {
            break;
        }
        len += part + 1;
        let tail = from(labels, len);
        let letters = span(tail, |c| c.is_ascii_alphabetic());
        let top = if world_wide { letters.min(4) } else { 3 };
        let known = matches!(text_of(tail, 3).as_str(), "com" | "net" | "org" | "edu");
        if (world_wide && top >= 2) || (!world_wide && known) {
            host = len + top;
        }
    }
    if host == 0 {
        return None;
    }
    let host = host + rest.len() - labels.len();
    let path = if at(rest, host) == Some('/') { address_len(from(rest, host + 1), ends_path) } else { 0 };
    Claim::text(if path >= 2 { host + 1 + path } else { host })
}

fn ends_path(c: char) -> bool {
    is_blank(c) || matches!(c, '"' | '<' | '>' | '|' | '(' | ')')
}

fn ends_address(c: char) -> bool {
    ends_path(c) || matches!(c, '{' | '}')
}

/// The length up to what ends an address, less the marks at its end that belong to the sentence.
fn address_len(rest: &[char], ends: fn(char) -> bool) -> usize {
    let mut len = span(rest, |c| !ends(c));
    while len > 0 && is_at(rest, len - 1, |c| matches!(c, '.' | '!' | '?' | ',' | '-' | '{' | '}')) {
        len -= 1;
    }
    len
}

/// `name@host`, `<name@host>`.
pub(super) fn email(rest: &[char]) -> Option<Claim> {
    let open = usize::from(at(rest, 0) == Some('<'));
    let name = from(rest, open);
    if !is_at(name, 0, |c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let reach = span(name, |c| !ends_address(c));
    let mut best = 0;
    for sign in (1..reach).filter(|&i| at(name, i) == Some('@')) {
        let mut len = sign;
        loop {
            let part = span(from(name, len + 1), |c| !ends_address(c) && c != '.');
            if part == 0 {
                break;
            }
            len += 1 + part;
            best = best.max(len);
            if at(name, len) != Some('.') {
                break;
            }
        }
    }
    let close = usize::from(best > 0 && at(name, best) == Some('>'));
    if best > 0 { Claim::text(open + best + close) } else { None }
}

/// `#tag`, `@user_name`.
pub(super) fn handle(rest: &[char]) -> Option<Claim> {
    match at(rest, 0) {
        Some('#') if is_at(rest, 1, is_letter) => Claim::text(1 + span(from(rest, 1), is_letter)),
        Some('@') if is_at(rest, 1, |c| c.is_ascii_alphabetic() || c == '_') => {
            Claim::text(1 + span(from(rest, 1), |c| c.is_ascii_alphanumeric() || c == '_'))
        }
        _ => None,
    }
}

/// `:-)`, `;P`, `>:(`, `^_^`.
pub(super) fn emoticon(rest: &[char]) -> Option<Claim> {
    let brow = usize::from(is_at(rest, 0, |c| matches!(c, '<' | '>')));
    let eyes = from(rest, brow);
    if is_at(eyes, 0, |c| matches!(c, ':' | ';' | '=')) {
        let nose = usize::from(is_at(eyes, 1, |c| matches!(c, '-' | 'o' | '*' | '\'')));
        for nose in [nose, 0] {
            let mouth = is_at(eyes, 1 + nose, |c| "()DPdpO\\{@|[]".contains(c));
            if mouth && !is_at(eyes, 2 + nose, |c| c.is_ascii_alphanumeric()) {
                return Claim::text(brow + nose + 2);
            }
        }
    }
    let bracket = usize::from(at(rest, 0) == Some('('));
    let eye =
        |i: usize| is_at(rest, bracket + i, |c| matches!(c, '-' | '^' | 'x' | '=' | '~' | '<' | '>' | '\''));
    let middle = is_at(rest, bracket + 1, |c| c == '_' || bracket == 1 && matches!(c, '.' | '-'));
    let closed = bracket == 0 || at(rest, 4) == Some(')');
    if eye(0) && middle && eye(2) && closed { Claim::text(3 + 2 * bracket) } else { None }
}

/// Whatever is left: runs of marks, brackets, currency signs, lone symbols. Characters that no rule knows are dropped.
pub(super) fn punctuation(rest: &[char]) -> Option<Claim> {
    let first = at(rest, 0)?;
    let run = span(rest, |c| c == first);
    match first {
        '!' | '?' => Claim::text(span(rest, |c| matches!(c, '!' | '?'))),
        // Five and more make a line; fewer are a dash, and dashes are dropped.
        '-' if run >= 5 => Claim::text(run),
        '-' => Claim::with(run, Emit::Nothing),
        '\'' => Claim::with(run.min(2), Emit::Nothing),
        // Two marks side by side are one token, which no list drops unless they are a pair of the same kind.
        c if is_quote(c) => Claim::with(span(rest, is_quote).min(2), Emit::Straight),
        '.' => Claim::with(if run >= 3 { 3 } else { 1 }, Emit::Nothing),
        '#' | '*' | '<' | '>' | '@' | '_' => Claim::text(run),
        '[' => Claim::with(1, Emit::As("-lsb-")),
        ']' => Claim::with(1, Emit::As("-rsb-")),
        '{' => Claim::with(1, Emit::As("-lcb-")),
        '}' => Claim::with(1, Emit::As("-rcb-")),
        '\u{A3}' => Claim::with(1, Emit::As("#")),
        '\u{80}' | '\u{A4}' | '\u{20A0}' | '\u{20AC}' => Claim::with(1, Emit::As("$")),
        '\u{A2}' => Claim::with(1, Emit::As("cents")),
        '\u{BC}' => Claim::with(1, Emit::As("1/4")),
        '\u{BD}' => Claim::with(1, Emit::As("1/2")),
        '\u{BE}' => Claim::with(1, Emit::As("3/4")),
        '\u{2153}' => Claim::with(1, Emit::As("1/3")),
        '\u{2154}' => Claim::with(1, Emit::As("2/3")),
        '(' | ')' | '$' | '%' | '+' | '/' | '=' | '\\' | '^' | '|' | '~' => Claim::text(1),
        c if stands_alone(c) || is_letter(c) => Claim::text(1),
        _ => None,
    }
}
