//! The commands: what they take, what they print, how they end.
//!
//! Results go to stdout, each line flushed; everything else goes to stderr.

mod bench;
mod bundle;
mod cameras;
mod doctor;
mod look;
mod models;
pub mod output;
mod serve;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Problems};
use crate::logging;
use crate::mqtt::client::LOG_FILTER;
use crate::pull::Pull;

/// A command failed while it ran.
pub const EXIT_FAILURE: u8 = 1;
/// The command line was wrong; clap uses the same.
pub const EXIT_USAGE: u8 = 2;
/// The configuration is invalid: starting again will not help (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: u8 = 78;

#[derive(Debug, Parser)]
#[command(name = "captiond", version, about, max_term_width = 100)]
struct Args {
    /// What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Describe photos in one sentence each
    Caption {
        /// Photos, or folders of photos (jpg, jpeg and png, one level deep)
        #[arg(required = true, value_name = "IMAGE|DIR")]
        inputs: Vec<PathBuf>,
        #[command(flatten)]
        bundle: BundleArgs,
        /// Print one JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Answer a question about a photo
    Ask {
        image: PathBuf,
        question: String,
        /// Answers to choose from, separated by commas
        #[arg(long, value_delimiter = ',')]
        choices: Vec<String>,
        #[command(flatten)]
        bundle: BundleArgs,
        #[arg(long)]
        json: bool,
    },
    /// Tell which of some labels fits a photo best
    Label {
        image: PathBuf,
        /// Labels, separated by commas
        #[arg(long, value_delimiter = ',', required = true)]
        labels: Vec<String>,
        #[command(flatten)]
        bundle: BundleArgs,
        #[arg(long)]
        json: bool,
    },
    /// Run the daemon
    Run {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Check a configuration and its bundle, and print what the daemon would run with
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Try everything that the daemon needs, and say what is wrong and what to do about it
    Doctor {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Tell what a configuration may hold
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Run the daemon on bundled photos with a broker of its own: nothing else is needed
    Demo {
        /// End after so many captions instead of at Ctrl-C
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        bundle: BundleArgs,
    },
    /// List the V4L2 cameras of this machine, with what they offer and lines for a configuration
    Cameras {
        /// Print one JSON object a line instead of text
        #[arg(long)]
        json: bool,
        /// Where the device nodes are
        #[arg(long, value_name = "DIR", default_value = "/dev", hide = true)]
        dev: PathBuf,
    },
    /// Look after the broker
    Mqtt {
        #[command(subcommand)]
        command: MqttCommand,
    },
    /// Look into bundles
    Bundle {
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// Measure every stage of a bundle on this machine
    Bench {
        /// Photos or folders of photos [default: the photos of the demonstration]
        #[arg(value_name = "IMAGE|DIR")]
        inputs: Vec<PathBuf>,
        /// Measured runs over all photos
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        runs: u32,
        /// Runs over all photos before that
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
        warmup: u32,
        #[command(flatten)]
        bundle: BundleArgs,
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum MqttCommand {
    /// Take everything away that the broker keeps of this daemon, which must not run
    Purge {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a commented configuration with every key and its default
    Reference,
    /// Print the JSON Schema (2020-12) of the configuration
    Schema,
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration; files of `conf.d` beside it are read as well
    #[arg(long = "config", value_name = "FILE", default_value = config::FILE)]
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Make an encoder bundle of a CLIP model that was exported to ONNX
    Import {
        /// The folder of the export: onnx/vision_model.onnx, onnx/text_model.onnx, tokenizer.json and settings
        dir: PathBuf,
        /// The folder of the bundle
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Name of the bundle [default: that of the folder]
        #[arg(long)]
        name: Option<String>,
        /// Terms of the weights [default: those that the export's README.md names]
        #[arg(long, value_name = "TEXT")]
        license: Option<String>,
        /// Which of several forms of the graphs to take [default: the most exact one]
        #[arg(long, value_enum)]
        variant: Option<bundle::VariantArg>,
        /// What cosines are multiplied by before a softmax [default: as the export says, else 100]
        #[arg(long, value_name = "X")]
        logit_scale: Option<f32>,
    },
    /// Fetch a model by its name or a bundle by its address, verify it, and install it
    Pull {
        /// A name of the registry, or the address of a bundle's folder; without one, the names are listed
        what: Option<String>,
        /// The folder of the result [default: the name, in the current folder]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// A list of models in the place of the one that ships
        #[arg(long, value_name = "FILE")]
        registry: Option<PathBuf>,
        /// An address or a folder that has NAME/PATH for every file
        #[arg(long, value_name = "URL|DIR")]
        mirror: Option<String>,
        /// Take what was fetched before, or a mirror's folder; never the network
        #[arg(long)]
        offline: bool,
        /// How long a server may send next to nothing
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
        patience: std::time::Duration,
    },
    /// Verify a bundle and print its licence, origin, and the size and numeric types of its graphs
    Info {
        /// The folder of the bundle
        dir: PathBuf,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct BundleArgs {
    /// The folder of the bundle [default: $CAPTIOND_BUNDLE, then the usual places]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Threads of one inference [default: the cores of the machine, at most 4]
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
    /// What runs the graphs: `tract`, or `ort` where this build has it
    #[arg(long, value_name = "NAME", default_value = config::ENGINE)]
    engine: String,
    /// Where: `cpu`, and with ort `cuda:N`, `tensorrt:N` or `cuda-or-cpu`
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: engine::DeviceChoice,
}

/// How a command failed.
#[derive(Debug)]
enum Failure {
    /// Every problem of the configuration.
    Config(Problems),
    Runtime(anyhow::Error),
    /// What went wrong has been said already, input by input.
    Said,
}

impl Failure {
    /// In words; empty where it was said.
    fn words(&self) -> String {
        match self {
            Failure::Config(problems) => problems.to_string(),
            Failure::Runtime(e) => format!("{e:#}"),
            Failure::Said => String::new(),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(e: E) -> Self {
        Failure::Runtime(e.into())
    }
}

/// Parses the arguments of the process, runs the command, and prints its failure once.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let fallback = match args.command {
        Command::Run { .. } => LOG_FILTER,
        _ => "warn",
    };
    let started = config::log_format(args.log_format)
        .and_then(|format| logging::start(&config::log_filter(args.log, fallback), format));
    if let Err(e) = started {
        output::complain(&e);
        return ExitCode::from(EXIT_USAGE);
    }
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::from(EXIT_FAILURE),
        Err(failure) => {
            output::complain(&failure.words());
            let code = if matches!(failure, Failure::Config(_)) { EXIT_CONFIG } else { EXIT_FAILURE };
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Caption { inputs, bundle, json } => look::caption(&inputs, &bundle, json),
        Command::Ask { image, question, choices, bundle, json } => {
            look::ask(&image, caption::Question { text: question, choices, kind: None }, &bundle, json)
        }
        Command::Label { image, labels, bundle, json } => look::label(&image, &labels, &bundle, json),
        Command::Run { config } => serve::run(&config.file),
        Command::Check { config } => serve::check(&config.file),
        Command::Doctor { config, json } => doctor::doctor(&config.file, json),
        Command::Config { command: ConfigCommand::Reference } => {
            Ok(output::text(&config::reference::everything())?)
        }
        Command::Config { command: ConfigCommand::Schema } => {
            Ok(output::text(&format!("{:#}\n", config::schema::schema()))?)
        }
        Command::Mqtt { command: MqttCommand::Purge { config } } => serve::purge(&config.file),
        Command::Demo { count, bundle } => serve::demo(count, &bundle),
        Command::Cameras { json, dev } => cameras::cameras(&dev, json),
        Command::Bundle { command } => bundle(command),
        Command::Bench { inputs, runs, warmup, bundle, json } => {
            bench::bench(&inputs, bench::Plan { runs, warmup }, &bundle, json)
        }
    }
}

fn bundle(command: BundleCommand) -> Result<(), Failure> {
    match command {
        BundleCommand::Info { dir, json } => bundle::info(&dir, json),
        BundleCommand::Pull { what, out, registry, mirror, offline, patience } => {
            let job = |what| Pull {
                what,
                out,
                registry: registry.clone(),
                mirror,
                offline,
                patience,
                say: output::tell,
            };
            match what {
                Some(what) => bundle::pull(&job(what)),
                None => bundle::list(registry.as_deref()),
            }
        }
        BundleCommand::Import { dir, out, name, license, variant, logit_scale } => {
            let variant = variant.map(Into::into);
            bundle::import(&dir, &out, &import::ImportOptions { name, license, variant, logit_scale })
        }
    }
}
