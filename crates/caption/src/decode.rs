//! The decoder graph, step by step: prefill, KV cache, one token more. What to feed next is the
//! business of `captioner.rs`.

use engine::{Dim, Graph, Kept, Tensor, TensorView};

use crate::bundle::DecoderSettings;
use crate::encoder::take_f32;
use crate::{CaptionError, vector};

/// Adapter and decoder graph of one bundle.
pub(crate) struct Decoder {
    adapter: Box<dyn Graph>,
    graph: Box<dyn Graph>,
    settings: DecoderSettings,
    /// Input names of the KV cache, in the order in which the graph returns it.
    past: Vec<String>,
    pad: u32,
}

/// A batch of unfinished token sequences of one length: their KV cache and what may come next.
#[derive(Clone)]
pub(crate) struct Lines {
    /// Keys and values of each layer, (n_lines, n_head, n_fed, head_dim), where the engine computes.
    cache: Vec<Kept>,
    /// Positions fed so far.
    n_fed: usize,
    /// Log-probabilities of the next token, (n_lines, vocab_size).
    log_probs: Vec<f32>,
    vocab_size: usize,
}

impl Lines {
    /// Log-probabilities of the next token of one line.
    pub(crate) fn next(&self, line: usize) -> &[f32] {
        &self.log_probs[line * self.vocab_size..][..self.vocab_size]
    }
}

impl Decoder {
    pub(crate) fn new(
        adapter: Box<dyn Graph>,
        graph: Box<dyn Graph>,
        settings: DecoderSettings,
        pad: u32,
    ) -> Decoder {
        let past = (0..settings.n_layer)
            .flat_map(|layer| ["key", "value"].map(|kind| format!("past_{kind}_{layer}")))
            .collect();
        Decoder { adapter, graph, settings, past, pad }
    }

    pub(crate) fn settings(&self) -> &DecoderSettings {
        &self.settings
    }

    /// One line that has seen the adapter's input, (embed_dim) or (n_regions, embed_dim), and no token
    /// yet.
    pub(crate) fn prefill(&mut self, embedding: &[f32]) -> Result<Lines, CaptionError> {
        let inputs = &self.adapter.signature().inputs;
        let (Some(port), Some(Dim::Fixed(dim))) =
            (inputs.first(), inputs.first().and_then(|port| port.dims.last()))
        else {
            return Err(CaptionError::graph("adapter", "it has no input of fixed width"));
        };
        let (name, n_rows) = (port.name.clone(), embedding.len() / dim.max(&1));
        let shape = if port.dims.len() == 3 { vec![1, n_rows, *dim] } else { vec![n_rows, *dim] };
        let outputs = self.adapter.run(&[(&name, TensorView::F32 { shape: &shape, data: embedding })])?;
        let [prefix] = take_f32(outputs, "adapter")?;
        let DecoderSettings { prefix_length, n_layer, n_head, head_dim, .. } = self.settings;
        let empty = vec![Kept::from(Tensor::f32([1, n_head, 0, head_dim], Vec::new())); 2 * n_layer];
        // The embedding of pad is zero, so this feeds the prefix alone.
        self.run(empty, 0, &vec![self.pad; prefix_length], &prefix)
    }

    /// What is fed on from `lines`: those of `taken` in this order; a line may be taken several times. Their
    /// log-probabilities are left out.
    pub(crate) fn branch(&mut self, lines: &Lines, taken: &[usize]) -> Result<Lines, CaptionError> {
        let cache = self.graph.take_rows(&lines.cache, taken)?;
        Ok(Lines { cache, log_probs: Vec::new(), ..*lines })
    }

    /// The lines of `taken` in this order; a line may be taken several times.
    pub(crate) fn select(&mut self, lines: &Lines, taken: &[usize]) -> Result<Lines, CaptionError> {
        let log_probs = taken.iter().flat_map(|line| lines.next(*line)).copied().collect();
        Ok(Lines { log_probs, ..self.branch(lines, taken)? })
    }

    /// Feeds one token to each line.
    pub(crate) fn feed(&mut self, lines: Lines, tokens: &[u32]) -> Result<Lines, CaptionError> {
        let no_prefix = vec![0.0; tokens.len() * self.settings.n_embd()];
        self.run(lines.cache, lines.n_fed, tokens, &no_prefix)
    }

    /// Runs the graph over `ids`: all of one line when nothing was fed yet, else one per line.
    fn run(
        &mut self,
        cache: Vec<Kept>,
        n_fed: usize,
        ids: &[u32],
        prefix: &[f32],
    ) -> Result<Lines, CaptionError> {
        let fail = |why: &str| CaptionError::graph("decoder", why);
        let (n_lines, n_new) = if n_fed == 0 { (1, ids.len()) } else { (ids.len(), 1) };
        if n_fed + n_new > self.settings.n_positions {
            return Err(fail("it is asked for more positions than it has"));
        }
        let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
        let positions: Vec<i64> = (n_fed as i64..).take(n_new).collect();
        let prefix_shape = [n_lines, n_new, self.settings.n_embd()];
        let (ids_shape, positions_shape) = ([n_lines, n_new], [n_new]);
        let inputs = [
            ("ids", TensorView::I64 { shape: &ids_shape, data: &ids }),
            ("positions", TensorView::I64 { shape: &positions_shape, data: &positions }),
            ("prefix", TensorView::F32 { shape: &prefix_shape, data: prefix }),
        ];
        let past: Vec<_> = self.past.iter().map(String::as_str).zip(&cache).collect();
        let (outputs, cache) = self.graph.run_keeping(&inputs, &past, 1)?;
        if cache.len() != self.past.len() {
            return Err(fail("its outputs are not those of its signature"));
        }
        let [mut log_probs] = take_f32(outputs, "decoder")?;
        let vocab_size = log_probs.len() / n_lines;
        if vocab_size == 0 {
            return Err(fail("it gives no logits"));
        }
        log_probs.chunks_exact_mut(vocab_size).for_each(vector::log_softmax);
        Ok(Lines { cache, n_fed: n_fed + n_new, log_probs, vocab_size })
    }
}
