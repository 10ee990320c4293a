//! One loaded graph: runs, and tensors that stay on the device between them.

use ::ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ::ort::session::{IoBinding, Session};
use ::ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, TensorRef};

use super::{is_alive, open};
use crate::caught::{brief, caught};
use crate::check::{Input, Symbols};
use crate::onnx::pb;
use crate::{
    Device, Dim, ElementType, EngineError, EngineOptions, Graph, Kept, Port, Signature, Tensor, TensorView,
    probe,
};

pub(super) struct OrtGraph {
    label: String,
    signature: Signature,
    session: Session,
    options: EngineOptions,
    /// Where what is kept lies, and where what is returned does.
    device_memory: MemoryInfo<'static>,
    host_memory: MemoryInfo<'static>,
    /// Takes rows of a kept tensor; none until they are asked for.
    rows: Option<Box<OrtGraph>>,
}

impl OrtGraph {
    pub(super) fn new(
        label: &str,
        signature: Signature,
        session: Session,
        options: &EngineOptions,
    ) -> Result<OrtGraph, String> {
        let memory = |device, idx: usize| {
            let idx = i32::try_from(idx).unwrap_or(i32::MAX);
            MemoryInfo::new(device, idx, AllocatorType::Device, MemoryType::Default)
                .map_err(|e| e.to_string())
        };
        let device_memory = match options.device {
            Device::Cpu => memory(AllocationDevice::CPU, 0),
            Device::Cuda(idx) | Device::TensorRt(idx) => memory(AllocationDevice::CUDA, idx),
        };
        Ok(OrtGraph {
            label: label.to_owned(),
            signature,
            session,
            options: options.clone(),
            device_memory: device_memory?,
            host_memory: memory(AllocationDevice::CPU, 0)?,
            rows: None,
        })
    }

    /// Runs the graph of [`probe`], which this is, and says whether that worked.
    pub(super) fn runs_probe(&mut self) -> bool {
        let one = TensorView::F32 { shape: &[1], data: &[1.0] };
        let name = self.signature.inputs.first().map(|port| port.name.clone()).unwrap_or_default();
        self.try_run(&[(&name, one)]).is_ok()
    }

    fn failed(&self, why: &str) -> EngineError {
        let (graph, why) = (self.label.clone(), brief(why));
        if is_alive(self.options.device) {
            return EngineError::Run { graph, why };
        }
        EngineError::Lost { graph, device: self.options.device.to_string(), why }
    }

    fn try_run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, String> {
        let (mut symbols, ordered) = Symbols::of_inputs(&self.signature, inputs, &[])?;
        let ports = std::iter::zip(&self.signature.inputs, ordered);
        let (session, n_outputs) = (&mut self.session, self.signature.outputs.len());
        let outputs = caught(|| {
            let values = ports
                .map(|(port, input)| Ok((port.name.as_str(), borrowed(input)?)))
                .collect::<Result<Vec<_>, String>>()?;
            let outputs = session.run(values).map_err(|e| e.to_string())?;
            outputs.values().take(n_outputs).map(|value| from_ort(&value)).collect::<Result<Vec<_>, _>>()
        })
        .flatten()?;
        symbols.check_outputs(&self.signature, &outputs)?;
        Ok(outputs)
    }

    fn try_run_keeping(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        kept: &[(&str, &Kept)],
        n_returned: usize,
    ) -> Result<(Vec<Tensor>, Vec<Kept>), String> {
        let (mut symbols, _) = Symbols::of_inputs(&self.signature, inputs, kept)?;
        let (returned, staying) =
            self.signature.outputs.split_at(n_returned.min(self.signature.outputs.len()));
        let (session, host, device) = (&mut self.session, &self.host_memory, &self.device_memory);
        let (tensors, values) = caught(|| -> ::ort::Result<_> {
            let mut binding = session.create_binding()?;
            bind_inputs(&mut binding, inputs, kept)?;
            for (ports, memory) in [(returned, host), (staying, device)] {
                for port in ports {
                    binding.bind_output_to_device(port.name.as_str(), memory)?;
                }
            }
            let mut outputs = session.run_binding(&binding)?;
            let mut take = |port: &Port| {
                outputs.remove(&port.name).ok_or_else(|| ::ort::Error::new(format!("no output {port}")))
            };
            let tensors = returned
                .iter()
                .map(|port| from_ort(&take(port)?).map_err(::ort::Error::new))
                .collect::<::ort::Result<Vec<_>>>()?;
            let values = staying.iter().map(take).collect::<::ort::Result<Vec<_>>>()?;
            Ok((tensors, values))
        })?
        .map_err(|e| e.to_string())?;
        for (port, tensor) in std::iter::zip(returned, &tensors) {
            symbols.check("output", port, tensor.view())?;
        }
        let mut still = Vec::with_capacity(staying.len());
        for (port, value) in std::iter::zip(staying, values) {
            let (element_type, shape) = shape_of(&value)?;
            symbols.check_shape("output", port, element_type, &shape)?;
            still.push(Kept::of_engine(value, element_type, shape));
        }
        Ok((tensors, still))
    }

    /// The graph that takes rows of an f32 tensor of `rank` axes, loaded beside this one.
    fn rows(&mut self, rank: usize) -> Result<&mut OrtGraph, EngineError> {
        let fits =
            |graph: &OrtGraph| graph.signature.inputs.first().is_some_and(|port| port.dims.len() == rank);
        if !self.rows.as_deref().is_some_and(fits) {
            let (model, signature) = rows_model(rank);
            let label = format!("rows of {}", self.label);
            self.rows = Some(Box::new(open(&label, &model, signature, &self.options)?));
        }
        let none = || EngineError::Run { graph: self.label.clone(), why: "no graph takes rows".to_owned() };
        self.rows.as_deref_mut().ok_or_else(none)
    }
}

impl Graph for OrtGraph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, EngineError> {
        let result = self.try_run(inputs);
        result.map_err(|why| self.failed(&why))
    }

    fn run_keeping(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        kept: &[(&str, &Kept)],
        n_returned: usize,
    ) -> Result<(Vec<Tensor>, Vec<Kept>), EngineError> {
        let result = self.try_run_keeping(inputs, kept, n_returned);
        result.map_err(|why| self.failed(&why))
    }

    fn take_rows(&mut self, kept: &[Kept], rows: &[usize]) -> Result<Vec<Kept>, EngineError> {
        let ids: Vec<i64> = rows.iter().map(|row| i64::try_from(*row).unwrap_or(i64::MAX)).collect();
        let ids = TensorView::I64 { shape: &[ids.len()], data: &ids };
        let mut taken = Vec::with_capacity(kept.len());
        for tensor in kept {
            tensor.check_rows(rows).map_err(|why| EngineError::Run { graph: self.label.clone(), why })?;
            // Nothing changes, and so nothing is copied.
            if tensor.is_all(rows) {
                taken.push(tensor.clone());
                continue;
            }
            let rank = tensor.shape().len();
            let (_, mut rows) = self.rows(rank)?.run_keeping(&[(IDS, ids)], &[(TABLE, tensor)], 0)?;
            taken.append(&mut rows);
        }
        Ok(taken)
    }
}

const TABLE: &str = "table";
const IDS: &str = "ids";

/// `Gather` along the first axis of a tensor of `rank` axes.
fn rows_model(rank: usize) -> (pb::ModelProto, Signature) {
    let dims = |first: &str| -> Vec<Dim> {
        (0..rank)
            .map(|axis| if axis == 0 { first.into() } else { format!("D{axis}").as_str().into() })
            .collect()
    };
    let signature = Signature {
        inputs: vec![Port::f32(TABLE, dims("N")), Port::i64(IDS, ["M".into()])],
        outputs: vec![Port::f32("rows", dims("M"))],
    };
    let model = probe::model(&[TABLE, IDS], "Gather", "rows", &signature);
    (model, signature)
}

fn bind_inputs(
    binding: &mut IoBinding,
    inputs: &[(&str, TensorView<'_>)],
    kept: &[(&str, &Kept)],
) -> ::ort::Result<()> {
    for (name, view) in inputs {
        binding.bind_input(*name, &owned(*view)?)?;
    }
    for (name, kept) in kept {
        match kept.value::<DynValue>() {
            Some(value) => binding.bind_input(*name, value)?,
            None => binding.bind_input(*name, &owned(kept.host().map_err(::ort::Error::new)?.view())?)?,
        }
    }
    Ok(())
}

fn borrowed(input: Input<'_>) -> Result<::ort::session::SessionInputValue<'_>, String> {
    let value = match input.view()? {
        TensorView::F32 { shape, data } => TensorRef::from_array_view((shape, data)).map(Into::into),
        TensorView::I64 { shape, data } => TensorRef::from_array_view((shape, data)).map(Into::into),
    };
    value.map_err(|e| e.to_string())
}

/// A copy: what is bound must last, and the library would copy a borrowed tensor by a session of its own.
fn owned(view: TensorView<'_>) -> ::ort::Result<DynValue> {
    Ok(match view {
        TensorView::F32 { shape, data } => OrtTensor::from_array((shape.to_vec(), data.to_vec()))?.into_dyn(),
        TensorView::I64 { shape, data } => OrtTensor::from_array((shape.to_vec(), data.to_vec()))?.into_dyn(),
    })
}

fn from_ort(value: &DynValue) -> Result<Tensor, String> {
    let (element_type, shape) = shape_of(value)?;
    Ok(match element_type {
        ElementType::F32 => {
            let (_, data) = value.try_extract_tensor::<f32>().map_err(|e| e.to_string())?;
            Tensor::f32(shape, data.to_vec())
        }
        ElementType::I64 => {
            let (_, data) = value.try_extract_tensor::<i64>().map_err(|e| e.to_string())?;
            Tensor::i64(shape, data.to_vec())
        }
    })
}

fn shape_of(value: &DynValue) -> Result<(ElementType, Vec<usize>), String> {
    let dtype = value.dtype();
    let element_type = match dtype.tensor_type() {
        Some(TensorElementType::Float32) => ElementType::F32,
        Some(TensorElementType::Int64) => ElementType::I64,
        _ => return Err(format!("an output is {dtype:?}")),
    };
    let shape = dtype.tensor_shape().into_iter().flat_map(|shape| shape.iter());
    let shape = shape.map(|n| usize::try_from(*n).map_err(|_negative| format!("an output is {dtype:?}")));
    Ok((element_type, shape.collect::<Result<_, _>>()?))
}
