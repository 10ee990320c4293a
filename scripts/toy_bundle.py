#!/usr/bin/env python3
"""Write a bundle with random weights: every port and storage form of docs/bundle.md, in half a megabyte.

    scripts/toy_bundle.py DIR

What it says is noise, but always the same noise, so it tests the road from a photo to a sentence where no trained
bundle is at hand. One decoder weight is stored as int8, one as f16; a bridge and a memory are included.
"""
import hashlib
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_safetensors
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

D, N_EMBD, N_HEAD, N_LAYER, PREFIX, N_POSITIONS, MAX_TOKENS = 32, 48, 4, 2, 3, 48, 24
HEAD_DIM = N_EMBD // N_HEAD
TEXT = ["a dog runs across the grass", "two men sit on a bench", "is there a person?", "a red car in the street"]


class Graph:
    """A little writer: `self(op, inputs...)` appends a node and returns the name of its output."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def __call__(self, op, *inputs, out=None, **attributes):
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def const(self, value):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values):
        return self.const(np.array(values, np.int64))

    def weight(self, *shape, scale=None):
        scale = scale or 1.5 / np.sqrt(shape[0])
        return self.const((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def weight_i8(self, *shape):
        w = self.rng.standard_normal(shape) / np.sqrt(shape[0])
        scale = (np.abs(w).max(0) / 127).astype(np.float32)
        quants = self.const(np.round(w / scale).astype(np.int8))
        return self("DequantizeLinear", quants, self.const(scale), axis=1)

    def weight_f16(self, *shape):
        w = self.rng.standard_normal(shape) / np.sqrt(shape[0])
        return self("Cast", self.const(w.astype(np.float16)), to=TensorProto.FLOAT)

    def unit(self, x, out=None):
        norm = self("ReduceL2", x, self.ints(-1), keepdims=1)
        return self("Div", x, norm, out=out)

    def norm(self, x):
        return self("LayerNormalization", x, self.const(np.ones(N_EMBD, np.float32)), axis=-1)

    def heads(self, x):
        split = self("Reshape", x, self.ints(0, 0, N_HEAD, HEAD_DIM))
        return self("Transpose", split, perm=[0, 2, 1, 3])

    def attention(self, q, k, v, mask=None):
        scores = self("MatMul", q, self("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self("Mul", scores, self.const(np.float32(HEAD_DIM**-0.5)))
        if mask:
            scores = self("Add", scores, mask)
        mixed = self("MatMul", self("Softmax", scores, axis=-1), v)
        return self("Reshape", self("Transpose", mixed, perm=[0, 2, 1, 3]), self.ints(0, 0, N_EMBD))

    def mlp(self, x):
        hidden = self("Relu", self("MatMul", self.norm(x), self.weight(N_EMBD, 2 * N_EMBD)))
        return self("Add", x, self("MatMul", hidden, self.weight(2 * N_EMBD, N_EMBD)))

    def last(self, x):
        end = self("Slice", x, self.ints(-1), self.ints(2**63 - 1), self.ints(1))
        return self("Squeeze", end, self.ints(1))

    def model(self, name, inputs, outputs):
        def port(text):
            name, dims = text.split(" ", 1)
            kind, dims = dims.split("[")
            dims = [int(d) if d.isdigit() else d for d in dims.rstrip("]").split(", ")]
            return helper.make_tensor_value_info(name, TensorProto.INT64 if kind == "i64" else TensorProto.FLOAT, dims)

        graph = helper.make_graph(
            self.nodes, name, [port(i) for i in inputs], [port(o) for o in outputs], self.initializers
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        ported = lambda text: text.replace(" ", ": ", 1)
        return model.SerializeToString(), [ported(i) for i in inputs], [ported(o) for o in outputs]


def image_encoder():
    g = Graph(1)
    pooled = g("AveragePool", "pixels", kernel_shape=[32, 32], strides=[32, 32])
    cells = g("Transpose", g("Reshape", pooled, g.ints(0, 0, -1)), perm=[0, 2, 1])
    mixed = g("Add", g("MatMul", cells, g.weight(3, D)), g.weight(49, D, scale=0.3))
    patches = g.unit(g("Tanh", mixed), out="patches")
    scores = g("Squeeze", g("MatMul", patches, g.weight(D, 1)), g.ints(2))
    weights = g("Softmax", scores, axis=-1, out="weights")
    sums = g("Squeeze", g("MatMul", g("Unsqueeze", weights, g.ints(1)), patches), g.ints(1))
    g.unit(sums, out="embedding")
    outputs = [f"embedding f32[1, {D}]", f"patches f32[1, 49, {D}]", "weights f32[1, 49]"]
    return g.model("image_encoder", ["pixels f32[1, 3, 224, 224]"], outputs)


def text_encoder(vocab_size):
    g = Graph(2)
    x = g("Gather", g.weight(vocab_size, N_EMBD, scale=1.0), "ids")
    q, k, v = (g.heads(g("MatMul", g.norm(x), g.weight(N_EMBD, N_EMBD))) for _ in range(3))
    x = g.mlp(g("Add", x, g.attention(q, k, v, mask="mask")))
    g.unit(g("MatMul", g.last(x), g.weight(N_EMBD, D)), out="embedding")
    return g.model("text_encoder", ["ids i64[B, S]", "mask f32[S, S]"], [f"embedding f32[B, {D}]"])


def adapter():
    g = Graph(3)
    flat = g("MatMul", "embedding", g.weight(D, PREFIX * N_EMBD, scale=1.0))
    g("Reshape", flat, g.ints(0, PREFIX, N_EMBD), out="prefix")
    return g.model("adapter", [f"embedding f32[B, {D}]"], [f"prefix f32[B, {PREFIX}, {N_EMBD}]"])


def decoder(vocab_size, pad):
    g = Graph(4)
    table = g.rng.standard_normal((vocab_size, N_EMBD)).astype(np.float32)
    table[pad] = 0
    x = g("Add", g("Gather", g.const(table), "ids"), "prefix")
    x = g("Add", x, g("Gather", g.weight(N_POSITIONS, N_EMBD, scale=1.0), "positions"))
    inputs = ["ids i64[B, S]", "positions i64[S]", f"prefix f32[B, S, {N_EMBD}]"]
    outputs = [f"logits f32[B, {vocab_size}]"]
    for layer in range(N_LAYER):
        normed = g.norm(x)
        q = g.heads(g("MatMul", normed, g.weight_i8(N_EMBD, N_EMBD)))
        k = g.heads(g("MatMul", normed, g.weight(N_EMBD, N_EMBD)))
        v = g.heads(g("MatMul", normed, g.weight_f16(N_EMBD, N_EMBD)))
        k = g("Concat", f"past_key_{layer}", k, axis=2, out=f"key_{layer}")
        v = g("Concat", f"past_value_{layer}", v, axis=2, out=f"value_{layer}")
        inputs += [f"past_{kind}_{layer} f32[B, {N_HEAD}, T, {HEAD_DIM}]" for kind in ("key", "value")]
        outputs += [f"{kind}_{layer} f32[B, {N_HEAD}, T+S, {HEAD_DIM}]" for kind in ("key", "value")]
        x = g.mlp(g("Add", x, g.attention(q, k, v)))
    g("MatMul", g.norm(g.last(x)), g.weight(N_EMBD, vocab_size), out="logits")
    return g.model("decoder", inputs, outputs)


def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>", "<bos>", "<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXT, trainer)
    return bpe


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    bpe = tokenizer()
    vocab_size, pad = bpe.get_vocab_size(), bpe.token_to_id("<pad>")
    rng = np.random.default_rng(5)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    rows = unit(rng.standard_normal((200, D)))
    scales = (np.abs(rows).max(1) / 127).astype(np.float32)
    mean = lambda: (0.5 * unit(rng.standard_normal(D))).astype(np.float32)
    files = {
        "tokenizer.json": bpe.to_str().encode(),
        "bridge.safetensors": save_safetensors({"image_mean": mean(), "text_mean": mean()}),
        "memory.safetensors": save_safetensors(
            {"embeddings": np.round(rows / scales[:, None]).astype(np.int8), "scales": scales}
        ),
    }
    graphs = {
        "image_encoder": image_encoder(),
        "text_encoder": text_encoder(vocab_size),
        "adapter": adapter(),
        "decoder": decoder(vocab_size, pad),
    }
    files |= {f"{role}.onnx": model for role, (model, _, _) in graphs.items()}

    def entry(name):
        data = files[name]
        return f'file = "{name}"\nbytes = {len(data)}\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'

    manifest = f"""format = 1
name = "toy"
version = "0.1.0"
license = "Random numbers: no rights are claimed."
provenance = "scripts/toy_bundle.py"

[preprocess]
width = 224
height = 224
resize = "squash"
filter = "bicubic"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]

[embedding]
dim = {D}
logit_scale = 20.0
patches = [7, 7]

[tokenizer]
{entry("tokenizer.json")}bos = "<bos>"
eos = "<eos>"
pad = "<pad>"
vocab_size = {vocab_size}
max_tokens = {MAX_TOKENS}

[decoder]
prefix_length = {PREFIX}
n_layer = {N_LAYER}
n_head = {N_HEAD}
head_dim = {HEAD_DIM}
n_positions = {N_POSITIONS}
max_new_tokens = 16
beam_width = 3

[decoder.rerank]
n_candidates = 4
fluency = 0.05

[vqa]
unsure_below = 0.6
decoder_weight = 1.0
similarity_weight = 1.0
yes_bias = 0.0

[bridge]
{entry("bridge.safetensors")}
[memory]
{entry("memory.safetensors")}tau = 0.02
"""
    quoted = lambda ports: ", ".join(f'"{p}"' for p in ports)
    for role, (_, inputs, outputs) in graphs.items():
        manifest += f"\n[graphs.{role}]\n{entry(f'{role}.onnx')}inputs = [{quoted(inputs)}]\noutputs = [{quoted(outputs)}]\n"
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.toml").write_text(manifest, encoding="utf-8")
    print(f"{folder}: {sum(map(len, files.values()))} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
