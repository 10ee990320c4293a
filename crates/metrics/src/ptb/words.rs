//! Word lists of the tokenizer. All lower case; a match ignores case unless said otherwise.

/// Written as one word, read as two: the word and where the second part begins.
pub(super) const TWO_WORDS: [(&str, usize); 6] =
    [("cannot", 3), ("gonna", 3), ("gotta", 3), ("wanna", 3), ("lemme", 3), ("gimme", 3)];

/// Keep their dot everywhere.
#[rustfmt::skip]
pub(super) const ABBREVIATIONS: [&str; 137] = [
    "adj", "adm", "adv", "al", "ala", "alex", "apr", "ariz", "assn", "assoc", "asst", "atty", "attys",
    "aug", "ave", "bhd", "bldg", "blvd", "brig", "bros", "calif", "capt", "cf", "cie", "cmdr", "co", "col",
    "colo", "comdr", "conn", "corp", "cos", "cpl", "ct", "dak", "dec", "dept", "det", "dr", "drs", "elec",
    "ens", "esq", "est", "etc", "ext", "feb", "fla", "fri", "ft", "ga", "gen", "gov", "govs", "hon", "inc",
    "ind", "insp", "intl", "invt", "jan", "jos", "jr", "jul", "jun", "kan", "kans", "ky", "lieut", "lt",
    "ltd", "maj", "mar", "md", "messrs", "mich", "minn", "mlle", "mme", "mo", "mon", "mont", "mr", "mrs",
    "ms", "msgr", "mt", "natl", "neb", "nev", "nov", "oct", "okla", "penn", "pfc", "ph", "plc", "pres",
    "prof", "profs", "pvt", "rd", "rep", "reps", "rev", "rt", "sen", "sens", "sep", "sept", "seq", "sfc",
    "sgt", "spc", "sq", "sr", "st", "ste", "supt", "supts", "sys", "tel", "tenn", "thu", "thurs", "treas",
    "tue", "tues", "univ", "va", "vs", "vt", "wed", "wis", "wisc", "wm", "wyo",
];

/// Keep their dot when capitalised.
#[rustfmt::skip]
pub(super) const CAPITALISED: [&str; 11] = [
    "ark", "az", "del", "ill", "la", "mass", "miss", "ore", "pa", "tex", "wash",
];

/// Keep their dot unless written all in capitals.
#[rustfmt::skip]
pub(super) const COMPANIES: [&str; 10] = [
    "mfg", "mtg", "ppte", "pptes", "ppty", "pptys", "pte", "ptes", "pty", "ptys",
];

/// Keep their dot before a number.
#[rustfmt::skip]
pub(super) const BEFORE_NUMBERS: [&str; 9] = [
    "art", "ca", "fig", "figs", "no", "nos", "op", "pp", "prop",
];

/// Capitalised and alone behind `X. `, these begin a new sentence.
#[rustfmt::skip]
pub(super) const SENTENCE_STARTERS: [&str; 43] = [
    "a", "about", "according", "after", "an", "as", "at", "but", "earlier", "he", "her", "here", "however",
    "if", "in", "it", "last", "many", "more", "now", "once", "one", "other", "our", "she", "since", "so",
    "some", "such", "that", "the", "their", "then", "there", "these", "they", "this", "we", "what", "when",
    "while", "yet", "you",
];

/// The first `len` characters in lower case.
pub(super) fn text_of(rest: &[char], len: usize) -> String {
    rest.iter().take(len).map(char::to_ascii_lowercase).collect()
}

/// Whether the first `len` characters are one of `list`.
pub(super) fn has(list: &[&str], rest: &[char], len: usize) -> bool {
    let same =
        |word: &str| word.len() == len && word.chars().zip(rest).all(|(a, b)| a == b.to_ascii_lowercase());
    list.iter().any(|word| same(word))
}
