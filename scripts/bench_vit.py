#!/usr/bin/env python3
"""Time a CLIP image encoder, ViT-B/32 with random weights, in captiond's engine and in onnxruntime, in turns.

    pip install numpy onnx onnxruntime torch transformers
    cargo build --release --example time_graph
    scripts/bench_vit.py

In f32, and in int8: ours is stored int8 weights with rows quantized as they come, onnxruntime's its own dynamic
quantization of the same graph. A ratio is our time over theirs in the same round; below 1 we are faster.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from bench_peers import commit, machine
from ort_bundle import int8

ROOT = pathlib.Path(__file__).resolve().parent.parent


def export(path):
    """CLIP ViT-B/32's image tower as transformers has it."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=32
    )
    config._attn_implementation = "eager"
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    pixels = torch.zeros(1, 3, 224, 224)
    names = {"input_names": ["pixel_values"], "output_names": ["image_embeds"]}

    class Embeds(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model(pixel_values=pixel_values).image_embeds

    torch.onnx.export(Embeds(), (pixels,), path, opset_version=17, dynamo=False, **names)


def int8_rows(graph_bytes):
    """The graph with int8 weights behind DequantizeLinear, and leave to quantize rows."""
    model = onnx.load_model_from_string(graph_bytes)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        weight = stored.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and len(weight.dims) == 2:
            values = numpy_helper.to_array(weight)
            scales = np.maximum(np.abs(values).max(0), 1e-9) / 127
            codes = np.clip(np.round(values / scales), -127, 127).astype(np.int8)
            names = [f"{weight.name}_{what}" for what in ("i8", "scale", "from_i8")]
            graph.initializer.append(numpy_helper.from_array(codes, names[0]))
            graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), names[1]))
            nodes.append(helper.make_node("DequantizeLinear", names[:2], names[2:], axis=1))
            node.input[1] = names[2]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.metadata_props.append(onnx.StringStringEntryProto(key="captiond.row_activations", value="int8"))
    return model.SerializeToString()


def ours(program, path, runs, threads):
    done = subprocess.run([program, path, str(runs), str(threads)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr}")
    return json.loads(done.stdout)


def theirs(session, runs):
    pixels = np.sin(np.arange(3 * 224 * 224, dtype=np.float32) * np.float32(0.1)).reshape(1, 3, 224, 224)
    times, output = [], None
    for _ in range(runs + 1):
        started = time.perf_counter()
        output = session.run(None, {session.get_inputs()[0].name: pixels})
        times.append(1e3 * (time.perf_counter() - started))
    return {"p50": statistics.median(times[1:]), "least": min(times[1:]), "output": output[0].reshape(-1)[:512].tolist()}


def cosine(a, b):
    a, b = np.array(a), np.array(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default=ROOT / "target/release/examples/time_graph")
    parser.add_argument("--graph", type=pathlib.Path, help="an exported image tower instead of one made here")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        f32, rows = (pathlib.Path(scratch) / name for name in ("f32.onnx", "int8.onnx"))
        if args.graph:
            f32.write_bytes(args.graph.read_bytes())
        else:
            export(str(f32))
        graph = f32.read_bytes()
        rows.write_bytes(int8_rows(graph))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = args.threads
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = lambda graph: onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
        f32_session, int8_session = session(graph), session(int8(graph))
        sides = {
            "captiond f32": lambda: ours(args.program, f32, args.runs, args.threads),
            "onnxruntime f32": lambda: theirs(f32_session, args.runs),
            "captiond int8": lambda: ours(args.program, rows, args.runs, args.threads),
            "onnxruntime int8": lambda: theirs(int8_session, args.runs),
        }
        rounds = [{name: side() for name, side in sides.items()} for _ in range(args.rounds)]
    print(f"ViT-B/32, {args.threads} thread(s), {args.rounds} rounds of {args.runs} runs; {machine()}; {commit()}")
    for name in sides:
        p50 = statistics.median(r[name]["p50"] for r in rounds)
        least = min(r[name]["least"] for r in rounds)
        near = cosine(rounds[0][name]["output"], rounds[0]["onnxruntime f32"]["output"])
        print(f"{name:>17}  p50 {p50:7.2f} ms  least {least:7.2f} ms  cosine with f32 {near:.5f}")
    for kind in ("f32", "int8"):
        ratios = sorted(r[f"captiond {kind}"]["p50"] / r[f"onnxruntime {kind}"]["p50"] for r in rounds)
        print(f"ratio {kind}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
