//! Tensors that stay where the engine computes, from one run of a graph to the next.

use std::any::Any;
use std::sync::Arc;

use crate::tensor::TensorData;
use crate::{ElementType, Tensor};

/// An output of one run that is an input of a later run of the same graph. A clone is the same tensor.
#[derive(Clone)]
pub struct Kept(Place);

#[derive(Clone)]
enum Place {
    Host(Tensor),
    /// What the engine that made it knows it by.
    Engine {
        value: Arc<dyn Any + Send + Sync>,
        element_type: ElementType,
        shape: Vec<usize>,
    },
}

impl From<Tensor> for Kept {
    fn from(tensor: Tensor) -> Kept {
        Kept(Place::Host(tensor))
    }
}

impl Kept {
    pub(crate) fn of_engine<T: Send + Sync + 'static>(
        value: T,
        element_type: ElementType,
        shape: Vec<usize>,
    ) -> Kept {
        Kept(Place::Engine { value: Arc::new(value), element_type, shape })
    }

    pub(crate) fn element_type(&self) -> ElementType {
        match &self.0 {
            Place::Host(tensor) => match tensor.data() {
                TensorData::F32(_) => ElementType::F32,
                TensorData::I64(_) => ElementType::I64,
            },
            Place::Engine { element_type, .. } => *element_type,
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match &self.0 {
            Place::Host(tensor) => tensor.shape(),
            Place::Engine { shape, .. } => shape,
        }
    }

    /// The engine's own tensor, where it is one of its kind.
    pub(crate) fn value<T: 'static>(&self) -> Option<&T> {
        match &self.0 {
            Place::Engine { value, .. } => value.downcast_ref(),
            Place::Host(_) => None,
        }
    }

    /// The tensor, when it is in the memory of the host.
    pub(crate) fn host(&self) -> Result<&Tensor, String> {
        match &self.0 {
            Place::Host(tensor) => Ok(tensor),
            Place::Engine { .. } => Err("a kept tensor is of another engine".to_owned()),
        }
    }

    /// Checks that the tensor is f32 and has all of `rows` along its first axis.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check_rows(&self, rows: &[usize]) -> Result<(), String> {
        let n_rows = *self.shape().first().unwrap_or(&0);
        if self.element_type() != ElementType::F32 || rows.iter().any(|row| *row >= n_rows) {
            let (element_type, shape) = (self.element_type(), self.shape());
            return Err(format!("there are no rows {rows:?} of {element_type:?} {shape:?}"));
        }
        Ok(())
    }

    /// Whether `rows` are all rows of the tensor in their order, so that nothing needs to be copied.
    pub(crate) fn is_all(&self, rows: &[usize]) -> bool {
        rows.iter().copied().eq(0..*self.shape().first().unwrap_or(&0))
    }
}
