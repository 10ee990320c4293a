//! `captiond-train report`: the results page and its plots, from what measurements have saved. No figure in it is typed.
//!
//! The page is a row of sections. Each has a text here under `text/`, in which `{body}` stands for what its module makes
//! of the saved results, and may have a file `NAME.md` among them, which is shown below that as it is. Files of other
//! names follow at the end, in their order, with headings of their own.

mod ablations;
mod captions;
mod gap;
mod noise;
mod presets;
mod questions;
pub mod saved;
mod series;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::pseudo::Change;
use crate::training::write_atomically;
use saved::{Answers, Evaluation, Frames, Gap, Saved};

#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder with what `eval`, `vqa`, `confidence` and `gap` wrote with --out
    #[arg(long, default_value = "runs/results")]
    pub runs: PathBuf,
    #[arg(long, default_value = "docs/results.md")]
    pub out: PathBuf,
    /// Folder for the plots
    #[arg(long, default_value = "docs/plots")]
    pub plots: PathBuf,
}

/// Everything that was saved.
#[derive(Clone, Debug, Default)]
pub struct Results {
    evaluations: Vec<Evaluation>,
    answers: Vec<Answers>,
    frames: Vec<Frames>,
    gaps: Vec<Gap>,
    pseudo: Vec<Change>,
    /// Text for sections, by name.
    fragments: BTreeMap<String, String>,
}

/// The page, and its plots by file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    text: String,
    plots: BTreeMap<String, String>,
}

/// Drawings that the sections add.
struct Plots {
    /// From the page to the folder of the plots.
    folder: String,
    svgs: BTreeMap<String, String>,
}

impl Plots {
    /// Keeps the drawing and gives the line that shows it.
    fn add(&mut self, name: &str, what: &str, svg: String) -> String {
        self.svgs.insert(format!("{name}.svg"), svg);
        format!("![{what}]({}/{name}.svg)\n", self.folder)
    }
}

/// A part of the page. Its body is none as long as nothing was measured for it.
struct Section {
    name: &'static str,
    text: &'static str,
    body: fn(&Results, &mut Plots) -> Result<Option<String>>,
}

const SECTIONS: [Section; 13] = [
    Section { name: "captions", text: include_str!("text/captions.md"), body: captions::captions },
    Section { name: "retrieval", text: include_str!("text/retrieval.md"), body: captions::retrieval },
    Section { name: "presets", text: include_str!("text/presets.md"), body: presets::presets },
    Section { name: "noise", text: include_str!("text/noise.md"), body: noise::noise },
    Section { name: "gap", text: include_str!("text/gap.md"), body: gap::gap },
    Section { name: "regions", text: include_str!("text/regions.md"), body: ablations::regions },
    Section { name: "rerank", text: include_str!("text/rerank.md"), body: ablations::rerank },
    Section { name: "synthetic", text: include_str!("text/synthetic.md"), body: ablations::synthetic },
    Section {
        name: "cross-domain",
        text: include_str!("text/cross-domain.md"),
        body: ablations::cross_domain,
    },
    Section { name: "question-set", text: include_str!("text/question-set.md"), body: |_, _| Ok(None) },
    Section { name: "answers", text: include_str!("text/answers.md"), body: questions::answers },
    Section { name: "frames", text: include_str!("text/frames.md"), body: questions::frames },
    Section { name: "papers", text: include_str!("text/papers.md"), body: |_, _| Ok(None) },
];

const BODY: &str = "{body}";
const NOT_MEASURED: &str = "Not measured yet.\n";

pub fn run(args: &ReportArgs) -> Result<()> {
    let report = Results::read(&args.runs)?.report(&link(&args.out, &args.plots))?;
    for (name, svg) in &report.plots {
        write_atomically(&args.plots.join(name), svg.as_bytes())?;
    }
    write_atomically(&args.out, report.text.as_bytes())?;
    crate::report(&format!("{}: {} plots", args.out.display(), report.plots.len()))
}

/// The folder of the plots as the page names it.
fn link(out: &Path, plots: &Path) -> String {
    let parent = out.parent().unwrap_or(Path::new(""));
    plots.strip_prefix(parent).unwrap_or(plots).to_string_lossy().into_owned()
}

impl Results {
    /// Reads every `.json` and `.md` beneath `dir`.
    ///
    /// # Errors
    /// When a file cannot be read, or is no result; it is named.
    pub fn read(dir: &Path) -> Result<Results> {
        let mut results = Results::default();
        for path in saved::files(dir, "json")? {
            match saved::read(&path)? {
                Saved::Evaluation(evaluation) => results.evaluations.push(*evaluation),
                Saved::Answers(answers) => results.answers.push(answers),
                Saved::Frames(frames) => results.frames.push(frames),
                Saved::Gap(gap) => results.gaps.push(*gap),
                Saved::Pseudo(change) => results.pseudo.push(change),
            }
        }
        for path in saved::files(dir, "md")? {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            results.fragments.insert(name, text);
        }
        Ok(results)
    }

    /// `plots` is the folder of the plots, seen from the page.
    ///
    /// # Errors
    /// When runs of one table were not measured alike.
    pub fn report(&self, plots: &str) -> Result<Report> {
        let mut plots = Plots { folder: plots.to_owned(), svgs: BTreeMap::new() };
        let mut parts = vec![include_str!("text/head.md").trim_end().to_owned()];
        for section in &SECTIONS {
            let body =
                (section.body)(self, &mut plots).with_context(|| format!("report {}", section.name))?;
            let fragment = self.fragments.get(section.name);
            let measured: Vec<&str> =
                body.as_deref().into_iter().chain(fragment.map(String::as_str)).collect();
            let measured = if measured.is_empty() { NOT_MEASURED.to_owned() } else { measured.join("\n") };
            parts.push(section.text.replace(BODY, measured.trim_end()).trim_end().to_owned());
        }
        let others =
            self.fragments.iter().filter(|(name, _)| SECTIONS.iter().all(|known| known.name != *name));
        parts.extend(others.map(|(_, text)| text.trim_end().to_owned()));
        Ok(Report { text: parts.join("\n\n") + "\n", plots: plots.svgs })
    }
}

#[cfg(test)]
mod tests;
