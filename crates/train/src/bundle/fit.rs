//! Whether the runs that are to make one bundle fit together.

use anyhow::Result;

use super::BundleArgs;
use crate::embed::{TextTower, inputs_of};
use crate::training::{Checkpoint, Inputs};

/// Checks that the runs fit together: what was trained on the embeddings of one text encoder says nonsense about
/// those of another, without any error.
///
/// # Errors
/// When a run was made with another text encoder or tokenizer than the one in `--text`, or does not record it.
pub(super) fn ensure_one_text(args: &BundleArgs) -> Result<()> {
    let tower = TextTower::open(&args.text)?;
    for decoder in [Some(&args.decoder), args.memory_from.as_ref()].into_iter().flatten() {
        inputs_of(decoder)?.ensure_text(decoder, tower.inputs(), &args.text)?;
    }
    // An encoder may aim at the teacher's own embeddings, and its folder may hold the graph alone.
    match Checkpoint::state(&args.encoder) {
        Ok(state) if state.inputs.contains(Inputs::TEXT[0]) => {
            state.inputs.ensure_text(&args.encoder, tower.inputs(), &args.text)
        }
        _ => Ok(()),
    }
}
