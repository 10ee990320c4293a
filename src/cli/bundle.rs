//! `bundle import` and `bundle info`: a bundle of what others exported; what a bundle is, and in what form it stores its
//! weights.

use std::path::Path;

use anyhow::Context;
use caption::Bundle;
use caption::bundle::Role;
use engine::onnx::{self, Stored};
use import::ImportOptions;
use serde_json::{Value, json};

use super::{Failure, output};
use crate::pull::{self, Pull};

/// The form in which an export stores its weights.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum VariantArg {
    Fp32,
    Fp16,
    /// Dynamically quantized to int8
    Quantized,
    /// Four bits in blocks
    Q4,
}

impl From<VariantArg> for import::Variant {
    fn from(arg: VariantArg) -> import::Variant {
        match arg {
            VariantArg::Fp32 => import::Variant::Fp32,
            VariantArg::Fp16 => import::Variant::Fp16,
            VariantArg::Quantized => import::Variant::Quantized,
            VariantArg::Q4 => import::Variant::Q4,
        }
    }
}

/// Makes a bundle of an export and says what was assumed.
pub(super) fn import(dir: &Path, out: &Path, options: &ImportOptions) -> Result<(), Failure> {
    let imported = import::import(dir, out, options).context("import")?;
    let [rows, columns] = imported.manifest.embedding.patches;
    output::line(&format!("bundle      {}", out.display()))?;
    output::line(&format!("license     {}", imported.manifest.license))?;
    output::line(&format!(
        "embedding   {} wide, {rows} x {columns} patches",
        imported.manifest.embedding.dim
    ))?;
    for note in imported.notes {
        output::line(&format!("note        {note}"))?;
    }
    output::line("It labels pictures; `captiond-train adapt` makes a captioner of it.")?;
    Ok(())
}

/// Fetches and installs, and says what came.
pub(super) fn pull(job: &Pull) -> Result<(), Failure> {
    let pulled = pull::pull(job).context("pull")?;
    for note in pulled.notes {
        output::line(&format!("note        {note}"))?;
    }
    output::line(&format!("bundle      {}  {}", pulled.dir.display(), pulled.id))?;
    Ok(())
}

/// The models that have a name.
pub(super) fn list(registry: Option<&Path>) -> Result<(), Failure> {
    for entry in pull::registry(registry).context("pull")?.models {
        let verified = if entry.is_verified() { "" } else { "  (unverified)" };
        output::line(&format!("{:<16}  {}{verified}", entry.name, entry.about))?;
        output::line(&format!("{:<16}  {}", "", entry.license))?;
    }
    Ok(())
}

/// One graph: its role, file, size and weights.
struct Graph {
    role: Role,
    bytes: usize,
    stored: Vec<Stored>,
}

/// Verifies the bundle and prints what it holds.
pub(super) fn info(dir: &Path, json: bool) -> Result<(), Failure> {
    let bundle = Bundle::open(dir).context("open the bundle")?;
    let graphs =
        bundle.manifest().roles().map(|role| graph(&bundle, role)).collect::<anyhow::Result<Vec<_>>>()?;
    if json {
        output::json(&report(&bundle, &graphs))?;
    } else {
        print(&bundle, &graphs)?;
    }
    Ok(())
}

fn graph(bundle: &Bundle, role: Role) -> anyhow::Result<Graph> {
    let graph = bundle.manifest().graphs.get(role);
    let onnx = graph.and_then(|graph| bundle.file(&graph.file));
    let onnx = onnx.with_context(|| format!("the bundle has no {}", role.name()))?;
    let stored = onnx::stored(onnx).with_context(|| format!("read the {}", role.name()))?;
    Ok(Graph { role, bytes: onnx.len(), stored })
}

fn n_elements(stored: &[Stored]) -> usize {
    stored.iter().map(|stored| stored.n_elements).sum()
}

fn n_int8<'a>(graphs: impl IntoIterator<Item = &'a Graph>) -> usize {
    let weights = graphs.into_iter().flat_map(|graph| &graph.stored);
    weights.filter(|stored| stored.element_type == "int8").map(|stored| stored.n_elements).sum()
}

fn report(bundle: &Bundle, graphs: &[Graph]) -> Value {
    let manifest = bundle.manifest();
    let stored = |graph: &Graph| -> Value {
        graph.stored.iter().map(|stored| (stored.element_type.clone(), json!(stored.n_elements))).collect()
    };
    let graphs_json: Value = graphs
        .iter()
        .map(|graph| {
            (graph.role.name().to_owned(), json!({ "bytes": graph.bytes, "weights": stored(graph) }))
        })
        .collect();
    json!({
        "bundle": bundle.id(),
        "version": manifest.version,
        "license": manifest.license,
        "provenance": manifest.provenance,
        "graphs": graphs_json,
        "int8_share": share(n_int8(graphs), graphs.iter().map(|graph| n_elements(&graph.stored)).sum()),
    })
}

fn share(part: usize, whole: usize) -> f64 {
    (1e4 * part as f64 / whole.max(1) as f64).round() / 1e4
}

fn print(bundle: &Bundle, graphs: &[Graph]) -> anyhow::Result<()> {
    let manifest = bundle.manifest();
    output::line(&format!("{}  version {}", bundle.id(), manifest.version))?;
    output::line(&format!("license     {}", manifest.license))?;
    output::line(&format!("provenance  {}", manifest.provenance))?;
    for graph in graphs {
        let all = n_elements(&graph.stored);
        let types: Vec<String> = graph
            .stored
            .iter()
            .map(|stored| format!("{} {:.1} %", stored.element_type, 100.0 * share(stored.n_elements, all)))
            .collect();
        output::line(&format!(
            "{:>13}  {:>9} bytes  {all:>8} weights: {}",
            graph.role.name(),
            graph.bytes,
            types.join(", ")
        ))?;
    }
    let all: usize = graphs.iter().map(|graph| n_elements(&graph.stored)).sum();
    output::line(&format!("{:.1} % of {all} weights are int8", 100.0 * share(n_int8(graphs), all)))?;
    Ok(())
}
