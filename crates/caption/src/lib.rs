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

use std::path::Path;

use engine::{Engine, EngineError, EngineOptions, Tensor};

/// What can fail once a bundle is loaded, split by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum CaptionError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The request cannot be served as it stands (an empty question, no labels).
    #[error("{0}")]
    Request(String),
    /// The bundle's parts do not fit together.
    #[error("bundle {bundle}: {why}")]
    Bundle { bundle: String, why: String },
}

/// Why a folder is no usable bundle. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("bundle {0}: {1}")]
    Invalid(String, String),
}

/// A folder with a manifest, graphs and a tokenizer, every file verified against its hash.
pub struct Bundle {}

impl Bundle {
    pub fn open(dir: &Path) -> Result<Bundle, BundleError> {
        Err(BundleError::Invalid(dir.display().to_string(), "not written yet".to_owned()))
    }
    /// `name@` and the first eight hex digits of the manifest's sha256.
    pub fn id(&self) -> &str {
        ""
    }
}

/// What the image encoder saw: unit-norm embedding (embed_dim), unit-norm patch embeddings (n_patches x
/// embed_dim, row-major) and pooling weights (n_patches, sum 1).
#[derive(Clone, Debug, PartialEq)]
pub struct ImageView {
    pub embedding: Vec<f32>,
    pub patches: Vec<f32>,
    pub weights: Vec<f32>,
}

/// A sentence and the geometric mean probability of its tokens, in (0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    pub text: String,
    pub score: f32,
}

/// A question about a frame; with `choices` the answer is one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    pub text: String,
    pub choices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Answered,
    /// The score is below the bundle's threshold: the answer is a guess.
    Unsure,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub text: String,
    /// Share of the probability among the candidates, 0 to 1.
    pub score: f32,
    pub verdict: Verdict,
    /// Every candidate with its share, best first.
    pub candidates: Vec<(String, f32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LabelScore {
    pub label: String,
    /// Softmax over the given labels, 0 to 1.
    pub score: f32,
    /// Cosine of the label's text embedding with the image embedding, -1 to 1.
    pub cosine: f32,
}

/// Every graph of a bundle, loaded and owned by one thread.
pub struct Models {}

impl Models {
    pub fn load(
        bundle: &Bundle,
        engine: &dyn Engine,
        options: &EngineOptions,
    ) -> Result<Models, CaptionError> {
        let _ = (engine, options);
        Err(CaptionError::Bundle { bundle: bundle.id().to_owned(), why: "not written yet".to_owned() })
    }
    /// Pixels to the encoder's input, f32 (1, 3, height, width).
    pub fn preprocess(&self, image: &image::RgbImage) -> Tensor {
        let _ = image;
        Tensor::f32([0], vec![])
    }
    pub fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        let _ = pixels;
        Err(CaptionError::Request("not written yet".to_owned()))
    }
    pub fn caption(&mut self, view: &ImageView) -> Result<Caption, CaptionError> {
        let _ = view;
        Err(CaptionError::Request("not written yet".to_owned()))
    }
    pub fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        let _ = (view, question);
        Err(CaptionError::Request("not written yet".to_owned()))
    }
    /// Zero-shot: which of the labels fits, best first.
    pub fn label(&mut self, view: &ImageView, labels: &[String]) -> Result<Vec<LabelScore>, CaptionError> {
        let _ = (view, labels);
        Err(CaptionError::Request("not written yet".to_owned()))
    }
}
