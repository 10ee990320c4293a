//! What follows a product in a graph and can be done with its sums.

use super::index::Index;
use super::pb;

/// What follows a product and can be done with it.
pub(crate) struct Tail<'g> {
    /// The last of these nodes.
    pub last: &'g pb::NodeProto,
    pub bias: Vec<f32>,
    /// The least value, that of ReLU.
    pub low: f32,
}

/// A stored bias and ReLU after `product`, if they are there and nothing else reads what lies between.
pub(crate) fn tail<'g>(index: &Index<'g>, product: &'g pb::NodeProto, n_columns: usize) -> Tail<'g> {
    let mut tail = Tail { last: product, bias: vec![0.0; n_columns], low: f32::NEG_INFINITY };
    if let Some((_, add)) = index.only_reader(product, "Add") {
        // Of other dimensions it would be added to rows, or make more axes of the sum.
        let is_bias = |name: &&String| index.stored_dims(name).is_some_and(|dims| dims == [n_columns]);
        if let Some(bias) = add.input.iter().find(is_bias).and_then(|name| index.stored_floats(name)) {
            (tail.bias, tail.last) = (bias, add);
        }
    }
    if let Some((_, relu)) = index.only_reader(tail.last, "Relu") {
        (tail.low, tail.last) = (0.0, relu);
    }
    tail
}
