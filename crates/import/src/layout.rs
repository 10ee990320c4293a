//! Where the parts of an export lie.

use std::path::{Path, PathBuf};

use caption::bundle::PreprocessSettings;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::net::Net;
use crate::towers::{ImageTower, TextTower};
use crate::{ImportError, settings, towers};

/// The form in which an export stores its weights, as the names of its files say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Fp32,
    Fp16,
    /// Dynamically quantized to int8.
    Quantized,
    /// Four bits in blocks.
    Q4,
}

impl Variant {
    /// The most exact one first.
    const ALL: [Variant; 4] = [Variant::Fp32, Variant::Fp16, Variant::Quantized, Variant::Q4];

    /// What it adds to a file's name.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Variant::Fp32 => &[""],
            Variant::Fp16 => &["_fp16"],
            Variant::Quantized => &["_quantized", "_int8", "_uint8"],
            Variant::Q4 => &["_q4", "_q4f16"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Variant::Fp32 => "fp32",
            Variant::Fp16 => "fp16",
            Variant::Quantized => "quantized",
            Variant::Q4 => "q4",
        }
    }
}

/// What the graphs of a tower are called, in a folder of the export and with a suffix.
const IMAGE_STEMS: [&str; 6] =
    ["onnx/vision_model", "vision_model", "visual/model", "image_encoder", "visual", "clip_visual"];
const TEXT_STEMS: [&str; 6] =
    ["onnx/text_model", "text_model", "textual/model", "text_encoder", "textual", "clip_textual"];
const BOTH_STEMS: [&str; 2] = ["onnx/model", "model"];

/// Where parts of an export may lie, under its folder.
const FOLDERS: [&str; 4] = ["", "onnx", "textual", "visual"];

pub(crate) struct Layout {
    dir: PathBuf,
    image: PathBuf,
    text: PathBuf,
    pub(crate) config: Value,
}

impl Layout {
    /// Finds the graphs and reads `config.json` or `open_clip_config.json`.
    ///
    /// # Errors
    /// When a tower is missing in the variant that is asked for, or in every one.
    pub(crate) fn find(dir: &Path, variant: Option<Variant>) -> Result<Layout, ImportError> {
        let variants = variant.map_or(Variant::ALL.to_vec(), |variant| vec![variant]);
        let file = |stems: &[&str], variant: Variant| {
            let names = stems
                .iter()
                .flat_map(|stem| variant.suffixes().iter().map(move |end| format!("{stem}{end}.onnx")));
            names.map(|name| dir.join(name)).find(|file| file.is_file())
        };
        let towers = variants.iter().find_map(|variant| {
            let both = || file(&BOTH_STEMS, *variant);
            let image = file(&IMAGE_STEMS, *variant).or_else(both)?;
            Some((image, file(&TEXT_STEMS, *variant).or_else(both)?))
        });
        let Some((image, text)) = towers else {
            let form = variant.map_or(String::new(), |variant| format!(" in the form {}", variant.name()));
            let lacks_text = variants.iter().any(|variant| file(&IMAGE_STEMS, *variant).is_some());
            let what = if lacks_text { "onnx/text_model.onnx" } else { "onnx/vision_model.onnx" };
            return Err(ImportError::Missing {
                dir: dir.to_owned(),
                what: format!("{what}{form} (or onnx/model.onnx with both towers)"),
            });
        };
        let config = match settings::json(&dir.join("config.json"))? {
            Some(config) => config,
            None => settings::json(&dir.join("open_clip_config.json"))?.unwrap_or(Value::Null),
        };
        Ok(Layout { dir: dir.to_owned(), image, text, config })
    }

    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        FOLDERS.iter().map(|folder| self.dir.join(folder)).collect()
    }

    /// The image tower, and the logit scale if its graph has one.
    pub(crate) fn image_tower(&self) -> Result<(ImageTower, Option<f32>), ImportError> {
        let net = towers::read(&self.image)?;
        Ok((towers::image(&net, &self.image)?, towers::logit_scale(&net)))
    }

    pub(crate) fn text_tower(&self) -> Result<TextTower, ImportError> {
        let net: Net = towers::read(&self.text)?;
        towers::text(&net, &self.text)
    }

    /// # Errors
    /// When no settings of an image processor are there, or they cannot be used.
    pub(crate) fn preprocess(&self) -> Result<PreprocessSettings, ImportError> {
        for folder in self.folders() {
            let file = folder.join("preprocessor_config.json");
            if let Some(json) = settings::json(&file)? {
                return settings::of_processor(&json).map_err(|why| ImportError::Unusable { file, why });
            }
            let file = folder.join("preprocess_cfg.json");
            if let Some(json) = settings::json(&file)? {
                let wrapped = serde_json::json!({ "preprocess_cfg": json });
                return settings::of_open_clip(&wrapped).map_err(|why| ImportError::Unusable { file, why });
            }
        }
        let file = self.dir.join("open_clip_config.json");
        if let Some(json) = settings::json(&file)? {
            return settings::of_open_clip(&json).map_err(|why| ImportError::Unusable { file, why });
        }
        let what = "preprocessor_config.json (or preprocess_cfg of open_clip_config.json)".to_owned();
        Err(ImportError::Missing { dir: self.dir.clone(), what })
    }

    /// SigLIP is trained on rows of one length.
    pub(crate) fn is_siglip(&self) -> bool {
        self.config["model_type"].as_str().is_some_and(|name| name.starts_with("siglip"))
    }

    /// What weights beside the graphs say; they are not needed for anything else.
    pub(crate) fn logit_scale(&self) -> Option<f32> {
        settings::logit_scale(&self.dir.join("model.safetensors"))
    }

    /// The given name or the folder's, of the characters that a bundle's name may have.
    pub(crate) fn name(&self, given: Option<&str>) -> String {
        let folder = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let folder = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = given.map(str::to_owned).or(folder).unwrap_or_default().to_lowercase();
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
        let name: String = name.chars().map(plain).take(64).collect();
        if name.is_empty() { "clip".to_owned() } else { name }
    }

    /// The given terms, or those in the head of the export's README.
    ///
    /// # Errors
    /// When there are none: weights without terms may not be used.
    pub(crate) fn license(&self, given: Option<&str>) -> Result<String, ImportError> {
        let readme = settings::bytes(&self.dir.join("README.md"))?.unwrap_or_default();
        let readme = String::from_utf8_lossy(&readme);
        let head = readme.strip_prefix("---").and_then(|rest| rest.split("\n---").next()).unwrap_or_default();
        let named = head.lines().find_map(|line| line.strip_prefix("license:")).map(str::trim);
        let license = given.or(named).map(str::trim).filter(|license| !license.is_empty());
        let what = "the terms of the weights (license: in the head of README.md, or --license)".to_owned();
        license.map(str::to_owned).ok_or(ImportError::Missing { dir: self.dir.clone(), what })
    }

    /// Which files it comes from, by content.
    pub(crate) fn provenance(&self) -> String {
        let mut files = vec![&self.image, &self.text];
        files.dedup();
        let described: Vec<String> = files
            .into_iter()
            .map(|file| {
                let digest = std::fs::read(file).map(Sha256::digest).unwrap_or_default();
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                let name = file.strip_prefix(&self.dir).unwrap_or(file);
                format!("{} (sha256 {hex})", name.display())
            })
            .collect();
        format!("imported from {} by captiond {}", described.join(" and "), env!("CARGO_PKG_VERSION"))
    }
}
