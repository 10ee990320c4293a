//! Captions as files: all of them as JSON lines, and a few random ones as a page to be read by people.

use std::path::Path;

use anyhow::Result;
use caption::Caption;
use metrics::CiderD;

use super::EvalArgs;
use crate::data::Pair;
use crate::training::{step_rng, write_atomically};

/// Photos of the gallery.
const N_GALLERY: usize = 40;

/// Random photos by name, with their captions and scores, good ones and bad ones.
pub(super) fn gallery(
    path: &Path,
    args: &EvalArgs,
    bundle_id: &str,
    pairs: &[Pair],
    captions: &[Caption],
    cider: &CiderD,
) -> Result<()> {
    let n = N_GALLERY.min(pairs.len());
    let mut chosen = rand::seq::index::sample(&mut step_rng(args.seed, 0), pairs.len(), n).into_vec();
    chosen.sort_unstable();
    let mut page = format!(
        "# Gallery\n\n{n} random photos of {} {} and what {bundle_id} says of them, drawn with seed {} by \
         `captiond-train eval --gallery`; none was chosen.\nThe photos themselves may not be shown here. The score is \
         the geometric mean probability of the tokens, CIDEr-D that of the one photo against its references (their \
         mean is {:.3}).\n\n| photo | caption | score | CIDEr-D |\n|---|---|---:|---:|\n",
        args.source, args.split, args.seed, cider.mean
    );
    for idx in chosen {
        let name = pairs[idx].image.file_name().unwrap_or_default().to_string_lossy();
        let Caption { text, score } = &captions[idx];
        page += &format!("| {name} | {text} | {score:.2} | {:.2} |\n", cider.per_image[idx]);
    }
    write_atomically(path, page.as_bytes())
}

/// One JSON object a photo.
pub(super) fn write_captions(path: &Path, pairs: &[Pair], captions: &[Caption]) -> Result<()> {
    let line = |(pair, caption): (&Pair, &Caption)| {
        serde_json::json!({"image": pair.image, "caption": caption.text, "score": caption.score}).to_string()
    };
    let lines: Vec<String> = pairs.iter().zip(captions).map(line).collect();
    write_atomically(path, (lines.join("\n") + "\n").as_bytes())
}
