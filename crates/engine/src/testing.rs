//! Graphs for tests, with no file on disk: closures that pass for graphs, and small ONNX files.
//!
//! Tests of this crate and of its users only; nothing here is built for speed.

use std::path::PathBuf;

use crate::check::{Input, Symbols};
use crate::onnx::{self, Attr, attribute, pb};
use crate::{EngineError, Graph, Kept, Port, Signature, Tensor, TensorView};

/// The library of ONNX Runtime for tests: the file in `$ORT_DYLIB_PATH`, or that of the `onnxruntime` package of
/// `$CAPTIOND_TEST_PYTHON` (`python3` without it). None where there is neither.
///
/// # Panics
/// When `$ORT_DYLIB_PATH` names no file: a test that was told to run must not be skipped.
pub fn onnxruntime_library() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("ORT_DYLIB_PATH").filter(|file| !file.is_empty()) {
        let file = PathBuf::from(file);
        assert!(file.is_file(), "$ORT_DYLIB_PATH names no file: {}", file.display());
        return Some(file);
    }
    let python = std::env::var_os("CAPTIOND_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let script = "import glob, os, onnxruntime.capi as c; \
                  print(glob.glob(os.path.join(os.path.dirname(c.__file__), 'libonnxruntime.so*'))[0])";
    let output = std::process::Command::new(python).args(["-c", script]).output().ok()?;
    let file = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(file.trim())).filter(|_| output.status.success())
}

type Compute = dyn FnMut(&[TensorView<'_>]) -> Result<Vec<Tensor>, String> + Send;

/// A closure that passes for a graph.
///
/// It gets the inputs in the order of the signature; inputs and outputs are checked as strictly as
/// those of a real engine.
pub struct FakeGraph {
    signature: Signature,
    compute: Box<Compute>,
}

impl FakeGraph {
    pub fn new(
        signature: Signature,
        compute: impl FnMut(&[TensorView<'_>]) -> Result<Vec<Tensor>, String> + Send + 'static,
    ) -> FakeGraph {
        FakeGraph { signature, compute: Box::new(compute) }
    }
}

impl Graph for FakeGraph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, EngineError> {
        let mut run = || {
            let (mut symbols, inputs) = Symbols::of_inputs(&self.signature, inputs, &[])?;
            let inputs = inputs.into_iter().map(Input::view).collect::<Result<Vec<_>, _>>()?;
            let outputs = (self.compute)(&inputs)?;
            symbols.check_outputs(&self.signature, &outputs)?;
            Ok(outputs)
        };
        run().map_err(failed)
    }

    fn run_keeping(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        kept: &[(&str, &Kept)],
        n_returned: usize,
    ) -> Result<(Vec<Tensor>, Vec<Kept>), EngineError> {
        let mut all = inputs.to_vec();
        for (name, kept) in kept {
            all.push((*name, kept.host().map_err(failed)?.view()));
        }
        let mut outputs = self.run(&all)?;
        let rest = outputs.split_off(n_returned.min(outputs.len()));
        Ok((outputs, rest.into_iter().map(Kept::from).collect()))
    }

    fn take_rows(&mut self, kept: &[Kept], rows: &[usize]) -> Result<Vec<Kept>, EngineError> {
        let take = |kept: &Kept| {
            kept.check_rows(rows)?;
            let tensor = kept.host()?;
            let data = tensor.as_f32().unwrap_or_default();
            let mut shape = tensor.shape().to_vec();
            let row_len: usize = shape[1..].iter().product();
            shape[0] = rows.len();
            let rows = rows.iter().flat_map(|row| &data[row * row_len..][..row_len]);
            Ok(Kept::from(Tensor::f32(shape, rows.copied().collect())))
        };
        kept.iter().map(take).collect::<Result<_, String>>().map_err(failed)
    }
}

fn failed(why: String) -> EngineError {
    EngineError::Run { graph: "fake".to_owned(), why }
}

/// Writes a small ONNX file (opset 17), port by port and node by node.
///
/// ```
/// use engine::{Port, TensorView, testing::OnnxFile};
///
/// let file = OnnxFile::new()
///     .input(Port::f32("x", ["N".into()]))
///     .stored_f32("two", &[], &[2.0])
///     .node("Mul", &["x", "two"], &["y"], &[])
///     .output(Port::f32("y", ["N".into()]));
/// let engine = engine::open("tract")?;
/// let mut graph = engine.load("double", &file.bytes(), &file.signature(), &Default::default())?;
/// let y = graph.run(&[("x", TensorView::F32 { shape: &[2], data: &[1.0, 2.5] })])?;
/// assert_eq!(y[0].as_f32(), Some(&[2.0, 5.0][..]));
/// # Ok::<(), engine::EngineError>(())
/// ```
#[derive(Clone, Default)]
pub struct OnnxFile {
    graph: pb::GraphProto,
    signature: Signature,
}

impl OnnxFile {
    pub fn new() -> OnnxFile {
        OnnxFile::default()
    }

    #[must_use]
    pub fn input(mut self, port: Port) -> OnnxFile {
        self.graph.input.push(onnx::value_info(&port));
        self.signature.inputs.push(port);
        self
    }

    #[must_use]
    pub fn output(mut self, port: Port) -> OnnxFile {
        self.graph.output.push(onnx::value_info(&port));
        self.signature.outputs.push(port);
        self
    }

    #[must_use]
    pub fn stored_f32(self, name: &str, dims: &[usize], values: &[f32]) -> OnnxFile {
        let raw = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.stored(name, pb::tensor_proto::DataType::Float, dims, raw)
    }

    #[must_use]
    pub fn stored_i64(self, name: &str, dims: &[usize], values: &[i64]) -> OnnxFile {
        let raw = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.stored(name, pb::tensor_proto::DataType::Int64, dims, raw)
    }

    #[must_use]
    pub fn stored_i8(self, name: &str, dims: &[usize], values: &[i8]) -> OnnxFile {
        let raw = values.iter().map(|x| x.cast_unsigned()).collect();
        self.stored(name, pb::tensor_proto::DataType::Int8, dims, raw)
    }

    #[must_use]
    pub fn stored_f16(self, name: &str, dims: &[usize], values: &[f32]) -> OnnxFile {
        let raw = values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
        self.stored(name, pb::tensor_proto::DataType::Float16, dims, raw)
    }

    /// Stores any tensor, also one whose bytes do not fill its dimensions.
    #[must_use]
    pub fn stored(
        mut self,
        name: &str,
        data_type: pb::tensor_proto::DataType,
        dims: &[usize],
        raw_data: Vec<u8>,
    ) -> OnnxFile {
        self.graph.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            data_type: data_type as i32,
            dims: dims.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect(),
            raw_data,
            ..Default::default()
        });
        self
    }

    /// A node with integer attributes.
    #[must_use]
    pub fn node(
        mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, i64)],
    ) -> OnnxFile {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.graph.node.push(pb::NodeProto {
            op_type: op_type.to_owned(),
            input: names(inputs),
            output: names(outputs),
            attribute: attributes.iter().map(|(name, i)| attribute(name, Attr::Int(*i))).collect(),
            ..Default::default()
        });
        self
    }

    /// A `Transpose` of `input` by `order`.
    #[must_use]
    pub fn transposed(mut self, input: &str, output: &str, order: &[i64]) -> OnnxFile {
        self = self.node("Transpose", &[input], &[output], &[]);
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(attribute("perm", Attr::Ints(order.to_vec())));
        }
        self
    }

    /// A `Conv` with attributes that are integers (`group`) or lists of them.
    #[must_use]
    pub fn convolution(mut self, inputs: &[&str], output: &str, attributes: &[(&str, Vec<i64>)]) -> OnnxFile {
        self = self.node("Conv", inputs, &[output], &[]);
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.extend(attributes.iter().map(|(name, ints)| match ints[..] {
                [i] => attribute(name, Attr::Int(i)),
                _ => attribute(name, Attr::Ints(ints.clone())),
            }));
        }
        self
    }

    pub fn signature(&self) -> Signature {
        self.signature.clone()
    }

    pub fn model(&self) -> pb::ModelProto {
        pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(pb::GraphProto { name: "test".to_owned(), ..self.graph.clone() }),
            ..Default::default()
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        onnx::encode(&self.model())
    }
}
