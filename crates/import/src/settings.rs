//! What an export says beside its graphs: pixels, tokens, scale, terms. Exporters write JSON; nothing of it is trusted
//! to be there.

use std::path::Path;

use caption::bundle::{Filter, PreprocessSettings, Resize};
use serde_json::Value;

use crate::ImportError;

/// Largest settings file that is looked at, in bytes; a tokenizer is the largest.
const BYTES_MAX: u64 = 64 << 20;

/// Mean and deviation of CLIP's training pixels, as every CLIP but a few has them.
const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// A JSON file if it is there.
///
/// # Errors
/// When it is there and cannot be read, or is no JSON.
pub(crate) fn json(file: &Path) -> Result<Option<Value>, ImportError> {
    let Some(bytes) = bytes(file)? else { return Ok(None) };
    let unusable = |e: serde_json::Error| ImportError::Unusable { file: file.to_owned(), why: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(unusable)
}

/// The bytes of a settings file if it is there.
///
/// # Errors
/// When it is there and cannot be read, or is too large.
pub(crate) fn bytes(file: &Path) -> Result<Option<Vec<u8>>, ImportError> {
    let read = |source| ImportError::Read { file: file.to_owned(), source };
    match std::fs::metadata(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(read(e)),
        Ok(found) if found.len() > BYTES_MAX => {
            let why = format!("has {} bytes, more than {BYTES_MAX}", found.len());
            return Err(ImportError::Unusable { file: file.to_owned(), why });
        }
        Ok(_) => {}
    }
    std::fs::read(file).map(Some).map_err(read)
}

/// How the image processor of Hugging Face's transformers prepares pixels (`preprocessor_config.json`).
///
/// # Errors
/// The key that is missing or asks for what the daemon cannot do.
pub(crate) fn of_processor(json: &Value) -> Result<PreprocessSettings, String> {
    let off = |key: &str| json[key] == Value::Bool(false);
    if off("do_resize") {
        return Err("do_resize: an image of any size must be resized".to_owned());
    }
    let side = |value: &Value, key: &str| {
        let n = value.as_u64().or_else(|| value[key].as_u64());
        n.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=4096).contains(n))
    };
    let size = &json["size"];
    let cropped = json["do_center_crop"] == Value::Bool(true)
        || (!json["crop_size"].is_null() && !off("do_center_crop"));
    let (width, height, resize, shortest) = match (side(size, "shortest_edge"), cropped) {
        (Some(shortest), true) => {
            let crop = if json["crop_size"].is_null() { size } else { &json["crop_size"] };
            let width = side(crop, "width").ok_or("crop_size: is missing")?;
            let height = side(crop, "height").ok_or("crop_size: is missing")?;
            (width, height, Resize::Shortest, Some(shortest))
        }
        (_, false) if !size["width"].is_null() => {
            let width = side(size, "width").ok_or("size.width: is missing")?;
            let height = side(size, "height").ok_or("size.height: is missing")?;
            (width, height, Resize::Squash, None)
        }
        (Some(side), false) => (side, side, Resize::Shortest, None),
        (None, _) => return Err("size: has neither shortest_edge nor width and height".to_owned()),
    };
    let filter = match json["resample"].as_u64() {
        Some(3) | None => Filter::Bicubic,
        Some(2) => Filter::Bilinear,
        Some(other) => return Err(format!("resample: {other} is neither 3 (bicubic) nor 2 (bilinear)")),
    };
    let factor = if off("do_rescale") { 1.0 } else { json["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0) };
    let (mean, std) = if off("do_normalize") {
        ([0.0; 3], [1.0; 3])
    } else {
        (channels(json, "image_mean")?, channels(json, "image_std")?)
    };
    Ok(settings([width, height], resize, shortest, filter, (mean, std), factor))
}

/// How open_clip prepares pixels (`preprocess_cfg` of `open_clip_config.json`, or a file of that name).
///
/// # Errors
/// As [`of_processor`].
pub(crate) fn of_open_clip(config: &Value) -> Result<PreprocessSettings, String> {
    let (cfg, vision) = (&config["preprocess_cfg"], &config["model_cfg"]["vision_cfg"]);
    let size = if cfg["size"].is_null() { &vision["image_size"] } else { &cfg["size"] };
    let at = |idx: usize| size.as_u64().or_else(|| size[idx].as_u64()).and_then(|n| usize::try_from(n).ok());
    let (Some(height), Some(width)) = (at(0), at(1)) else {
        return Err("preprocess_cfg.size and model_cfg.vision_cfg.image_size: are missing".to_owned());
    };
    let resize = match cfg["resize_mode"].as_str() {
        None | Some("shortest") => Resize::Shortest,
        Some("squash") => Resize::Squash,
        Some(other) => return Err(format!("resize_mode: {other} is neither shortest nor squash")),
    };
    let filter = match cfg["interpolation"].as_str() {
        None | Some("bicubic") => Filter::Bicubic,
        Some("bilinear") => Filter::Bilinear,
        Some(other) => return Err(format!("interpolation: {other} is neither bicubic nor bilinear")),
    };
    let given = |key: &str, other: [f64; 3]| if cfg[key].is_null() { Ok(other) } else { channels(cfg, key) };
    let normal = (given("mean", CLIP_MEAN)?, given("std", CLIP_STD)?);
    Ok(settings([width, height], resize, None, filter, normal, 1.0 / 255.0))
}

fn channels(json: &Value, key: &str) -> Result<[f64; 3], String> {
    let numbers: Vec<f64> = json[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    numbers.try_into().map_err(|_other| format!("{key}: is not three numbers"))
}

/// `(pixel * factor - mean) / std` as the daemon writes it, whose pixels are 0 to 255.
fn settings(
    [width, height]: [usize; 2],
    resize: Resize,
    shortest: Option<usize>,
    filter: Filter,
    (mean, std): ([f64; 3], [f64; 3]),
    factor: f64,
) -> PreprocessSettings {
    let scaled = |values: [f64; 3]| values.map(|value| (value / factor) as f32);
    let shortest = shortest.filter(|shortest| *shortest != width.min(height));
    PreprocessSettings { width, height, resize, shortest, filter, mean: scaled(mean), std: scaled(std) }
}

/// The `logit_scale` among the weights beside the graphs, if they are there as safetensors: its exponential.
pub(crate) fn logit_scale(file: &Path) -> Option<f32> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut open = std::fs::File::open(file).ok()?;
    let mut length = [0; 8];
    open.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    (length <= BYTES_MAX).then_some(())?;
    open.by_ref().take(length).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    let entry = &header["logit_scale"];
    let first = entry["data_offsets"][0].as_u64()?;
    open.seek(SeekFrom::Start(8 + length + first)).ok()?;
    let mut word = [0; 4];
    open.read_exact(&mut word).ok()?;
    (entry["dtype"] == "F32").then(|| f32::from_le_bytes(word).exp())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_processors_of_clip_siglip_and_mobileclip_are_understood() {
        let clip = json!({"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_normalize": true,
            "do_resize": true, "image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 0.5, 1.0], "resample": 3,
            "size": {"shortest_edge": 224}});
        let found = of_processor(&clip).unwrap();
        assert_eq!((found.width, found.resize, found.shortest), (224, Resize::Shortest, None));
        assert_eq!((found.mean, found.std), ([127.5, 63.75, 0.0], [127.5, 127.5, 255.0]));
        let siglip = json!({"do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "resample": 3, "rescale_factor": 1.0 / 255.0,
            "size": {"height": 384, "width": 224}});
        let found = of_processor(&siglip).unwrap();
        assert_eq!((found.width, found.height, found.resize), (224, 384, Resize::Squash));
        let mobile = json!({"crop_size": {"height": 256, "width": 256}, "do_center_crop": true, "do_normalize": false,
            "resample": 2, "size": {"shortest_edge": 288}});
        let found = of_processor(&mobile).unwrap();
        assert_eq!((found.shortest, found.filter), (Some(288), Filter::Bilinear));
        assert_eq!((found.mean, found.std), ([0.0; 3], [255.0; 3]));
        // An early form of the file.
        let old = json!({"crop_size": 224, "do_center_crop": true, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "size": 224});
        assert_eq!(of_processor(&old).unwrap().width, 224);
    }

    #[test]
    fn what_a_processor_lacks_is_named() {
        let missing = |json: Value| of_processor(&json).unwrap_err();
        assert!(missing(json!({})).contains("size"));
        assert!(missing(json!({"size": {"shortest_edge": 224}})).contains("image_mean"));
        assert!(missing(json!({"size": 224, "resample": 0})).contains("resample: 0"));
        assert!(missing(json!({"do_resize": false})).contains("do_resize"));
    }

    #[test]
    fn open_clips_settings_default_to_those_of_clip() {
        let found = of_open_clip(&json!({"model_cfg": {"vision_cfg": {"image_size": 224}}})).unwrap();
        assert_eq!((found.width, found.resize), (224, Resize::Shortest));
        assert!((found.mean[0] - 122.770_94).abs() < 1e-3);
        let squash = json!({"preprocess_cfg": {"size": [256, 192], "mode": "RGB", "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}});
        let found = of_open_clip(&squash).unwrap();
        assert_eq!((found.width, found.height, found.resize), (192, 256, Resize::Squash));
        assert!(of_open_clip(&json!({})).unwrap_err().contains("image_size"));
    }
}
