//! The causal mask of a text tower, given at run time in the place of the one that the graph makes: exporters make it of
//! shapes in ways that engines follow for rows of one length only.

use std::collections::HashSet;

use engine::onnx::pb;

use crate::net::Net;

/// The input of a text encoder that is added to attention scores.
pub(crate) const MASK: &str = "mask";

/// The tower with the mask of every attention read from [`MASK`]; nothing where an attention without a mask is found,
/// or none at all.
pub(crate) fn given(net: &Net) -> Option<Net> {
    let (producers, hidden) = (net.producers(), hidden(net));
    let mut net = net.clone();
    let graph = net.graph_mut();
    let softmaxes: Vec<usize> =
        (0..graph.node.len()).filter(|at| graph.node[*at].op_type == "Softmax").collect();
    for at in &softmaxes {
        let mut n_masks = 0;
        let mut next = graph.node[*at].input.first().and_then(|name| producers.get(name)).copied();
        while let Some(before) = next {
            let node = &mut graph.node[before];
            let scores = match node.op_type.as_str() {
                "Reshape" | "Identity" | "Cast" => node.input.first().cloned(),
                "Add" => {
                    let mask = node.input.iter().position(|name| !hidden.contains(name));
                    if let Some(mask) = mask {
                        MASK.clone_into(&mut node.input[mask]);
                        n_masks += 1;
                    }
                    mask.and_then(|mask| node.input.get(1 - mask).cloned())
                }
                "Where" => masked_fill(node, &hidden).inspect(|_| n_masks += 1),
                _ => None,
            };
            next = scores.and_then(|name| producers.get(&name).copied());
        }
        if n_masks == 0 {
            return None;
        }
    }
    (!softmaxes.is_empty()).then_some(net)
}

/// Turns scores that are kept or replaced into scores with the mask added; returns the scores.
fn masked_fill(node: &mut pb::NodeProto, hidden: &HashSet<String>) -> Option<String> {
    let scores = node.input.iter().skip(1).find(|name| hidden.contains(*name))?.clone();
    "Add".clone_into(&mut node.op_type);
    node.input = vec![scores.clone(), MASK.to_owned()];
    Some(scores)
}

/// The values that follow from the tokens' embeddings, and not from the shape of something alone.
fn hidden(net: &Net) -> HashSet<String> {
    let constants = net.constants();
    let mut hidden: HashSet<String> = HashSet::new();
    for node in &net.graph().node {
        let looks_up = node.op_type.starts_with("Gather")
            && node.input.first().is_some_and(|table| constants.contains(table))
            && node.input.get(1).is_some_and(|ids| !constants.contains(ids));
        let follows = node.op_type != "Shape" && node.input.iter().any(|name| hidden.contains(name));
        if looks_up || follows {
            hidden.extend(node.output.iter().cloned());
        }
    }
    hidden
}
