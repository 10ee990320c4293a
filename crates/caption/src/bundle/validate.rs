//! What a manifest must satisfy beyond its shape: every number in range, every file name plain,
//! every declared port the one that follows from the settings.

use engine::{Port, Signature};

use super::answers::{KindSettings, VqaSettings};
use super::manifest::{DecoderSettings, FORMAT, FileEntry, Manifest, Role};

/// Largest file that a manifest may name, in bytes.
const MAX_FILE_BYTES: u64 = (1 << 31) - 1;

/// Checks everything that can be said without the files. The message names the key.
pub(super) fn validate(manifest: &Manifest) -> Result<(), String> {
    if manifest.format != FORMAT {
        return Err(format!("format: {} is not supported, only {FORMAT}", manifest.format));
    }
    let name = &manifest.name;
    if !is_plain(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c)) {
        return Err(format!("name: `{name}` is not made of a-z, 0-9, `.`, `-` and `_`, at most 64"));
    }
    for (key, text) in
        [("version", &manifest.version), ("license", &manifest.license), ("provenance", &manifest.provenance)]
    {
        if text.trim().is_empty() {
            return Err(format!("{key}: is empty"));
        }
    }
    validate_numbers(manifest)?;
    validate_files(manifest)?;
    validate_parts(manifest)?;
    Role::ALL.into_iter().try_for_each(|role| validate_ports(manifest, role))
}

fn validate_numbers(manifest: &Manifest) -> Result<(), String> {
    let Manifest { preprocess, embedding, tokenizer, vqa, .. } = manifest;
    let sizes = [
        ("preprocess.width", preprocess.width, 4096),
        ("preprocess.height", preprocess.height, 4096),
        ("embedding.dim", embedding.dim, 8192),
        ("embedding.patches[0]", embedding.patches[0], 256),
        ("embedding.patches[1]", embedding.patches[1], 256),
        ("tokenizer.vocab_size", tokenizer.vocab_size, 1 << 20),
        ("tokenizer.max_tokens", tokenizer.max_tokens, 1024),
        ("preprocess.shortest", preprocess.shortest.unwrap_or(1), 4096),
        ("tags.n_max", manifest.tags.as_ref().map_or(1, |tags| tags.n_max), 8),
        ("regions.n_regions", manifest.regions.as_ref().map_or(1, |regions| regions.n_regions), 256),
    ];
    within(&sizes)?;
    if preprocess.shortest.is_some_and(|side| side < preprocess.width.max(preprocess.height)) {
        return Err("preprocess.shortest: must be at least width and height".to_owned());
    }
    if tokenizer.max_tokens < 3 {
        return Err("tokenizer.max_tokens: must leave room for bos, a token and eos".to_owned());
    }
    manifest.decoder.as_ref().map_or(Ok(()), validate_decoder)?;
    let rerank = manifest.decoder.as_ref().and_then(|decoder| decoder.rerank.as_ref());
    let limits: Vec<f32> = (manifest.confidence.iter())
        .flat_map(|limits| [limits.contrast_min, limits.roughness_min, limits.roughness_max])
        .collect();
    let finite = [
        ("preprocess.mean", &preprocess.mean[..]),
        ("decoder.rerank.fluency", &rerank.iter().map(|rerank| rerank.fluency).collect::<Vec<_>>()),
        (
            "decoder.rerank.memory_weight",
            &rerank.iter().map(|rerank| rerank.memory_weight).collect::<Vec<_>>(),
        ),
        ("decoder.rerank.agreement", &rerank.iter().map(|rerank| rerank.agreement).collect::<Vec<_>>()),
        ("vqa.decoder_weight", &[vqa.decoder_weight]),
        ("vqa.similarity_weight", &[vqa.similarity_weight]),
        ("vqa.yes_bias", &[vqa.yes_bias]),
        ("confidence", &limits),
        ("regions", &manifest.regions.iter().flat_map(|r| [r.sharpness, r.patch_weight]).collect::<Vec<_>>()),
    ];
    let positive = [
        ("preprocess.std", &preprocess.std[..]),
        ("embedding.logit_scale", &[embedding.logit_scale]),
        ("tags.tau", &manifest.tags.iter().map(|tags| tags.tau).collect::<Vec<_>>()),
        ("memory.tau", &manifest.memory.iter().map(|memory| memory.tau).collect::<Vec<_>>()),
    ];
    for (key, values) in finite.iter().chain(&positive) {
        if !values.iter().all(|x| x.is_finite()) {
            return Err(format!("{key}: must be finite"));
        }
    }
    for (key, values) in positive {
        if !values.iter().all(|x| *x > 0.0) {
            return Err(format!("{key}: must be greater than 0"));
        }
    }
    validate_shares(manifest)?;
    validate_answers(vqa)
}

/// Each value, by its key, is 1 to its largest.
fn within(sizes: &[(&str, usize, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, value, max)| !(1..=*max).contains(value)) {
        Some((key, value, max)) => Err(format!("{key}: must be 1 to {max}, not {value}")),
        None => Ok(()),
    }
}

fn validate_decoder(decoder: &DecoderSettings) -> Result<(), String> {
    let samples = decoder.rerank.as_ref().and_then(|rerank| rerank.samples.as_ref());
    let tokenizer = decoder.tokenizer.as_ref();
    within(&[
        ("decoder.prefix_length", decoder.prefix_length, 256),
        ("decoder.n_layer", decoder.n_layer, 64),
        ("decoder.n_head", decoder.n_head, 256),
        ("decoder.head_dim", decoder.head_dim, 1024),
        ("decoder.n_positions", decoder.n_positions, 4096),
        ("decoder.max_new_tokens", decoder.max_new_tokens, 256),
        ("decoder.beam_width", decoder.beam_width, 16),
        ("decoder.rerank.n_candidates", decoder.rerank.as_ref().map_or(1, |rerank| rerank.n_candidates), 16),
        ("decoder.rerank.samples.n", samples.map_or(1, |samples| samples.n), 16),
        ("decoder.tokenizer.vocab_size", tokenizer.map_or(1, |tokenizer| tokenizer.vocab_size), 1 << 20),
        ("decoder.tokenizer.max_tokens", tokenizer.map_or(1, |tokenizer| tokenizer.max_tokens), 1024),
    ])?;
    if decoder.n_positions < decoder.prefix_length + 1 + decoder.max_new_tokens {
        return Err("decoder.n_positions: must hold prefix_length, bos and max_new_tokens".to_owned());
    }
    Ok(())
}

/// A bundle has all of a decoder or nothing of it.
fn validate_parts(manifest: &Manifest) -> Result<(), String> {
    let Manifest { decoder, graphs, regions, bridge, memory, tags, .. } = manifest;
    if decoder.is_none() {
        let parts = [
            ("graphs.adapter", graphs.adapter.is_some()),
            ("graphs.decoder", graphs.decoder.is_some()),
            ("regions", regions.is_some()),
            ("bridge", bridge.is_some()),
            ("memory", memory.is_some()),
            ("tags", tags.is_some()),
        ];
        return match parts.into_iter().find(|(_, there)| *there) {
            Some((key, _)) => Err(format!("{key}: is there, but no [decoder]")),
            None => Ok(()),
        };
    }
    for (key, there) in
        [("graphs.adapter", graphs.adapter.is_some()), ("graphs.decoder", graphs.decoder.is_some())]
    {
        if !there {
            return Err(format!("{key}: is missing, but there is a [decoder]"));
        }
    }
    let writing = manifest.decoder_tokenizer();
    let Some(bos) = &writing.bos else {
        return Err("bos: the tokenizer of a decoder must name one".to_owned());
    };
    if [bos, &writing.eos].contains(&&writing.pad) {
        return Err("pad: the tokenizer of a decoder must have one of its own".to_owned());
    }
    Ok(())
}

fn validate_shares(manifest: &Manifest) -> Result<(), String> {
    let rerank = manifest.decoder.as_ref().and_then(|decoder| decoder.rerank.as_ref());
    let samples = rerank.and_then(|rerank| rerank.samples.as_ref());
    if let Some(samples) = samples
        && !(samples.noise_cosine > 0.0 && samples.noise_cosine <= 1.0)
    {
        let cosine = samples.noise_cosine;
        return Err(format!("decoder.rerank.samples.noise_cosine: must be above 0, at most 1, not {cosine}"));
    }
    if let Some(tags) = &manifest.tags
        && !(0.0..=1.0).contains(&tags.share_min)
    {
        return Err(format!("tags.share_min: must be 0 to 1, not {}", tags.share_min));
    }
    Ok(())
}

fn validate_answers(vqa: &VqaSettings) -> Result<(), String> {
    if !(0.0..=1.0).contains(&vqa.unsure_below) {
        return Err(format!("vqa.unsure_below: must be 0 to 1, not {}", vqa.unsure_below));
    }
    for (key, kind) in vqa.of_kinds() {
        let KindSettings { decoder_weight, similarity_weight, prior_weight, temperature } = *kind;
        if ![decoder_weight, similarity_weight, prior_weight, temperature].iter().all(|x| x.is_finite()) {
            return Err(format!("vqa.{key}: must be finite"));
        }
        if temperature <= 0.0 {
            return Err(format!("vqa.{key}.temperature: must be greater than 0"));
        }
    }
    Ok(())
}

fn validate_files(manifest: &Manifest) -> Result<(), String> {
    let files = manifest.files();
    for (idx, FileEntry(file, bytes, sha256)) in files.iter().enumerate() {
        if !is_file_name(file) {
            return Err(format!("file `{file}`: is no plain file name of letters, digits, `.`, `-` and `_`"));
        }
        if files[..idx].iter().any(|FileEntry(earlier, ..)| earlier == file) {
            return Err(format!("file `{file}`: is named twice"));
        }
        if *bytes > MAX_FILE_BYTES {
            return Err(format!("file `{file}`: {bytes} bytes exceed the limit of {MAX_FILE_BYTES}"));
        }
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if sha256.len() != 64 || !sha256.chars().all(is_hex) {
            return Err(format!("file `{file}`: its sha256 is not 64 lower-case hexadecimal digits"));
        }
    }
    Ok(())
}

/// A name that stays inside the folder on every system, and does not hide in it.
pub(super) fn is_file_name(name: &str) -> bool {
    name != super::MANIFEST_FILE
        && !name.starts_with('.')
        && is_plain(name, |c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

fn is_plain(name: &str, allowed: impl Fn(char) -> bool) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn validate_ports(manifest: &Manifest, role: Role) -> Result<(), String> {
    let (Some(graph), Some(expected)) = (manifest.graphs.get(role), manifest.signature(role)) else {
        return Ok(());
    };
    let parse = |ports: &[String]| -> Result<Vec<Port>, String> {
        ports.iter().map(|port| port.parse().map_err(|e| format!("graphs.{}: {e}", role.name()))).collect()
    };
    let declared = Signature { inputs: parse(&graph.inputs)?, outputs: parse(&graph.outputs)? };
    if declared == expected {
        return Ok(());
    }
    Err(format!("graphs.{}: declares {declared}, but the settings ask for {expected}", role.name()))
}
