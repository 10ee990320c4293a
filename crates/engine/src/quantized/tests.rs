//! Fused layers against the graph as it was written, which tract computes in f32.

use crate::kernels::tests::Numbers;
use crate::onnx;
use crate::onnx::pb::tensor_proto::DataType;
use crate::testing::OnnxFile;
use crate::tract::Tract;
use crate::{Engine as _, EngineOptions, Port, TensorView};

/// A step of u8 in these graphs.
const STEP: f32 = 0.02;

/// Name, shape and elements.
type Input = (&'static str, Vec<usize>, Vec<f32>);

/// `value` through u8, with a zero point.
fn through_u8(file: OnnxFile, value: &str, zero: u8) -> OnnxFile {
    let [scale, zero_name, u8_name, back] = ["s", "z", "q", "d"].map(|what| format!("{value}_{what}"));
    file.stored_f32(&scale, &[], &[STEP])
        .stored(&zero_name, DataType::Uint8, &[], vec![zero])
        .node("QuantizeLinear", &[value, &scale, &zero_name], &[&u8_name], &[])
        .node("DequantizeLinear", &[&u8_name, &scale, &zero_name], &[&back], &[])
}

fn kernel(file: OnnxFile, name: &str, dims: &[usize], axis: i64, numbers: &mut Numbers) -> OnnxFile {
    let n = dims[axis as usize];
    let scales: Vec<f32> = (0..n).map(|_| 1e-4 * numbers.between(5, 20) as f32).collect();
    let [i8_name, scale] = ["i8", "scale"].map(|what| format!("{name}_{what}"));
    file.stored_i8(&i8_name, dims, &numbers.weights(dims.iter().product()))
        .stored_f32(&scale, &[n], &scales)
        .node("DequantizeLinear", &[&i8_name, &scale], &[name], &[("axis", axis)])
}

/// Runs `file` with its layers fused and as it was written, and compares; tells how many nodes were fused.
fn compare(file: &OnnxFile, inputs: &[Input]) -> usize {
    let mut model = file.model();
    super::fuse(model.graph.as_mut().unwrap(), false);
    let n_fused = model
        .graph
        .iter()
        .flat_map(|graph| &graph.node)
        .filter(|node| node.op_type.starts_with("Captiond"))
        .count();
    let views: Vec<(&str, TensorView<'_>)> =
        inputs.iter().map(|(name, shape, data)| (*name, TensorView::F32 { shape, data })).collect();
    let [fused, plain] = [true, false].map(|fuse| {
        let mut graph =
            Tract { fuse }.load("test", &file.bytes(), &file.signature(), &EngineOptions::default()).unwrap();
        graph.run(&views).unwrap()
    });
    let mut model = file.model();
    super::spell(&mut model, false).unwrap();
    let mut spelled = Tract { fuse: false }
        .load("test", &onnx::encode(&model), &file.signature(), &EngineOptions::default())
        .unwrap();
    assert!(spelled.run(&views).unwrap() == fused, "spelled out, it is the same");
    let (mut n, mut n_apart) = (0, 0);
    for (fused, plain) in std::iter::zip(&fused, &plain) {
        assert_eq!(fused.shape(), plain.shape());
        for (a, b) in std::iter::zip(fused.as_f32().unwrap(), plain.as_f32().unwrap()) {
            // f32 sums end on another side of a half now and then: one step, and few of them.
            assert!((a - b).abs() < 1.01 * STEP, "{a} {b}");
            n += 1;
            n_apart += usize::from((a - b).abs() > 1e-3 * STEP);
        }
    }
    assert!(n > 0 && n_apart * 50 <= n, "{n_apart} of {n} apart");
    n_fused
}

/// None lies half way between two steps: tract multiplies by the reciprocal of a step, which may end on its other side.
fn values(numbers: &mut Numbers, n: usize) -> Vec<f32> {
    (0..n).map(|_| numbers.between(0, 4000) as f32 / 1000.0 - 1.999_63).collect()
}

/// A convolution of any kind between u8 pictures, perhaps with a sum and ReLU.
fn convolution(numbers: &mut Numbers) -> (OnnxFile, Vec<Input>) {
    let depthwise = numbers.between(0, 2) == 0;
    let sum = numbers.between(0, 1) == 1;
    let n_out = numbers.between(1, 40);
    let n_in = if depthwise { n_out } else { numbers.between(1, 20) };
    let (kernel_size, stride) = (numbers.between(1, 5), numbers.between(1, 2));
    let (height, width) = (numbers.between(5, 13), numbers.between(5, 13));
    let pads = [0; 4].map(|_| numbers.between(0, kernel_size / 2));
    let out = |n: usize, before: usize, after: usize| (n + before + after - kernel_size) / stride + 1;
    let (out_height, out_width) = (out(height, pads[0], pads[2]), out(width, pads[1], pads[3]));
    let dims = |c: usize, h: usize, w: usize| [1, c, h, w];

    let mut file = OnnxFile::new().input(Port::f32("x", dims(n_in, height, width).map(Into::into)));
    let mut inputs = vec![("x", dims(n_in, height, width).to_vec(), values(numbers, n_in * height * width))];
    file = through_u8(file, "x", numbers.between(60, 190) as u8);
    let w_dims = [n_out, if depthwise { 1 } else { n_in }, kernel_size, kernel_size];
    file = kernel(file, "w", &w_dims, 0, numbers);
    let group = if depthwise { n_out as i64 } else { 1 };
    let bias = values(numbers, n_out);
    file = file.stored_f32("b", &[n_out], &bias).convolution(
        &["x_d", "w", "b"],
        "c",
        &[
            ("group", vec![group]),
            ("strides", vec![stride as i64; 2]),
            ("pads", pads.map(|n| n as i64).to_vec()),
        ],
    );
    let mut last = "c";
    if sum {
        let out_dims = dims(n_out, out_height, out_width);
        file = file.input(Port::f32("r", out_dims.map(Into::into)));
        inputs.push(("r", out_dims.to_vec(), values(numbers, n_out * out_height * out_width)));
        file = through_u8(file, "r", 128);
        let terms = if numbers.between(0, 1) == 0 { ["c", "r_d"] } else { ["r_d", "c"] };
        file = file.node("Add", &terms, &["a"], &[]);
        last = "a";
    }
    if numbers.between(0, 1) == 1 {
        file = file.node("Relu", &[last], &["y"], &[]);
        last = "y";
    }
    file = through_u8(file, last, numbers.between(0, 128) as u8);
    let back = format!("{last}_d");
    file = file
        .node("Identity", &[&back], &["out"], &[])
        .output(Port::f32("out", dims(n_out, out_height, out_width).map(Into::into)));
    (file, inputs)
}

#[test]
fn a_fused_convolution_computes_what_the_graph_says() {
    let mut numbers = Numbers(4);
    for _ in 0..80 {
        let (file, inputs) = convolution(&mut numbers);
        // One step into u8 for each input, the convolution, one step back.
        assert_eq!(compare(&file, &inputs), inputs.len() + 2);
    }
}

#[test]
fn a_fused_product_computes_what_the_graph_says() {
    let mut numbers = Numbers(5);
    for _ in 0..40 {
        let (n_rows, depth, n_columns) =
            (numbers.between(1, 20), 4 * numbers.between(1, 20), numbers.between(1, 70));
        let mut file = OnnxFile::new().input(Port::f32("x", [1.into(), "N".into(), depth.into()]));
        file = through_u8(file, "x", numbers.between(0, 255) as u8);
        file = kernel(file, "w", &[depth, n_columns], 1, &mut numbers).node(
            "MatMul",
            &["x_d", "w"],
            &["m"],
            &[],
        );
        let mut last = "m";
        if numbers.between(0, 1) == 1 {
            let bias = values(&mut numbers, n_columns);
            file = file.stored_f32("b", &[n_columns], &bias).node("Add", &["m", "b"], &["s"], &[]);
            last = "s";
        }
        if numbers.between(0, 1) == 1 {
            file = file.node("Relu", &[last], &["r"], &[]);
            last = "r";
        }
        let file = file
            .node("Identity", &[last], &["out"], &[])
            .output(Port::f32("out", [1.into(), "N".into(), n_columns.into()]));
        let x = values(&mut numbers, n_rows * depth);
        assert_eq!(compare(&file, &[("x", vec![1, n_rows, depth], x)]), 2);
    }
}

#[test]
fn what_something_else_reads_too_is_left_as_it_is() {
    let mut numbers = Numbers(6);
    let port = |name: &str| Port::f32(name, [1.into(), 4.into(), 3.into(), 3.into()]);
    let mut file = through_u8(OnnxFile::new().input(port("x")), "x", 128);
    file = kernel(file, "w", &[4, 4, 1, 1], 0, &mut numbers).convolution(&["x_d", "w"], "c", &[]).node(
        "Relu",
        &["c"],
        &["y"],
        &[],
    );
    let file = through_u8(file, "y", 0).node("Add", &["y_d", "c"], &["out"], &[]).output(port("out"));
    let x = values(&mut numbers, 36);
    assert_eq!(compare(&file, &[("x", vec![1, 4, 3, 3], x)]), 0);
}

#[test]
fn a_product_of_what_is_a_picture_too_is_left_as_it_is() {
    let mut numbers = Numbers(10);
    let port = |name: &str| Port::f32(name, [1.into(), 4.into(), 3.into(), 4.into()]);
    let mut file = through_u8(OnnxFile::new().input(port("x")), "x", 128);
    file = kernel(file, "w", &[4, 4, 1, 1], 0, &mut numbers);
    file = kernel(file, "m", &[4, 4], 1, &mut numbers)
        .node("MatMul", &["x_d", "m"], &["p"], &[])
        .convolution(&["x_d", "w"], "c", &[]);
    let file = through_u8(file, "c", 128).node("Add", &["c_d", "p"], &["out"], &[]).output(port("out"));
    let x = values(&mut numbers, 48);
    // The step into u8, the convolution, and two steps back.
    assert_eq!(compare(&file, &[("x", vec![1, 4, 3, 4], x)]), 4);
}

#[test]
fn threads_share_a_layer_and_change_nothing() {
    let mut numbers = Numbers(7);
    for _ in 0..10 {
        let (file, inputs) = convolution(&mut numbers);
        let views: Vec<(&str, TensorView<'_>)> =
            inputs.iter().map(|(name, shape, data)| (*name, TensorView::F32 { shape, data })).collect();
        let [one, three] = [1, 3].map(|n| {
            let options =
                EngineOptions { threads: std::num::NonZeroUsize::new(n).unwrap(), ..Default::default() };
            let mut graph =
                Tract { fuse: true }.load("test", &file.bytes(), &file.signature(), &options).unwrap();
            // The first run tells whether the next is worth several threads.
            graph.run(&views).unwrap();
            graph.run(&views).unwrap()
        });
        assert_eq!(one[0].as_f32(), three[0].as_f32());
    }
}
