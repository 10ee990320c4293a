//! The tokenizer that caption scores are defined over.
//!
//! pycocoevalcap sends every sentence through Stanford's `PTBTokenizer` 3.4.1 with `-lowerCase`, then drops a fixed
//! list of punctuation tokens. This module gives the same tokens for English captions. It was written from the observed
//! behaviour of that program (sentence in, tokens out), not from its source.
//!
//! Like its model it is a longest-match scanner: at each position every rule of `rules` says how far it reaches, the
//! longest one wins, and of equal ones the first. Character classes are in `chars`, word lists in `words`. What does not
//! belong here: n-grams, counts, and anything about a metric.
//!
//! A sentence is tokenized as if it stood alone. The original reads a file as one text, so behind a caption that ends
//! in an initial ("the letter P.") it looks at the first word of the next caption to see whether the dot belongs to it.
//!
//! Other known differences, none of them seen in 300,000 photo captions: scripts other than Latin, Greek, Cyrillic and
//! those of East Asia, some emoticons, and words glued to each other without a blank (`co.w.`, `naïve'em`).

mod apostrophes;
mod chars;
mod marks;
mod numbers;
mod rules;
mod words;

use chars::Sentence;
use rules::Emit;

/// Tokens that pycocoevalcap removes after the tokenizer.
///
/// Its list also holds `-LRB-` and its three sisters, which never occur: the tokenizer has lower-cased them by then. So
/// brackets survive as `-lrb-`, and must survive here too.
const DROPPED: [&str; 13] = ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Splits one sentence into the lower-case tokens that the metrics count. Line breaks count as blanks.
///
/// The result may be empty (an empty sentence, or nothing but punctuation). A token holds no blank but may hold U+00A0:
/// a mixed fraction (`22 3/4`) and a telephone number stay one token, whose blanks the original writes so. BLEU and
/// CIDEr-D count such a token as several words, ROUGE-L as one, as pycocoevalcap does.
///
/// The time is linear in the length of an ordinary sentence and quadratic at worst: bound what comes from outside
/// ([`crate::MAX_CHARS`] is the bound of the metrics).
///
/// ```
/// assert_eq!(metrics::ptb::tokenize("Mr. Hall's dog can't swim (yet)."),
///     ["mr.", "hall", "'s", "dog", "ca", "n't", "swim", "-lrb-", "yet", "-rrb-"]);
/// ```
pub fn tokenize(sentence: &str) -> Vec<String> {
    let sentence = Sentence::new(sentence);
    let mut rest: &[char] = sentence.chars();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let found = rules::longest(rest);
        let (head, tail) = rest.split_at(found.len.clamp(1, rest.len()));
        match found.emit {
            Emit::Text => push(&mut tokens, &chars::render(head)),
            Emit::Straight => push(&mut tokens, &chars::straighten(&chars::render(head))),
            Emit::Split(at) => {
                let (left, right) = head.split_at(at.min(head.len()));
                push(&mut tokens, &chars::render(left));
                push(&mut tokens, &chars::render(right));
            }
            Emit::As(text) => push(&mut tokens, text),
            Emit::Nothing => {}
        }
        rest = tail;
    }
    tokens
}

fn push(tokens: &mut Vec<String>, token: &str) {
    if !token.is_empty() && !DROPPED.contains(&token) {
        tokens.push(token.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::tokenize;

    /// Every expectation is what the original prints for the sentence alone.
    fn check(cases: &[(&str, &str)]) {
        for (sentence, expected) in cases {
            assert_eq!(tokenize(sentence).join(" "), *expected, "{sentence}");
        }
    }

    #[test]
    fn contractions_split_and_quotes_go() {
        check(&[
            ("A man's dog can't stop, DON'T it?", "a man 's dog ca n't stop do n't it"),
            ("\u{201C}It\u{2019}s\u{201D} the dogs' 'house'", "it 's the dogs house"),
            ("cannot gonna Gimme lemme", "can not gon na gim me lem me"),
            ("rock 'n' roll in the '60s, y'all", "rock 'n' roll in the '60s y' all"),
            (
                "O'Neil, ma'am, at 10 o'clock. C'mon, 'tis 5'10\"",
                "o'neil ma'am at 10 o'clock c'mon 't is 5 10",
            ),
            ("the scientist's sons'", "the scientist 's sons"),
        ]);
    }

    #[test]
    fn brackets_survive_by_name() {
        check(&[
            ("(a) [b] {c}", "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-"),
            ("a grin :) :-(", "a grin :-rrb- :--lrb-"),
        ]);
    }

    #[test]
    fn abbreviations_keep_their_dot_and_sentences_lose_it() {
        check(&[
            (
                "Mr. Hall of the U.S. met Dr. Kim, Ph.D. on St. James St.",
                "mr. hall of the u.s. met dr. kim ph.d. on st. james st.",
            ),
            ("No. 7 says no. At 5 p.m. it ends.", "no. 7 says no at 5 p.m. it ends"),
            ("from Wash. to wash. now", "from wash. to wash now"),
            ("J. R. R. Tolkien and plan B. The end", "j. r. r. tolkien and plan b the end"),
            ("apples, pears etc., all ripe.", "apples pears etc. all ripe"),
            ("U.S.-based and non-U.S. firms", "u.s.-based and non-u.s. firms"),
        ]);
    }

    #[test]
    fn numbers_keep_what_belongs_to_them() {
        check(&[
            ("3.5 1,000 10:30am -5 50% 1st", "3.5 1,000 10:30 am -5 50 % 1st"),
            ("a 5-year-old, 22 3/4 in. by 1/2", "a 5-year-old 22\u{A0}3/4 in by 1/2"),
            ("$5.00 US$5 \u{20AC}5 \u{A3}5 5\u{A2} \u{BD} cup", "$ 5.00 us$ 5 $ 5 # 5 5 cents 1/2 cup"),
            ("call 555 555 1234", "call 555\u{A0}555\u{A0}1234"),
        ]);
    }

    #[test]
    fn joined_words_stay_one_token() {
        check(&[
            ("red/yellow and/or T-shirt w/o w/ AT&T a&b", "red/yellow and/or t-shirt w/o w / at&t a & b"),
            ("end.And black,t-shirt bench,reading", "end.and black,t-shirt bench reading"),
            (
                "see http://a.bc/d?e=f, www.example.com. or a@b.com",
                "see http://a.bc/d?e=f www.example.com or a@b.com",
            ),
            ("@user #tag a_b C++", "@user #tag a_b c++"),
        ]);
    }

    #[test]
    fn runs_of_marks_are_tokens_where_the_original_keeps_them() {
        check(&[
            ("wow!!! really?! ok! ... -- - ----- ***", "wow !!! really ?! ok ----- ***"),
            ("R&amp;D &lt; &quot;x&quot; &mdash; y&nbsp;z", "r&d < x y z"),
        ]);
    }

    #[test]
    fn emoji_go_and_letters_of_other_scripts_stay() {
        check(&[(
            "na\u{EF}ve caf\u{E9} \u{1F600} \u{65E5}\u{672C} \u{2605}",
            "na\u{EF}ve caf\u{E9} \u{65E5}\u{672C} \u{2605}",
        )]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        check(&[("", ""), (" \t\n", ""), ("...", ""), ("\u{1F600}", "")]);
    }

    #[test]
    fn no_sentence_panics_or_yields_a_blank_token() {
        let pieces = [
            "a",
            "B",
            "'",
            ".",
            "-",
            "/",
            "(",
            ")",
            "5",
            "@",
            "&",
            "<",
            ">",
            "n't",
            "\u{E9}",
            "\u{2019}",
            " ",
            "\"",
            "$",
            "\u{1F600}",
        ];
        // Every string of three pieces, and long runs of each piece.
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let tokens = tokenize(&format!("{a}{b}{c}"));
                    assert!(
                        tokens.iter().all(|t| !t.is_empty() && !t.contains(' ')),
                        "{a}{b}{c}: {tokens:?}"
                    );
                }
            }
            tokenize(&a.repeat(500));
        }
    }
}
