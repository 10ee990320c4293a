//! The two kinds of dense tensor that cross the seam.

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

/// An owned dense tensor; the number of elements equals the product of the shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

/// A borrowed dense tensor; the number of elements equals the product of the shape.
#[derive(Clone, Copy, Debug)]
pub enum TensorView<'a> {
    F32 { shape: &'a [usize], data: &'a [f32] },
    I64 { shape: &'a [usize], data: &'a [i64] },
}

impl Tensor {
    /// # Panics
    /// When `data` does not fill `shape`.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of shape {shape:?}");
        Tensor { shape, data: TensorData::F32(data) }
    }

    /// # Panics
    /// When `data` does not fill `shape`.
    pub fn i64(shape: impl Into<Vec<usize>>, data: Vec<i64>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of shape {shape:?}");
        Tensor { shape, data: TensorData::I64(data) }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(data) => Some(data),
            TensorData::I64(_) => None,
        }
    }

    /// The elements, if they are f32.
    pub fn into_f32(self) -> Option<Vec<f32>> {
        match self.data {
            TensorData::F32(data) => Some(data),
            TensorData::I64(_) => None,
        }
    }

    pub fn view(&self) -> TensorView<'_> {
        match &self.data {
            TensorData::F32(data) => TensorView::F32 { shape: &self.shape, data },
            TensorData::I64(data) => TensorView::I64 { shape: &self.shape, data },
        }
    }
}
