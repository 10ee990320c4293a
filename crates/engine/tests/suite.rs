//! What every engine must do. Cases are written once and run for each engine of the build.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use engine::onnx::{self, pb};
use engine::testing::OnnxFile;
use engine::{Device, Engine, EngineError, EngineOptions, Graph, Port, Signature, Tensor, TensorView};

fn engines() -> Vec<Box<dyn Engine>> {
    vec![engine::open("tract").unwrap()]
}

fn load(engine: &dyn Engine, file: &OnnxFile) -> Box<dyn Graph> {
    engine.load("test", &file.bytes(), &file.signature(), &EngineOptions::default()).unwrap()
}

fn load_error(engine: &dyn Engine, bytes: &[u8], signature: &Signature) -> EngineError {
    match engine.load("test", bytes, signature, &EngineOptions::default()) {
        Ok(_) => panic!("{} loaded it", engine.name()),
        Err(error) => error,
    }
}

fn f32s<'a>(shape: &'a [usize], data: &'a [f32]) -> TensorView<'a> {
    TensorView::F32 { shape, data }
}

fn i64s<'a>(shape: &'a [usize], data: &'a [i64]) -> TensorView<'a> {
    TensorView::I64 { shape, data }
}

/// y = x + x, for any N.
fn double() -> OnnxFile {
    OnnxFile::new()
        .input(Port::f32("x", ["N".into(), 2.into()]))
        .node("Add", &["x", "x"], &["y"], &[])
        .output(Port::f32("y", ["N".into(), 2.into()]))
}

/// Rows of a table of 3 x 2 by index.
fn lookup() -> OnnxFile {
    OnnxFile::new()
        .input(Port::i64("ids", ["N".into()]))
        .stored_f32("table", &[3, 2], &[0.0, 1.0, 10.0, 11.0, 20.0, 21.0])
        .node("Gather", &["table", "ids"], &["rows"], &[])
        .output(Port::f32("rows", ["N".into(), 2.into()]))
}

/// A cache as decoders keep it: past (T, 2) followed by new (S, 2).
fn cache() -> OnnxFile {
    OnnxFile::new()
        .input(Port::f32("past", ["T".into(), 2.into()]))
        .input(Port::f32("new", ["S".into(), 2.into()]))
        .node("Concat", &["past", "new"], &["present"], &[("axis", 0)])
        .output(Port::f32("present", ["T+S".into(), 2.into()]))
}

fn run_error(graph: &mut dyn Graph, inputs: &[(&str, TensorView<'_>)]) -> String {
    match graph.run(inputs) {
        Err(error @ EngineError::Run { .. }) => error.to_string(),
        other => panic!("expected a run error, got {other:?}"),
    }
}

#[test]
fn runs_with_every_value_of_a_symbol() {
    for engine in engines() {
        let mut graph = load(&*engine, &double());
        for n in [1, 3, 2] {
            let x: Vec<f32> = (0..2 * n).map(|i| i as f32).collect();
            let y = graph.run(&[("x", f32s(&[n, 2], &x))]).unwrap();
            let expected = Tensor::f32([n, 2], x.iter().map(|x| 2.0 * x).collect());
            assert_eq!(y, [expected], "{}", engine.name());
        }
    }
}

#[test]
fn an_empty_past_is_a_past() {
    for engine in engines() {
        let mut graph = load(&*engine, &cache());
        let first = graph.run(&[("past", f32s(&[0, 2], &[])), ("new", f32s(&[2, 2], &[1.0; 4]))]).unwrap();
        assert_eq!(first, [Tensor::f32([2, 2], vec![1.0; 4])]);
        let second = graph.run(&[("new", f32s(&[1, 2], &[2.0; 2])), ("past", first[0].view())]).unwrap();
        assert_eq!(second, [Tensor::f32([3, 2], vec![1.0, 1.0, 1.0, 1.0, 2.0, 2.0])]);
    }
}

#[test]
fn no_bytes_garbage_and_a_cut_off_file_are_load_errors() {
    let file = lookup();
    let bytes = file.bytes();
    for engine in engines() {
        for end in 0..bytes.len() {
            // A cut can also leave a shorter message that is whole, with ports or nodes missing.
            let error = load_error(&*engine, &bytes[..end], &file.signature());
            assert!(
                matches!(error, EngineError::Load { .. } | EngineError::Signature { .. }),
                "{end}: {error}"
            );
        }
        let mut seed = 1u64;
        for len in [1, 10, 100, 10_000] {
            let garbage: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            })
            .take(len)
            .collect();
            let error = load_error(&*engine, &garbage, &file.signature());
            assert!(matches!(error, EngineError::Load { .. }), "{error}");
        }
    }
}

#[test]
fn a_flipped_byte_never_panics() {
    let file = lookup();
    let good = file.bytes();
    for engine in engines() {
        for idx in 0..good.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[idx] ^= mask;
                // Either it is refused, or it runs, or the run fails: no more can be said of a flip.
                if let Ok(mut graph) =
                    engine.load("test", &bytes, &file.signature(), &EngineOptions::default())
                {
                    drop(graph.run(&[("ids", i64s(&[1], &[1]))]));
                }
            }
        }
    }
}

#[test]
fn a_graph_larger_than_the_limits_is_a_load_error() {
    let huge_stored =
        double().stored("w", pb::tensor_proto::DataType::Float, &[1 << 20, 1 << 20], vec![0; 4]);
    let huge_port = OnnxFile::new()
        .input(Port::f32("x", [(1 << 40).into(), (1 << 40).into()]))
        .node("Relu", &["x"], &["y"], &[])
        .output(Port::f32("y", [(1 << 40).into(), (1 << 40).into()]));
    let deep = OnnxFile::new()
        .input(Port::f32("x", vec![1.into(); 9]))
        .node("Relu", &["x"], &["y"], &[])
        .output(Port::f32("y", vec![1.into(); 9]));
    let mut long = double();
    for idx in 0..20_001 {
        long = long.node("Relu", &["x"], &[&format!("r{idx}")], &[]);
    }
    for engine in engines() {
        for file in [&huge_stored, &huge_port, &deep, &long] {
            let error = load_error(&*engine, &file.bytes(), &file.signature());
            assert!(matches!(error, EngineError::Load { .. }), "{error}");
        }
    }
}

#[test]
fn data_that_does_not_fill_its_shape_is_a_load_error() {
    let file = lookup().stored("w", pb::tensor_proto::DataType::Float, &[3, 3], vec![0; 35]).node(
        "Identity",
        &["w"],
        &["v"],
        &[],
    );
    for engine in engines() {
        let error = load_error(&*engine, &file.bytes(), &file.signature());
        assert!(matches!(error, EngineError::Load { .. }), "{error}");
    }
}

#[test]
fn a_graph_that_needs_other_files_or_unknown_operators_is_a_load_error() {
    let mut external = lookup().model();
    let table = &mut external.graph.as_mut().unwrap().initializer[0];
    table.raw_data.clear();
    table.data_location = Some(pb::tensor_proto::DataLocation::External as i32);
    let entry = |key: &str, value: &str| pb::StringStringEntryProto { key: key.into(), value: value.into() };
    table.external_data = vec![entry("location", "/etc/passwd")];
    let unknown = double().node("NoSuchOperator", &["y"], &["z"], &[]).output(Port::f32("z", ["N".into()]));
    for engine in engines() {
        let error = load_error(&*engine, &onnx::encode(&external), &lookup().signature()).to_string();
        assert!(error.contains("another file"), "{error}");
        let error = load_error(&*engine, &unknown.bytes(), &unknown.signature());
        assert!(matches!(error, EngineError::Load { .. }), "{error}");
    }
}

#[test]
fn another_signature_is_reported_with_both() {
    let file = double();
    let others = [
        Signature::default(),
        Signature { inputs: vec![Port::i64("x", ["N".into(), 2.into()])], ..file.signature() },
        Signature { inputs: vec![Port::f32("x", ["N".into(), 3.into()])], ..file.signature() },
        Signature { inputs: vec![Port::f32("z", ["N".into(), 2.into()])], ..file.signature() },
        Signature { outputs: vec![], ..file.signature() },
    ];
    for engine in engines() {
        for other in &others {
            match load_error(&*engine, &file.bytes(), other) {
                EngineError::Signature { expected, found, .. } => {
                    assert_eq!((&expected, found), (other, file.signature()));
                }
                error => panic!("{error}"),
            }
        }
    }
}

#[test]
fn an_output_that_is_computed_otherwise_than_declared_is_a_load_error() {
    for port in [Port::i64("y", ["N".into(), 2.into()]), Port::f32("y", ["N".into(), 3.into()])] {
        let file = OnnxFile::new()
            .input(Port::f32("x", ["N".into(), 2.into()]))
            .node("Add", &["x", "x"], &["y"], &[])
            .output(port);
        for engine in engines() {
            let error = load_error(&*engine, &file.bytes(), &file.signature());
            assert!(matches!(error, EngineError::Load { .. }), "{error}");
        }
    }
}

#[test]
fn wrong_inputs_are_run_errors_and_the_graph_stays_usable() {
    for engine in engines() {
        let mut graph = load(&*engine, &cache());
        let past = ("past", f32s(&[1, 2], &[1.0, 2.0]));
        let new = ("new", f32s(&[1, 2], &[3.0, 4.0]));
        let cases: [&[(&str, TensorView<'_>)]; 9] = [
            &[],
            &[past],
            &[past, new, ("more", f32s(&[1], &[0.0]))],
            &[past, past],
            &[past, ("new", i64s(&[1, 2], &[3, 4]))],
            &[past, ("new", f32s(&[2], &[3.0, 4.0]))],
            &[past, ("new", f32s(&[1, 3], &[3.0, 4.0, 5.0]))],
            &[past, ("new", f32s(&[2, 2], &[3.0, 4.0]))],
            &[past, ("new", f32s(&[1 << 30, 2], &[]))],
        ];
        for inputs in cases {
            run_error(&mut *graph, inputs);
            let out = graph.run(&[past, new]).unwrap();
            assert_eq!(out, [Tensor::f32([2, 2], vec![1.0, 2.0, 3.0, 4.0])]);
        }
    }
}

#[test]
fn one_symbol_takes_one_value() {
    let file = OnnxFile::new()
        .input(Port::f32("a", ["N".into()]))
        .input(Port::f32("b", ["N".into()]))
        .node("Add", &["a", "b"], &["c"], &[])
        .output(Port::f32("c", ["N".into()]));
    for engine in engines() {
        let mut graph = load(&*engine, &file);
        let error = run_error(&mut *graph, &[("a", f32s(&[2], &[1.0; 2])), ("b", f32s(&[1], &[1.0]))]);
        assert!(error.contains("N = 2"), "{error}");
    }
}

#[test]
fn what_is_not_finite_is_a_run_error_on_either_side() {
    let file = OnnxFile::new()
        .input(Port::f32("x", ["N".into()]))
        .node("Log", &["x"], &["y"], &[])
        .output(Port::f32("y", ["N".into()]));
    for engine in engines() {
        let mut graph = load(&*engine, &file);
        let error = run_error(&mut *graph, &[("x", f32s(&[2], &[1.0, f32::NAN]))]);
        assert!(error.contains("input `x` is not finite"), "{error}");
        let error = run_error(&mut *graph, &[("x", f32s(&[1], &[0.0]))]);
        assert!(error.contains("output `y` is not finite"), "{error}");
        assert_eq!(graph.run(&[("x", f32s(&[1], &[1.0]))]).unwrap(), [Tensor::f32([1], vec![0.0])]);
    }
}

#[test]
fn a_panic_inside_the_engine_is_a_run_error_and_the_graph_stays_usable() {
    for engine in engines() {
        let mut graph = load(&*engine, &lookup());
        let good = graph.run(&[("ids", i64s(&[2], &[2, 0]))]).unwrap();
        for out_of_range in [3, 1_000_000, -100, i64::MAX, i64::MIN] {
            run_error(&mut *graph, &[("ids", i64s(&[1], &[out_of_range]))]);
            assert_eq!(graph.run(&[("ids", i64s(&[2], &[2, 0]))]).unwrap(), good);
        }
        assert!(!engine::is_engine_panic());
    }
}

#[test]
fn graphs_run_by_turns_and_repeat_themselves_exactly() {
    for engine in engines() {
        let (mut a, mut b) = (load(&*engine, &double()), load(&*engine, &lookup()));
        let x = [0.1, -0.2, 0.3, 7.0];
        let first =
            (a.run(&[("x", f32s(&[2, 2], &x))]).unwrap(), b.run(&[("ids", i64s(&[3], &[2, 1, 0]))]).unwrap());
        for _ in 0..3 {
            assert_eq!(a.run(&[("x", f32s(&[2, 2], &x))]).unwrap(), first.0);
            assert_eq!(b.run(&[("ids", i64s(&[3], &[2, 1, 0]))]).unwrap(), first.1);
        }
    }
}

#[test]
fn a_graph_moves_to_another_thread_and_runs_on_several() {
    let options = EngineOptions { threads: 2.try_into().unwrap(), ..EngineOptions::default() };
    for engine in engines() {
        let file = double();
        let mut graph = engine.load("test", &file.bytes(), &file.signature(), &options).unwrap();
        let y = std::thread::spawn(move || graph.run(&[("x", f32s(&[1, 2], &[1.0, 2.0]))]).unwrap());
        assert_eq!(y.join().unwrap(), [Tensor::f32([1, 2], vec![2.0, 4.0])]);
    }
}

#[test]
fn an_absent_engine_or_device_is_named() {
    let error = engine::open("ort").err().unwrap().to_string();
    assert!(error.contains("ort") && error.contains("tract"), "{error}");
    let file = double();
    let options = EngineOptions { device: Device::Cuda(0), ..EngineOptions::default() };
    let error = engine::open("tract").unwrap().load("test", &file.bytes(), &file.signature(), &options);
    assert!(matches!(error, Err(EngineError::Unavailable { .. })));
}

#[test]
fn stored_small_weights_run_as_their_f32_values() {
    let axis = |axis: i64| {
        OnnxFile::new()
            .input(Port::i64("ids", ["N".into()]))
            .stored_i8("q", &[2, 3], &[-127, 0, 127, 1, 2, 3])
            .stored_f32(
                "scale",
                &[if axis == 0 { 2 } else { 3 }],
                &[0.5, 2.0, 4.0][..if axis == 0 { 2 } else { 3 }],
            )
            .node("DequantizeLinear", &["q", "scale"], &["w"], &[("axis", axis)])
            .node("Gather", &["w", "ids"], &["rows"], &[])
            .output(Port::f32("rows", ["N".into(), 3.into()]))
    };
    let halves = OnnxFile::new()
        .input(Port::i64("ids", ["N".into()]))
        .stored_f16("h", &[2, 3], &[0.5, -1.0, 2.0, 3.0, 4.0, 5.0])
        .node("Cast", &["h"], &["w"], &[("to", pb::tensor_proto::DataType::Float as i64)])
        .node("Gather", &["w", "ids"], &["rows"], &[])
        .output(Port::f32("rows", ["N".into(), 3.into()]));
    let cases = [
        (axis(0), [-63.5, 0.0, 63.5, 2.0, 4.0, 6.0]),
        (axis(1), [-63.5, 0.0, 508.0, 0.5, 4.0, 12.0]),
        (axis(-1), [-63.5, 0.0, 508.0, 0.5, 4.0, 12.0]),
        (halves, [0.5, -1.0, 2.0, 3.0, 4.0, 5.0]),
    ];
    for engine in engines() {
        for (file, expected) in &cases {
            let rows = load(&*engine, file).run(&[("ids", i64s(&[2], &[0, 1]))]).unwrap();
            assert_eq!(rows[0].as_f32().unwrap(), expected);
        }
    }
}
