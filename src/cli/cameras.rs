//! `cameras`: which V4L2 capture devices there are, and the lines of a configuration for each.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::{Failure, output};
use crate::config::NAME_MAX;
use crate::source::v4l2::scan::{self, Description, Format, Node, Size};

/// Lists the capture devices beneath `dev`.
pub(super) fn cameras(dev: &Path, json: bool) -> Result<(), Failure> {
    let nodes = scan::scan(dev).with_context(|| format!("list {}", dev.display()))?;
    if nodes.is_empty() {
        output::complain(&format!("no capture device in {}", dev.display()));
    }
    let mut taken = HashSet::new();
    for node in &nodes {
        let block = node.description.as_ref().ok().map(|about| block(&about.card, node, &mut taken));
        if json {
            output::json(&report(node, block.as_deref()))?;
        } else {
            output::line(&text(node, block.as_deref()))?;
        }
    }
    Ok(())
}

fn report(node: &Node, block: Option<&str>) -> Value {
    let paths =
        |paths: &[PathBuf]| -> Vec<String> { paths.iter().map(|p| p.display().to_string()).collect() };
    let mut report = json!({
        "device": node.path.display().to_string(),
        "by_id": paths(&node.by_id),
        "by_path": paths(&node.by_path),
    });
    let more = match &node.description {
        Err(why) => json!({ "error": why }),
        Ok(Description { card, driver, bus, formats, controls }) => json!({
            "card": card,
            "driver": driver,
            "bus": bus,
            "formats": formats.iter().map(format_report).collect::<Vec<_>>(),
            "controls": controls.iter().map(|(name, allowed)| (name.clone(), json!(allowed))).collect::<Map<_, _>>(),
            "config": block,
        }),
    };
    if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
        report.extend(more);
    }
    report
}

fn format_report(format: &Format) -> Value {
    let size = |size: &Size| {
        let rates: Vec<f64> = size.rates.iter().map(|rate| rounded(*rate)).collect();
        if size.least == size.greatest {
            json!({ "width": size.least.0, "height": size.least.1, "rates": rates })
        } else {
            let [min, max, step] = [size.least, size.greatest, size.step].map(|side| json!([side.0, side.1]));
            json!({ "min": min, "max": max, "step": step, "rates": rates })
        }
    };
    json!({
        "format": format.name,
        "supported": format.is_understood,
        "sizes": format.sizes.iter().map(size).collect::<Vec<_>>(),
    })
}

fn text(node: &Node, block: Option<&str>) -> String {
    let about = match &node.description {
        Ok(about) => about,
        Err(why) => return format!("{}: {why}\n", node.path.display()),
    };
    let mut lines = vec![
        format!("{}: {}", node.path.display(), about.card),
        format!("  driver {}, bus {}", about.driver, about.bus),
    ];
    lines.extend(node.by_id.iter().chain(&node.by_path).map(|link| format!("  {}", link.display())));
    for format in &about.formats {
        let note = if format.is_understood { "" } else { " (not supported)" };
        lines.push(format!("  {}{note}", format.name));
        lines.extend(format.sizes.iter().map(|size| format!("    {}", size_text(size))));
    }
    if !about.controls.is_empty() {
        lines.push("  controls".to_owned());
        lines.extend(about.controls.iter().map(|(name, allowed)| format!("    {name}: {allowed}")));
    }
    lines.push(String::new());
    lines.extend(block.map(str::to_owned));
    lines.join("\n")
}

fn size_text(size: &Size) -> String {
    let (least, greatest) = (size.least, size.greatest);
    let rates: Vec<String> = size.rates.iter().map(|rate| rounded(*rate).to_string()).collect();
    let rates = if rates.is_empty() { String::new() } else { format!(" at {} fps", rates.join(", ")) };
    if least == greatest {
        format!("{}x{}{rates}", least.0, least.1)
    } else {
        let step = format!("in steps of {}x{}", size.step.0, size.step.1);
        format!("{}x{} to {}x{} {step}{rates}", least.0, least.1, greatest.0, greatest.1)
    }
}

fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

/// The lines of a configuration, with a name that no other block has.
fn block(card: &str, node: &Node, taken: &mut HashSet<String>) -> String {
    let base = camera_name(card);
    let numbered = |n: usize| {
        let suffix = format!("-{n}");
        let kept: String = base.chars().take(NAME_MAX - suffix.len()).collect();
        kept + &suffix
    };
    let mut names = std::iter::once(base.clone()).chain((2..).map(numbered));
    let name = names.find(|name| taken.insert(name.clone())).unwrap_or_default();
    let device = toml::Value::String(node.stable_path().display().to_string());
    format!("[[camera]]\nname = \"{name}\"\nsource = {{ type = \"v4l2\", device = {device} }}\n")
}

/// A name for the topics out of one for people. `uvcvideo` often says it twice: "Cam: Cam".
fn camera_name(card: &str) -> String {
    let card = card.split(':').next().unwrap_or_default();
    let mut name = String::new();
    for c in card.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name: String = name.chars().take(NAME_MAX).collect();
    match name.trim_end_matches('-') {
        "" | "bridge" => "camera".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_levels_of_a_topic_and_differ() {
        assert_eq!(camera_name("HD Pro Webcam C920"), "hd-pro-webcam-c920");
        assert_eq!(camera_name("USB2.0 Camera: USB2.0 Camera"), "usb2-0-camera");
        assert_eq!(camera_name("Überkamera"), "berkamera");
        assert_eq!([camera_name(""), camera_name("Bridge")], ["camera", "camera"]);
        assert_eq!(camera_name(&"x".repeat(99)).len(), NAME_MAX);
        let node = Node {
            path: "/dev/video0".into(),
            by_id: vec![],
            by_path: vec![],
            description: Err("busy".to_owned()),
        };
        let mut taken = HashSet::new();
        let names = [(); 3].map(|()| block("Cam", &node, &mut taken));
        assert!(
            names[0].contains("\"cam\"") && names[1].contains("\"cam-2\"") && names[2].contains("\"cam-3\"")
        );
    }

    #[test]
    fn a_block_is_a_camera_of_a_configuration() {
        let link = PathBuf::from("/dev/v4l/by-id/usb-\"odd\"-index0");
        let node = Node {
            path: "/dev/video0".into(),
            by_id: vec![link.clone()],
            by_path: vec![],
            description: Err("busy".to_owned()),
        };
        let block = block("Cam", &node, &mut HashSet::new());
        let config = crate::config::Config::parse(&block, Path::new("")).unwrap();
        let crate::source::SourceConfig::V4l2(v4l2) = &config.cameras[0].source else { panic!("not V4L2") };
        assert_eq!((config.cameras[0].name.as_str(), &v4l2.device), ("cam", &link));
    }
}
