//! Character classes, and the way from a sentence to the scanner's characters and back to a token's text.

/// `&amp;`, `&lt;` and `&gt;` stand for one character but are no tag or operator to the scanner, so they travel as
/// characters of the private use area, which cannot occur in a sentence (`Sentence::new` blanks them).
const AMP: char = '\u{E000}';
const LESS: char = '\u{E001}';
const GREATER: char = '\u{E002}';

const ENTITIES: [(&str, char); 8] = [
    ("&amp;", AMP),
    ("&lt;", LESS),
    ("&gt;", GREATER),
    ("&quot;", '"'),
    ("&apos;", '\''),
    ("&nbsp;", ' '),
    ("&mdash;", '\u{2014}'),
    ("&ndash;", '\u{2013}'),
];

/// Characters beyond ASCII that stand alone as a token: symbols and punctuation of the basic plane. Everything that is
/// neither here nor a letter or digit, emoji among them, is dropped and only separates.
const ALONE: [(char, char); 40] = [
    ('\u{A1}', '\u{A1}'),
    ('\u{A5}', '\u{A9}'),
    ('\u{AC}', '\u{AC}'),
    ('\u{AE}', '\u{B4}'),
    ('\u{B6}', '\u{B9}'),
    ('\u{BF}', '\u{BF}'),
    ('\u{D7}', '\u{D7}'),
    ('\u{F7}', '\u{F7}'),
    ('\u{2016}', '\u{2017}'),
    ('\u{201A}', '\u{201A}'),
    ('\u{201E}', '\u{2023}'),
    ('\u{2030}', '\u{2038}'),
    ('\u{203B}', '\u{203B}'),
    ('\u{203E}', '\u{2042}'),
    ('\u{2044}', '\u{2044}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{207E}'),
    ('\u{2080}', '\u{208E}'),
    ('\u{20A4}', '\u{20A4}'),
    ('\u{2100}', '\u{2101}'),
    ('\u{2103}', '\u{2106}'),
    ('\u{2108}', '\u{2109}'),
    ('\u{2114}', '\u{2114}'),
    ('\u{2116}', '\u{2118}'),
    ('\u{211E}', '\u{2123}'),
    ('\u{2125}', '\u{2129}'),
    ('\u{212E}', '\u{212E}'),
    ('\u{213A}', '\u{213B}'),
    ('\u{2140}', '\u{2144}'),
    ('\u{214A}', '\u{214D}'),
    ('\u{214F}', '\u{214F}'),
    ('\u{2155}', '\u{215E}'),
    ('\u{2190}', '\u{2BFF}'),
    ('\u{3001}', '\u{3002}'),
    ('\u{3012}', '\u{3012}'),
    ('\u{30FB}', '\u{30FB}'),
    ('\u{FF01}', '\u{FF0F}'),
    ('\u{FF1A}', '\u{FF20}'),
    ('\u{FF3B}', '\u{FF40}'),
    ('\u{FF5B}', '\u{FF65}'),
];

/// A sentence as the scanner reads it: one `char` a symbol, entities resolved, line breaks blanked.
pub(super) struct Sentence(Vec<char>);

impl Sentence {
    pub(super) fn new(text: &str) -> Sentence {
        let blanked = |c: char| match c {
            AMP | LESS | GREATER | '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                ' '
            }
            other => other,
        };
        let mut chars = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let entity = |(name, c): &(&str, char)| Some((*c, strip_caseless(rest, name)?));
            let found = if first == '&' { ENTITIES.iter().find_map(entity) } else { None };
            let (c, tail) = found.unwrap_or((blanked(first), rest.strip_prefix(first).unwrap_or("")));
            chars.push(c);
            rest = tail;
        }
        Sentence(chars)
    }

    pub(super) fn chars(&self) -> &[char] {
        &self.0
    }
}

/// `text` after `name`, which may be written all in upper case too.
fn strip_caseless<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name).or_else(|| text.strip_prefix(name.to_ascii_uppercase().as_str()))
}

/// A token as the original prints it: lower case, brackets by name, inner blanks as U+00A0, soft hyphens gone.
pub(super) fn render(token: &[char]) -> String {
    let mut text = String::with_capacity(token.len());
    for &c in token {
        match c {
            AMP => text.push('&'),
            LESS => text.push('<'),
            GREATER => text.push('>'),
            '(' => text.push_str("-lrb-"),
            ')' => text.push_str("-rrb-"),
            '\u{AD}' => {}
            c if is_blank(c) => text.push('\u{A0}'),
            c => text.push(c),
        }
    }
    text.to_lowercase()
}

/// Typewriter quotes for typographic ones, the way TeX writes them.
pub(super) fn straighten(token: &str) -> String {
    let mut text = String::with_capacity(token.len());
    for c in token.chars() {
        match c {
            '\u{2018}' | '\u{201B}' | '\u{2039}' | '\u{91}' => text.push('`'),
            '\u{2019}' | '\u{203A}' | '\u{92}' => text.push('\''),
            '\u{201C}' | '\u{AB}' | '\u{93}' => text.push_str("``"),
            '\u{201D}' | '\u{BB}' | '\u{94}' => text.push_str("''"),
            c => text.push(c),
        }
    }
    text
}

/// A quotation mark other than the typewriter's two.
pub(super) fn is_quote(c: char) -> bool {
    matches!(c, '`' | '\u{91}'..='\u{94}' | '\u{AB}' | '\u{BB}' | '\u{2018}'..='\u{201F}' | '\u{2039}' | '\u{203A}')
}

pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace()
}

/// An upper-case word's `&`, written out or as an entity.
pub(super) fn is_amp(c: char) -> bool {
    c == '&' || c == AMP
}

/// `&lt;` or `&gt;`.
pub(super) fn is_comparison(c: char) -> bool {
    matches!(c, LESS | GREATER)
}

/// Begins a word. The original reads UTF-16 by halves, so letters beyond the basic plane are no letters to it.
pub(super) fn is_letter(c: char) -> bool {
    c.is_alphabetic() && c <= '\u{FFFF}'
        || matches!(c, '\u{AD}' | '\u{2C2}'..='\u{2DF}' | '\u{300}'..='\u{36F}')
}

/// Continues a word: a letter, or a digit of any script.
pub(super) fn is_word(c: char) -> bool {
    is_letter(c) || c.is_alphanumeric() && c <= '\u{FFFF}' && !is_fraction(c) && !is_alone(c)
}

/// A fraction in one character, which the original spells out.
pub(super) fn is_fraction(c: char) -> bool {
    matches!(c, '\u{BC}'..='\u{BE}' | '\u{2153}' | '\u{2154}')
}

/// A token of its own wherever it stands.
pub(super) fn is_alone(c: char) -> bool {
    ALONE.iter().any(|&(first, last)| (first..=last).contains(&c))
}

/// The apostrophe of a contraction, typewritten or typographic.
pub(super) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}' | '\u{92}')
}
