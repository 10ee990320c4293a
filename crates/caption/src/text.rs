//! From decoded tokens to the sentence that is published.

/// Joins words with single spaces and closes the gap before punctuation and clitics, which
/// tokenised training text leaves: `a dog 's bone .` becomes `a dog's bone.` Case stays as it is.
pub fn tidy(raw: &str) -> String {
    let mut tidy = String::with_capacity(raw.len());
    for word in raw.split_whitespace() {
        if !tidy.is_empty() && !closes_gap(word) {
            tidy.push(' ');
        }
        tidy.push_str(word);
    }
    tidy
}

fn closes_gap(word: &str) -> bool {
    const CLITICS: [&str; 7] = ["'s", "'re", "'ve", "'ll", "'d", "'m", "n't"];
    CLITICS.contains(&word) || word.chars().all(|c| ".,;:!?".contains(c))
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn spaces_before_punctuation_and_clitics_go() {
        for (raw, expected) in [
            ("", ""),
            ("  a   dog\truns ", "a dog runs"),
            ("a dog , a cat .", "a dog, a cat."),
            ("the dog 's bone ; it is n't his", "the dog's bone; it isn't his"),
            ("what ?!", "what?!"),
            ("a black and white dog", "a black and white dog"),
            ("3.5 meters", "3.5 meters"),
            ("a 'stop ' sign", "a 'stop ' sign"),
        ] {
            assert_eq!(tidy(raw), expected);
        }
    }

    #[test]
    fn tidy_text_stays_as_it_is() {
        for text in ["two dogs run.", "ein Hündchen läuft", "a dog's bone; 3 cats"] {
            assert_eq!(tidy(text), text);
        }
    }
}
