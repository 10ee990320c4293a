//! The tokenizer of an export, as a bundle wants it.

use std::path::PathBuf;

use caption::bundle::TokenizerSettings;
use serde_json::{Map, Value, json};

use crate::{ImportError, settings};

/// A tokenizer file and what the manifest says of it. `max_tokens` is a guess until the text tower is known.
pub(crate) struct Words {
    pub(crate) json: Vec<u8>,
    pub(crate) settings: TokenizerSettings,
}

/// What models call the beginning and the end of a text.
const MARKS: [(Option<&str>, &str); 3] =
    [(Some("<|startoftext|>"), "<|endoftext|>"), (Some("<start_of_text>"), "<end_of_text>"), (None, "</s>")];
/// Tokens of a row of CLIP.
const MAX_TOKENS: usize = 77;

/// Reads `tokenizer.json`, or makes one of `merges.txt` as CLIP's tokenizer has them.
///
/// # Errors
/// When neither is in any of `folders`, or it is no tokenizer with an end of text.
pub(crate) fn read(folders: &[PathBuf], config: &Value) -> Result<Words, ImportError> {
    for folder in folders {
        let file = folder.join("tokenizer.json");
        if let Some(json) = settings::bytes(&file)? {
            let own = settings::json(&folder.join("tokenizer_config.json"))?;
            return words(json, config, own.as_ref()).map_err(|why| ImportError::Unusable { file, why });
        }
        let file = folder.join("merges.txt");
        if let Some(merges) = settings::bytes(&file)? {
            let unusable = |why: String| ImportError::Unusable { file: file.clone(), why };
            let merges = String::from_utf8(merges).map_err(|e| unusable(e.to_string()))?;
            return words(clip(&merges).to_string().into_bytes(), config, None).map_err(unusable);
        }
    }
    let missing = "tokenizer.json (or merges.txt of CLIP's byte-pair encoding)".to_owned();
    Err(ImportError::Missing { dir: folders.first().cloned().unwrap_or_default(), what: missing })
}

fn words(json: Vec<u8>, config: &Value, own: Option<&Value>) -> Result<Words, String> {
    let tokenizer = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| format!("no tokenizer: {e}"))?;
    let known = |token: &str| tokenizer.token_to_id(token).is_some();
    let (bos, eos) = MARKS
        .into_iter()
        .find(|(bos, eos)| bos.is_none_or(known) && known(eos))
        .ok_or("knows no end of a text: neither <|endoftext|> nor </s>")?;
    let max_tokens = ["text_config", "model_cfg"]
        .iter()
        .find_map(|key| {
            let config = &config[*key];
            config["max_position_embeddings"]
                .as_u64()
                .or_else(|| config["text_cfg"]["context_length"].as_u64())
        })
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(MAX_TOKENS);
    let settings = TokenizerSettings {
        file: "tokenizer.json".to_owned(),
        bytes: 0,
        sha256: String::new(),
        bos: bos.map(str::to_owned),
        eos: eos.to_owned(),
        pad: pad(&tokenizer, config, own).unwrap_or_else(|| eos.to_owned()),
        vocab_size: tokenizer.get_vocab_size(true),
        max_tokens,
        padded: false,
    };
    Ok(Words { json, settings })
}

/// What rows are filled up with, where the export says it. It counts where attention is not causal, as in MobileCLIP's
/// text tower: open_clip fills with the token 0, which is a word.
fn pad(tokenizer: &tokenizers::Tokenizer, config: &Value, own: Option<&Value>) -> Option<String> {
    if let Some(model) = config["model_cfg"].as_object() {
        let id = model.get("text_cfg").and_then(|text| text["pad_id"].as_u64()).unwrap_or(0);
        return tokenizer.id_to_token(u32::try_from(id).ok()?);
    }
    let pad = &own?["pad_token"];
    let pad = pad.as_str().or_else(|| pad["content"].as_str())?;
    tokenizer.token_to_id(pad).map(|_| pad.to_owned())
}

/// CLIP's tokenizer (openai/CLIP, `simple_tokenizer.py`) from its merges: bytes as letters, each also as the end of a
/// word, the merges in their order, begin and end of a text.
fn clip(merges: &str) -> Value {
    let pairs: Vec<(&str, &str)> = merges
        .lines()
        .filter(|line| !line.starts_with("#version"))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let letters: Vec<String> = letters().into_iter().map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = pairs.iter().map(|(a, b)| format!("{a}{b}"));
    let marks = ["<|startoftext|>", "<|endoftext|>"];
    let tokens = letters.iter().cloned().chain(ends).chain(merged).chain(marks.map(str::to_owned));
    let vocab: Map<String, Value> = tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let added = marks.map(|mark| {
        json!({"id": vocab[mark], "content": mark, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": mark == marks[0], "special": true})
    });
    let split =
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": marks[1], "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocab,
            "merges": pairs.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>()},
    })
}

/// The letter for each byte, printable ones first, as GPT-2 orders them.
fn letters() -> Vec<char> {
    let printable: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let rest = (0..256).filter(|byte| !printable.contains(byte)).count() as u32;
    printable.iter().copied().chain(256..256 + rest).filter_map(char::from_u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_with_what_the_export_says() {
        let json = clip("#version: 0.2\na b\n").to_string().into_bytes();
        let pad = |config: Value, own: Option<Value>| {
            words(json.clone(), &config, own.as_ref()).unwrap().settings.pad
        };
        assert_eq!(pad(json!({}), None), "<|endoftext|>");
        assert_eq!(pad(json!({"model_cfg": {"embed_dim": 512}}), None), "!", "open_clip's zeros");
        assert_eq!(pad(json!({"model_cfg": {"text_cfg": {"pad_id": 1}}}), None), "\"");
        assert_eq!(pad(json!({}), Some(json!({"pad_token": "!"}))), "!");
        assert_eq!(pad(json!({}), Some(json!({"pad_token": {"content": "!"}}))), "!");
        assert_eq!(
            pad(json!({}), Some(json!({"pad_token": "[PAD]"}))),
            "<|endoftext|>",
            "no token of its own"
        );
    }
}
