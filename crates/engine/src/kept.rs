//! Tensors that stay where the engine computes, from one run of a graph to the next.

#[cfg(feature = "ort")]
use std::any::Any;
#[cfg(feature = "ort")]
use std::sync::Arc;

use crate::Tensor;

/// An output of one run that is an input of a later run of the same graph. A clone is the same tensor.
#[derive(Clone)]
pub struct Kept(pub(crate) Place);

#[derive(Clone)]
pub(crate) enum Place {
    Host(Tensor),
    /// What the engine that made it knows it by.
    #[cfg(feature = "ort")]
    Engine(Arc<dyn Any + Send + Sync>),
}

impl From<Tensor> for Kept {
    fn from(tensor: Tensor) -> Kept {
        Kept(Place::Host(tensor))
    }
}

impl Kept {
    /// The tensor, when it is in the memory of the host.
    pub(crate) fn host(&self) -> Result<&Tensor, String> {
        match &self.0 {
            Place::Host(tensor) => Ok(tensor),
            #[cfg(feature = "ort")]
            Place::Engine(_) => Err("a kept tensor is of another engine".to_owned()),
        }
    }
}

/// The rows of `tensor` along its first axis, in this order; a row may be taken several times.
pub(crate) fn rows(tensor: &Tensor, rows: &[usize]) -> Result<Tensor, String> {
    let (Some(n_rows), Some(data)) = (tensor.shape().first(), tensor.as_f32()) else {
        return Err("rows are of f32 tensors with an axis".to_owned());
    };
    if let Some(row) = rows.iter().find(|row| *row >= n_rows) {
        return Err(format!("there is no row {row} among {n_rows}"));
    }
    let mut shape = tensor.shape().to_vec();
    let row_len: usize = shape[1..].iter().product();
    shape[0] = rows.len();
    let mut selected = Vec::with_capacity(rows.len() * row_len);
    for row in rows {
        selected.extend_from_slice(&data[row * row_len..][..row_len]);
    }
    Ok(Tensor::f32(shape, selected))
}
