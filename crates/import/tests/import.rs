//! Exports of a tiny CLIP, made by `scripts/import_parity.py --fixture`, against what its reference makes of a picture and
//! a few sentences; and exports that cannot be used.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::fs;
use std::path::{Path, PathBuf};

use caption::{Bundle, Models, Tokenizer};
use engine::EngineOptions;
use engine::onnx::{self, pb};
use import::{ImportOptions, Imported, import};
use serde_json::Value;
use tempfile::TempDir;

/// Least cosine with the reference: f32 sums in another order.
const EXACT: f32 = 0.9999;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/tiny/golden.json")).unwrap()
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny")
}

/// A copy of the export, to be spoiled.
fn export() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("onnx")).unwrap();
    for name in [
        "config.json",
        "preprocessor_config.json",
        "merges.txt",
        "onnx/vision_model.onnx",
        "onnx/text_model.onnx",
    ] {
        fs::copy(tiny().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn options() -> ImportOptions {
    ImportOptions { license: Some("random weights".to_owned()), ..ImportOptions::default() }
}

fn imported(dir: &Path) -> (TempDir, Imported) {
    let out = tempfile::tempdir().unwrap();
    let imported = import(dir, &out.path().join("bundle"), &options()).unwrap();
    (out, imported)
}

fn refusal(dir: &Path) -> String {
    let out = tempfile::tempdir().unwrap();
    let error = import(dir, &out.path().join("bundle"), &options()).unwrap_err().to_string();
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "a refusal leaves nothing");
    error
}

fn models(out: &TempDir) -> (Bundle, Models) {
    let bundle = Bundle::open(&out.path().join("bundle")).unwrap();
    let models = Models::load(&bundle, &*engine::open("tract").unwrap(), &EngineOptions::default()).unwrap();
    (bundle, models)
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Changes an ONNX file of an export.
fn edit(file: &Path, change: impl FnOnce(&mut pb::GraphProto)) {
    let mut model = onnx::parse(&fs::read(file).unwrap()).unwrap();
    change(model.graph.as_mut().unwrap());
    fs::write(file, onnx::encode(&model)).unwrap();
}

/// Everything against the reference, whose weights are stored to this cosine.
fn assert_as_the_reference(out: &TempDir, least: f32) {
    let (bundle, mut models) = models(out);
    let golden = golden();
    let picture = image::open(tiny().join("picture.png")).unwrap().into_rgb8();
    let pixels = models.preprocess(&picture);
    let expected = floats(&golden["pixels"]);
    let found: Vec<f32> = pixels.as_f32().unwrap().iter().step_by(7).copied().collect();
    // One level of 255, by the smallest deviation of a channel.
    let level = 1.01 / (255.0 * 0.26);
    let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= level, "pixels differ by {worst}");
    let view = models.encode(&pixels).unwrap();
    // A level of a pixel may move an embedding of 16 numbers a little more than other sums do.
    let photo = least - 1e-3;
    assert!(dot(&view.embedding, &floats(&golden["embedding"])) >= photo);
    let patches = rows(&golden["patches"]);
    assert_eq!(patches.len(), 16);
    for (found, expected) in view.patches.chunks_exact(16).zip(&patches) {
        assert!(dot(found, expected) >= photo, "{}", dot(found, expected));
    }
    let shares = floats(&golden["weights"]);
    assert!(view.weights.iter().zip(&shares).all(|(a, b)| (a - b).abs() < 0.005), "{:?}", view.weights);

    let settings = &bundle.manifest().tokenizer;
    let tokenizer = Tokenizer::parse(bundle.file(&settings.file).unwrap(), settings).unwrap();
    let sentences: Vec<&str> =
        golden["sentences"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for (sentence, expected) in sentences.iter().zip(golden["tokens"].as_array().unwrap()) {
        assert_eq!(serde_json::json!(tokenizer.encode_row(sentence)), *expected, "{sentence:?}");
    }
    let texts = models.encode_texts(&sentences).unwrap();
    for (found, expected) in texts.iter().zip(rows(&golden["texts"])) {
        assert!(dot(found, &expected) >= least, "{}", dot(found, &expected));
    }
}

#[test]
fn an_export_has_the_pixels_tokens_embeddings_and_patches_of_its_reference() {
    let (out, imported) = imported(&tiny());
    assert_as_the_reference(&out, EXACT);
    let manifest = &imported.manifest;
    assert_eq!((manifest.embedding.dim, manifest.embedding.patches), (16, [4, 4]));
    assert!(!manifest.tokenizer.padded, "rows of any length: {:?}", imported.notes);
    assert!(manifest.decoder.is_none());
}

#[test]
fn an_imported_bundle_labels_a_picture() {
    let (out, _) = imported(&tiny());
    let (_, mut models) = models(&out);
    let pixels = models.preprocess(&image::open(tiny().join("picture.png")).unwrap().into_rgb8());
    let view = models.encode(&pixels).unwrap();
    let labels = models.label(&view, &["a dog".to_owned(), "a bike".to_owned()]).unwrap();
    assert!((labels.iter().map(|label| label.score).sum::<f32>() - 1.0).abs() < 1e-4);
}

#[test]
fn weights_in_f16_are_computed_in_f32_and_stay_small() {
    let dir = export();
    for name in ["onnx/vision_model.onnx", "onnx/text_model.onnx"] {
        edit(&dir.path().join(name), halve);
    }
    let (out, imported) = imported(dir.path());
    assert_as_the_reference(&out, EXACT);
    let stored = onnx::stored(&fs::read(out.path().join("bundle/text_encoder.onnx")).unwrap()).unwrap();
    assert_eq!(stored[0].element_type, "float16");
    assert!(imported.manifest.graphs.text_encoder.bytes < 200_000);
}

/// As converters to f16 do it: weights, constants and ports.
fn halve(graph: &mut pb::GraphProto) {
    use pb::tensor_proto::DataType;
    let shrink = |tensor: &mut pb::TensorProto| {
        if tensor.data_type == DataType::Float as i32 {
            let words = tensor.raw_data.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
            tensor.raw_data = words.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
            tensor.data_type = DataType::Float16 as i32;
        }
    };
    graph.initializer.iter_mut().for_each(shrink);
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().for_each(shrink);
        if attribute.name == "to" && attribute.i == DataType::Float as i64 {
            attribute.i = DataType::Float16 as i64;
        }
    }
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        let pb::type_proto::Value::TensorType(tensor) = info.r#type.as_mut().unwrap().value.as_mut().unwrap();
        if tensor.elem_type == DataType::Float as i32 {
            tensor.elem_type = DataType::Float16 as i32;
        }
    }
}

#[test]
fn a_text_tower_that_asks_for_a_mask_and_for_int32_gets_both() {
    let dir = export();
    edit(&dir.path().join("onnx/text_model.onnx"), |graph| {
        let int32 = pb::tensor_proto::DataType::Int32 as i32;
        let mut mask = graph.input[0].clone();
        "attention_mask".clone_into(&mut mask.name);
        let info = graph.input[0].r#type.as_mut().unwrap().value.as_mut().unwrap();
        let pb::type_proto::Value::TensorType(tensor) = info;
        tensor.elem_type = int32;
        graph.input.push(mask);
        // Something reads it, or it would be left out.
        let output = graph.output[0].name.clone();
        let last = graph.node.iter_mut().find(|node| node.output[0] == output).unwrap();
        "before".clone_into(&mut last.output[0]);
        let node = |op: &str, inputs: &[&str], output: &str| pb::NodeProto {
            op_type: op.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        };
        let mut cast = node("Cast", &["attention_mask"], "mask_f32");
        cast.attribute.push(pb::AttributeProto {
            name: "to".to_owned(),
            i: 1,
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            ..Default::default()
        });
        let mut longest = node("ReduceMax", &["mask_f32"], "largest");
        longest.attribute.push(pb::AttributeProto {
            name: "keepdims".to_owned(),
            i: 0,
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            ..Default::default()
        });
        graph.node.extend([cast, longest, node("Mul", &["before", "largest"], &output)]);
    });
    let (out, _) = imported(dir.path());
    assert_as_the_reference(&out, EXACT);
}

#[test]
fn an_export_may_call_its_values_what_a_bundle_calls_its_ports() {
    let dir = export();
    let call = |graph: &mut pb::GraphProto, from: &str, to: &str| {
        let ports = graph.input.iter_mut().chain(&mut graph.output).map(|info| &mut info.name);
        let stored = graph.initializer.iter_mut().map(|tensor| &mut tensor.name);
        let inside = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        for name in ports.chain(stored).chain(inside).filter(|name| *name == from) {
            to.clone_into(name);
        }
    };
    edit(&dir.path().join("onnx/vision_model.onnx"), |graph| {
        call(graph, "image_embeds", "embedding");
        call(graph, "pixel_values", "patches");
        let stored = graph.initializer[0].name.clone();
        call(graph, &stored, "weights");
    });
    edit(&dir.path().join("onnx/text_model.onnx"), |graph| {
        call(graph, "text_embeds", "embedding");
        call(graph, "input_ids", "ids");
        let stored = graph.initializer[0].name.clone();
        call(graph, &stored, "mask");
    });
    let (out, _) = imported(dir.path());
    assert_as_the_reference(&out, EXACT);
}

#[test]
fn what_is_missing_is_named() {
    for (file, word) in [
        ("onnx/vision_model.onnx", "onnx/vision_model.onnx"),
        ("onnx/text_model.onnx", "onnx/text_model.onnx"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("merges.txt", "tokenizer.json"),
    ] {
        let dir = export();
        fs::remove_file(dir.path().join(file)).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains(word) && error.contains("is missing"), "{error}");
    }
    let dir = export();
    let out = tempfile::tempdir().unwrap();
    let error = import(dir.path(), &out.path().join("bundle"), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the terms of the weights"), "{error}");
    fs::write(dir.path().join("README.md"), "---\nlicense: mit\n---\n# A model\n").unwrap();
    let found = import(dir.path(), &out.path().join("bundle"), &ImportOptions::default()).unwrap();
    assert_eq!(found.manifest.license, "mit");
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let vision = |change: fn(&mut pb::GraphProto)| {
        let dir = export();
        edit(&dir.path().join("onnx/vision_model.onnx"), change);
        refusal(dir.path())
    };
    let error = vision(|graph| "hidden".clone_into(&mut graph.output[0].name));
    assert!(error.contains("no embedding among its outputs"), "{error}");
    let error = vision(|graph| {
        // The output before the projection, as exports without it have.
        let output = graph.output[0].name.clone();
        let at = graph.node.iter().position(|node| node.output[0] == output).unwrap();
        graph.node[at].output[0] = "projected".to_owned();
        let before = graph.node[at].input[0].clone();
        for name in graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
            if *name == before {
                output.clone_into(name);
            }
        }
    });
    assert!(error.contains("32 coordinates and texts 16"), "{error}");
    let error = vision(|graph| graph.node[0].op_type = "Unheard".to_owned());
    assert!(error.contains("vision_model.onnx"), "{error}");

    for (file, bytes, word) in [
        ("onnx/text_model.onnx", &b"garbage"[..], "no ONNX file"),
        ("preprocessor_config.json", b"{}", "size"),
        ("preprocessor_config.json", b"{", "EOF"),
        ("merges.txt", b"\xff", "utf-8"),
    ] {
        let dir = export();
        fs::write(dir.path().join(file), bytes).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains(file) && error.contains(word), "{error}");
    }
}

#[test]
fn a_tower_that_pools_in_an_unknown_way_has_no_sub_regions_and_says_so() {
    let dir = export();
    edit(&dir.path().join("onnx/vision_model.onnx"), |graph| {
        // The last token in the place of the first.
        let gather = graph
            .node
            .iter_mut()
            .rfind(|node| node.op_type == "Gather" && node.input[0] == "last_hidden_state")
            .unwrap();
        "last_token".clone_into(&mut gather.input[1]);
        graph.initializer.push(pb::TensorProto {
            name: "last_token".to_owned(),
            data_type: pb::tensor_proto::DataType::Int64 as i32,
            raw_data: (16i64).to_le_bytes().to_vec(),
            ..Default::default()
        });
    });
    let (out, imported) = imported(dir.path());
    assert_eq!(imported.manifest.embedding.patches, [1, 1]);
    assert!(imported.notes.iter().any(|note| note.starts_with("no sub-regions")), "{:?}", imported.notes);
    let (_, mut models) = models(&out);
    let pixels = models.preprocess(&image::open(tiny().join("picture.png")).unwrap().into_rgb8());
    let view = models.encode(&pixels).unwrap();
    assert_eq!((view.patches == view.embedding, view.weights), (true, vec![1.0]));
}

fn stored(
    name: &str,
    data_type: pb::tensor_proto::DataType,
    dims: &[i64],
    raw_data: Vec<u8>,
) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        data_type: data_type as i32,
        dims: dims.to_vec(),
        raw_data,
        ..Default::default()
    }
}

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], ints: &[(&str, i64)]) -> pb::NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let attribute = ints.iter().map(|(name, i)| onnx::attribute(name, onnx::Attr::Int(*i))).collect();
    pb::NodeProto {
        op_type: op.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        attribute,
        ..Default::default()
    }
}

/// The embeddings of a picture and of a sentence by an import of `dir`.
fn embeddings(dir: &Path) -> [Vec<f32>; 2] {
    let (out, _) = imported(dir);
    let (_, mut models) = models(&out);
    let pixels = models.preprocess(&image::open(tiny().join("picture.png")).unwrap().into_rgb8());
    let image = models.encode(&pixels).unwrap().embedding;
    [image, models.encode_texts(&["two dogs on a bike"]).unwrap().remove(0)]
}

/// An export whose weights of the first `op` with stored weights were changed by `change`, which gets the node's place and
/// the tensor's.
fn with_weights(file: &str, op: &str, change: impl FnOnce(&mut pb::GraphProto, usize, usize)) -> TempDir {
    let dir = export();
    edit(&dir.path().join(file), |graph| {
        let find = |node: &pb::NodeProto| {
            let weight = node.input.get(1)?;
            graph.initializer.iter().position(|t| t.name == *weight).filter(|_| node.op_type == op)
        };
        let (at, tensor) =
            graph.node.iter().enumerate().find_map(|(at, node)| Some((at, find(node)?))).unwrap();
        change(graph, at, tensor);
    });
    dir
}

#[test]
fn four_bits_in_blocks_are_the_numbers_that_they_stand_for() {
    use pb::tensor_proto::DataType;
    const BLOCK: usize = 16;
    // Codes, scales and zero points that are no round numbers, and the matrix that they stand for.
    let made = |depth: usize, columns: usize| {
        let n_blocks = depth / BLOCK;
        let code = |column: usize, k: usize| ((column * 7 + k * 5 + column * k) % 16) as u8;
        let zero = |column: usize, block: usize| ((column + 3 * block) % 9 + 3) as u8;
        let scale = |column: usize, block: usize| 0.01 + 0.001 * ((column + block) % 5) as f32;
        let (mut codes, mut scales, mut zeros) = (Vec::new(), Vec::new(), Vec::new());
        for column in 0..columns {
            codes.extend((0..depth / 2).map(|pair| code(column, 2 * pair) | code(column, 2 * pair + 1) << 4));
            scales.extend((0..n_blocks).map(|block| scale(column, block)));
            zeros.extend(
                (0..n_blocks / 2).map(|pair| zero(column, 2 * pair) | zero(column, 2 * pair + 1) << 4),
            );
        }
        let value = |at: usize| {
            let (k, column) = (at / columns, at % columns);
            (f32::from(code(column, k)) - f32::from(zero(column, k / BLOCK))) * scale(column, k / BLOCK)
        };
        let matrix: Vec<f32> = (0..depth * columns).map(value).collect();
        (codes, scales, zeros, matrix)
    };
    for file in ["onnx/vision_model.onnx", "onnx/text_model.onnx"] {
        let plain = with_weights(file, "MatMul", |graph, _, tensor| {
            let [depth, columns] = graph.initializer[tensor].dims[..] else { unreachable!() };
            graph.initializer[tensor].raw_data = raw(&made(depth as usize, columns as usize).3);
        });
        for halves in [false, true] {
            let small = with_weights(file, "MatMul", |graph, at, tensor| {
                let [depth, columns] = graph.initializer[tensor].dims[..] else { unreachable!() };
                let (codes, scales, zeros, _) = made(depth as usize, columns as usize);
                let dims = [columns, depth / BLOCK as i64, BLOCK as i64 / 2];
                graph.initializer.push(stored("codes", DataType::Uint8, &dims, codes));
                let half = scales.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
                let (data_type, bytes) =
                    if halves { (DataType::Float16, half) } else { (DataType::Float, raw(&scales)) };
                graph.initializer.push(stored("scales", data_type, &[scales.len() as i64], bytes));
                graph.initializer.push(stored("zeros", DataType::Uint8, &[zeros.len() as i64], zeros));
                let (input, output) = (graph.node[at].input[0].clone(), graph.node[at].output[0].clone());
                let inputs = [input.as_str(), "codes", "scales", "zeros"];
                let ints = [("K", depth), ("N", columns), ("bits", 4), ("block_size", BLOCK as i64)];
                graph.node[at] = node("MatMulNBits", &inputs, &[&output], &ints);
                graph.node[at].domain = "com.microsoft".to_owned();
            });
            for (found, expected) in embeddings(small.path()).iter().zip(embeddings(plain.path())) {
                assert!(dot(found, &expected) >= EXACT, "{file}: {}", dot(found, &expected));
            }
        }
    }
    let broken = with_weights("onnx/text_model.onnx", "MatMul", |graph, at, _| {
        graph.node[at].op_type = "MatMulNBits".to_owned();
        graph.node[at].name = "a node".to_owned();
    });
    assert!(refusal(broken.path()).contains("a node: K, N or block_size is missing"));
}

#[test]
fn a_convolution_quantized_as_it_runs_keeps_its_weights_and_computes_in_f32() {
    use pb::tensor_proto::DataType;
    const FILE: &str = "onnx/vision_model.onnx";
    let code = |at: usize| (at * 37 % 251) as u8;
    let plain = with_weights(FILE, "Conv", |graph, _, tensor| {
        let n: i64 = graph.initializer[tensor].dims.iter().product();
        let values: Vec<f32> = (0..n as usize).map(|at| (f32::from(code(at)) - 128.0) * 0.004).collect();
        graph.initializer[tensor].raw_data = raw(&values);
    });
    let small = with_weights(FILE, "Conv", |graph, at, tensor| {
        let dims = graph.initializer[tensor].dims.clone();
        let n: i64 = dims.iter().product();
        graph.initializer.push(stored("codes", DataType::Uint8, &dims, (0..n as usize).map(code).collect()));
        graph.initializer.push(stored("codes_scale", DataType::Float, &[], raw(&[0.004])));
        graph.initializer.push(stored("codes_zero", DataType::Uint8, &[], vec![128]));
        let conv = graph.node[at].clone();
        assert_eq!(conv.input.len(), 2, "without a bias");
        let own = ["x_codes", "x_scale", "x_zero"];
        let mut integer = node("ConvInteger", &[own[0], "codes", own[2], "codes_zero"], &["sums"], &[]);
        integer.attribute.clone_from(&conv.attribute);
        let spelled = [
            node("DynamicQuantizeLinear", &[&conv.input[0]], &own, &[]),
            integer,
            node("Cast", &["sums"], &["sums_f32"], &[("to", 1)]),
            node("Mul", &["x_scale", "codes_scale"], &["scale"], &[]),
            node("Mul", &["sums_f32", "scale"], &[&conv.output[0]], &[]),
        ];
        graph.node.splice(at..=at, spelled);
    });
    let [found, expected] = [&small, &plain].map(|dir| embeddings(dir.path())[0].clone());
    assert!(dot(&found, &expected) >= EXACT, "{}", dot(&found, &expected));
}
