//! N-grams of one to four words, numbered, and how often each sentence has them.

use std::collections::HashMap;

/// BLEU and CIDEr-D look at n-grams of 1 to this many words.
pub(crate) const ORDERS: usize = 4;

/// How often one n-gram occurs in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) id: u32,
    pub(crate) times: u32,
}

/// A tokenized sentence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sentence {
    /// As the tokenizer made them, for ROUGE-L.
    pub(crate) tokens: Vec<String>,
    /// Words for BLEU and CIDEr-D: tokens cut at U+00A0, as Python's `str.split` does.
    pub(crate) n_words: usize,
    /// By order (n - 1), ascending by id.
    pub(crate) counts: [Vec<Count>; ORDERS],
}

impl Sentence {
    /// How often the sentence has n-gram `id`, which is of order `order` + 1.
    pub(crate) fn times(&self, order: usize, id: u32) -> u32 {
        let counts = &self.counts[order];
        counts.binary_search_by_key(&id, |c| c.id).map_or(0, |found| counts[found].times)
    }

    /// N-grams of order `order` + 1, repetitions included.
    pub(crate) fn n_grams(&self, order: usize) -> usize {
        self.n_words.saturating_sub(order)
    }
}

/// Numbers for n-grams, in the order of their first occurrence.
#[derive(Default)]
pub(crate) struct Ngrams {
    ids: HashMap<String, u32>,
    /// By id: the words, joined by single blanks (a word holds none).
    texts: Vec<String>,
}

impl Ngrams {
    pub(crate) fn sentence(&mut self, tokens: Vec<String>) -> Sentence {
        let words: Vec<&str> = tokens.iter().flat_map(|token| token.split_whitespace()).collect();
        let counts = std::array::from_fn(|order| {
            let mut ids: Vec<u32> = words.windows(order + 1).map(|gram| self.id(gram.join(" "))).collect();
            ids.sort_unstable();
            let run = |ids: &[u32]| Count { id: ids[0], times: ids.len() as u32 };
            ids.chunk_by(|a, b| a == b).map(run).collect()
        });
        let n_words = words.len();
        Sentence { tokens, n_words, counts }
    }

    fn id(&mut self, text: String) -> u32 {
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    /// The words of every n-gram, by id.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_repetitions_per_order_and_cuts_words_at_no_break_spaces() {
        let mut ngrams = Ngrams::default();
        let tokens = ["a", "b", "a", "22\u{A0}3/4"].map(str::to_owned).to_vec();
        let sentence = ngrams.sentence(tokens);
        assert_eq!(sentence.n_words, 5);
        assert_eq!(sentence.times(0, 0), 2);
        let lengths: Vec<usize> = sentence.counts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [4, 4, 3, 2]);
        assert_eq!((0..4).map(|order| sentence.n_grams(order)).collect::<Vec<_>>(), [5, 4, 3, 2]);
        assert_eq!(ngrams.texts().len(), 13);
    }

    #[test]
    fn an_empty_sentence_has_no_ngrams() {
        let sentence = Ngrams::default().sentence(Vec::new());
        assert_eq!((sentence.n_words, sentence.n_grams(0), sentence.n_grams(3)), (0, 0, 0));
    }
}
