//! Short runs of derived graphs on the engine that will run them: what cannot run is refused before it is written.

use engine::onnx::Attr;
use std::path::Path;

use engine::onnx::pb::tensor_proto::DataType;
use engine::{EngineOptions, Port, Tensor, TensorView};

use crate::ImportError;
use crate::masks::MASK;
use crate::net::Net;

/// Largest distance of a norm from 1.
const UNIT: f32 = 1e-3;

/// A picture with edges, shades and no symmetry, f32 (3, height, width), about as large as normalised pixels are.
fn picture([width, height]: [usize; 2]) -> Vec<f32> {
    let value = |channel: usize, x: usize, y: usize| {
        let wave = ((x * (channel + 2)) as f32 * 0.11).sin() + ((y * 3 + x) as f32 * 0.07).cos();
        if (x / 16 + y / 24) % 3 == channel { wave + 0.8 } else { wave - 0.4 }
    };
    (0..3 * width * height).map(|at| value(at / (width * height), at % width, at / width % height)).collect()
}

fn run(onnx: &[u8], inputs: &[(&str, TensorView<'_>)], file: &Path) -> Result<Vec<Tensor>, ImportError> {
    let unusable = |why: String| ImportError::Unusable { file: file.to_owned(), why };
    let signature = engine::onnx::signature_of(onnx).map_err(|e| unusable(e.to_string()))?;
    let engine = engine::open("tract").map_err(|e| unusable(e.to_string()))?;
    let mut graph = engine
        .load("the export", onnx, &signature, &EngineOptions::default())
        .map_err(|e| unusable(e.to_string()))?;
    graph.run(inputs).map_err(|e| unusable(e.to_string()))
}

/// The shape that a value of a graph of `pixels` has.
pub(crate) fn shape(
    net: &Net,
    value: &str,
    size: [usize; 2],
    file: &Path,
) -> Result<Vec<usize>, ImportError> {
    let mut net = net.clone();
    let shape = net.add("Shape", &[value], vec![]);
    // The engine has a type of its own for shapes, which it takes for no integers.
    let shape = net.add("Cast", &[&shape], vec![("to", Attr::Int(DataType::Float as i64))]);
    net.keep(&[&shape]);
    net.declare_output(&Port::f32(&shape, [engine::Dim::from("R")]));
    let tensor = images(&net, size, file)?.pop();
    let dims =
        tensor.as_ref().and_then(Tensor::as_f32).map(|dims| dims.iter().map(|n| *n as usize).collect());
    dims.ok_or_else(|| ImportError::Unusable { file: file.to_owned(), why: format!("{value} has no shape") })
}

fn images(net: &Net, size: [usize; 2], file: &Path) -> Result<Vec<Tensor>, ImportError> {
    let pixels = picture(size);
    let view = TensorView::F32 { shape: &[1, 3, size[1], size[0]], data: &pixels };
    run(&engine::onnx::encode(net.model()), &[("pixels", view)], file)
}

/// Whether two rows of a graph, [1, dim] each and of unit norm, are the same to this cosine.
pub(crate) fn agree(net: &Net, rows: [&str; 2], size: [usize; 2], least: f32) -> Result<(), String> {
    let mut net = net.clone();
    net.keep(&rows);
    for row in rows {
        net.declare_output(&Port::f32(row, [engine::Dim::from(1), "D".into()]));
    }
    let outputs = images(&net, size, Path::new("the export")).map_err(|e| e.to_string())?;
    let [a, b] = &outputs[..] else { return Err("two rows are not two outputs".to_owned()) };
    let cosine: f32 = std::iter::zip(a.as_f32().unwrap_or_default(), b.as_f32().unwrap_or_default())
        .map(|(a, b)| a * b)
        .sum();
    if cosine >= least { Ok(()) } else { Err(format!("the pooled row comes out with a cosine of {cosine}")) }
}

/// Runs an image encoder as the daemon will.
pub(crate) fn image(
    onnx: &[u8],
    size: [usize; 2],
    dim: usize,
    n_patches: usize,
    file: &Path,
) -> Result<(), ImportError> {
    let pixels = picture(size);
    let view = TensorView::F32 { shape: &[1, 3, size[1], size[0]], data: &pixels };
    let outputs = run(onnx, &[("pixels", view)], file)?;
    let unusable = |why: String| ImportError::Unusable { file: file.to_owned(), why };
    let [embedding, patches, weights] = &outputs[..] else {
        return Err(unusable(format!("gives {} outputs", outputs.len())));
    };
    let floats = |tensor: &Tensor| tensor.as_f32().unwrap_or_default().to_vec();
    unit(&floats(embedding), dim).and_then(|()| unit(&floats(patches), dim)).map_err(unusable)?;
    let sum: f32 = floats(weights).iter().sum();
    if floats(weights).len() != n_patches || (sum - 1.0).abs() > UNIT {
        return Err(unusable(format!("its patches have shares that sum to {sum}")));
    }
    Ok(())
}

/// Runs a text encoder as [`caption::TextEncoder`] does.
fn rows_of_ids(onnx: &[u8], ids: &[i64], n_rows: usize, file: &Path) -> Result<Vec<Tensor>, ImportError> {
    let length = ids.len() / n_rows.max(1);
    let mask: Vec<f32> =
        (0..length * length).map(|at| if at % length <= at / length { 0.0 } else { -1e9 }).collect();
    let (ids_shape, mask_shape) = ([n_rows, length], [length, length]);
    let mut inputs = vec![("ids", TensorView::I64 { shape: &ids_shape, data: ids })];
    if engine::onnx::signature_of(onnx).is_ok_and(|signature| signature.inputs.len() > 1) {
        inputs.push((MASK, TensorView::F32 { shape: &mask_shape, data: &mask }));
    }
    run(onnx, &inputs, file)
}

/// A text in tokens, and what rows are filled up with.
pub(crate) struct Sample {
    pub(crate) row: Vec<u32>,
    pub(crate) pad: u32,
}

impl Sample {
    fn filled(&self, length: usize) -> Vec<i64> {
        let mut row: Vec<i64> = self.row.iter().take(length).map(|id| i64::from(*id)).collect();
        row.resize(length, self.pad.into());
        row
    }
}

/// Runs a text encoder on two rows at once and on one alone, `sample` filled up to `length`; returns how wide its
/// embeddings are.
pub(crate) fn text(onnx: &[u8], sample: &Sample, length: usize, file: &Path) -> Result<usize, ImportError> {
    let unusable = |why: String| ImportError::Unusable { file: file.to_owned(), why };
    let row = sample.filled(length);
    let mut other = row.clone();
    // The same tokens in another order: a row of a batch must not depend on the others.
    let n = sample.row.len().min(length);
    if n > 3 {
        other.swap(1, n - 2);
    }
    let both: Vec<i64> = row.iter().chain(&other).copied().collect();
    let mut embeddings = Vec::new();
    for (data, n_rows) in [(&both, 2), (&row, 1)] {
        let outputs = rows_of_ids(onnx, data, n_rows, file)?;
        embeddings.push(outputs.first().and_then(Tensor::as_f32).unwrap_or_default().to_vec());
    }
    let dim = embeddings[1].len();
    unit(&embeddings[0], dim).map_err(unusable)?;
    let worst =
        std::iter::zip(&embeddings[0], &embeddings[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if dim == 0 || embeddings[0].len() != 2 * dim || worst > UNIT {
        return Err(unusable(format!("a row in a batch differs by {worst} from the row alone")));
    }
    Ok(dim)
}

/// Whether an encoder of rows of any length gives a text the embedding that one of padded rows gives it.
pub(crate) fn alike(
    free: &[u8],
    padded: &[u8],
    sample: &Sample,
    length: usize,
    file: &Path,
) -> Result<(), ImportError> {
    const SAME: f32 = 0.9999;
    let row = sample.filled(length.min(sample.row.len()));
    let long = sample.filled(length);
    let mut rows = Vec::new();
    for (onnx, data) in [(free, &row), (padded, &long)] {
        let outputs = rows_of_ids(onnx, data, 1, file)?;
        rows.push(outputs.first().and_then(Tensor::as_f32).unwrap_or_default().to_vec());
    }
    let cosine: f32 = std::iter::zip(&rows[0], &rows[1]).map(|(a, b)| a * b).sum();
    if cosine >= SAME {
        return Ok(());
    }
    let why = format!("the embedding has a cosine of {cosine} with that of a padded row");
    Err(ImportError::Unusable { file: file.to_owned(), why })
}

fn unit(rows: &[f32], dim: usize) -> Result<(), String> {
    for row in rows.chunks(dim.max(1)) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        if (norm - 1.0).abs() > UNIT {
            return Err(format!("an embedding has norm {norm}, not 1"));
        }
    }
    Ok(())
}
