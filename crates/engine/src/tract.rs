//! tract behind the seam: this file and those below it are the only ones that know tract's types.

mod attributes;
mod fused;
#[cfg(target_arch = "x86_64")]
mod product;

use std::sync::Arc;

use rayon::ThreadPool;
use tract_core::internal::{DatumType, EvalOp, TVec, Tensor as TractTensor, TractResult, tvec};
use tract_core::model::{TypedModel, TypedRunnableModel, TypedSimpleState};
use tract_core::ops::array::Gather;
use tract_core::prelude::{Framework, IntoTValue, TValue};
use tract_core::tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::InferenceModelExt;

use crate::awake::awake;
use crate::caught::{brief, caught, mark_worker};
use crate::check::{Input, Symbols, parsed};
use crate::onnx::{self, pb};
use crate::share::was_wide;
use crate::{
    Device, Dim, ElementType, Engine, EngineError, EngineOptions, Graph, Kept, Signature, Tensor, TensorView,
};
use crate::{floats, quantized};

pub(crate) struct Tract {
    /// Whether layers are replaced by our own.
    pub(crate) fuse: bool,
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(
        &self,
        label: &str,
        onnx: &[u8],
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn Graph>, EngineError> {
        if options.device != Device::Cpu {
            return Err(EngineError::Unavailable {
                engine: self.name().to_owned(),
                device: options.device.to_string(),
                why: "this build of tract runs on the cpu only".to_owned(),
            });
        }
        let fail = |why: String| EngineError::Load { graph: label.to_owned(), why: brief(&why) };
        let (mut model, found) = parsed(label, onnx, signature)?;
        let int8_rows = options.int8_rows && onnx::allows_int8_rows(&model);
        if let Some(graph) = model.graph.as_mut().filter(|_| self.fuse) {
            quantized::fuse(graph, int8_rows);
        }
        onnx::expand_weights(&mut model).map_err(|e| fail(e.to_string()))?;
        if let Some(graph) = model.graph.as_mut().filter(|_| self.fuse) {
            floats::fuse(graph);
        }
        let pool = pool(options.threads.get()).map_err(fail)?;
        let shares_within = model.graph.as_ref().is_some_and(onnx::has_large_products);
        let plan = caught(|| plan(model, &found)).flatten().map_err(fail)?;
        let state = caught(|| plan.spawn().map_err(|e| format!("{e:#}"))).flatten().map_err(fail)?;
        Ok(Box::new(TractGraph {
            label: label.to_owned(),
            signature: found,
            plan,
            state: Some(state),
            pool,
            shares_within,
            is_wide: shares_within,
        }))
    }
}

/// None for one thread.
fn pool(n_threads: usize) -> Result<Option<Arc<ThreadPool>>, String> {
    if n_threads == 1 {
        return Ok(None);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .thread_name(|idx| format!("tract-{idx}"))
        .start_handler(|_| mark_worker())
        .build()
        .map_err(|e| format!("start {n_threads} threads: {e}"))?;
    Ok(Some(Arc::new(pool)))
}

fn plan(model: pb::ModelProto, signature: &Signature) -> Result<Arc<TypedRunnableModel>, String> {
    let model = (move || {
        // Shapes inside the graph are inferred: exporters write their symbols into value_info in ways
        // that tract cannot unify with the ports.
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
        fused::register(&mut onnx);
        let inferred = onnx.model_for_proto_model(&model)?;
        drop(model);
        inferred.into_typed()?.into_decluttered()
    })()
    .map_err(|e| format!("{e:#}"))?;
    check_outputs(&model, signature)?;
    model.into_optimized().and_then(TypedRunnableModel::new).map_err(|e| format!("{e:#}"))
}

/// Compares what the nodes compute with what the graph declares, as far as that is known before a run.
fn check_outputs(model: &TypedModel, signature: &Signature) -> Result<(), String> {
    for (idx, port) in signature.outputs.iter().enumerate() {
        let fact = model.output_fact(idx).map_err(|e| format!("{e:#}"))?;
        let dims_fit = fact.rank() == port.dims.len()
            && fact.shape.iter().zip(&port.dims).all(|(computed, declared)| {
                match (computed.as_i64(), declared) {
                    (Some(computed), Dim::Fixed(declared)) => usize::try_from(computed) == Ok(*declared),
                    _ => true,
                }
            });
        if fact.datum_type != datum_type(port.element_type) || !dims_fit {
            return Err(format!("output {port} is computed as {fact:?}"));
        }
    }
    Ok(())
}

fn datum_type(element_type: ElementType) -> DatumType {
    match element_type {
        ElementType::F32 => DatumType::F32,
        ElementType::I64 => DatumType::I64,
    }
}

struct TractGraph {
    label: String,
    signature: Signature,
    plan: Arc<TypedRunnableModel>,
    /// None after a failed run, which leaves a state half way.
    state: Option<TypedSimpleState>,
    /// The threads of one run, if there are several.
    pool: Option<Arc<ThreadPool>>,
    /// Whether tract has operators of its own that it shares among threads.
    shares_within: bool,
    /// Whether the next run is worth several threads: the last one was.
    is_wide: bool,
}

impl Graph for TractGraph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, EngineError> {
        Ok(self.run_keeping(inputs, &[], usize::MAX)?.0)
    }

    fn run_keeping(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        kept: &[(&str, &Kept)],
        n_returned: usize,
    ) -> Result<(Vec<Tensor>, Vec<Kept>), EngineError> {
        self.try_run(inputs, kept, n_returned).map_err(|why| self.failed(&why))
    }

    fn take_rows(&mut self, kept: &[Kept], rows: &[usize]) -> Result<Vec<Kept>, EngineError> {
        let take = |kept: &Kept| {
            kept.check_rows(rows)?;
            // Nothing changes, and so nothing is copied.
            if kept.is_all(rows) { Ok(kept.clone()) } else { taken(kept, rows) }
        };
        kept.iter().map(take).collect::<Result<_, String>>().map_err(|why| self.failed(&why))
    }
}

impl TractGraph {
    fn failed(&self, why: &str) -> EngineError {
        EngineError::Run { graph: self.label.clone(), why: brief(why) }
    }

    fn try_run(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        kept: &[(&str, &Kept)],
        n_returned: usize,
    ) -> Result<(Vec<Tensor>, Vec<Kept>), String> {
        let (mut symbols, inputs) = Symbols::of_inputs(&self.signature, inputs, kept)?;
        let inputs = inputs.into_iter().map(to_tract).collect::<Result<TVec<_>, String>>()?;
        let state = self.state.take();
        let (state, outputs, was_wide) = caught(|| -> TractResult<_> {
            let mut state = state.map_or_else(|| self.plan.spawn(), Ok)?;
            let run = || (state.run(inputs), was_wide());
            // All of it in the pool: to hand over a single operator and wait for it costs more than a small one takes.
            let (outputs, was_wide) = match self.pool.as_ref().filter(|_| self.is_wide) {
                Some(pool) => {
                    let executor = Executor::MultiThread(Arc::clone(pool));
                    pool.install(|| awake(|| multithread_tract_scope(executor, run)))
                }
                None => run(),
            };
            Ok((state, outputs?, was_wide))
        })?
        .map_err(|e| format!("{e:#}"))?;
        self.state = Some(state);
        self.is_wide = self.shares_within || was_wide;
        let ports = &self.signature.outputs;
        if outputs.len() != ports.len() {
            return Err(format!("it gave {} outputs, {} declared", outputs.len(), ports.len()));
        }
        let (mut returned, mut staying) = (Vec::new(), Vec::new());
        for (port, value) in std::iter::zip(ports, outputs) {
            if returned.len() < n_returned {
                let tensor = from_tract(&value).map_err(|e| format!("{e:#}"))?;
                symbols.check("output", port, tensor.view())?;
                returned.push(tensor);
            } else {
                let shape = value.shape().to_vec();
                let element_type = element_type(&value)
                    .ok_or_else(|| format!("output `{}` is {:?}", port.name, value.datum_type()))?;
                symbols.check_shape("output", port, element_type, &shape)?;
                staying.push(Kept::of_engine(value, element_type, shape));
            }
        }
        Ok((returned, staying))
    }
}

/// Some rows of a tensor that has them.
fn taken(kept: &Kept, rows: &[usize]) -> Result<Kept, String> {
    let mut shape = kept.shape().to_vec();
    shape[0] = rows.len();
    let value = to_tract(Input::Kept(kept))?;
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    // tract's own operator leaves out what a safe copy cannot: to fill the tensor with zeros before.
    let gathered = TractTensor::from_shape(&[rows.len()], &rows)
        .and_then(|rows| Gather::new(0).eval_out_of_plan(tvec!(value, rows.into_tvalue())));
    let value = gathered.map_err(|e| format!("{e:#}"))?.and_then(|mut values| values.pop());
    let value = value.ok_or("its rows cannot be taken outside a run")?;
    Ok(Kept::of_engine(value, ElementType::F32, shape))
}

fn to_tract(input: Input<'_>) -> Result<TValue, String> {
    if let Input::Kept(kept) = input
        && let Some(value) = kept.value::<TValue>()
    {
        return Ok(value.clone());
    }
    let tensor = match input.view()? {
        TensorView::F32 { shape, data } => TractTensor::from_shape(shape, data),
        TensorView::I64 { shape, data } => TractTensor::from_shape(shape, data),
    };
    Ok(tensor.map_err(|e| format!("{e:#}"))?.into_tvalue())
}

fn element_type(value: &TValue) -> Option<ElementType> {
    match value.datum_type() {
        DatumType::F32 => Some(ElementType::F32),
        DatumType::I64 => Some(ElementType::I64),
        _ => None,
    }
}

fn from_tract(value: &TValue) -> TractResult<Tensor> {
    let shape = value.shape();
    Ok(match value.datum_type() {
        // A shape computed inside the graph leaves it in tract's own dimension type.
        DatumType::I64 | DatumType::TDim => {
            let data = value.cast_to::<i64>()?;
            Tensor::i64(shape, data.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
        }
        _ => Tensor::f32(shape, value.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()),
    })
}
