//! `captiond-train encoder`: trains the image head toward the locked sentence teacher (locked-text tuning, LiT,
//! Zhai et al. 2022), then exports backbone and head as one graph.
//!
//! Symmetric InfoNCE over the batch, where every caption of a photo counts as its own: each step draws one
//! caption a photo. The mean of a photo's captions serves as a second, smoother target.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde::Serialize;

use crate::data::{self, Pair, Teacher, tidy};
use crate::embed::{Embeddings, Moments, TextTower};
use crate::export::image::{backbone_expansion, image_encoder};
use crate::features::{GRID_LEN, Grids, N_CELLS};
use crate::model::{GRID_CHANNELS, ImageHead, ImageHeadConfig, normalize};
use crate::retrieval::Retrieval;
use crate::text::{self, EMBED_DIM};
use crate::training::{
    Checkpoint, Inputs, Optimizer, OptimizerConfig, Progress, learning_rate, step_rng, symmetric_contrast,
    write_atomically,
};

/// Arguments that shape the result.
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct EncoderArgs {
    /// Folder with `pairs.jsonl`, `images` and `backbone`
    #[arg(long)]
    pub data: PathBuf,
    /// Folder that `scripts/teacher.py` wrote
    #[arg(long, required_unless_present = "text")]
    pub teacher: Option<PathBuf>,
    /// Aim at the embeddings of the text encoder in this folder, made by `captiond-train text`, instead of at the
    /// teacher's own: what ships are the student's
    #[arg(long)]
    pub text: Option<PathBuf>,
    /// Folder for the feature cache, the checkpoint and the encoder
    #[arg(long)]
    pub out: PathBuf,
    /// Views of each photo: whole, mirrored, random crops
    #[arg(long, default_value_t = 6)]
    pub n_views: usize,
    #[arg(long, default_value_t = 1024)]
    pub d_hidden: usize,
    #[arg(long, default_value_t = 8)]
    pub n_pool: usize,
    /// Of the pooled features
    #[arg(long, default_value_t = 0.2)]
    pub dropout_in: f64,
    /// Of the hidden layer
    #[arg(long, default_value_t = 0.5)]
    pub dropout: f64,
    #[arg(long, default_value_t = 700)]
    pub steps: usize,
    #[arg(long, default_value_t = 256)]
    pub batch: usize,
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    #[arg(long, default_value_t = 0.05)]
    pub weight_decay: f32,
    #[arg(long, default_value_t = 50)]
    pub warmup_steps: usize,
    /// Temperature of the contrast
    #[arg(long, default_value_t = 0.05)]
    pub tau: f64,
    /// How much the distance to the mean of a photo's captions counts beside the contrast: more of it finds fewer
    /// photos, and brings images nearer to where a decoder of text embeddings looks for them
    #[arg(long, default_value_t = 1.0)]
    pub mean_weight: f64,
    /// Leave every photo out whose index modulo this number is `--fold`: an encoder that never saw them
    #[arg(long, default_value_t = 1)]
    pub folds: usize,
    /// Which photos to leave out, 0 to `--folds` - 1
    #[arg(long, requires = "folds")]
    pub fold: Option<usize>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Steps between two checkpoints, and between two looks at the dev photos
    #[arg(long, default_value = "100")]
    #[serde(skip)]
    pub save_every: NonZeroUsize,
}

impl EncoderArgs {
    fn backbone(&self) -> PathBuf {
        self.data.join("backbone/mobilenet_edgetpu_224_dequant_f32.onnx")
    }

    fn teacher(&self) -> Result<&Path> {
        self.teacher.as_deref().context("--teacher or --text is needed")
    }

    /// What the paths among the arguments hold.
    fn inputs(&self) -> Result<Inputs> {
        let targets = match &self.text {
            None => Teacher::inputs(self.teacher()?, "train")?,
            Some(text) => TextTower::open(text)?.inputs().clone(),
        };
        targets
            .with_file("backbone", &self.backbone())?
            .with_file("list of photos", &self.data.join("pairs.jsonl"))
    }
}

/// Moments of the embeddings of training photos, in the run's folder.
pub const MOMENTS_FILE: &str = "image_moments.json";

/// The photos of one split with their captions' rows in the teacher.
pub struct Split {
    pub grids: Grids,
    /// Rows of the teacher, one list a photo.
    pub captions: Vec<Vec<usize>>,
    pub teacher: Teacher,
}

pub fn split(args: &EncoderArgs, name: &str, n_views: usize) -> Result<Split> {
    let pairs = data::pairs(&args.data, name)?;
    // The dev figures are told of Flickr8k's dev photos alone.
    let pairs: Vec<Pair> =
        pairs.into_iter().filter(|pair| name == "train" || pair.source == "flickr8k").collect();
    ensure!(
        !pairs.is_empty(),
        "{}: no photo of the split {name} can be used",
        args.data.join("pairs.jsonl").display()
    );
    let photos: Vec<&Path> = pairs.iter().map(|pair| pair.image.as_path()).collect();
    std::fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let cache = args.out.join(format!("grids_{name}_{n_views}.f16"));
    let grids = Grids::open(&cache, &args.data.join("images"), &photos, n_views, &args.backbone())?;
    let teacher = match &args.text {
        None => Teacher::read(args.teacher()?, name, EMBED_DIM)?,
        Some(text) => student(args, text, &pairs)?,
    };
    let rows: HashMap<&str, usize> =
        teacher.texts.iter().enumerate().map(|(row, text)| (text.as_str(), row)).collect();
    let captions = pairs
        .iter()
        .map(|pair| pair.captions.iter().filter_map(|c| rows.get(tidy(c).as_str()).copied()).collect())
        .collect();
    Ok(Split { grids, captions, teacher })
}

/// The captions' embeddings by the trained text encoder, in the place of the teacher's.
fn student(args: &EncoderArgs, text: &Path, pairs: &[Pair]) -> Result<Teacher> {
    let unique: BTreeSet<String> = pairs.iter().flat_map(|pair| &pair.captions).map(|c| tidy(c)).collect();
    let texts: Vec<String> = unique.into_iter().collect();
    let tower = TextTower::open(text)?;
    let sequences = text::sequences(&tower.bpe, &texts)?;
    let rows = tower.embed(&args.out, &sequences)?;
    let flat = (0..rows.len()).flat_map(|idx| rows.row(idx).collect::<Vec<f32>>()).collect();
    Ok(Teacher { texts, embeddings: flat, dim: rows.dim })
}

pub fn run(args: &EncoderArgs, device: &Device) -> Result<()> {
    ensure!(args.n_views > 0, "--n-views 0: at least one view is needed");
    ensure!(args.fold.is_none_or(|fold| fold < args.folds), "--fold: less than --folds is needed");
    let checkpoint = Checkpoint::open(&args.out, serde_json::to_value(args)?, args.inputs()?)?;
    let train = split(args, "train", args.n_views)?;
    let dev = split(args, "dev", 1)?;
    let usable: Vec<usize> = (0..train.captions.len())
        .filter(|i| !train.captions[*i].is_empty() && args.fold != Some(i % args.folds))
        .collect();
    ensure!(
        args.batch > 0 && usable.len() >= args.batch,
        "--batch {}: {} photos have captions in the teacher",
        args.batch,
        usable.len()
    );
    let backbone =
        std::fs::read(args.backbone()).with_context(|| format!("read {}", args.backbone().display()))?;

    device.seed(args.seed);
    let config = ImageHeadConfig {
        d_expand: 1280,
        d_hidden: args.d_hidden,
        n_pool: args.n_pool,
        embed_dim: EMBED_DIM,
        dropout_in: args.dropout_in,
        dropout: args.dropout,
    };
    let (weight, bias) = backbone_expansion(&backbone)?;
    let n_out = bias.len();
    let weight = Tensor::<1>::from_data(weight.as_slice(), device).reshape([GRID_CHANNELS, n_out]);
    let bias = Tensor::<1>::from_data(bias.as_slice(), device);
    let sample = whole_views(&train, 0, train.captions.len().min(1000), device);
    let model = ImageHead::new(&config, device).freeze(weight, bias, sample);
    let optimizer =
        Optimizer::new(&OptimizerConfig { weight_decay: args.weight_decay, ..Default::default() });
    let (first_step, mut model, mut optimizer) = checkpoint.load(model, optimizer)?;
    let mut progress = Progress::new("encoder", first_step, args.steps, "photos");
    for step in first_step..args.steps {
        if step > first_step && step.is_multiple_of(args.save_every.get()) {
            checkpoint.save(step, &model, &optimizer)?;
            progress.say(&evaluate(&model, &dev, device)?.to_string());
        }
        device.seed(args.seed.wrapping_add(step as u64));
        let batch = draw(args, &train, &usable, step, device);
        let embedding = model.forward(batch.grids);
        let loss = symmetric_contrast(embedding.clone(), batch.captions, args.tau)
            + (embedding * batch.means).sum_dim(1).mean().neg().add_scalar(1.0).mul_scalar(args.mean_weight);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let lr = learning_rate(step, args.steps, args.warmup_steps, args.lr);
        model = optimizer.step(model, loss, lr);
        progress.step(step, value, args.batch, lr);
    }
    checkpoint.save(args.steps, &model, &optimizer)?;
    progress.say(&evaluate(&model, &dev, device)?.to_string());
    let moments = moments(&model, &train, device)?;
    write_atomically(&args.out.join(MOMENTS_FILE), &serde_json::to_vec(&moments)?)?;
    let onnx = image_encoder(&backbone, &model, args.n_pool)?;
    write_atomically(&args.out.join("image_encoder.onnx"), &onnx)
}

struct Batch {
    grids: Tensor<3>,
    captions: Tensor<2>,
    means: Tensor<2>,
}

fn draw(args: &EncoderArgs, train: &Split, usable: &[usize], step: usize, device: &Device) -> Batch {
    let mut rng = step_rng(args.seed, step);
    let photos = rand::seq::index::sample(&mut rng, usable.len(), args.batch);
    let mut grids = Vec::with_capacity(args.batch * GRID_LEN);
    let mut captions = Vec::with_capacity(args.batch * EMBED_DIM);
    let mut means = Vec::with_capacity(args.batch * EMBED_DIM);
    for photo in photos.into_iter().map(|i| usable[i]) {
        let view = rng.random_range(0..args.n_views);
        grids.extend(train.grids.get(photo, view).iter().map(|x| x.to_f32()));
        let rows = &train.captions[photo];
        captions.extend_from_slice(train.teacher.row(rows[rng.random_range(0..rows.len())]));
        for i in 0..EMBED_DIM {
            means.push(rows.iter().map(|row| train.teacher.row(*row)[i]).sum::<f32>());
        }
    }
    let rows = |data: &[f32]| Tensor::<1>::from_data(data, device).reshape([args.batch, EMBED_DIM]);
    Batch {
        grids: Tensor::<1>::from_data(grids.as_slice(), device).reshape([args.batch, N_CELLS, GRID_CHANNELS]),
        captions: rows(&captions),
        means: normalize(rows(&means)),
    }
}

/// Grids (B, 49, 192) of the whole view of a range of photos.
fn whole_views(split: &Split, start: usize, stop: usize, device: &Device) -> Tensor<3> {
    let grids: Vec<f32> =
        (start..stop).flat_map(|i| split.grids.get(i, 0).iter().map(|x| x.to_f32())).collect();
    Tensor::<1>::from_data(grids.as_slice(), device).reshape([stop - start, N_CELLS, GRID_CHANNELS])
}

/// Unit rows for the whole view of the first `n` photos.
fn embed_images(model: &ImageHead, split: &Split, n: usize, device: &Device) -> Result<Vec<f32>> {
    let inner = device.clone().inner();
    let model = model.valid();
    let mut images = Vec::with_capacity(n * EMBED_DIM);
    for start in (0..n).step_by(100) {
        let stop = (start + 100).min(n);
        images.extend(crate::export::values(model.forward(whole_views(split, start, stop, &inner)))?);
    }
    Ok(images)
}

/// Of the embeddings of training photos: the image side of the modality gap.
fn moments(model: &ImageHead, train: &Split, device: &Device) -> Result<Moments> {
    let images = embed_images(model, train, train.captions.len().min(2000), device)?;
    let rows: Vec<Vec<f32>> = images.chunks_exact(EMBED_DIM).map(<[f32]>::to_vec).collect();
    Ok(Embeddings::from_rows(&rows)?.moments())
}

/// Retrieval among the dev photos, every caption a query.
fn evaluate(model: &ImageHead, dev: &Split, device: &Device) -> Result<Retrieval> {
    let images = embed_images(model, dev, dev.captions.len(), device)?;
    let texts: Vec<(usize, &[f32])> = dev
        .captions
        .iter()
        .enumerate()
        .flat_map(|(image, rows)| rows.iter().map(move |row| (image, dev.teacher.row(*row))))
        .collect();
    Ok(Retrieval::measure(&images, &texts, EMBED_DIM))
}
