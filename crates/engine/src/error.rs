use crate::Signature;

/// What went wrong with a graph, split by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The bytes are no graph that this engine can run: replace the file.
    #[error("load graph {graph}: {why}")]
    Load { graph: String, why: String },
    /// The graph is another one than the caller expects: fix the manifest or the export.
    #[error("graph {graph} has the signature {found}, expected {expected}")]
    Signature { graph: String, expected: Signature, found: Signature },
    /// One run failed; the next may succeed with other inputs.
    #[error("run graph {graph}: {why}")]
    Run { graph: String, why: String },
    /// The device runs nothing, or nothing any more, and no other call of this process changes that: end it.
    #[error("run graph {graph}: {device} does not answer: {why}")]
    Lost { graph: String, device: String, why: String },
    /// The engine or device is not there: choose another.
    #[error("engine {engine} on {device}: {why}")]
    Unavailable { engine: String, device: String, why: String },
}
