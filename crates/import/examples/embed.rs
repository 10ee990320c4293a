//! Writes what a bundle makes of photos and sentences, stage by stage, for `scripts/import_parity.py` to compare:
//! `embed BUNDLE PHOTOS SENTENCES OUT`, the second and third being files with a path or a sentence a line.

use std::fs;
use std::path::Path;

use caption::{Bundle, Models, Tokenizer};
use engine::{EngineOptions, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, bundle, photos, sentences, out] = &args[..] else {
        return Err("embed BUNDLE PHOTOS SENTENCES OUT".into());
    };
    let (bundle, out) = (Bundle::open(bundle.as_ref())?, Path::new(out));
    let mut models = Models::load(&bundle, &*engine::open("tract")?, &EngineOptions::default())?;
    fs::create_dir_all(out)?;

    let [mut pixels, mut embeddings, mut patches, mut weights] = [const { Vec::<f32>::new() }; 4];
    for photo in fs::read_to_string(photos)?.lines() {
        let input = models.preprocess(&image::open(photo)?.into_rgb8());
        let view = models.encode(&input)?;
        pixels.extend(Tensor::into_f32(input).unwrap_or_default());
        embeddings.extend(view.embedding);
        patches.extend(view.patches);
        weights.extend(view.weights);
    }
    let settings = &bundle.manifest().tokenizer;
    let tokenizer = Tokenizer::parse(bundle.file(&settings.file).unwrap_or_default(), settings)?;
    let sentences = fs::read_to_string(sentences)?;
    let sentences: Vec<&str> = sentences.lines().collect();
    let rows: Vec<Vec<u32>> = sentences.iter().map(|text| tokenizer.encode_row(text)).collect();
    let texts = models.encode_texts(&sentences)?.concat();
    for (name, values) in [
        ("pixels", pixels),
        ("embeddings", embeddings),
        ("patches", patches),
        ("weights", weights),
        ("texts", texts),
    ] {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        fs::write(out.join(format!("{name}.f32")), bytes)?;
    }
    fs::write(out.join("tokens.json"), serde_json::to_vec(&rows)?)?;
    Ok(())
}
