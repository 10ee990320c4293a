//! Quantized layers under every engine of the build: the same numbers, bit for bit, however many layers deep.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::path::PathBuf;
use std::sync::OnceLock;

use engine::onnx::pb::tensor_proto::DataType;
use engine::onnx::{allow_int8_rows, encode};
use engine::testing::OnnxFile;
use engine::{EngineOptions, Port, Tensor, TensorView};

/// Pseudo-random numbers, the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn bytes(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| (self.next() % 255) as u8 as i8).collect()
    }

    /// Between -2 and 2.
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() % 40_000) as f32 / 10_000.0 - 2.0).collect()
    }
}

/// What each engine but tract makes of a graph, with what tract makes of it; says so where there is no other.
fn beside_tract(onnx: &[u8], file: &OnnxFile, inputs: &[(&str, TensorView<'_>)]) -> Vec<[Vec<Tensor>; 2]> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(engine::testing::onnxruntime_library).as_ref();
    let options = EngineOptions { library: library.cloned(), ..EngineOptions::default() };
    let run = |name: &str| {
        let mut graph = engine::open(name).unwrap().load("test", onnx, &file.signature(), &options).unwrap();
        graph.run(inputs).unwrap()
    };
    let others = engine::ENGINES.iter().filter(|name| **name != "tract");
    let others: Vec<_> = others.filter(|name| **name != "ort" || library.is_some()).collect();
    if others.is_empty() {
        use std::io::Write;
        drop(writeln!(std::io::stderr(), "skipped: no other engine than tract"));
    }
    others.into_iter().map(|name| [run("tract"), run(name)]).collect()
}

/// `value` through u8 and back.
fn through_u8(file: OnnxFile, value: &str, scale: f32, zero: u8) -> (OnnxFile, String) {
    let [scale_name, zero_name, u8_name, back] = ["s", "z", "q", "d"].map(|what| format!("{value}_{what}"));
    let file = file
        .stored_f32(&scale_name, &[], &[scale])
        .stored(&zero_name, DataType::Uint8, &[], vec![zero])
        .node("QuantizeLinear", &[value, &scale_name, &zero_name], &[&u8_name], &[])
        .node("DequantizeLinear", &[&u8_name, &scale_name, &zero_name], &[&back], &[]);
    (file, back)
}

#[test]
fn pictures_are_the_same_after_many_quantized_convolutions() {
    const SIDE: usize = 9;
    const CHANNELS: usize = 12;
    let mut numbers = Numbers(11);
    let dims = [1, CHANNELS, SIDE, SIDE];
    let mut file = OnnxFile::new().input(Port::f32("x", dims.map(Into::into)));
    let mut last;
    (file, last) = through_u8(file, "x", 0.016, 127);
    let mut earlier = last.clone();
    for layer in 0..24 {
        // Dense, 1x1 and depthwise in turn; every third adds an earlier picture.
        let (group, side) = [(1, 3), (1, 1), (CHANNELS, 3)][layer % 3];
        let n_weights = CHANNELS * CHANNELS / group * side * side;
        let [weight, codes, scale, bias, conv, sum, relu] =
            ["w", "i", "ws", "b", "c", "a", "r"].map(|what| format!("{what}{layer}"));
        let scales: Vec<f32> = (0..CHANNELS)
            .map(|_| {
                2e-2 / ((side * side * CHANNELS / group) as f32).sqrt() * (1.0 + numbers.floats(1)[0] / 8.0)
            })
            .collect();
        file = file
            .stored_i8(&codes, &[CHANNELS, CHANNELS / group, side, side], &numbers.bytes(n_weights))
            .stored_f32(&scale, &[CHANNELS], &scales)
            .stored_f32(&bias, &[CHANNELS], &numbers.floats(CHANNELS))
            .node("DequantizeLinear", &[&codes, &scale], &[&weight], &[("axis", 0)])
            .convolution(
                &[&last, &weight, &bias],
                &conv,
                &[("group", vec![group as i64]), ("pads", vec![side as i64 / 2; 4])],
            );
        let mut value = conv;
        if layer % 3 == 2 {
            file = file.node("Add", &[&value, &earlier], &[&sum], &[]);
            value = sum;
        } else {
            file = file.node("Relu", &[&value], &[&relu], &[]);
            value = relu;
        }
        (file, last) =
            through_u8(file, &value, 0.02 + 0.001 * layer as f32, if layer % 3 == 2 { 120 } else { 0 });
        if layer % 3 == 2 {
            earlier.clone_from(&last);
        }
    }
    let file = file.node("Identity", &[&last], &["out"], &[]).output(Port::f32("out", dims.map(Into::into)));
    let x = numbers.floats(dims.iter().product());
    for [tract, other] in
        beside_tract(&file.bytes(), &file, &[("x", TensorView::F32 { shape: &dims, data: &x })])
    {
        let distinct: std::collections::HashSet<u32> =
            tract[0].as_f32().unwrap().iter().map(|x| x.to_bits()).collect();
        assert!(distinct.len() > 20, "a picture of {} values tells little", distinct.len());
        assert_eq!(tract, other);
    }
}

#[test]
fn rows_are_the_same_after_products_in_int8() {
    const WIDTH: usize = 64;
    let mut numbers = Numbers(12);
    let port = |name: &str| Port::f32(name, [1.into(), "N".into(), WIDTH.into()]);
    let mut file = OnnxFile::new().input(port("x"));
    let mut last = "x".to_owned();
    for layer in 0..8 {
        let [weight, codes, scale, bias, product, sum, relu] =
            ["w", "i", "ws", "b", "p", "a", "r"].map(|what| format!("{what}{layer}"));
        file = file
            .stored_i8(&codes, &[WIDTH, WIDTH], &numbers.bytes(WIDTH * WIDTH))
            .stored_f32(&scale, &[WIDTH], &[2e-3; WIDTH])
            .stored_f32(&bias, &[WIDTH], &numbers.floats(WIDTH))
            .node("DequantizeLinear", &[&codes, &scale], &[&weight], &[("axis", (layer % 2) as i64)]);
        let mut right = weight;
        if layer % 2 == 0 {
            // The scales of a matrix that is stored the other way round.
            let turned = format!("{right}_turned");
            file = file.transposed(&right, &turned, &[1, 0]);
            right = turned;
        }
        file = file
            .node("MatMul", &[&last, &right], &[&product], &[])
            .node("Add", &[&product, &bias], &[&sum], &[])
            .node("Relu", &[&sum], &[&relu], &[]);
        last = relu;
    }
    let file = file.node("Identity", &[&last], &["out"], &[]).output(port("out"));
    let mut model = file.model();
    allow_int8_rows(&mut model);
    let x = [numbers.floats(WIDTH), vec![0.0; WIDTH], numbers.floats(WIDTH)].concat();
    let shape = [1, 3, WIDTH];
    for [tract, other] in
        beside_tract(&encode(&model), &file, &[("x", TensorView::F32 { shape: &shape, data: &x })])
    {
        assert!(tract[0].as_f32().unwrap().iter().any(|x| *x > 0.0));
        assert_eq!(tract, other);
    }
}
