//! Every graph of a bundle, loaded, and what can be asked of them together.

use std::sync::Arc;

use engine::{Engine, EngineOptions, Tensor};
use image::RgbImage;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::bridge::{Bridge, Memory};
use crate::bundle::{Bundle, DecoderSettings, Manifest, RerankSettings, Role, TokenizerSettings};
use crate::captioner::{Caption, Captioner};
use crate::choice::choose;
use crate::encoder::{ImageEncoder, ImageView, TextEncoder};
use crate::noise::Noise;
use crate::regions::regions;
use crate::tags::{self, LABEL_PROMPT, Tagger};
use crate::tokenizer::Tokenizer;
use crate::vqa::{Answer, Answerer, Question, Reply};
use crate::{CaptionError, Quality, preprocess, text, vector};

/// What stands for no image in particular.
const NEUTRAL: &str = "a photo";
const MAX_LABELS: usize = 1_000;
const MAX_LABEL_CHARS: usize = 100;

/// A label and how well it fits.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelScore {
    pub label: String,
    /// Softmax over the given labels, 0 to 1.
    pub score: f32,
    /// Cosine of the label's text embedding with the image embedding, -1 to 1.
    pub cosine: f32,
}

/// What writes sentences, and the tokenizer that it writes with.
struct Writer {
    captioner: Captioner,
    tokenizer: Arc<Tokenizer>,
    settings: DecoderSettings,
}

/// Every graph of a bundle, loaded and owned by one thread. All methods block.
pub struct Models {
    manifest: Manifest,
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
    /// None in an encoder bundle.
    writer: Option<Writer>,
    bridge: Option<Bridge>,
    memory: Option<Memory>,
    tagger: Option<Tagger>,
    /// Text embedding of [`NEUTRAL`].
    neutral: Vec<f32>,
}

impl Models {
    /// Loads every graph of the bundle, which may be dropped afterwards.
    ///
    /// # Errors
    /// When a graph cannot be loaded or has another signature than the manifest says, or when the
    /// bundle's parts do not fit together.
    pub fn load(
        bundle: &Bundle,
        engine: &dyn Engine,
        options: &EngineOptions,
    ) -> Result<Models, CaptionError> {
        let manifest = bundle.manifest().clone();
        let unfit = |file: &str, why: String| CaptionError::Bundle {
            bundle: bundle.id().to_owned(),
            why: format!("{file} {why}"),
        };
        let bytes = |file: &str| bundle.file(file).unwrap_or_default();
        let dim = manifest.embedding.dim;

        let tokenizer = |settings: &TokenizerSettings| {
            let parsed = Tokenizer::parse(bytes(&settings.file), settings);
            parsed.map(Arc::new).map_err(|why| unfit(&settings.file, why))
        };
        let bridge = (manifest.bridge.as_ref())
            .map(|at| Bridge::parse(bytes(&at.file), dim).map_err(|why| unfit(&at.file, why)))
            .transpose()?;
        let memory = (manifest.memory.as_ref())
            .map(|at| Memory::parse(bytes(&at.file), dim, at.tau).map_err(|why| unfit(&at.file, why)))
            .transpose()?;

        let load = |role: Role| {
            let label = format!("{}/{}", bundle.id(), role.name());
            let signature = manifest.signature(role).unwrap_or_default();
            engine.load(&label, bundle.graph(role), &signature, options)
        };
        // The image encoder takes about as long to load as everything else together.
        let (image_encoder, rest) = engine::beside(
            || load(Role::ImageEncoder),
            || -> Result<_, CaptionError> {
                let text_encoder =
                    TextEncoder::new(load(Role::TextEncoder)?, tokenizer(&manifest.tokenizer)?)?;
                let Some(settings) = &manifest.decoder else { return Ok((text_encoder, None)) };
                let tokenizer = tokenizer(manifest.decoder_tokenizer())?;
                let (adapter, decoder) = (load(Role::Adapter)?, load(Role::Decoder)?);
                let captioner = Captioner::new(adapter, decoder, Arc::clone(&tokenizer), settings)?;
                Ok((text_encoder, Some(Writer { captioner, tokenizer, settings: settings.clone() })))
            },
        );
        let image_encoder = ImageEncoder::new(image_encoder?);
        let (mut text_encoder, writer) = rest?;
        let neutral = text_encoder.encode(&[NEUTRAL])?.swap_remove(0);
        let tagger = match &manifest.tags {
            None => None,
            Some(at) => {
                let text =
                    std::str::from_utf8(bytes(&at.file)).map_err(|e| unfit(&at.file, e.to_string()))?;
                let labels = tags::labels(text);
                check_labels(&labels).map_err(|why| unfit(&at.file, why))?;
                Some(Tagger::new(labels, at, &mut text_encoder)?)
            }
        };
        Ok(Models { manifest, image_encoder, text_encoder, writer, bridge, memory, tagger, neutral })
    }

    /// Pixels to the encoder's input, f32 (1, 3, height, width).
    pub fn preprocess(&self, image: &RgbImage) -> Tensor {
        preprocess(image, &self.manifest.preprocess)
    }

    /// # Errors
    /// When the graph fails.
    pub fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        self.image_encoder.encode(pixels)
    }

    /// Whether the encoder's input shows too little for a caption of it to be believed. Never, when the
    /// bundle sets no limits.
    pub fn is_doubtful(&self, pixels: &Tensor) -> bool {
        let quality = Quality::of(pixels, &self.manifest.preprocess);
        self.manifest.confidence.as_ref().is_some_and(|limits| quality.is_doubtful(limits))
    }

    /// Unit-norm embeddings (embed_dim) of `texts`, in the space of [`ImageView::embedding`].
    ///
    /// # Errors
    /// When the graph fails.
    pub fn encode_texts<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Vec<Vec<f32>>, CaptionError> {
        self.text_encoder.encode(texts)
    }

    /// # Errors
    /// When a graph fails.
    pub fn caption(&mut self, view: &ImageView) -> Result<Caption, CaptionError> {
        self.caption_from(view, "")
    }

    /// A caption that begins with the words of `opening`; those beyond what the decoder takes are left out.
    ///
    /// # Errors
    /// When a graph fails.
    pub fn caption_from(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError> {
        let writer = self.writer()?;
        let most = writer.settings.max_prompt_tokens();
        let mut opening = writer.tokenizer.encode(opening);
        opening.truncate(most);
        let mut prompt = self.tag_prompt(view)?;
        prompt.truncate(most - opening.len());
        prompt.extend(&opening);
        let caption = self.caption_after(view, &prompt)?;
        if opening.is_empty() {
            return Ok(caption);
        }
        let text = format!("{} {}", self.writer()?.tokenizer.decode(&opening), caption.text);
        Ok(Caption { text: text::tidy(&text), ..caption })
    }

    fn caption_after(&mut self, view: &ImageView, prompt: &[u32]) -> Result<Caption, CaptionError> {
        let bridged = self.bridged(view);
        let conditioned = self.projected(&bridged);
        let Some(rerank) = self.writer()?.settings.rerank.clone() else {
            return writer(&mut self.writer)?.captioner.caption(&conditioned, prompt);
        };
        let mut inputs = self.inputs(&conditioned, &rerank);
        if rerank.summed && self.memory.is_some() {
            inputs.push(self.summed(&conditioned, &bridged));
        }
        if rerank.unprojected && self.memory.is_some() {
            inputs.push(bridged);
        }
        let candidates = self.candidates(&inputs, prompt, rerank.n_candidates)?;
        let anchors = [(view.embedding.as_slice(), 1.0), (conditioned.as_slice(), rerank.memory_weight)];
        let tokenizer = &writer(&mut self.writer)?.tokenizer;
        let best = choose(&mut self.text_encoder, tokenizer, &anchors, &candidates, &rerank)?;
        Ok(candidates.into_iter().nth(best).unwrap_or_else(|| Caption { text: String::new(), score: 0.0 }))
    }

    /// The picture's tags as tokens, when the bundle has any.
    fn tag_prompt(&self, view: &ImageView) -> Result<Vec<u32>, CaptionError> {
        let tokenizer = &self.writer()?.tokenizer;
        let tag = |tagger: &Tagger| tokenizer.encode(&tagger.prompt(&tagger.tag(&view.embedding)));
        Ok(self.tagger.as_ref().map_or_else(Vec::new, tag))
    }

    fn writer(&self) -> Result<&Writer, CaptionError> {
        self.writer.as_ref().ok_or(CaptionError::NoDecoder)
    }

    /// What the captions to choose among are searched from: the adapter's input, noisy copies of it, or both.
    fn inputs(&self, conditioned: &[f32], rerank: &RerankSettings) -> Vec<Vec<f32>> {
        let Some(samples) = &rerank.samples else { return vec![conditioned.to_vec()] };
        // The same noise for every picture: the caption of a frame does not depend on the frames before.
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut inputs = if samples.clean { vec![conditioned.to_vec()] } else { Vec::new() };
        for _ in 0..samples.n {
            let mut noisy = conditioned.to_vec();
            for row in noisy.chunks_exact_mut(self.manifest.embedding.dim) {
                Noise::fixed(samples.noise_cosine).apply(row, &mut rng);
            }
            inputs.push(noisy);
        }
        inputs
    }

    /// Captions of every input, each text once with its best score, in an order that depends on them alone.
    fn candidates(
        &mut self,
        inputs: &[Vec<f32>],
        prompt: &[u32],
        n: usize,
    ) -> Result<Vec<Caption>, CaptionError> {
        let mut all: Vec<Caption> = Vec::new();
        for input in inputs {
            all.extend(writer(&mut self.writer)?.captioner.candidates(input, prompt, n)?);
        }
        if inputs.len() > 1 {
            all.sort_by(|a, b| a.text.cmp(&b.text).then(b.score.total_cmp(&a.score)));
            all.dedup_by(|later, first| later.text == first.text);
        }
        Ok(all)
    }

    /// # Errors
    /// [`CaptionError::Request`] when the question or its choices are empty, too many or too long;
    /// otherwise when a graph fails.
    pub fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        Ok(self.reply(Some(view), question)?.answer(&self.manifest.vqa))
    }

    /// The evidence behind [`answer`](Models::answer), for those who fit its weights. Without a view, that of a model
    /// which knows the question alone: what stands for no image in particular is put in the place of the image.
    ///
    /// # Errors
    /// As [`answer`](Models::answer).
    pub fn reply(&mut self, view: Option<&ImageView>, question: &Question) -> Result<Reply, CaptionError> {
        let n_rows = self.manifest.regions.as_ref().map_or(1, |regions| regions.n_regions);
        let neutral = self.projected(&self.neutral).repeat(n_rows);
        let conditioned = view.map_or_else(|| neutral.clone(), |view| self.conditioned(view));
        let writer = writer(&mut self.writer)?;
        let mut answerer = Answerer {
            embedding: view.map_or_else(|| self.neutral.clone(), |view| view.embedding.clone()),
            conditioned,
            captioner: &mut writer.captioner,
            text_encoder: &mut self.text_encoder,
            tokenizer: &writer.tokenizer,
            logit_scale: self.manifest.embedding.logit_scale,
            neutral,
            neutral_text: &self.neutral,
        };
        answerer.reply(question)
    }

    /// Zero-shot: which of the labels fits, best first.
    ///
    /// # Errors
    /// [`CaptionError::Request`] when there is no label or more than 1,000, or one is empty or longer
    /// than 100 characters; otherwise when the graph fails.
    pub fn label(&mut self, view: &ImageView, labels: &[String]) -> Result<Vec<LabelScore>, CaptionError> {
        check_labels(labels).map_err(CaptionError::Request)?;
        let prompts: Vec<String> =
            labels.iter().map(|label| format!("{LABEL_PROMPT}{}", label.trim())).collect();
        let texts = self.text_encoder.encode(&prompts)?;
        let cosines: Vec<f32> = texts.iter().map(|text| vector::dot(text, &view.embedding)).collect();
        let mut scores: Vec<f32> =
            cosines.iter().map(|cosine| self.manifest.embedding.logit_scale * cosine).collect();
        vector::softmax(&mut scores);
        let scored = labels.iter().zip(scores).zip(cosines);
        let mut scored: Vec<LabelScore> = scored
            .map(|((label, score), cosine)| LabelScore { label: label.clone(), score, cosine })
            .collect();
        scored.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(scored)
    }

    /// Text embeddings (embed_dim) times the logit scale: the product of one with an image embedding is a logit.
    ///
    /// # Errors
    /// When the graph fails.
    pub fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        let mut rows = self.text_encoder.encode(texts)?;
        let scale = self.manifest.embedding.logit_scale;
        rows.iter_mut().flatten().for_each(|x| *x *= scale);
        Ok(rows)
    }

    /// What the adapter takes: (embed_dim), or (n_regions, embed_dim) for a bundle with regions.
    fn conditioned(&self, view: &ImageView) -> Vec<f32> {
        self.projected(&self.bridged(view))
    }

    /// The rows that stand for the image, moved over the gap between the modalities.
    fn bridged(&self, view: &ImageView) -> Vec<f32> {
        let rows = match &self.manifest.regions {
            None => view.embedding.clone(),
            Some(settings) => regions(view, settings),
        };
        let row = |row: &[f32]| self.bridge.as_ref().map_or_else(|| row.to_vec(), |bridge| bridge.apply(row));
        rows.chunks_exact(self.manifest.embedding.dim).flat_map(row).collect()
    }

    /// Row by row the sum of both, scaled to unit norm.
    fn summed(&self, one: &[f32], other: &[f32]) -> Vec<f32> {
        let mut rows: Vec<f32> = std::iter::zip(one, other).map(|(a, b)| a + b).collect();
        rows.chunks_exact_mut(self.manifest.embedding.dim).for_each(vector::normalize);
        rows
    }

    fn projected(&self, rows: &[f32]) -> Vec<f32> {
        let row = |row: &[f32]| self.memory.as_ref().map_or_else(|| row.to_vec(), |memory| memory.apply(row));
        rows.chunks_exact(self.manifest.embedding.dim).flat_map(row).collect()
    }
}

/// For those who hold other parts of the models meanwhile.
fn writer(writer: &mut Option<Writer>) -> Result<&mut Writer, CaptionError> {
    writer.as_mut().ok_or(CaptionError::NoDecoder)
}

fn check_labels(labels: &[String]) -> Result<(), String> {
    if !(1..=MAX_LABELS).contains(&labels.len()) {
        return Err(format!("1 to {MAX_LABELS} labels, not {}", labels.len()));
    }
    if labels.iter().any(|label| label.trim().is_empty() || label.chars().count() > MAX_LABEL_CHARS) {
        return Err(format!("a label is empty or longer than {MAX_LABEL_CHARS} characters"));
    }
    Ok(())
}
