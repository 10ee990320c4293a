//! What every engine checks before it loads a graph and around a run, so that callers see one behaviour: names, element types,
//! shapes, symbols and finiteness.

use crate::caught::brief;
use crate::onnx::{self, n_elements, pb};
use crate::{Dim, ElementType, EngineError, Kept, Port, Signature, Tensor, TensorView};

/// The graph in `onnx`, with its own signature.
///
/// # Errors
/// [`EngineError::Load`] when the bytes are no graph within the limits, [`EngineError::Signature`] when its ports differ
/// from `expected`.
pub(crate) fn parsed(
    label: &str,
    onnx: &[u8],
    expected: &Signature,
) -> Result<(pb::ModelProto, Signature), EngineError> {
    let fail = |e: onnx::OnnxError| EngineError::Load { graph: label.to_owned(), why: brief(&e.to_string()) };
    let model = onnx::parse(onnx).map_err(fail)?;
    let found = onnx::graph_of(&model).and_then(onnx::declared_signature).map_err(fail)?;
    if found != *expected {
        let expected = expected.clone();
        return Err(EngineError::Signature { graph: label.to_owned(), expected, found });
    }
    Ok((model, found))
}

/// One input of a run.
#[derive(Clone, Copy)]
pub(crate) enum Input<'v> {
    View(TensorView<'v>),
    Kept(&'v Kept),
}

impl<'v> Input<'v> {
    /// The input, when it is in the memory of the host.
    pub(crate) fn view(self) -> Result<TensorView<'v>, String> {
        match self {
            Input::View(view) => Ok(view),
            Input::Kept(kept) => Ok(kept.host()?.view()),
        }
    }
}

/// The values that a run's symbols have taken so far.
pub(crate) struct Symbols<'s>(Vec<(&'s str, usize)>);

impl<'s> Symbols<'s> {
    /// Checks the inputs of a run and returns them in the order of `signature`.
    pub(crate) fn of_inputs<'v>(
        signature: &'s Signature,
        inputs: &[(&str, TensorView<'v>)],
        kept: &[(&str, &'v Kept)],
    ) -> Result<(Symbols<'s>, Vec<Input<'v>>), String> {
        let names = inputs.iter().map(|(name, _)| *name).chain(kept.iter().map(|(name, _)| *name));
        check_names(&signature.inputs, &names.collect::<Vec<_>>())?;
        let mut symbols = Symbols(Vec::new());
        let ordered = signature
            .inputs
            .iter()
            .map(|port| {
                if let Some((_, view)) = inputs.iter().find(|(name, _)| port.name == *name) {
                    symbols.check("input", port, *view)?;
                    return Ok(Input::View(*view));
                }
                let (_, kept) = kept
                    .iter()
                    .find(|(name, _)| port.name == *name)
                    .ok_or_else(|| format!("input `{}` is missing", port.name))?;
                symbols.check_shape("input", port, kept.element_type(), kept.shape())?;
                Ok(Input::Kept(kept))
            })
            .collect::<Result<_, String>>()?;
        Ok((symbols, ordered))
    }

    /// Checks the outputs of the same run.
    pub(crate) fn check_outputs(
        &mut self,
        signature: &'s Signature,
        outputs: &[Tensor],
    ) -> Result<(), String> {
        if outputs.len() != signature.outputs.len() {
            return Err(format!("it gave {} outputs, {} declared", outputs.len(), signature.outputs.len()));
        }
        std::iter::zip(&signature.outputs, outputs)
            .try_for_each(|(port, tensor)| self.check("output", port, tensor.view()))
    }

    pub(crate) fn check(&mut self, side: &str, port: &'s Port, view: TensorView<'_>) -> Result<(), String> {
        let (element_type, shape, n_given) = match view {
            TensorView::F32 { shape, data } => (ElementType::F32, shape, data.len()),
            TensorView::I64 { shape, data } => (ElementType::I64, shape, data.len()),
        };
        let n = self.check_shape(side, port, element_type, shape)?;
        if n != n_given {
            return Err(format!("{side} `{}` has {n_given} elements, not {n}", port.name));
        }
        if let TensorView::F32 { data, .. } = view
            && !all_finite(data)
        {
            return Err(format!("{side} `{}` is not finite", port.name));
        }
        Ok(())
    }

    /// Checks a tensor whose elements are elsewhere, and returns how many they are.
    pub(crate) fn check_shape(
        &mut self,
        side: &str,
        port: &'s Port,
        element_type: ElementType,
        shape: &[usize],
    ) -> Result<usize, String> {
        let fits = port.element_type == element_type
            && port.dims.len() == shape.len()
            && std::iter::zip(&port.dims, shape).all(|(dim, n)| match dim {
                Dim::Fixed(declared) => declared == n,
                Dim::Symbol(name) => self.take(name, *n),
            });
        if !fits {
            let given = Port {
                name: port.name.clone(),
                element_type,
                dims: shape.iter().map(|n| Dim::Fixed(*n)).collect(),
            };
            return Err(format!("{side} {given} does not fit {port}{self}"));
        }
        n_elements(shape.iter().copied())
            .ok_or_else(|| format!("{side} `{}` has too many elements", port.name))
    }

    fn take(&mut self, name: &'s str, n: usize) -> bool {
        match self.0.iter().find(|(taken, _)| *taken == name) {
            Some((_, value)) => *value == n,
            None => {
                self.0.push((name, n));
                true
            }
        }
    }
}

/// Each of `names` is that of a port, and none comes twice.
fn check_names(ports: &[Port], names: &[&str]) -> Result<(), String> {
    for (idx, name) in names.iter().enumerate() {
        if ports.iter().all(|port| port.name != *name) {
            return Err(format!("it has no input `{name}`"));
        }
        if names[..idx].contains(name) {
            return Err(format!("input `{name}` is given twice"));
        }
    }
    Ok(())
}

impl std::fmt::Display for Symbols<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (idx, (name, n)) in self.0.iter().enumerate() {
            write!(f, "{} {name} = {n}", if idx == 0 { " with" } else { "," })?;
        }
        Ok(())
    }
}

/// Without an early end, so that it becomes vector instructions: nearly always all are.
fn all_finite(data: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    data.chunks(4096)
        .all(|chunk| !chunk.iter().fold(false, |found, x| found | (x.to_bits() & EXPONENT == EXPONENT)))
}
