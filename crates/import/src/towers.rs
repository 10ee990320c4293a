//! The two towers of an export: which file, which input, which output. Files are matched by what they take and give,
//! since exporters name them as they like.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use engine::onnx::{self, pb};
use pb::tensor_proto::DataType;

use crate::net::{Given, Net};
use crate::{ImportError, halves, nbits, quantized};

/// What an embedding is called, the likeliest first.
const IMAGE_OUTPUTS: [&str; 7] = [
    "image_embeds",
    "image_features",
    "image_embeddings",
    "unnorm_image_features",
    "embedding",
    "output",
    "pooler_output",
];
const TEXT_OUTPUTS: [&str; 7] = [
    "text_embeds",
    "text_features",
    "text_embeddings",
    "unnorm_text_features",
    "embedding",
    "output",
    "pooler_output",
];
/// Largest side of a patch grid that is guessed from a number of patches.
const SIDE_MAX: usize = 256;

pub(crate) struct ImageTower {
    pub(crate) net: Net,
    pub(crate) input: String,
    pub(crate) output: String,
    file: PathBuf,
}

pub(crate) struct TextTower {
    pub(crate) net: Net,
    pub(crate) ids: Given,
    /// An input that says which tokens count, where there is one.
    pub(crate) mask: Option<Given>,
    pub(crate) output: String,
    file: PathBuf,
}

impl ImageTower {
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn unusable(&self, why: String) -> ImportError {
        ImportError::Unusable { file: self.file.clone(), why }
    }

    /// Rows and columns of so many patches: a square, or one row where they make none.
    pub(crate) fn grid(&self, n_patches: usize) -> [usize; 2] {
        let side = (1..=SIDE_MAX).find(|side| side * side == n_patches);
        side.map_or([1, n_patches], |side| [side, side])
    }
}

impl TextTower {
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// A parsed graph that computes in f32.
///
/// # Errors
/// When the file cannot be read or is no graph that this program takes.
pub(crate) fn read(file: &Path) -> Result<Net, ImportError> {
    let bytes = std::fs::read(file).map_err(|source| ImportError::Read { file: file.to_owned(), source })?;
    let model = onnx::parse(&bytes)
        .map_err(|e| ImportError::Unusable { file: file.to_owned(), why: e.to_string() })?;
    drop(bytes);
    let mut net = Net::new(model);
    // Before f16 goes, which is what comes of them.
    nbits::compute_in_f16(&mut net).map_err(|why| ImportError::Unusable { file: file.to_owned(), why })?;
    if halves::computes_in_f16(&net) {
        halves::compute_in_f32(&mut net);
    }
    quantized::compute_in_f32(&mut net);
    Ok(net)
}

/// The part of a graph that embeds an image.
///
/// # Errors
/// When it takes no image, or several, or none of its outputs is known as an embedding.
pub(crate) fn image(net: &Net, file: &Path) -> Result<ImageTower, ImportError> {
    let unusable = |why: String| ImportError::Unusable { file: file.to_owned(), why };
    let inputs = net.inputs();
    let images: Vec<&Given> =
        inputs.iter().filter(|given| given.dims.len() == 4 && given.data_type == DataType::Float).collect();
    let [input] = images[..] else {
        return Err(unusable(format!("has {} inputs that are images, not one", images.len())));
    };
    let output = output(net, &IMAGE_OUTPUTS, "text").map_err(unusable)?;
    let mut part = net.clone();
    part.keep(&[&output]);
    let others: Vec<String> =
        part.inputs().into_iter().map(|given| given.name).filter(|name| *name != input.name).collect();
    if !others.is_empty() {
        return Err(unusable(format!("{output} depends on {}, too", others.join(", "))));
    }
    let (input, output) = (part.free_ports(&input.name), part.free_ports(&output));
    Ok(ImageTower { net: part, input, output, file: file.to_owned() })
}

/// The part of a graph that embeds a text.
///
/// # Errors
/// As [`image`].
pub(crate) fn text(net: &Net, file: &Path) -> Result<TextTower, ImportError> {
    let unusable = |why: String| ImportError::Unusable { file: file.to_owned(), why };
    let output = output(net, &TEXT_OUTPUTS, "image").map_err(unusable)?;
    let mut part = net.clone();
    part.keep(&[&output]);
    let output = part.free_ports(&output);
    let (masks, rows): (Vec<Given>, Vec<Given>) =
        part.inputs().into_iter().partition(|given| given.name.contains("mask"));
    let integers = [DataType::Int64, DataType::Int32];
    match (&rows[..], &masks[..]) {
        ([ids], [] | [_]) if ids.dims.len() == 2 && integers.contains(&ids.data_type) => Ok(TextTower {
            net: part,
            ids: ids.clone(),
            mask: masks.first().cloned(),
            output,
            file: file.to_owned(),
        }),
        _ => {
            let names: Vec<&str> = rows.iter().chain(&masks).map(|given| given.name.as_str()).collect();
            Err(unusable(format!("{output} takes {}, not rows of token ids", names.join(", "))))
        }
    }
}

/// The output that is an embedding, and not one of the `other` tower.
fn output(net: &Net, known: &[&str], other: &str) -> Result<String, String> {
    let names = net.output_names();
    if let Some(name) = known.iter().find(|known| names.iter().any(|name| name == *known)) {
        return Ok((*name).to_owned());
    }
    match &names[..] {
        [one] if !one.contains("hidden_state") && !one.contains(other) => Ok(one.clone()),
        _ => Err(format!(
            "has no embedding among its outputs {}: {} is missing",
            names.join(", "),
            known.first().unwrap_or(&"one")
        )),
    }
}

/// The trained scale of a graph that holds both towers, if it still has a name.
pub(crate) fn logit_scale(net: &Net) -> Option<f32> {
    let stored: HashMap<&str, &pb::TensorProto> =
        net.graph().initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut named: Vec<(&&str, &&pb::TensorProto)> = stored
        .iter()
        .filter(|(name, tensor)| name.ends_with("logit_scale") && tensor.dims.iter().all(|n| *n == 1))
        .collect();
    named.sort_by_key(|(name, _)| **name);
    let (_, tensor) = named.first()?;
    let word = tensor.raw_data.as_chunks::<4>().0.first().map(|word| f32::from_le_bytes(*word));
    word.or_else(|| tensor.float_data.first().copied()).map(f32::exp)
}
