//! Finds layers of transformers in an ONNX graph and replaces each by one node.

use std::collections::HashMap;

use crate::onnx::index::Index;
#[cfg(target_arch = "x86_64")]
use crate::onnx::tail::{Tail, tail};
use crate::onnx::{self, Attr, attribute, attribute_int, pb};

/// Rows and stored weights of `[depth, columns]`, or of `[columns, depth]` with the attribute `transposed`, to rows.
#[cfg(target_arch = "x86_64")]
pub(crate) const MULTIPLY_FLOATS: &str = "CaptiondMultiplyFloats";
/// Pictures and stored weights of `[columns, channels, height, width]` to pictures of a window's size less, see [`patches`].
#[cfg(target_arch = "x86_64")]
pub(crate) const CONVOLVE_PATCHES: &str = "CaptiondConvolvePatches";
/// Queries, keys and values (, mask of `[S, R]`) to means of values, see [`attention`].
pub(crate) const ATTEND: &str = "CaptiondAttend";
/// Rows to normalized rows.
pub(crate) const NORMALIZE: &str = "CaptiondNormalize";
/// `x` to `x * sigmoid(beta * x)`.
pub(crate) const SWISH: &str = "CaptiondSwish";

/// Elements of the smallest window that is worth it to lay out as a row.
#[cfg(target_arch = "x86_64")]
const WINDOW_MIN: usize = 16;
/// Fewer weights are no work to speak of.
#[cfg(target_arch = "x86_64")]
const WEIGHTS_MIN: usize = 1 << 12;

/// So many casts to what a value is already are looked through.
const CASTS_MAX: usize = 8;

/// Replaces what is recognized; what is not stays. The values that are left keep their names. A graph that computes in
/// other floats than f32 stays as it is; weights are expanded before.
pub(crate) fn fuse(graph: &mut pb::GraphProto) {
    if has_other_floats(graph) {
        return;
    }
    let index = Index::new(graph);
    let mut replaced = HashMap::new();
    for node in graph.node.iter().filter(|node| node.domain.is_empty()) {
        let found = match node.op_type.as_str() {
            "Softmax" => attention(&index, node),
            "LayerNormalization" => normalization(&index, node),
            "Mul" => swish(&index, node),
            #[cfg(target_arch = "x86_64")]
            "MatMul" if crate::kernels::floats::is_available() => product(&index, node),
            #[cfg(target_arch = "x86_64")]
            "Conv" if crate::kernels::floats::is_available() => patches(&index, node),
            _ => None,
        };
        replaced.extend(found.and_then(|node| Some((node.output.first()?.clone(), node))));
    }
    if replaced.is_empty() {
        return;
    }
    for node in &mut graph.node {
        if let [output] = &node.output[..]
            && let Some(replacement) = replaced.remove(output)
        {
            *node = replacement;
        }
    }
    onnx::prune(graph);
}

/// Whether some value may be of another type of floats: those that come from outside are f32.
fn has_other_floats(graph: &pb::GraphProto) -> bool {
    use pb::tensor_proto::DataType;
    let is_other = |data_type: i64| {
        [DataType::Float16, DataType::Bfloat16, DataType::Double]
            .iter()
            .any(|other| *other as i64 == data_type)
    };
    let of_node = |node: &pb::NodeProto| {
        let cast = attribute_int(node, "to").filter(|_| node.op_type == "Cast");
        let stored = node.attribute.iter().filter_map(|attribute| attribute.t.as_ref());
        cast.into_iter().chain(stored.map(|tensor| tensor.data_type.into())).any(is_other)
    };
    graph.initializer.iter().any(|tensor| is_other(tensor.data_type.into())) || graph.node.iter().any(of_node)
}

/// `node`, with another operator, inputs and attributes.
fn instead(
    node: &pb::NodeProto,
    op_type: &str,
    input: Vec<String>,
    attributes: Vec<(&str, Attr)>,
) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op_type.to_owned(),
        name: node.name.clone(),
        input,
        output: node.output.clone(),
        attribute: attributes.into_iter().map(|(name, attr)| attribute(name, attr)).collect(),
        ..Default::default()
    }
}

/// The product of rows with stored weights that `node` is, with what follows it.
#[cfg(target_arch = "x86_64")]
fn product(index: &Index<'_>, node: &pb::NodeProto) -> Option<pb::NodeProto> {
    let [rows, weight] = &node.input[..] else { return None };
    let (weight, transposed) = index.before_transpose(weight)?;
    let [a, b] = index.stored_dims(weight)?[..] else { return None };
    let n_columns = if transposed { a } else { b };
    (!index.is_stored(rows) && a.checked_mul(b)? >= WEIGHTS_MIN).then_some(())?;
    let Tail { last, bias, low } = tail(index, node, n_columns);
    let attributes = vec![
        ("transposed", Attr::Int(transposed.into())),
        ("offsets", Attr::Floats(bias)),
        ("low", Attr::Float(low)),
    ];
    Some(instead(last, MULTIPLY_FLOATS, vec![rows.clone(), weight.to_owned()], attributes))
}

/// The convolution that `node` is, if its windows lie side by side and begin at the picture's edge.
#[cfg(target_arch = "x86_64")]
fn patches(index: &Index<'_>, node: &pb::NodeProto) -> Option<pb::NodeProto> {
    let [picture, weight, rest @ ..] = &node.input[..] else { return None };
    let [n_out, _, height, width] = index.stored_dims(weight)?[..] else { return None };
    let window = [i64::try_from(height).ok()?, i64::try_from(width).ok()?];
    let mut attributes = node.attribute.iter();
    let is_side_by_side = attributes.any(|attribute| attribute.name == "strides" && attribute.ints == window)
        && onnx::is_all(node, "dilations", 1)
        && onnx::is_all(node, "pads", 0)
        && attribute_int(node, "group").unwrap_or(1) == 1
        && (node.attribute.iter().filter(|attribute| attribute.name == "auto_pad"))
            .all(|pad| pad.s == b"NOTSET" || pad.s == b"VALID");
    (is_side_by_side && height.checked_mul(width)? >= WINDOW_MIN).then_some(())?;
    let bias = match rest {
        [] => vec![0.0; n_out],
        [bias] => index.stored_floats(bias).filter(|bias| bias.len() == n_out)?,
        _ => return None,
    };
    let attributes = vec![("offsets", Attr::Floats(bias))];
    Some(instead(node, CONVOLVE_PATCHES, vec![picture.clone(), weight.clone()], attributes))
}

/// The normalization of the last axis that `node` is, if its factors are stored.
fn normalization(index: &Index<'_>, node: &pb::NodeProto) -> Option<pb::NodeProto> {
    let [rows, factors, rest @ ..] = &node.input[..] else { return None };
    (attribute_int(node, "axis").unwrap_or(-1) == -1 && node.output.len() == 1).then_some(())?;
    (index.stored_dims(factors)?.len() == 1).then_some(())?;
    let factors = index.stored_floats(factors)?;
    let offsets = match rest {
        [] => vec![0.0; factors.len()],
        [offsets] => index.stored_floats(offsets).filter(|offsets| offsets.len() == factors.len())?,
        _ => return None,
    };
    let epsilon =
        node.attribute.iter().find(|attribute| attribute.name == "epsilon").map_or(1e-5, |found| found.f);
    let attributes = vec![
        ("epsilon", Attr::Float(epsilon)),
        ("factors", Attr::Floats(factors)),
        ("offsets", Attr::Floats(offsets)),
    ];
    Some(instead(node, NORMALIZE, vec![rows.clone()], attributes))
}

/// The activation whose last product `node` is.
fn swish(index: &Index<'_>, node: &pb::NodeProto) -> Option<pb::NodeProto> {
    let [a, b] = &node.input[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(value, gate)| {
        let (_, sigmoid) = index.maker(gate, "Sigmoid")?;
        let of = sigmoid.input.first()?;
        let (of, beta) = if of == value { (of.as_str(), 1.0) } else { scaled(index, of) };
        let attributes = vec![("beta", Attr::Float(beta))];
        (of == value && beta.is_finite()).then(|| instead(node, SWISH, vec![value.clone()], attributes))
    })
}

/// The attention whose softmax `node` is. From queries `[N, H, S, D]`, keys and values `[N, H, R, D]` to `[N, S, H, D]`;
/// where the attribute of this name says so, `query_rows`, `key_rows` and `value_rows` are `[N, S, H, D]` or `[N, R, H, D]`.
fn attention<'g>(index: &Index<'g>, node: &'g pb::NodeProto) -> Option<pb::NodeProto> {
    [-1, 3].contains(&attribute_int(node, "axis")?).then_some(())?;
    let mut scores = node.input.first()?.as_str();
    let mut mask = None;
    if let Some((_, add)) = index.maker(scores, "Add") {
        let [a, b] = &add.input[..] else { return None };
        // One for all sequences and heads.
        (index.rank(b) == Some(2)).then_some(())?;
        (scores, mask) = (a, Some(b.clone()));
    }
    let (scores, scale) = scaled(index, scores);
    let (_, product) = index.maker(scores, "MatMul")?;
    let [queries, keys] = &product.input[..] else { return None };
    let ((queries, q_scale), (keys, k_scale)) = (scaled(index, queries), scaled(index, keys));
    let (keys, key_rows) = match index.transposed(keys, &[0, 1, 3, 2]) {
        Some(keys) => (keys, false),
        None => (index.transposed(keys, &[0, 2, 3, 1])?, true),
    };
    let (_, mean) = past_casts(index, node)?;
    let [shares, values] = &mean.input[..] else { return None };
    let shares = uncast(index, shares);
    (node.output.first()? == shares).then_some(())?;
    let (_, last) = index.only_reader(mean, "Transpose")?;
    index.transposed(last.output.first()?, &[0, 2, 1, 3])?;
    let rows = |value| match index.transposed(value, &[0, 2, 1, 3]) {
        Some(rows) => (rows, true),
        None => (value, false),
    };
    let ((queries, query_rows), (values, value_rows)) = (rows(queries), rows(values));
    let input = [queries, keys, values].into_iter().map(str::to_owned).chain(mask).collect();
    let attributes = vec![
        ("scale", Attr::Float(scale * q_scale * k_scale)),
        ("query_rows", Attr::Int(query_rows.into())),
        ("key_rows", Attr::Int(key_rows.into())),
        ("value_rows", Attr::Int(value_rows.into())),
    ];
    Some(instead(last, ATTEND, input, attributes))
}

/// The only product that reads what `node` makes, perhaps through casts to f32, which it is already.
fn past_casts<'g>(index: &Index<'g>, node: &'g pb::NodeProto) -> Option<(usize, &'g pb::NodeProto)> {
    let cast =
        |node: &&'g pb::NodeProto| Some(index.only_reader(node, "Cast")?.1).filter(|cast| is_to_f32(cast));
    let casts = std::iter::successors(Some(node), cast).take(CASTS_MAX);
    casts.last().and_then(|last| index.only_reader(last, "MatMul"))
}

fn uncast<'g>(index: &Index<'g>, value: &'g str) -> &'g str {
    let before = |value: &&'g str| {
        let (_, cast) = index.maker(value, "Cast").filter(|(_, cast)| is_to_f32(cast))?;
        Some(cast.input.first()?.as_str())
    };
    std::iter::successors(Some(value), before).take(CASTS_MAX).last().unwrap_or(value)
}

fn is_to_f32(cast: &pb::NodeProto) -> bool {
    attribute_int(cast, "to") == Some(pb::tensor_proto::DataType::Float as i64)
}

/// What `value` is a stored multiple of, and how much; of itself, once, if of nothing else.
fn scaled<'g>(index: &Index<'g>, value: &'g str) -> (&'g str, f32) {
    let of_mul = || {
        let (_, mul) = index.maker(value, "Mul")?;
        let [a, b] = &mul.input[..] else { return None };
        match (index.scalar(a), index.scalar(b)) {
            (None, Some(factor)) => Some((a.as_str(), factor)),
            (Some(factor), None) => Some((b.as_str(), factor)),
            _ => None,
        }
    };
    let of_div = || {
        let (_, div) = index.maker(value, "Div")?;
        let [a, b] = &div.input[..] else { return None };
        index.scalar(a).is_none().then_some(())?;
        Some((a.as_str(), index.scalar(b)?.recip()))
    };
    of_mul().or_else(of_div).unwrap_or((value, 1.0))
}
