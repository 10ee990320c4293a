//! BLEU, ROUGE-L and CIDEr-D of captions, equal to those of pycocoevalcap 1.2 (the COCO caption evaluation).
//!
//! Everything takes `&[Example]`: one element an image, with the system's sentence and the people's. All scores are
//! raw: 1.0 is what papers print as 100. BLEU and ROUGE-L lie in 0 to 1, CIDEr-D in 0 to 10; one person's caption
//! scored against four others' gets a CIDEr-D near 0.8 to 0.9.
//!
//! CIDEr-D weighs n-grams by how many of the scored images mention them, so the same captions score differently in
//! another selection of images: print the number of images beside it, or freeze a [`DocumentFrequency`].
//!
//! What does not belong here: decoding captions, reading data sets, printing to a terminal.
//!
//! ```
//! let example = |candidate: &str, reference: &str| metrics::Example {
//!     candidate: candidate.to_owned(),
//!     references: vec![reference.to_owned()],
//! };
//! let examples = [example("a dog runs", "A dog is running."), example("two men", "Two men on a bench.")];
//! let report = metrics::Report::measure(&[("mine", &examples)], None, &metrics::Bootstrap::default())?;
//! assert!(report.rows[0].scores.cider_d > 1.0);
//! # Ok::<(), metrics::MetricsError>(())
//! ```

#![warn(unreachable_pub)]

mod bleu;
mod bootstrap;
mod cider;
mod corpus;
mod floors;
mod ngrams;
pub mod ptb;
mod report;
mod rouge;
mod seeds;

pub use bleu::bleu;
pub use bootstrap::{Bootstrap, Comparison, Interval, compare, mean_interval, paired, paired_within};
pub use cider::{CiderD, DocumentFrequency, cider_d};
pub use floors::{Floors, central_caption, floors};
pub use report::{Report, Row, Scores, distinct_share};
pub use rouge::rouge_l;
pub use seeds::{Estimate, Runs, estimate};

/// Characters that a sentence may have. The tokenizer and the longest common subsequence are quadratic at worst, so a
/// runaway decoder or a broken file must not reach them unbounded.
pub const MAX_CHARS: usize = 4096;

/// One image: the sentence to be judged and the sentences to judge it by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// May be empty; it then scores 0.
    pub candidate: String,
    /// At least one.
    pub references: Vec<String>,
}

/// Why nothing was scored, split by what the caller can mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    #[error("score captions: no examples")]
    NoExamples,
    #[error("score captions: example {0} has no reference")]
    NoReference(usize),
    #[error("score captions: example {index} has a sentence of {chars} characters, more than {MAX_CHARS}")]
    TooLong { index: usize, chars: usize },
    #[error("find the central caption: no training captions")]
    NoCaptions,
    #[error("compare two systems: {left} examples against {right}")]
    Unpaired { left: usize, right: usize },
    #[error("compare two systems: example {0} has other references in the second")]
    OtherReferences(usize),
    #[error("bootstrap: at least one resample and a level between 0 and 1, got {0} and {1}")]
    Bootstrap(usize, String),
}
