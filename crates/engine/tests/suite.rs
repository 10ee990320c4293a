//! What every engine must do. Cases are written once and run for each engine of the build; what an engine cannot pass
//! stands in [`IGNORED`] with its reason.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::path::PathBuf;
use std::sync::OnceLock;

use engine::onnx::{self, pb};
use engine::testing::OnnxFile;
use engine::{
    Device, DeviceChoice, Engine, EngineError, EngineOptions, Graph, Kept, Port, Signature, Tensor,
    TensorView,
};

/// A case, an engine, and why the engine does not pass the case.
const IGNORED: &[(&str, &str, &str)] = &[(
    "an_output_of_another_shape_than_declared_is_a_load_error",
    "ort",
    "ONNX Runtime warns and goes by what is declared; the run's own check refuses it",
)];

#[test]
fn whatever_is_ignored_is_a_case_of_an_engine() {
    let source = include_str!("suite.rs");
    for (case, engine, _) in IGNORED {
        assert!(
            source.contains(&format!("engines(\"{case}\")")) && ["tract", "ort"].contains(engine),
            "{case}"
        );
    }
}

/// The engines to run a case with.
fn engines(case: &str) -> Vec<Box<dyn Engine>> {
    let mut engines = Vec::new();
    for name in engine::ENGINES {
        if let Some((_, _, why)) = IGNORED.iter().find(|(ignored, by, _)| *ignored == case && by == name) {
            say(&format!("ignored: {case} with {name}: {why}"));
        } else if *name == "ort" && library().is_none() {
            say(&format!("skipped: {case} with ort: no library of ONNX Runtime"));
        } else {
            engines.push(engine::open(name).unwrap());
        }
    }
    engines
}

fn say(line: &str) {
    use std::io::Write;
    // Straight to the descriptor: the test harness keeps what goes through `println!`.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Looked for once: a process has one.
fn library() -> Option<&'static PathBuf> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(engine::testing::onnxruntime_library).as_ref()
}

fn options() -> EngineOptions {
    EngineOptions { library: library().cloned(), ..EngineOptions::default() }
}

fn load(engine: &dyn Engine, file: &OnnxFile) -> Box<dyn Graph> {
    engine.load("test", &file.bytes(), &file.signature(), &options()).unwrap()
}

fn load_error(engine: &dyn Engine, bytes: &[u8], signature: &Signature) -> EngineError {
    match engine.load("test", bytes, signature, &options()) {
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
    for engine in engines("runs_with_every_value_of_a_symbol") {
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
    for engine in engines("an_empty_past_is_a_past") {
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
    for engine in engines("no_bytes_garbage_and_a_cut_off_file_are_load_errors") {
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
    for engine in engines("a_flipped_byte_never_panics") {
        for idx in 0..good.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[idx] ^= mask;
                // Either it is refused, or it runs, or the run fails: no more can be said of a flip.
                if let Ok(mut graph) = engine.load("test", &bytes, &file.signature(), &options()) {
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
    for engine in engines("a_graph_larger_than_the_limits_is_a_load_error") {
        for file in [&huge_stored, &huge_port, &deep, &long] {
            let error = load_error(&*engine, &file.bytes(), &file.signature());
            assert!(matches!(error, EngineError::Load { .. }), "{error}");
        }
    }
}

#[test]
fn data_that_does_not_fill_its_shape_is_a_load_error() {
    let file = lookup()
        .stored("w", pb::tensor_proto::DataType::Float, &[3, 3], vec![0; 35])
        .node("Identity", &["w"], &["v"], &[])
        .output(Port::f32("v", [3.into(), 3.into()]));
    for engine in engines("data_that_does_not_fill_its_shape_is_a_load_error") {
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
    for engine in engines("a_graph_that_needs_other_files_or_unknown_operators_is_a_load_error") {
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
    for engine in engines("another_signature_is_reported_with_both") {
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

/// y = x + x for x of (N, 2), declared as `port`.
fn declared_as(port: Port) -> OnnxFile {
    OnnxFile::new()
        .input(Port::f32("x", ["N".into(), 2.into()]))
        .node("Add", &["x", "x"], &["y"], &[])
        .output(port)
}

#[test]
fn an_output_of_another_type_than_declared_is_a_load_error() {
    let file = declared_as(Port::i64("y", ["N".into(), 2.into()]));
    for engine in engines("an_output_of_another_type_than_declared_is_a_load_error") {
        let error = load_error(&*engine, &file.bytes(), &file.signature());
        assert!(matches!(error, EngineError::Load { .. }), "{error}");
    }
}

#[test]
fn an_output_of_another_shape_than_declared_is_a_load_error() {
    let file = declared_as(Port::f32("y", ["N".into(), 3.into()]));
    for engine in engines("an_output_of_another_shape_than_declared_is_a_load_error") {
        let error = load_error(&*engine, &file.bytes(), &file.signature());
        assert!(matches!(error, EngineError::Load { .. }), "{error}");
    }
}

#[test]
fn an_output_of_another_shape_than_declared_is_never_returned() {
    let file = declared_as(Port::f32("y", ["N".into(), 3.into()]));
    for engine in engines("an_output_of_another_shape_than_declared_is_never_returned") {
        if let Ok(mut graph) = engine.load("test", &file.bytes(), &file.signature(), &options()) {
            run_error(&mut *graph, &[("x", f32s(&[1, 2], &[1.0, 2.0]))]);
        }
    }
}

#[test]
fn wrong_inputs_are_run_errors_and_the_graph_stays_usable() {
    for engine in engines("wrong_inputs_are_run_errors_and_the_graph_stays_usable") {
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
    for engine in engines("one_symbol_takes_one_value") {
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
    for engine in engines("what_is_not_finite_is_a_run_error_on_either_side") {
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
    for engine in engines("a_panic_inside_the_engine_is_a_run_error_and_the_graph_stays_usable") {
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
    for engine in engines("graphs_run_by_turns_and_repeat_themselves_exactly") {
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
    let options = EngineOptions { threads: 2.try_into().unwrap(), ..options() };
    for engine in engines("a_graph_moves_to_another_thread_and_runs_on_several") {
        let file = double();
        let mut graph = engine.load("test", &file.bytes(), &file.signature(), &options).unwrap();
        let y = std::thread::spawn(move || graph.run(&[("x", f32s(&[1, 2], &[1.0, 2.0]))]).unwrap());
        assert_eq!(y.join().unwrap(), [Tensor::f32([1, 2], vec![2.0, 4.0])]);

        // Enough for two, once an engine knows.
        let n = 300;
        let weights: Vec<f32> = (0..n * n).map(|i| (i % 7) as f32).collect();
        let file = OnnxFile::new()
            .input(Port::f32("x", [n.into(), n.into()]))
            .stored_f32("w", &[n, n], &weights)
            .node("MatMul", &["x", "w"], &["y"], &[])
            .output(Port::f32("y", [n.into(), n.into()]));
        let mut graph = engine.load("test", &file.bytes(), &file.signature(), &options).unwrap();
        let y = std::thread::spawn(move || {
            let ones = vec![1.0; n * n];
            [(); 3].map(|()| graph.run(&[("x", f32s(&[n, n], &ones))]).unwrap().remove(0))
        });
        let sums = (0..n).map(|column| (0..n).map(|k| weights[k * n + column]).sum::<f32>());
        let row: Vec<f32> = sums.collect();
        for y in y.join().unwrap() {
            assert!(
                y.as_f32().unwrap().chunks(n).all(|found| found == row),
                "sums of whole numbers are exact"
            );
        }
    }
}

#[test]
fn an_absent_engine_or_device_is_named() {
    let error = engine::open("nonsense").err().unwrap().to_string();
    assert!(engine::ENGINES.iter().all(|name| error.contains(name)) && error.contains("nonsense"), "{error}");
    let file = double();
    for engine in engines("an_absent_engine_or_device_is_named") {
        // No machine that tests run on has so many.
        for device in [Device::Cuda(200), Device::TensorRt(200)] {
            let options = EngineOptions { device, ..options() };
            match engine.load("test", &file.bytes(), &file.signature(), &options) {
                Err(error @ (EngineError::Unavailable { .. } | EngineError::Lost { .. })) => {
                    assert!(error.to_string().contains(&device.to_string()), "{error}");
                }
                Err(error) => panic!("{error}"),
                Ok(_) => panic!("{} runs on {device}", engine.name()),
            }
        }
    }
}

#[test]
fn the_device_that_is_chosen_runs_and_the_one_that_is_not_has_a_reason() {
    let file = double();
    for engine in engines("the_device_that_is_chosen_runs_and_the_one_that_is_not_has_a_reason") {
        let cpu = DeviceChoice::Only(Device::Cpu);
        assert_eq!(engine.choose(cpu, &options()).unwrap(), (Device::Cpu, None));
        let (device, why) = engine.choose(DeviceChoice::CudaOrCpu, &options()).unwrap();
        match (device, why) {
            (Device::Cpu, Some(why)) => assert!(why.contains("cuda:0"), "{why}"),
            (Device::Cuda(0), None) => say("a CUDA device was chosen"),
            other => panic!("{other:?}"),
        }
        let options = EngineOptions { device, ..options() };
        let mut graph = engine.load("test", &file.bytes(), &file.signature(), &options).unwrap();
        graph.run(&[("x", f32s(&[1, 2], &[1.0, 2.0]))]).unwrap();
    }
}

#[test]
fn what_is_kept_is_fed_again_and_branches() {
    let file = OnnxFile::new()
        .input(Port::f32("past", ["B".into(), "T".into()]))
        .input(Port::f32("new", ["B".into(), "S".into()]))
        .node("Concat", &["past", "new"], &["present"], &[("axis", 1)])
        .node("ReduceSum", &["present"], &["sum"], &[("keepdims", 1)])
        .output(Port::f32("sum", [1.into(), 1.into()]))
        .output(Port::f32("present", ["B".into(), "T+S".into()]));
    for engine in engines("what_is_kept_is_fed_again_and_branches") {
        let mut graph = load(&*engine, &file);
        let empty = Kept::from(Tensor::f32([2, 0], vec![]));
        let new = f32s(&[2, 2], &[1.0, 2.0, 10.0, 20.0]);
        let (sum, kept) = graph.run_keeping(&[("new", new)], &[("past", &empty)], 1).unwrap();
        assert_eq!((sum, kept.len()), (vec![Tensor::f32([1, 1], vec![33.0])], 1));
        for (rows, expected) in [(&[0, 1][..], 33.0), (&[1], 30.0), (&[1, 1, 0], 63.0), (&[], 0.0)] {
            let taken = graph.take_rows(&kept, rows).unwrap();
            let zeros = vec![0.0; rows.len()];
            let shape = [rows.len(), 1];
            let new = f32s(&shape, &zeros);
            let (sum, longer) = graph.run_keeping(&[("new", new)], &[("past", &taken[0])], 1).unwrap();
            assert_eq!(sum, [Tensor::f32([1, 1], vec![expected])], "{rows:?}");
            assert_eq!(longer.len(), 1);
        }
        assert!(matches!(graph.take_rows(&kept, &[2]), Err(EngineError::Run { .. })));
        let twice = [("past", &kept[0]), ("past", &kept[0])];
        assert!(matches!(graph.run_keeping(&[("new", new)], &twice, 1), Err(EngineError::Run { .. })));
        let narrow = f32s(&[1, 2], &[1.0, 2.0]);
        let error = graph.run_keeping(&[("new", narrow)], &[("past", &kept[0])], 1);
        assert!(matches!(error, Err(EngineError::Run { .. })));
        // What was kept before a failure is still there.
        let (sum, _) = graph.run_keeping(&[("new", new)], &[("past", &kept[0])], 1).unwrap();
        assert_eq!(sum, [Tensor::f32([1, 1], vec![66.0])]);
    }
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
    for engine in engines("stored_small_weights_run_as_their_f32_values") {
        for (file, expected) in &cases {
            let rows = load(&*engine, file).run(&[("ids", i64s(&[2], &[0, 1]))]).unwrap();
            assert_eq!(rows[0].as_f32().unwrap(), expected);
        }
    }
}
