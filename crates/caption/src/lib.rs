//! Image to embedding to sentence.
//!
//! Pure compute: no threads, no clock, no network. Files are read in `bundle.rs` alone.
//!
//! ```no_run
//! let bundle = caption::Bundle::open("models/lite".as_ref())?;
//! let engine = engine::open("tract")?;
//! let mut models = caption::Models::load(&bundle, &*engine, &engine::EngineOptions::default())?;
//! let photo = image::open("photo.jpg")?.into_rgb8();
//! let pixels = models.preprocess(&photo);
//! let view = models.encode(&pixels)?;
//! println!("{}", models.caption(&view)?.text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Bundle`] is what is on disk: verified, not yet loaded.
//! - [`Models`] is everything that a camera needs, in one value.
//! - [`ImageEncoder`], [`TextEncoder`] and [`Captioner`] stand alone too; the trainer watches its
//!   decoder through the same [`Captioner`] that the daemon runs.

#![warn(unreachable_pub)]

mod bridge;
pub mod bundle;
mod captioner;
mod choice;
mod decode;
mod encoder;
mod models;
mod noise;
mod phrase;
mod preprocess;
mod quality;
mod regions;
pub mod tags;
pub mod testing;
mod text;
mod tokenizer;
mod vector;
mod vqa;

use engine::EngineError;

pub use bridge::{Bridge, Memory};
pub use bundle::{Bundle, BundleError, Manifest};
pub use captioner::{Caption, Captioner};
pub use encoder::{ImageEncoder, ImageView, TextEncoder};
pub use models::{LabelScore, Models};
pub use noise::{Noise, normal};
pub use preprocess::preprocess;
pub use quality::Quality;
pub use regions::regions;
pub use text::tidy;
pub use tokenizer::Tokenizer;
pub use vector::{dot, normalize};
pub use vqa::{Answer, AnswerKind, Evidence, Question, Ranking, Reply, Verdict};

/// What can fail once a bundle is loaded, split by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum CaptionError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The request cannot be served as it stands (an empty question, no labels).
    #[error("{0}")]
    Request(String),
    /// What was asked for takes a decoder: `captiond-train adapt` gives the bundle one.
    #[error("the bundle has no decoder: it compares images and texts, but it cannot write")]
    NoDecoder,
    /// The bundle's parts do not fit together.
    #[error("bundle {bundle}: {why}")]
    Bundle { bundle: String, why: String },
    /// A graph ran, but its outputs are not what its role promises: the export is wrong.
    #[error("graph {graph}: {why}")]
    Graph { graph: String, why: String },
}

impl CaptionError {
    fn graph(graph: &str, why: impl Into<String>) -> CaptionError {
        CaptionError::Graph { graph: graph.to_owned(), why: why.into() }
    }
}
