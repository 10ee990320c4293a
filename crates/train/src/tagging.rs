//! The labels that object tags are chosen from, and how a sentence names them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use caption::bundle::TagSettings;

/// Where the labels of a bundle stand.
pub const LABELS_FILE: &str = "labels.txt";
/// Words of the longest label.
const LABEL_WORDS_MAX: usize = 3;

/// How a bundle chooses tags: at most three, of some weight (ViECap's README: 0.2).
pub fn settings() -> TagSettings {
    TagSettings {
        file: LABELS_FILE.to_owned(),
        bytes: 0,
        sha256: String::new(),
        n_max: 3,
        share_min: 0.2,
        tau: 0.02,
    }
}

/// Reads a file of labels, one a line.
///
/// # Errors
/// When it cannot be read or names nothing.
pub fn read_labels(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let labels = caption::tags::labels(&text);
    ensure!(!labels.is_empty(), "{} names no label", path.display());
    Ok(labels)
}

/// Finds labels in sentences: as they stand, or in a regular plural.
pub struct Finder {
    by_words: HashMap<String, usize>,
}

impl Finder {
    pub fn new(labels: &[String]) -> Finder {
        let by_words = labels.iter().enumerate().map(|(idx, label)| (label.to_lowercase(), idx)).collect();
        Finder { by_words }
    }

    /// The labels that a sentence names, each once, in the sentence's order; of several that begin at one word, the
    /// longest.
    pub fn find(&self, sentence: &str) -> Vec<usize> {
        let words = crate::data::wording(sentence);
        let words: Vec<&str> = words.split(' ').collect();
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let longest = (1..=LABEL_WORDS_MAX.min(words.len() - at)).rev();
            let hit = longest.into_iter().find_map(|n| Some((n, self.label(&words[at..at + n].join(" "))?)));
            let Some((n, label)) = hit else {
                at += 1;
                continue;
            };
            if !found.contains(&label) {
                found.push(label);
            }
            at += n;
        }
        found
    }

    fn label(&self, phrase: &str) -> Option<usize> {
        let known = |phrase: &str| self.by_words.get(phrase).copied();
        known(phrase)
            .or_else(|| known(phrase.strip_suffix('s')?))
            .or_else(|| known(phrase.strip_suffix("es")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_in_singular_and_plural_once_and_longest_first() {
        let labels = ["dog", "traffic light", "light", "bench"].map(str::to_owned);
        let finder = Finder::new(&labels);
        assert_eq!(finder.find("Two dogs and a dog under traffic lights."), [0, 1]);
        assert_eq!(finder.find("a light over benches"), [2, 3]);
        assert!(finder.find("nothing at all").is_empty());
    }
}
