//! Invented sentences, photos, a teacher and a backbone, and the commands that train on them in seconds.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use caption::normal;
use engine::onnx::{self, pb};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const SENTENCES: [&str; 8] = include!("sentences.in");
const DEV_SENTENCE: &str = "a fish in a bowl";
/// Width of the teacher's embeddings.
const EMBED_DIM: usize = 384;

/// A folder of data, with a folder for each run in it.
pub struct Toy(TempDir);

impl Toy {
    pub fn new() -> Toy {
        let dir = tempfile::tempdir().unwrap();
        teacher(&dir.path().join("teacher"));
        pairs(dir.path());
        backbone(&dir.path().join("backbone"));
        let toy = Toy(dir);
        toy.corpus(&gzip(&corpus_lines(&SENTENCES)));
        toy
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Replaces the bytes of `text/corpus.jsonl.gz`.
    pub fn corpus(&self, bytes: &[u8]) {
        fs::create_dir_all(self.path("text")).unwrap();
        fs::write(self.path("text/corpus.jsonl.gz"), bytes).unwrap();
    }

    fn named(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `small` gives what `more` does not, in pairs of flag and value.
    fn command(&self, command: &str, small: &str, more: &str, paths: &[(&str, &str)]) -> Vec<String> {
        let small: Vec<&str> = small.split_whitespace().collect();
        let more: Vec<&str> = more.split_whitespace().collect();
        let left = small.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten();
        let plain = std::iter::once(&command).chain(left).chain(&more).map(|arg| (*arg).to_owned());
        let paths = paths.iter().flat_map(|(flag, name)| [(*flag).to_owned(), self.named(name)]);
        plain.chain(paths).collect()
    }

    pub fn text(&self, out: &str, more: &str) -> Vec<String> {
        let small = "--n-layer 1 --d 64 --vocab-size 320 --batch 4 --warmup-steps 1";
        self.command("text", small, more, &[("--teacher", "teacher"), ("--out", out)])
    }

    pub fn encoder(&self, out: &str, more: &str) -> Vec<String> {
        let small = "--d-hidden 32 --n-views 2 --batch 4 --warmup-steps 1";
        let paths = [("--data", ""), ("--teacher", "teacher"), ("--out", out)];
        self.command("encoder", small, more, &paths)
    }

    /// `out` may be the whole path of a folder elsewhere.
    pub fn decoder(&self, text: &str, out: &str, more: &str) -> Vec<String> {
        let small = "--sources toy --n-layer 1 --d 64 --d-mlp 64 --batch 4 --warmup-steps 2";
        let paths = [("--data", ""), ("--text", text), ("--out", out), ("--cache", "cache")];
        self.command("decoder", small, more, &paths)
    }

    /// Runs whatever makes a bundle `bundle` of everything.
    pub fn whole_bundle(&self) {
        super::run(&self.text("text-run", "--steps 4"));
        super::run(&self.encoder("encoder-run", "--steps 1"));
        super::run(&self.decoder("text-run", "decoder-run", "--steps 4"));
        super::run(&self.bundle("text-run", "encoder-run", "decoder-run"));
    }

    /// Adapts `bundle` to sentences of a few words; the run is `out`, the new bundle `out` with `-bundle`.
    pub fn adapt(&self, out: &str, more: &str) -> Vec<String> {
        let mut sentences = String::new();
        for who in ["a man", "the woman", "a guard", "two people"] {
            for what in ["walks to the left", "opens the door", "sits down", "leaves the shop", "runs away"] {
                sentences += &format!("{who} {what}\n");
            }
        }
        fs::write(self.path("own.txt"), sentences).unwrap();
        let small = "--steps 6 --batch 4 --warmup-steps 2 --n-general 8";
        let new = format!("{out}-bundle");
        let paths = [("--bundle", "bundle"), ("--text", "own.txt"), ("--run", out), ("--out", new.as_str())];
        self.command("adapt", small, more, &paths)
    }

    pub fn bundle(&self, text: &str, encoder: &str, decoder: &str) -> Vec<String> {
        let paths = [("--text", text), ("--encoder", encoder), ("--decoder", decoder), ("--out", "bundle")];
        self.command("bundle", "", "", &paths)
    }
}

/// One JSON line a sentence; two in a row share a photo.
pub fn corpus_lines(sentences: &[&str]) -> String {
    let line = |(idx, text): (usize, &&str)| {
        serde_json::json!({"text": text, "source": "toy", "image_id": (idx / 2).to_string()}).to_string()
    };
    sentences.iter().enumerate().map(|row| line(row) + "\n").collect()
}

pub fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| normal(&mut rng)).collect()
}

fn teacher(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (name, sentences) in [("train", SENTENCES.as_slice()), ("dev", &[DEV_SENTENCE])] {
        fs::write(dir.join(format!("{name}.txt")), sentences.join("\n") + "\n").unwrap();
        let rows = (0..sentences.len()).flat_map(|idx| {
            // Two sentences of one photo mean the same.
            let row = random(EMBED_DIM, 10 + idx as u64 / 2);
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.into_iter().flat_map(move |x| half::f16::from_f32(x / norm).to_le_bytes())
        });
        fs::write(dir.join(format!("{name}.f16")), rows.collect::<Vec<u8>>()).unwrap();
    }
}

fn pairs(dir: &Path) {
    fs::create_dir_all(dir.join("images")).unwrap();
    let photos =
        SENTENCES.chunks(2).map(|captions| ("train", captions)).chain([("dev", [DEV_SENTENCE].as_slice())]);
    let mut lines = String::new();
    for (idx, (split, captions)) in photos.enumerate() {
        let image = format!("{idx}.png");
        let levels = random(3 * 16 * 16, idx as u64).iter().map(|x| (128.0 + 40.0 * x) as u8).collect();
        image::RgbImage::from_raw(16, 16, levels).unwrap().save(dir.join("images").join(&image)).unwrap();
        let pair =
            serde_json::json!({"image": image, "source": "flickr8k", "split": split, "captions": captions});
        lines += &format!("{pair}\n");
    }
    fs::write(dir.join("pairs.jsonl"), lines).unwrap();
}

/// A stand-in for the backbone with its names: one convolution from 224x224 to 7x7x192, and the expansion to 1280.
fn backbone(dir: &Path) {
    use pb::attribute_proto::AttributeType;
    use pb::tensor_proto::DataType;
    let tensor = |name: &str, dims: &[usize], seed: u64| pb::TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: random(dims.iter().product(), seed).iter().flat_map(|x| (0.02 * x).to_le_bytes()).collect(),
        ..Default::default()
    };
    let ints = |name: &str| pb::AttributeProto {
        name: name.to_owned(),
        ints: vec![32, 32],
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    };
    let conv = pb::NodeProto {
        op_type: "Conv".to_owned(),
        input: vec!["image".to_owned(), "w0".to_owned()],
        output: vec!["t71".to_owned()],
        attribute: vec![ints("kernel_shape"), ints("strides")],
        ..Default::default()
    };
    let graph = pb::GraphProto {
        name: "toy".to_owned(),
        node: vec![conv],
        initializer: vec![
            tensor("w0", &[192, 3, 32, 32], 5),
            tensor("w72", &[1280, 192, 1, 1], 6),
            tensor("b72", &[1280], 7),
        ],
        ..Default::default()
    };
    let model = pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..Default::default()
    };
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("mobilenet_edgetpu_224_dequant_f32.onnx"), onnx::encode(&model)).unwrap();
}
