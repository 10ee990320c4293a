//! Text to token ids and back: a bundle's `tokenizer.json` with limits around it.

use crate::bundle::TokenizerSettings;

/// Characters of a text that are looked at. Tokenising is linear, but the text comes from a network.
const MAX_CHARS: usize = 2_000;

/// Turns text into tokens and tokens into text.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    max_tokens: usize,
    padded: bool,
    bos: Option<u32>,
    eos: u32,
    pad: u32,
    /// As in open_clip, which fills rows with the token 0.
    pad_is_a_word: bool,
}

impl Tokenizer {
    /// Loads the `tokenizer.json` in `json`.
    ///
    /// # Errors
    /// A message when it is no tokenizer, lacks a special token, or has another number of tokens than
    /// the settings say.
    pub fn parse(json: &[u8], settings: &TokenizerSettings) -> Result<Tokenizer, String> {
        // The library panics on a decoder that is no JSON.
        serde_json::from_slice::<serde_json::Value>(json).map_err(|e| format!("no tokenizer: {e}"))?;
        let inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| format!("no tokenizer: {e}"))?;
        let vocab_size = inner.get_vocab_size(true);
        if vocab_size != settings.vocab_size {
            return Err(format!("has {vocab_size} tokens, the manifest says {}", settings.vocab_size));
        }
        let special = |token: &str| {
            inner
                .token_to_id(token)
                .filter(|id| (*id as usize) < vocab_size)
                .ok_or_else(|| format!("has no token `{token}`"))
        };
        let bos = settings.bos.as_deref().map(special).transpose()?;
        let (eos, pad) = (special(&settings.eos)?, special(&settings.pad)?);
        if bos == Some(eos) || bos == Some(pad) || vocab_size < 4 {
            return Err("its bos, eos and pad are no tokens of their own among others".to_owned());
        }
        let TokenizerSettings { max_tokens, padded, .. } = *settings;
        let pad_is_a_word = !inner.get_added_vocabulary().is_special_token(&settings.pad);
        Ok(Tokenizer { inner, vocab_size, max_tokens, padded, bos, eos, pad, pad_is_a_word })
    }

    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What rows begin with, if with anything of their own. The tokenizer of a decoder has it.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub fn eos(&self) -> u32 {
        self.eos
    }

    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The tokens of `text` without special ones, even where the text spells them. Text beyond the
    /// first 2,000 characters is not read.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text: String = text.chars().take(MAX_CHARS).collect();
        let tokens = match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // Byte-level BPE knows every text; another kind may find a text without tokens.
            Err(_) => Vec::new(),
        };
        tokens.into_iter().filter(|id| !self.is_special(*id) && (*id as usize) < self.vocab_size).collect()
    }

    /// A row for the text encoder: bos, the text cut to fit, eos, and as much pad as its rows have.
    pub fn encode_row(&self, text: &str) -> Vec<u32> {
        let mut row: Vec<u32> = self.bos.into_iter().collect();
        row.extend(self.encode(text));
        row.truncate(self.max_tokens.saturating_sub(1));
        row.push(self.eos);
        if self.padded {
            row.resize(self.max_tokens, self.pad);
        }
        row
    }

    /// The text of `tokens`, special ones left out, as the tokenizer spells it.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let tokens: Vec<u32> = tokens.iter().copied().filter(|id| !self.is_special(*id)).collect();
        self.inner.decode(&tokens, true).unwrap_or_default()
    }

    fn is_special(&self, id: u32) -> bool {
        self.bos == Some(id) || self.eos == id || (self.pad == id && !self.pad_is_a_word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_json_is_refused_wherever_it_breaks() {
        let (manifest, files) = crate::testing::tiny_bundle(1);
        let (_, whole) = files.iter().find(|(name, _)| *name == manifest.tokenizer.file).unwrap();
        assert!(Tokenizer::parse(whole, &manifest.tokenizer).is_ok());
        let broken = [br#"{"decoder":{"type":nobody},"#, &whole[1..]].concat();
        let error = Tokenizer::parse(&broken, &manifest.tokenizer).err().unwrap();
        assert!(error.starts_with("no tokenizer: "), "{error}");
    }
}
