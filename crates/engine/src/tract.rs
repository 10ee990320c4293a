//! tract behind the seam.
use crate::{Engine, EngineError, EngineOptions, Graph, Signature};
pub(crate) struct Tract;
impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }
    fn load(
        &self,
        label: &str,
        _onnx: &[u8],
        _signature: &Signature,
        _options: &EngineOptions,
    ) -> Result<Box<dyn Graph>, EngineError> {
        Err(EngineError::Load { graph: label.to_owned(), why: "not written yet".to_owned() })
    }
}
