//! CLIP models that others exported, as bundles.
//!
//! An export is a folder with ONNX graphs of an image and a text tower, a tokenizer and settings: Hugging Face's
//! layout (`onnx/vision_model.onnx`, `onnx/text_model.onnx` or `onnx/model.onnx`), or one folder a tower. What comes of
//! it is an encoder bundle: it compares images and texts, and `captiond-train adapt` makes a captioner of it.
//!
//! Blocks, reads and writes files; threads, network and clocks do not belong here.

#![warn(unreachable_pub)]

mod halves;
mod image;
mod layout;
mod masks;
mod nbits;
mod net;
mod probe;
mod quantized;
pub mod registry;
mod settings;
mod text;
mod towers;
mod words;

use std::path::{Path, PathBuf};

use caption::bundle::{EmbeddingSettings, FORMAT, GraphFile, Graphs, Manifest, VqaSettings};
use caption::{BundleError, Tokenizer, bundle};
use layout::Layout;
pub use layout::Variant;
use probe::Sample;

/// What a cosine is multiplied by where nothing says what the model was trained with: the limit at which CLIP's own
/// training holds it, and which its released models have reached.
const LOGIT_SCALE: f32 = 100.0;
/// Tokens of which the text tower is tried.
const SAMPLE: &str = "a photo of two dogs";

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Of the bundle; the folder's if left out.
    pub name: Option<String>,
    /// Terms of the weights; those that the export's README names if left out.
    pub license: Option<String>,
    /// Which of several forms of one graph; the most exact if left out.
    pub variant: Option<Variant>,
    /// What cosines are multiplied by before a softmax; as the export says if left out.
    pub logit_scale: Option<f32>,
}

/// A bundle that was written.
#[derive(Clone, Debug)]
pub struct Imported {
    pub manifest: Manifest,
    /// What was assumed or left out, in sentences.
    pub notes: Vec<String>,
}

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something is not there: put it there, or give it as an argument.
    #[error("{}: {what} is missing", dir.display())]
    Missing { dir: PathBuf, what: String },
    #[error("read {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    /// The file is there and cannot be used as it is: export it again, in another form.
    #[error("{}: {why}", file.display())]
    Unusable { file: PathBuf, why: String },
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Makes an encoder bundle in `out` of the export in `dir`. Every graph is run before anything is written. Blocks for
/// seconds.
///
/// # Errors
/// See [`ImportError`]; `out` is as it was after one.
pub fn import(dir: &Path, out: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let layout = Layout::find(dir, options.variant)?;
    let license = layout.license(options.license.as_deref())?;
    let preprocess = layout.preprocess()?;
    let words = words::read(&layout.folders(), &layout.config)?;
    let unusable = |why: String| ImportError::Unusable { file: dir.join("tokenizer.json"), why };
    let tokenizer = Tokenizer::parse(&words.json, &words.settings).map_err(unusable)?;

    let mut notes = Vec::new();
    let (image, image_net) = layout.image_tower()?;
    let size = [preprocess.width, preprocess.height];
    let image = image::image_encoder(&image, size)?;
    let tower = layout.text_tower()?;
    let padded = layout.is_siglip();
    let sample = Sample { row: tokenizer.encode_row(SAMPLE), pad: tokenizer.pad() };
    let text = text::text_encoder(&tower, words.settings.max_tokens, padded, &sample)?;
    if image.dim != text.dim {
        let why = format!(
            "images have {} coordinates and texts {}: the export lacks visual_projection and text_projection",
            image.dim, text.dim
        );
        return Err(ImportError::Unusable { file: dir.to_owned(), why });
    }
    notes.extend(image.whole.map(|why| format!("no sub-regions: {why}")));
    notes.extend(text.note);
    let logit_scale = options.logit_scale.or(image_net).or_else(|| layout.logit_scale());
    if logit_scale.is_none() {
        notes.push(format!("nothing says what the logit scale is: {LOGIT_SCALE} is assumed"));
    }
    let mut words = words;
    (words.settings.max_tokens, words.settings.padded) = (text.max_tokens, text.padded);
    let manifest = Manifest {
        format: FORMAT,
        name: layout.name(options.name.as_deref()),
        version: "1".to_owned(),
        license,
        provenance: layout.provenance(),
        preprocess,
        embedding: EmbeddingSettings {
            dim: image.dim,
            logit_scale: logit_scale.unwrap_or(LOGIT_SCALE),
            patches: image.patches,
        },
        tokenizer: words.settings,
        decoder: None,
        vqa: VqaSettings {
            unsure_below: 0.5,
            decoder_weight: 1.0,
            similarity_weight: 1.0,
            ..VqaSettings::default()
        },
        regions: None,
        bridge: None,
        memory: None,
        tags: None,
        confidence: None,
        graphs: Graphs {
            image_encoder: GraphFile::new("image_encoder.onnx"),
            text_encoder: GraphFile::new("text_encoder.onnx"),
            adapter: None,
            decoder: None,
        },
    };
    let files = [
        ("image_encoder.onnx", image.onnx.as_slice()),
        ("text_encoder.onnx", text.onnx.as_slice()),
        ("tokenizer.json", words.json.as_slice()),
    ];
    let manifest = bundle::write(out, manifest, &files)?;
    Ok(Imported { manifest, notes })
}
