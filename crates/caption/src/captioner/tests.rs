//! The decode loop over a fake decoder whose logits are a fixed random function of everything that
//! was fed, so that a lost or mixed-up cache shows.

use engine::testing::FakeGraph;
use engine::{Port, Signature, Tensor, TensorView};

use super::*;
use crate::testing::{tokenizer_json, tokenizer_settings};

const PREFIX: usize = 2;
const V: usize = 24;
/// Words that the fake decoder says; every other logit is so low that it does not count.
const SAID: [u32; 3] = [5, 6, 7];

fn settings(beam_width: usize, max_new_tokens: usize) -> DecoderSettings {
    DecoderSettings {
        prefix_length: PREFIX,
        n_layer: 1,
        n_head: 1,
        head_dim: 1,
        n_positions: 40,
        max_new_tokens,
        beam_width,
        tokenizer: None,
        rerank: None,
    }
}

/// Logits for what follows `history`, which begins with the embedding's number.
fn logits(seed: u64, history: &[f32], said: &[u32]) -> Vec<f32> {
    let mix = |hash: u64, x: u64| (hash ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let hash = history.iter().fold(seed, |hash, x| mix(hash, u64::from(x.to_bits())));
    let mut logits = vec![-50.0; V];
    for token in said.iter().chain(&[2]) {
        let random = mix(mix(hash, u64::from(*token)), 1) >> 40;
        logits[*token as usize] = random as f32 / (1 << 22) as f32;
    }
    logits
}

fn floats<'a>(view: &TensorView<'a>) -> &'a [f32] {
    match view {
        TensorView::F32 { data, .. } => data,
        TensorView::I64 { .. } => panic!("expected f32"),
    }
}

fn integers<'a>(view: &TensorView<'a>) -> (&'a [usize], &'a [i64]) {
    match view {
        TensorView::I64 { shape, data } => (shape, data),
        TensorView::F32 { .. } => panic!("expected i64"),
    }
}

fn captioner(seed: u64, beam_width: usize, max_new_tokens: usize, said: &'static [u32]) -> Captioner {
    let adapter = Signature {
        inputs: vec![Port::f32("embedding", ["B".into(), 1.into()])],
        outputs: vec![Port::f32("prefix", ["B".into(), PREFIX.into(), 1.into()])],
    };
    let adapter = FakeGraph::new(adapter, |inputs| {
        Ok(vec![Tensor::f32([1, PREFIX, 1], vec![floats(&inputs[0])[0]; PREFIX])])
    });
    let cache = |name: &str, length: &str| Port::f32(name, ["B".into(), 1.into(), length.into(), 1.into()]);
    let decoder = Signature {
        inputs: vec![
            Port::i64("ids", ["B".into(), "S".into()]),
            Port::i64("positions", ["S".into()]),
            Port::f32("prefix", ["B".into(), "S".into(), 1.into()]),
            cache("past_key_0", "T"),
            cache("past_value_0", "T"),
        ],
        outputs: vec![
            Port::f32("logits", ["B".into(), V.into()]),
            cache("key_0", "T+S"),
            cache("value_0", "T+S"),
        ],
    };
    let decoder = FakeGraph::new(decoder, move |inputs| {
        let (ids_shape, ids) = integers(&inputs[0]);
        let (n_lines, n_new) = (ids_shape[0], ids_shape[1]);
        let (prefix, past) = (floats(&inputs[2]), floats(&inputs[3]));
        let n_past = past.len() / n_lines;
        let expected: Vec<i64> = (n_past as i64..).take(n_new).collect();
        if integers(&inputs[1]).1 != expected {
            return Err("positions do not follow the past".to_owned());
        }
        if n_past == 0 && (n_lines, n_new) != (1, PREFIX) || n_past > 0 && n_new != 1 {
            return Err("neither a prefill nor a step".to_owned());
        }
        if n_past > 0 && prefix.iter().any(|x| *x != 0.0) {
            return Err("a prefix in a step".to_owned());
        }
        let (mut keys, mut all) = (Vec::new(), Vec::new());
        for line in 0..n_lines {
            let mut history = past[line * n_past..][..n_past].to_vec();
            let new = line * n_new..(line + 1) * n_new;
            history.extend(new.map(|idx| ids[idx] as f32 + prefix[idx]));
            all.extend(logits(seed, &history, said));
            keys.extend(history);
        }
        let cache = Tensor::f32([n_lines, 1, n_past + n_new, 1], keys);
        Ok(vec![Tensor::f32([n_lines, V], all), cache.clone(), cache])
    });
    let tokenizer = Tokenizer::parse(tokenizer_json().as_bytes(), &tokenizer_settings()).unwrap();
    let settings = settings(beam_width, max_new_tokens);
    Captioner::new(Box::new(adapter), Box::new(decoder), Arc::new(tokenizer), &settings).unwrap()
}

/// Log-probabilities after the embedding 7, bos and `tokens`, straight from the function.
fn next(seed: u64, tokens: &[u32]) -> Vec<f32> {
    let mut history = vec![7.0; PREFIX];
    history.push(1.0);
    history.extend(tokens.iter().map(|token| *token as f32));
    let mut next = logits(seed, &history, &SAID);
    vector::log_softmax(&mut next);
    next
}

/// Mean log-probability of a caption, with its eos where it has one.
fn mean(seed: u64, tokens: &[u32], ended: bool) -> f32 {
    let scored: Vec<u32> = tokens.iter().copied().chain(ended.then_some(2)).collect();
    let sum: f32 = (0..scored.len()).map(|n| next(seed, &scored[..n])[scored[n] as usize]).sum();
    sum / scored.len() as f32
}

fn words(captioner: &Captioner, tokens: &[u32]) -> String {
    captioner.tokenizer.decode(tokens)
}

#[test]
fn width_one_is_greedy() {
    for seed in 0..50 {
        let mut captioner = captioner(seed, 1, 6, &SAID);
        let mut tokens = Vec::new();
        let mut ended = false;
        while tokens.len() < 6 && !ended {
            let mut next = next(seed, &tokens);
            if tokens.is_empty() {
                next[2] = f32::NEG_INFINITY;
            }
            match vector::top(&next, 1)[0] as u32 {
                2 => ended = true,
                token => tokens.push(token),
            }
        }
        let caption = captioner.caption(&[7.0], &[]).unwrap();
        assert_eq!(caption.text, words(&captioner, &tokens), "seed {seed}");
        assert!((caption.score.ln() - mean(seed, &tokens, ended)).abs() < 1e-4, "seed {seed}");
    }
}

#[test]
fn a_beam_as_wide_as_the_tree_finds_the_best_caption() {
    for seed in 0..50 {
        // Two words deep: 3 captions of one word, 9 of two, all within a beam of 12.
        let mut captioner = captioner(seed, 12, 2, &SAID);
        let mut all = Vec::new();
        for a in SAID {
            all.push((mean(seed, &[a], true), vec![a]));
            all.extend(SAID.map(|b| (mean(seed, &[a, b], false), vec![a, b])));
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let found = captioner.candidates(&[7.0], &[], 12).unwrap();
        assert_eq!(found.len(), 12);
        for (caption, (mean, tokens)) in std::iter::zip(&found, &all) {
            assert_eq!(caption.text, words(&captioner, tokens), "seed {seed}");
            assert!((caption.score.ln() - mean).abs() < 1e-4, "seed {seed}");
        }
    }
}

#[test]
fn a_wider_beam_is_better_on_the_whole() {
    let total = |width: usize| -> f32 {
        let score = |seed| captioner(seed, width, 6, &SAID).caption(&[7.0], &[]).unwrap().score.ln();
        (0..50).map(score).sum()
    };
    let totals = [1, 2, 4, 8].map(total);
    assert!(totals.windows(2).all(|pair| pair[1] >= pair[0]), "{totals:?}");
}

#[test]
fn candidates_differ_and_come_best_first() {
    for seed in 0..20 {
        let found = captioner(seed, 1, 6, &SAID).candidates(&[7.0], &[], 5).unwrap();
        assert!((1..=5).contains(&found.len()));
        for (idx, caption) in found.iter().enumerate() {
            assert!(found[..idx].iter().all(|earlier| earlier.text != caption.text));
            assert!(found[..idx].iter().all(|earlier| earlier.score >= caption.score));
        }
    }
}

#[test]
fn an_embedding_decides_the_caption() {
    let mut captioner = captioner(1, 2, 6, &SAID);
    let captions: Vec<String> = (0..10).map(|x| captioner.caption(&[x as f32], &[]).unwrap().text).collect();
    assert!(captions.iter().any(|caption| *caption != captions[0]));
}

#[test]
fn sampling_repeats_itself_with_its_seed_and_cools_down_to_greedy() {
    let mut captioner = captioner(3, 1, 6, &SAID);
    let first = captioner.sample(&[7.0], 8, 1.0, 42).unwrap();
    assert_eq!(first.len(), 8);
    assert_eq!(captioner.sample(&[7.0], 8, 1.0, 42).unwrap(), first);
    assert_ne!(captioner.sample(&[7.0], 8, 1.0, 43).unwrap(), first);
    assert!(first.iter().any(|caption| caption.text != first[0].text));
    let greedy = captioner.caption(&[7.0], &[]).unwrap();
    for cold in captioner.sample(&[7.0], 4, 1e-3, 1).unwrap() {
        assert_eq!(cold.text, greedy.text);
        assert!((cold.score - greedy.score).abs() < 1e-5);
    }
}

#[test]
fn sampling_follows_the_distribution() {
    let mut captioner = captioner(4, 1, 1, &SAID);
    let drawn = captioner.sample(&[7.0], 4000, 1.0, 9).unwrap();
    // Without eos, which no caption begins with.
    let mut expected = next(4, &[]);
    expected[2] = f32::NEG_INFINITY;
    vector::softmax(&mut expected);
    for token in SAID {
        let share = drawn.iter().filter(|caption| caption.text == words(&captioner, &[token])).count();
        assert!((share as f32 / 4000.0 - expected[token as usize]).abs() < 0.03);
    }
}

#[test]
fn likelihoods_are_those_of_each_sequence_alone() {
    let mut captioner = captioner(5, 1, 6, &SAID);
    let sequences = [vec![5], vec![6, 7, 5], vec![], vec![7, 7]];
    let found = captioner.log_likelihoods(&[7.0], &[], &sequences).unwrap();
    for (found, tokens) in std::iter::zip(&found, &sequences) {
        assert!((found - mean(5, tokens, true)).abs() < 1e-4);
    }
    let prompted = captioner.log_likelihoods(&[7.0], &[6], &[vec![7, 5]]).unwrap();
    let expected: f32 = next(5, &[6])[7] + next(5, &[6, 7])[5] + next(5, &[6, 7, 5])[2];
    assert!((prompted[0] - expected / 3.0).abs() < 1e-4);
}

#[test]
fn a_decoder_that_never_ends_is_cut_off() {
    // Only bos, pad and eos are likely: the first two are never taken, and eos ends a caption.
    let mut captioner = captioner(6, 3, 4, &[0, 1]);
    let caption = captioner.caption(&[7.0], &[]).unwrap();
    assert!(!caption.text.is_empty() && caption.text.split(' ').count() <= 4, "{caption:?}");
}

#[test]
fn too_many_positions_are_an_error_of_the_bundle() {
    let mut captioner = captioner(7, 1, 6, &SAID);
    assert_eq!(captioner.settings().max_prompt_tokens(), 40 - PREFIX - 1 - 6);
    let error = captioner.log_likelihoods(&[7.0], &[5; 40], &[vec![5]]).unwrap_err();
    assert!(matches!(error, CaptionError::Graph { .. }), "{error}");
}
