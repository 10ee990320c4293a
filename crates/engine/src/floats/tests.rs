//! Fused layers against the graph as it was written.

use std::num::NonZeroUsize;

use crate::kernels::tests::Numbers;
use crate::onnx::pb;
use crate::testing::OnnxFile;
use crate::tract::Tract;
use crate::{Engine as _, EngineOptions, Port, TensorView};

/// Name, shape and elements.
type Input = (&'static str, Vec<usize>, Vec<f32>);

fn values(numbers: &mut Numbers, n: usize) -> Vec<f32> {
    (0..n).map(|_| numbers.between(0, 4000) as f32 / 1000.0 - 2.0).collect()
}

fn port(name: &str, dims: &[usize]) -> Port {
    Port::f32(name, dims.iter().map(|dim| (*dim).into()).collect::<Vec<_>>())
}

/// Runs `file` with its layers fused, by one thread and by three, and as it was written, and compares; tells which nodes
/// were fused.
fn compare(file: &OnnxFile, inputs: &[Input]) -> Vec<String> {
    let views: Vec<(&str, TensorView<'_>)> =
        inputs.iter().map(|(name, shape, data)| (*name, TensorView::F32 { shape, data })).collect();
    let [plain, one, three] = [(false, 1), (true, 1), (true, 3)].map(|(fuse, n)| {
        let options = EngineOptions { threads: NonZeroUsize::new(n).unwrap(), ..Default::default() };
        let mut graph = Tract { fuse }.load("test", &file.bytes(), &file.signature(), &options).unwrap();
        let first = graph.run(&views).unwrap().remove(0);
        // The first run has told whether the next is worth several threads.
        assert_eq!(graph.run(&views).unwrap().remove(0).as_f32(), first.as_f32());
        first
    });
    assert_eq!(one.as_f32(), three.as_f32(), "threads change nothing");
    assert_eq!(one.shape(), plain.shape());
    for (a, b) in std::iter::zip(one.as_f32().unwrap(), plain.as_f32().unwrap()) {
        assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{a} {b}");
    }
    fused(file.model())
}

fn fused(mut model: pb::ModelProto) -> Vec<String> {
    let graph = model.graph.as_mut().unwrap();
    super::fuse(graph);
    let ours = graph.node.iter().filter_map(|node| node.op_type.strip_prefix("Captiond"));
    ours.map(str::to_owned).collect()
}

/// Where the scale of attention stands in a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Queries,
    Scores,
    Divided,
}

#[derive(Clone, Copy, Debug)]
struct Form {
    rows: [bool; 3],
    scale: Scale,
    masked: bool,
    cast: bool,
}

fn attention(numbers: &mut Numbers, form: Form, [n, h, s, r, d]: [usize; 5]) -> (OnnxFile, Vec<Input>) {
    let Form { rows, scale, masked, cast } = form;
    let dims = |rows: bool, len: usize| if rows { [n, len, h, d] } else { [n, h, len, d] };
    let mut inputs: Vec<Input> = vec![
        ("q", dims(rows[0], s).to_vec(), values(numbers, n * h * s * d)),
        ("k", dims(rows[1], r).to_vec(), values(numbers, n * h * r * d)),
        ("v", dims(rows[2], r).to_vec(), values(numbers, n * h * r * d)),
    ];
    let mut file = OnnxFile::new().stored_f32("scale", &[], &[0.37]);
    for (name, shape, _) in &inputs {
        file = file.input(port(name, shape));
    }
    let turned = |file: OnnxFile, rows: bool, from: &'static str, to: &'static str| {
        if rows { (file.transposed(from, to, &[0, 2, 1, 3]), to) } else { (file, from) }
    };
    let (file, mut q) = turned(file, rows[0], "q", "qt");
    let (mut file, v) = turned(file, rows[2], "v", "vt");
    if scale == Scale::Queries {
        file = file.node("Mul", &["scale", q], &["qs"], &[]);
        q = "qs";
    }
    let order: &[i64] = if rows[1] { &[0, 2, 3, 1] } else { &[0, 1, 3, 2] };
    file = file.transposed("k", "kt", order).node("MatMul", &[q, "kt"], &["l"], &[]);
    let mut last = "l";
    if scale != Scale::Queries {
        file = file.node(if scale == Scale::Scores { "Mul" } else { "Div" }, &["l", "scale"], &["ls"], &[]);
        last = "ls";
    }
    if masked {
        file = file.input(port("mask", &[s, r])).node("Add", &[last, "mask"], &["m"], &[]);
        inputs.push(("mask", vec![s, r], values(numbers, s * r)));
        last = "m";
    }
    file = file.node("Softmax", &[last], &["p"], &[("axis", 3)]);
    last = "p";
    if cast {
        let to_f32 = &[("to", pb::tensor_proto::DataType::Float as i64)];
        file = file.node("Cast", &["p"], &["p1"], to_f32).node("Cast", &["p1"], &["p2"], to_f32);
        last = "p2";
    }
    let file = file
        .node("MatMul", &[last, v], &["o"], &[])
        .transposed("o", "t", &[0, 2, 1, 3])
        .node("Identity", &["t"], &["out"], &[])
        .output(port("out", &[n, s, h, d]));
    (file, inputs)
}

#[test]
fn fused_attention_computes_what_the_graph_says_however_it_is_spelled() {
    let mut numbers = Numbers(9);
    for round in 0..48 {
        let sizes = [3, 4, 9, 40, 40].map(|most| numbers.between(1, most));
        let form = Form {
            rows: [round & 1 != 0, round & 2 != 0, round & 4 != 0],
            scale: [Scale::Queries, Scale::Scores, Scale::Divided][round % 3],
            masked: round & 8 != 0,
            cast: round & 16 != 0,
        };
        let (file, inputs) = attention(&mut numbers, form, sizes);
        assert_eq!(compare(&file, &inputs), ["Attend"], "{form:?}");
    }
    // Enough for more than one thread.
    let form = Form { rows: [true; 3], scale: Scale::Scores, masked: false, cast: true };
    let (file, inputs) = attention(&mut numbers, form, [2, 6, 60, 60, 32]);
    assert_eq!(compare(&file, &inputs), ["Attend"]);
}

#[test]
fn a_layer_of_a_vision_transformer_is_five_kinds_of_nodes_that_compute_what_it_says() {
    let mut numbers = Numbers(3);
    for (n_rows, depth, n_hidden) in [(50, 64, 256), (3, 48, 100), (90, 128, 512)] {
        let input = ("x", vec![1, n_rows, depth], values(&mut numbers, n_rows * depth));
        let mut weights =
            |n: usize| -> Vec<f32> { values(&mut numbers, n).iter().map(|x| 0.1 * x).collect() };
        let file = OnnxFile::new()
            .input(port("x", &[1, n_rows, depth]))
            .stored_f32("gamma", &[depth], &weights(depth))
            .stored_f32("beta", &[depth], &weights(depth))
            // Stored once for several layers.
            .node("Identity", &["beta"], &["beta_too"], &[])
            .node("LayerNormalization", &["x", "gamma", "beta_too"], &["n"], &[("axis", -1)])
            .stored_f32("up", &[depth, n_hidden], &weights(depth * n_hidden))
            .stored_f32("up_bias", &[n_hidden], &weights(n_hidden))
            .node("MatMul", &["n", "up"], &["u"], &[])
            .node("Add", &["up_bias", "u"], &["ub"], &[])
            .stored_f32("steep", &[], &[1.702])
            .node("Mul", &["ub", "steep"], &["us"], &[])
            .node("Sigmoid", &["us"], &["g"], &[])
            .node("Mul", &["ub", "g"], &["a"], &[])
            .stored_f32("down", &[depth, n_hidden], &weights(depth * n_hidden))
            .transposed("down", "down_t", &[1, 0])
            .node("MatMul", &["a", "down_t"], &["d"], &[])
            .node("Relu", &["d"], &["r"], &[])
            .node("Add", &["r", "x"], &["out"], &[])
            .output(port("out", &[1, n_rows, depth]));
        let found = compare(&file, &[input]);
        #[cfg(target_arch = "x86_64")]
        if crate::kernels::floats::is_available() {
            assert_eq!(found, ["Normalize", "MultiplyFloats", "Swish", "MultiplyFloats"]);
            continue;
        }
        assert_eq!(found, ["Normalize", "Swish"]);
    }
}

#[test]
fn a_bias_of_rows_is_none_of_columns() {
    let mut numbers = Numbers(4);
    let n = 80;
    let file = OnnxFile::new()
        .input(port("x", &[n, n]))
        .stored_f32("w", &[n, n], &values(&mut numbers, n * n))
        .stored_f32("b", &[n, 1], &values(&mut numbers, n))
        .node("MatMul", &["x", "w"], &["m"], &[])
        .node("Add", &["m", "b"], &["out"], &[])
        .output(port("out", &[n, n]));
    compare(&file, &[("x", vec![n, n], values(&mut numbers, n * n))]);
}

#[test]
fn a_graph_that_computes_in_other_floats_stays_as_it_is() {
    let mut numbers = Numbers(5);
    let form = Form { rows: [false; 3], scale: Scale::Queries, masked: false, cast: false };
    let (file, _) = attention(&mut numbers, form, [1; 5]);
    let half = &[("to", pb::tensor_proto::DataType::Float16 as i64)];
    let file = file.node("Cast", &["q"], &["unused"], half);
    assert!(fused(file.model()).is_empty());
}

#[test]
fn patches_are_convolved_as_the_graph_says_and_other_windows_left_alone() {
    let mut numbers = Numbers(6);
    for (round, size) in [[32, 48], [33, 50], [16, 16]].into_iter().enumerate() {
        let ([n, channels, n_out], [height, width]) = ([2, 3, 40], size);
        let pixels =
            ("x", vec![n, channels, height, width], values(&mut numbers, n * channels * height * width));
        let weights = values(&mut numbers, n_out * channels * 8 * 16);
        let out = [n, n_out, height / 8, width / 16];
        let file = OnnxFile::new()
            .input(port("x", &pixels.1))
            .stored_f32("w", &[n_out, channels, 8, 16], &weights)
            .stored_f32("b", &[n_out], &values(&mut numbers, n_out));
        let inputs: &[&str] = if round == 0 { &["x", "w"] } else { &["x", "w", "b"] };
        let strides = ("strides", vec![8, 16]);
        let beside = file.clone().convolution(inputs, "out", &[strides.clone(), ("pads", vec![0; 4])]);
        let found = compare(&beside.output(port("out", &out)), std::slice::from_ref(&pixels));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(found.len(), usize::from(crate::kernels::floats::is_available()));
        #[cfg(not(target_arch = "x86_64"))]
        assert!(found.is_empty());
        let padded = file.convolution(inputs, "out", &[strides, ("pads", vec![0, 0, 1, 0])]);
        let rows = (height + 1 - 8) / 8 + 1;
        assert!(fused(padded.output(port("out", &[n, n_out, rows, width / 16])).model()).is_empty());
    }
}
