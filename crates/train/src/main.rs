//! Trains captiond's encoders and text-only caption decoders, exports bundles, measures them.

mod adapt;
mod bundle;
mod confidence;
mod data;
mod decoder;
mod detector;
mod embed;
mod encoder;
mod eval;
mod export;
mod features;
mod gap;
mod graph;
mod import;
mod memory;
mod model;
mod plot;
mod pseudo;
mod quantize;
mod questions;
mod recipe;
mod rect;
mod report;
mod retrieval;
mod synth;
mod tagging;
mod text;
mod tokenizer;
mod training;
mod views;
mod vqa;
mod workers;

#[cfg(all(test, feature = "flex"))]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "captiond-train", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where the networks are trained: flex (pure Rust), or, in a build with it, libtorch or libtorch:IDX for a GPU
    #[arg(long, global = true, default_value = "flex")]
    device: String,
}

#[derive(Subcommand)]
enum Command {
    /// Train the text encoder from the sentence teacher
    Text(text::TextArgs),
    /// Train the image head toward the sentence teacher
    Encoder(encoder::EncoderArgs),
    /// Train a caption decoder from sentences alone
    Decoder(Box<decoder::DecoderArgs>),
    /// Adapt a bundle to your own sentences
    Adapt(Box<adapt::AdaptArgs>),
    /// Make synthetic image-text pairs from captions and photos without captions
    Synth(synth::SynthArgs),
    /// Assemble a bundle from the folders of the runs
    Bundle(bundle::BundleArgs),
    /// Make the image encoder of a bundle compute with u8
    Quantize(quantize::QuantizeArgs),
    /// Measure a bundle's captions and retrieval
    Eval(eval::EvalArgs),
    /// Make questions about photos from their captions
    Questions(questions::QuestionsArgs),
    /// Measure a bundle's answers
    Vqa(vqa::VqaArgs),
    /// Measure which frames a bundle calls doubtful
    Confidence(confidence::ConfidenceArgs),
    /// Measure what lies between a bundle's images and their captions
    Gap(gap::GapArgs),
    /// Write the results page and its plots from what eval, vqa, confidence and gap have saved
    Report(report::ReportArgs),
}

fn main() -> ExitCode {
    let Err(error) = run(&Cli::parse()) else { return ExitCode::SUCCESS };
    // One line with all causes: who reads it is to find the file and the reason, not our stack. A closed stderr must
    // not change how the command ends.
    let _closed = writeln!(std::io::stderr(), "captiond-train: {error:#}").is_err();
    ExitCode::FAILURE
}

fn run(cli: &Cli) -> Result<()> {
    let device = || Ok::<Device, anyhow::Error>(device(&cli.device)?.autodiff());
    match &cli.command {
        Command::Text(args) => text::run(args, &device()?),
        Command::Encoder(args) => encoder::run(args, &device()?),
        Command::Decoder(args) => decoder::run(args, &device()?),
        Command::Adapt(args) => adapt::run(args, &device()?),
        Command::Synth(args) => synth::run(args),
        Command::Bundle(args) => bundle::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Questions(args) => questions::run(args),
        Command::Vqa(args) => vqa::run(args),
        Command::Confidence(args) => confidence::run(args),
        Command::Gap(args) => gap::run(args),
        Command::Report(args) => report::run(args),
    }
}

fn device(name: &str) -> Result<Device> {
    match name {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "libtorch")]
        "libtorch" => Ok(Device::libtorch()),
        #[cfg(feature = "libtorch")]
        name if name.starts_with("libtorch:") => {
            let idx: usize = name.trim_start_matches("libtorch:").parse()?;
            Ok(Device::libtorch_cuda(idx))
        }
        _ => anyhow::bail!(
            "device {name}: this build has flex{}",
            if cfg!(feature = "libtorch") { ", libtorch, libtorch:IDX" } else { "" }
        ),
    }
}

/// One line of a result on stdout.
fn report(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("write to stdout")
}
