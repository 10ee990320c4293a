"""A bundle under onnxruntime: the second opinion that parity.py and bench_ort.py measure captiond against.

Follows docs/bundle.md and nothing else, so that a mistake in captiond's own reading of it shows. Graphs run in f32:
weights stored as int8 or f16 are expanded first, as captiond does.

    pip install numpy onnx onnxruntime pillow safetensors tokenizers
"""
import hashlib
import importlib.metadata
import pathlib
import sys
import tempfile
import tomllib

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import load as load_safetensors
from tokenizers import Tokenizer

FORMAT = 1
MASKED = -1e9


def versions():
    """What the figures depend on."""
    packages = ["numpy", "onnx", "onnxruntime", "pillow", "tokenizers"]
    return {"python": sys.version.split()[0], **{p: importlib.metadata.version(p) for p in packages}}


def expanded(graph_bytes):
    """The graph with every DequantizeLinear or Cast of an initializer folded into an f32 initializer.

    Left alone, onnxruntime's extended optimizations fuse DequantizeLinear with MatMul and quantize activations too,
    which moves logits in the second decimal.
    """
    model = onnx.load_model_from_string(graph_bytes)
    graph = model.graph
    arrays = {i.name: i for i in graph.initializer}
    kept = []
    for node in graph.node:
        inputs = [arrays.get(name) for name in node.input if name]
        if node.op_type not in ("DequantizeLinear", "Cast") or None in inputs:
            kept.append(node)
            continue
        values = [numpy_helper.to_array(i) for i in inputs]
        attributes = {a.name: a.i for a in node.attribute}
        if node.op_type == "Cast":
            if attributes["to"] != onnx.TensorProto.FLOAT:
                kept.append(node)
                continue
            folded = values[0].astype(np.float32)
        else:
            folded = dequantized(*values, axis=attributes.get("axis", 1))
        graph.initializer.append(numpy_helper.from_array(folded, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    initializers = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    return model.SerializeToString()


def plain(graph_bytes):
    """The graph in f32: values are no longer quantized on their way. Takes what `expanded` returns."""
    model = onnx.load_model_from_string(graph_bytes)
    graph = model.graph
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    renamed = {
        node.output[0]: sources[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in sources
    }
    kept = [node for node in graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    return model.SerializeToString()


def int8(graph_bytes, batches=None):
    """onnxruntime's own int8 form of an f32 graph: static, calibrated on `batches` of inputs, or dynamic without any."""
    from onnxruntime import quantization

    weights = {"per_channel": True, "weight_type": quantization.QuantType.QInt8}
    with tempfile.TemporaryDirectory() as scratch:
        before, after = (pathlib.Path(scratch) / name for name in ("f32.onnx", "int8.onnx"))
        before.write_bytes(graph_bytes)
        if batches is None:
            quantization.quantize_dynamic(before, after, **weights)
        else:

            class Reader(quantization.CalibrationDataReader):
                def __init__(self):
                    self.left = iter(batches)

                def get_next(self):
                    return next(self.left, None)

            form = quantization.QuantFormat.QDQ
            quantization.quantize_static(before, after, Reader(), quant_format=form, **weights)
        return after.read_bytes()


def dequantized(quants, scale, zero=None, axis=1):
    shape = [1] * quants.ndim
    if scale.ndim == 1:
        shape[axis] = -1
    centred = quants.astype(np.float32) - (0 if zero is None else zero.reshape(shape).astype(np.float32))
    return centred * scale.reshape(shape)


def normalized(v):
    return v / np.linalg.norm(v)


class Bundle:
    """A verified bundle with its graphs loaded on `threads` threads of the CPU.

    `form`: "exact" computes what the graphs say, "f32" leaves out that values are quantized, "int8" is onnxruntime's own
    quantization of that, calibrated on `photos` (PIL images).
    """

    def __init__(self, folder, threads=1, form="exact", photos=()):
        self.folder = pathlib.Path(folder)
        manifest = (self.folder / "manifest.toml").read_bytes()
        self.manifest_sha256 = hashlib.sha256(manifest).hexdigest()
        self.manifest = tomllib.loads(manifest.decode())
        if self.manifest["format"] != FORMAT:
            raise SystemExit(f"{self.folder}: format {self.manifest['format']}, expected {FORMAT}")
        self.id = f"{self.manifest['name']}@{self.manifest_sha256[:8]}"
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        # A thread that spins while it waits would slow down whatever runs beside it.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def load(role, entry):
            graph = expanded(self.read(entry))
            if form != "exact":
                graph = plain(graph)
            if form == "int8":
                batches = [{"pixels": self.preprocess(photo)} for photo in photos]
                graph = int8(graph, batches if role == "image_encoder" else None)
            # Around values that are quantized, its optimizations quantize weights anew and drop a residual's digits: a
            # cosine of 0.98 with what the graph says.
            levels = onnxruntime.GraphOptimizationLevel
            exact = form == "exact" and b"QuantizeLinear" in graph
            settings.graph_optimization_level = levels.ORT_DISABLE_ALL if exact else levels.ORT_ENABLE_ALL
            return onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])

        self.graphs = {role: load(role, entry) for role, entry in self.manifest["graphs"].items()}
        tokenizer = self.manifest["tokenizer"]
        self.tokenizer = Tokenizer.from_str(self.read(tokenizer).decode())
        self.bos, self.eos, self.pad = (self.tokenizer.token_to_id(tokenizer[k]) for k in ("bos", "eos", "pad"))
        self.bridge = load_safetensors(self.read(self.manifest["bridge"])) if "bridge" in self.manifest else None
        self.memory = None
        if "memory" in self.manifest:
            stored = load_safetensors(self.read(self.manifest["memory"]))
            self.memory = stored["embeddings"].astype(np.float32) * stored["scales"][:, None]

    def read(self, entry):
        path = self.folder / entry["file"]
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if len(data) != entry["bytes"] or found != entry["sha256"]:
            raise SystemExit(f"{path}: {len(data)} bytes with sha256 {found} are not what the manifest says")
        return data

    def preprocess(self, image):
        """A PIL image to the input of the image encoder, f32 (1, 3, height, width)."""
        settings = self.manifest["preprocess"]
        size = (settings["width"], settings["height"])
        box = None
        if settings["resize"] == "crop":
            scale = min(image.width / size[0], image.height / size[1])
            w, h = size[0] * scale, size[1] * scale
            left, top = (image.width - w) / 2, (image.height - h) / 2
            box = (left, top, left + w, top + h)
        return self.normalize(np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC, box)))

    def normalize(self, pixels):
        """u8 (height, width, 3) to f32 (1, 3, height, width)."""
        settings = self.manifest["preprocess"]
        mean, std = (np.array(settings[k], np.float32) for k in ("mean", "std"))
        planes = (pixels.astype(np.float32) - mean) / std
        return np.ascontiguousarray(planes.transpose(2, 0, 1)[None])

    def encode(self, pixels):
        """Embedding (D), patch embeddings (N, D) and pooling weights (N) of one preprocessed image."""
        outputs = self.graphs["image_encoder"].run(["embedding", "patches", "weights"], {"pixels": pixels})
        return tuple(output[0] for output in outputs)

    def row(self, text):
        """The ids of a text between bos and eos, cut to what the text encoder takes."""
        special = {self.bos, self.eos, self.pad}
        ids = [i for i in self.tokenizer.encode(text, add_special_tokens=False).ids if i not in special]
        return [self.bos, *ids[: self.manifest["tokenizer"]["max_tokens"] - 2], self.eos]

    def encode_row(self, row):
        """The embedding (D) of a row of ids."""
        mask = np.triu(np.full((len(row), len(row)), MASKED, np.float32), 1)
        inputs = {"ids": np.array([row], np.int64), "mask": mask}
        return self.graphs["text_encoder"].run(["embedding"], inputs)[0][0]

    def bridged(self, embedding):
        """What the adapter takes for an image embedding: past the bridge, then the memory, where there are such."""
        if self.bridge is not None:
            embedding = normalized(embedding - self.bridge["image_mean"] + self.bridge["text_mean"])
        if self.memory is not None:
            scores = self.memory @ embedding / self.manifest["memory"]["tau"]
            weights = np.exp(scores - scores.max())
            embedding = normalized(weights / weights.sum() @ self.memory)
        return embedding.astype(np.float32)

    def prefill(self, embedding):
        """Logits (V) and cache after the adapter's prefix."""
        return self.feed_prefix(self.adapt(embedding))

    def adapt(self, embedding):
        """The prefix (1, P, d) of an embedding that `bridged` has returned."""
        return self.graphs["adapter"].run(["prefix"], {"embedding": embedding[None]})[0]

    def feed_prefix(self, prefix):
        """The decoder's first run: logits (V) and cache."""
        settings = self.manifest["decoder"]
        empty = np.zeros((1, settings["n_head"], 0, settings["head_dim"]), np.float32)
        names = [f"past_{kind}_{layer}" for layer in range(settings["n_layer"]) for kind in ("key", "value")]
        n = settings["prefix_length"]
        return self.step([self.pad] * n, 0, prefix, dict.fromkeys(names, empty))

    def step(self, ids, n_fed, prefix, cache):
        """Feeds `ids` from position `n_fed` on; the prefix is zero (None) in every step but the first."""
        settings = self.manifest["decoder"]
        if prefix is None:
            prefix = np.zeros((1, len(ids), settings["n_head"] * settings["head_dim"]), np.float32)
        positions = np.arange(n_fed, n_fed + len(ids), dtype=np.int64)
        inputs = {"ids": np.array([ids], np.int64), "positions": positions, "prefix": prefix, **cache}
        outputs = [name.removeprefix("past_") for name in cache]
        logits, *cached = self.graphs["decoder"].run(["logits", *outputs], inputs)
        return logits[0], dict(zip(cache, cached))

    def greedy(self, embedding):
        """The caption of an embedding that `bridged` has returned.

        Token ids with `eos`, if it was reached, and for each the margin: logit of the token less the next best.
        Never bos or pad; never eos first.
        """
        settings = self.manifest["decoder"]
        _, cache = self.prefill(embedding)
        n_fed = settings["prefix_length"]
        token, ids, margins = self.bos, [], []
        while token != self.eos and len(ids) < settings["max_new_tokens"]:
            logits, cache = self.step([token], n_fed, None, cache)
            n_fed += 1
            forbidden = [self.bos, self.pad] + ([self.eos] if not ids else [])
            logits[forbidden] = -np.inf
            token = int(logits.argmax())
            best = float(logits[token])
            logits[token] = -np.inf
            ids.append(token)
            margins.append(best - float(logits.max()))
        return ids, margins

    def text(self, ids):
        """The words of a caption as the tokenizer spells them."""
        return self.tokenizer.decode([i for i in ids if i not in (self.bos, self.eos, self.pad)])
