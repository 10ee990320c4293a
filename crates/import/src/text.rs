//! A text tower to the text encoder of a bundle: rows of token ids to unit embeddings.

use std::collections::HashSet;

use engine::onnx::pb::tensor_proto::DataType;
use engine::onnx::{Attr, pb};
use engine::{Dim, Port};

use crate::net::Net;
use crate::probe::Sample;
use crate::towers::TextTower;
use crate::{ImportError, masks, probe};

/// A text encoder with the ports of `docs/bundle.md`.
pub(crate) struct TextEncoder {
    pub(crate) onnx: Vec<u8>,
    pub(crate) dim: usize,
    /// Longest row.
    pub(crate) max_tokens: usize,
    /// Whether every row must have that length.
    pub(crate) padded: bool,
    /// Why it must, when the tower alone did not ask for it.
    pub(crate) note: Option<String>,
}

/// Derives the encoder. `max_tokens` is the length that the export's settings give; `padded` says that the model was
/// trained on rows of that length. Blocks for a few runs.
pub(crate) fn text_encoder(
    tower: &TextTower,
    max_tokens: usize,
    padded: bool,
    sample: &Sample,
) -> Result<TextEncoder, ImportError> {
    let declared = tower.ids.dims.get(1).copied().flatten();
    let max_tokens = declared.unwrap_or(max_tokens);
    if padded || declared.is_some() {
        let (onnx, dim) = derive(&tower.net, tower, Dim::Fixed(max_tokens), max_tokens, sample)?;
        return Ok(TextEncoder { onnx, dim, max_tokens, padded: true, note: None });
    }
    let fixed = derive(&tower.net, tower, Dim::Fixed(max_tokens), max_tokens, sample)?;
    let mut why = String::new();
    for net in rewritten(&tower.net, &tower.output) {
        let free = derive(&net, tower, "S".into(), max_tokens, sample).and_then(|(onnx, dim)| {
            probe::alike(&onnx, &fixed.0, sample, max_tokens, tower.file())?;
            Ok(TextEncoder { onnx, dim, max_tokens, padded: false, note: None })
        });
        match free {
            Ok(encoder) => return Ok(encoder),
            Err(ImportError::Unusable { why: this, .. }) => why = this,
            Err(e) => return Err(e),
        }
    }
    // An exporter's way of making masks may be beyond the engine unless it knows how long rows are.
    let note = format!("every text costs {max_tokens} tokens: with rows of any length, {why}");
    let (onnx, dim) = fixed;
    Ok(TextEncoder { onnx, dim, max_tokens, padded: true, note: Some(note) })
}

/// The tower in forms that an engine may follow for rows of any length, the likeliest first.
fn rewritten(net: &Net, output: &str) -> Vec<Net> {
    let short = read_at_the_end(net, output).unwrap_or_else(|| net.clone());
    let masked = masks::given(&short);
    masked.into_iter().chain([short]).collect()
}

/// The same tower, reading the embedding at the last position in the place of that of the end token, which exporters
/// look for with `ArgMax` and gather from rows laid end to end: an engine cannot follow that for rows of any length.
/// Rows without padding end with that token. Nothing where the tower pools in another way.
fn read_at_the_end(net: &Net, output: &str) -> Option<Net> {
    const FORMS: [&str; 6] = ["Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast"];
    let graph = net.graph();
    let (producers, constants) = (net.producers(), net.constants());
    let made_by = |name: &str| producers.get(name).map(|at| &graph.node[*at]);
    let found = graph.node.iter().find(|node| node.op_type == "ArgMax")?.output.first()?;
    let mut follows: HashSet<&str> = HashSet::from([found.as_str()]);
    for node in &graph.node {
        if node.input.iter().any(|name| follows.contains(name.as_str())) {
            follows.extend(node.output.iter().map(String::as_str));
        }
    }
    let gathers = |node: &&pb::NodeProto| {
        node.op_type.starts_with("Gather")
            && node
                .input
                .first()
                .is_some_and(|data| !follows.contains(data.as_str()) && !constants.contains(data))
            && node.output.iter().any(|name| follows.contains(name.as_str()))
    };
    let gather = graph.node.iter().find(gathers)?;
    let mut rows = gather.input.first()?.clone();
    while let Some(node) =
        made_by(&rows).filter(|node| ["Flatten", "Reshape"].contains(&node.op_type.as_str()))
    {
        rows = node.input.first()?.clone();
    }
    let mut pooled = gather.output.first()?.clone();
    loop {
        let next =
            graph.node.iter().find(|node| node.input.first() == Some(&pooled) && node.op_type != "Shape")?;
        if !FORMS.contains(&next.op_type.as_str()) {
            break;
        }
        pooled = next.output.first()?.clone();
        if pooled == output {
            return None;
        }
    }
    let mut net = net.clone();
    let (last, shape) = (net.slice(&rows, 1, -1, i64::MAX), net.ints(&[0, -1]));
    let row = net.add("Reshape", &[&last, &shape], vec![]);
    net.replace(&pooled, &row);
    Some(net)
}

fn derive(
    net: &Net,
    tower: &TextTower,
    length: Dim,
    max_tokens: usize,
    sample: &Sample,
) -> Result<(Vec<u8>, usize), ImportError> {
    let mut net = net.clone();
    let ids = format!("{}_given", tower.ids.name);
    net.rename(&tower.ids.name, &ids);
    net.graph_mut().input.clear();
    let port = Port::i64("ids", ["B".into(), length.clone()]);
    net.declare_input(&port);
    net.declare_input(&Port::f32(masks::MASK, [length.clone(), length]));
    if let Some(mask) = &tower.mask {
        feed_ones(&mut net, &mask.name, mask.data_type);
    }
    match tower.ids.data_type {
        // A cast would turn the ids into what the engine holds for the dimensions of something.
        DataType::Int64 => net.add_first("Identity", &["ids"], &ids, vec![]),
        other => net.add_first("Cast", &["ids"], &ids, vec![("to", Attr::Int(other as i64))]),
    }
    net.normalize(&tower.output, "embedding");
    net.keep(&["embedding"]);
    let mut unknown = net.clone();
    unknown.declare_output(&Port::f32("embedding", [Dim::from("B"), "D".into()]));
    let padded = matches!(port.dims[1], Dim::Fixed(_));
    let length = if padded { max_tokens } else { sample.row.len() };
    let dim = probe::text(&engine::onnx::encode(unknown.model()), sample, length, tower.file())?;
    net.declare_output(&Port::f32("embedding", [Dim::from("B"), dim.into()]));
    Ok((engine::onnx::encode(net.model()), dim))
}

/// Rows of one length have no padding that a mask could hide: it becomes a one for every token.
fn feed_ones(net: &mut Net, mask: &str, data_type: DataType) {
    let one = net.ints(&[1]);
    net.add_first("Cast", &["captiond_ones"], mask, vec![("to", Attr::Int(data_type as i64))]);
    net.add_first("Add", &["captiond_zeros", &one], "captiond_ones", vec![]);
    net.add_first("Sub", &["ids", "ids"], "captiond_zeros", vec![]);
}
