//! Training the byte-level BPE that the text encoder and the decoder share.

use anyhow::{Result, anyhow};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};
use tokenizers::{Tokenizer, TokenizerBuilder};

/// Special tokens, in the order of their ids from 0.
pub const SPECIALS: [&str; 3] = ["<pad>", "<bos>", "<eos>"];
pub const PAD: u32 = 0;
pub const BOS: u32 = 1;
pub const EOS: u32 = 2;

/// Learns `vocab_size` tokens from the sentences. Deterministic.
pub fn train<'a>(texts: impl Iterator<Item = &'a str> + Send, vocab_size: usize) -> Result<Tokenizer> {
    let specials: Vec<AddedToken> = SPECIALS.iter().map(|s| AddedToken::from(*s, true)).collect();
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(2)
        .special_tokens(specials)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_normalizer(Some(Lowercase.into()))
    // A leading space makes the first word of a sentence the same token as elsewhere.
    .with_pre_tokenizer(Some(ByteLevel::new(true, true, true).into()))
    .with_decoder(Some(ByteLevel::new(true, true, true).into()))
    .build()
    .map_err(|e| anyhow!("build tokenizer: {e}"))?;
    tokenizer.train(&mut trainer, texts).map_err(|e| anyhow!("train tokenizer: {e}"))?;
    serde_json::to_string(&tokenizer)?.parse().map_err(|e| anyhow!("reload tokenizer: {e}"))
}

/// Token ids of a sentence without special tokens, cut to `n_max`.
pub fn encode(tokenizer: &Tokenizer, text: &str, n_max: usize) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, false).map_err(|e| anyhow!("tokenize {text:?}: {e}"))?;
    let ids = encoding.get_ids();
    Ok(ids[..ids.len().min(n_max)].to_vec())
}
