#!/usr/bin/env python3
"""Fine-tune the image encoder's last stage, with a new head, toward the embeddings of a text encoder (locked-text
tuning, LiT, Zhai et al. 2022).

MobileNetEdgeTPU up to the input of its 7x7 stage stays frozen, and so do the depthwise filters; the 1x1 convolutions of
that stage and a head behind the average of the grid are trained on the captioned photos of the training split. Symmetric
InfoNCE over the batch with one random caption a photo, and the cosine to the mean of its captions.

    pip install torch onnx onnxruntime pillow numpy tokenizers
    scripts/encoder.py --data ../shared/data --text models/lite --base models/lite/image_encoder.onnx --out runs/encoder

TEXT is a folder with text_encoder.onnx and tokenizer.json. BASE is an image encoder that `captiond-train encoder` or this
script wrote: its graph is kept and its weights are replaced, int8 with a scale a channel where it has them so. Writes
OUT/image_encoder.onnx; OUT/features holds the inputs of the trained stage, and OUT/checkpoint.pt lets a run that was cut
go on. About an hour on two cores.
"""
import argparse
import copy
import json
import math
import pathlib
import time

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import helper, numpy_helper
from PIL import Image, ImageEnhance
from tokenizers import Tokenizer

SIDE, GRID_CHANNELS, FEATURES, HIDDEN, DIM, TOKENS_MAX = 224, 160, 1280, 2048, 384, 48
CUT = "t56"
# Number of the first convolution, side of the depthwise filter, whether the block adds its input.
BLOCKS = [(57, 5, True), (61, 5, True), (65, 5, True), (69, 3, False)]
EXPAND = 72


def tidy(text):
    return " ".join(text.split())


def session(model, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return ort.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), options)


# Photos.


def view(photo, k, idx):
    """View 0 is the whole photo, 1 its mirror image, others are crops of 40 to 100 %, half of them mirrored and the odd
    ones with other colors; the same for a photo every time."""
    if k == 0:
        return photo
    if k == 1:
        return photo.transpose(Image.FLIP_LEFT_RIGHT)
    rng, (w, h) = np.random.default_rng([k, idx]), photo.size
    area, aspect = rng.uniform(0.4, 1.0), np.exp(rng.uniform(-0.405, 0.405))
    a, b = min(w, w * (area * aspect) ** 0.5), min(h, h * (area / aspect) ** 0.5)
    x, y = rng.uniform(0, w - a + 1e-6), rng.uniform(0, h - b + 1e-6)
    photo = photo.resize((SIDE, SIDE), Image.BICUBIC, box=(x, y, min(w, x + a), min(h, y + b)))
    if rng.random() < 0.5:
        photo = photo.transpose(Image.FLIP_LEFT_RIGHT)
    if k % 2:
        for enhance, low, high in ((ImageEnhance.Brightness, 0.75, 1.3), (ImageEnhance.Contrast, 0.75, 1.3),
                                   (ImageEnhance.Color, 0.6, 1.4)):
            photo = enhance(photo).enhance(rng.uniform(low, high))
    return photo


def pixels(photo):
    photo = photo.resize((SIDE, SIDE), Image.BICUBIC)
    return ((np.asarray(photo, np.float32) - 128) * 0.007874).transpose(2, 0, 1)[None]


def features(args, name, photos, k):
    """The input of the trained stage, f16 (n, 7, 7, 160), from its file or made and kept."""
    path = args.out / "features" / f"{name}_{k}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    model = onnx.load(args.data / "backbone/mobilenet_edgetpu_224_dequant_f32.onnx")
    graph = model.graph
    del graph.node[[node.output[0] for node in graph.node].index(CUT) + 1:], graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info(CUT, onnx.TensorProto.FLOAT, None))
    run, rows = session(model, args.threads), []
    for idx, photo in enumerate(photos):
        image = Image.open(args.data / "images" / photo).convert("RGB")
        rows.append(run.run([CUT], {"image": pixels(view(image, k, idx))})[0][0].transpose(1, 2, 0).astype(np.float16))
        if idx % 500 == 499:
            print(f"{name}, view {k}: {idx + 1} of {len(photos)} photos", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".part.npy"), np.stack(rows))
    path.with_suffix(".part.npy").rename(path)
    return np.load(path, mmap_mode="r")


# Captions.


def embed_texts(folder, texts):
    """Unit rows (n, 384) by the text encoder."""
    tokenizer, run = Tokenizer.from_file(str(folder / "tokenizer.json")), session(str(folder / "text_encoder.onnx"), 2)
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    plain = lambda text: [t for t in tokenizer.encode(text).ids if t not in (bos, eos)][: TOKENS_MAX - 2]
    ids = [[bos, *plain(text), eos] for text in texts]
    rows, order = np.zeros((len(texts), DIM), np.float32), sorted(range(len(texts)), key=lambda i: len(ids[i]))
    while order:
        length = len(ids[order[0]])
        batch = [i for i in order[:128] if len(ids[i]) == length]
        mask = np.triu(np.full((length, length), -1e9, np.float32), 1)
        rows[batch] = run.run(None, {"ids": np.array([ids[i] for i in batch], np.int64), "mask": mask})[0]
        order = order[len(batch):]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Captions:
    """Embeddings of every photo's captions, and their mean."""

    def __init__(self, folder, pairs):
        texts = [[tidy(caption) for caption in pair["captions"]] for pair in pairs]
        unique = sorted({text for group in texts for text in group})
        place = {text: i for i, text in enumerate(unique)}
        self.rows = torch.from_numpy(embed_texts(folder, unique))
        self.of = [[place[text] for text in group] for group in texts]
        self.means = torch.stack([F.normalize(self.rows[group].sum(0), dim=0) for group in self.of])

    def draw(self, photos, rng):
        return self.rows[[rng.choice(self.of[i]) for i in photos]], self.means[photos]


# The network; rows are (n, height, width, channels).


class Pointwise(nn.Module):
    def __init__(self, weights, i):
        super().__init__()
        self.weight = nn.Parameter(weights[f"w{i}"].flatten(1).clone())
        self.bias = nn.Parameter(weights[f"b{i}"].clone())

    def forward(self, x):
        return F.linear(x.bfloat16(), self.weight.bfloat16()).float() + self.bias


class Depthwise(nn.Module):
    def __init__(self, weights, i, side):
        super().__init__()
        self.weight = nn.Parameter(weights[f"w{i}"].clone(), requires_grad=False)
        self.bias, self.side = nn.Parameter(weights[f"b{i}"].clone()), side

    def forward(self, x):
        x = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, 1, self.side // 2, groups=x.shape[3])
        return x.permute(0, 2, 3, 1)


class Block(nn.Module):
    def __init__(self, weights, i, side, adds):
        super().__init__()
        self.widen, self.filter = Pointwise(weights, i), Depthwise(weights, i + 1, side)
        self.narrow, self.adds = Pointwise(weights, i + 2), adds

    def forward(self, x, path_drop):
        y = self.narrow(F.relu(self.filter(F.relu(self.widen(x)))))
        if not self.adds:
            return y
        if self.training:
            y = y * (torch.rand(len(x), 1, 1, 1) > path_drop) / (1 - path_drop)
        return x + y


class Encoder(nn.Module):
    def __init__(self, weights, args):
        super().__init__()
        self.blocks = nn.ModuleList(Block(weights, *block) for block in BLOCKS)
        self.expand = Pointwise(weights, EXPAND)
        self.hidden, self.out = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, DIM)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        self.register_buffer("shift", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.drops = args.path_drop, args.cell_drop, args.dropout_in, args.dropout

    def pooled(self, x):
        path_drop, cell_drop, _, _ = self.drops
        for block in self.blocks:
            x = block(x, path_drop)
        y = F.relu(self.expand(x))
        if not self.training:
            return y.mean((1, 2))
        kept = (torch.rand(*x.shape[:3], 1) > cell_drop).float()
        return (y * kept).sum((1, 2)) / kept.sum((1, 2)).clamp(min=1)

    def forward(self, x, frozen=False):
        _, _, dropout_in, dropout = self.drops
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            pooled = self.pooled(x)
        row = F.dropout((pooled - self.shift) * self.scale, dropout_in, self.training)
        return F.normalize(self.out(F.dropout(F.relu(self.hidden(row)), dropout, self.training)), dim=1)


def grid_of(rows):
    return torch.from_numpy(np.asarray(rows, np.float32))


@torch.no_grad()
def embed(net, grids):
    net.eval()
    return torch.cat([net(grid_of(grids[i : i + 50])) for i in range(0, len(grids), 50)])


def retrieval(images, captions):
    """Text to image R@1/5/10 and the mean cosine of a photo and its captions."""
    queries = torch.cat([captions.rows[group] for group in captions.of])
    own = torch.tensor([i for i, group in enumerate(captions.of) for _ in group])
    scores = queries @ images.T
    best = scores[torch.arange(len(own)), own]
    rank = (scores > best[:, None]).sum(1)
    recalls = "/".join(f"{100 * (rank < k).float().mean():.1f}" for k in (1, 5, 10))
    return f"text to image {recalls} %, cosine {best.mean():.4f}"


# Training.


def groups(net, args):
    """The head at its own rate; the stage's layers the slower, the earlier."""
    head = [*net.hidden.parameters(), *net.out.parameters()]
    found = [{"params": head, "base": args.lr, "weight_decay": args.weight_decay, "stage": False}]
    layers = [*net.blocks, net.expand]
    for depth, layer in enumerate(layers):
        rate = args.lr_stage * args.layer_decay ** (len(layers) - 1 - depth)
        params = [p for p in layer.parameters() if p.requires_grad]
        found.append({"params": params, "base": rate, "weight_decay": 0.0, "stage": True})
    return found


def train(args, net, views, captions, dev_grids, dev_captions):
    """The head alone first, then all; returns the moving average of the weights."""
    optimizer = torch.optim.AdamW(groups(net, args), lr=args.lr, betas=(0.9, 0.98))
    average, begin, started = copy.deepcopy(net), 0, time.time()
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        net.load_state_dict(state["net"]), average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    for step in range(begin, args.head_steps + args.steps):
        # Each step has randomness of its own, so that a run that was cut goes on as it would have.
        torch.manual_seed(args.seed * 1_000_003 + step)
        rng = np.random.default_rng([args.seed, step])
        frozen = step < args.head_steps
        at, of = (step, 4 * args.steps) if frozen else (step - args.head_steps, args.steps)
        rate = 0.5 * (1 + math.cos(math.pi * at / of)) * min(1, (at + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = 0.0 if frozen and group["stage"] else group["base"] * rate
        photos = np.sort(rng.choice(len(captions.of), args.batch, replace=False))
        x = grid_of(np.stack([views[k][i] for k, i in zip(rng.integers(0, len(views), args.batch), photos)]))
        x = torch.where((torch.rand(args.batch) < 0.5)[:, None, None, None], x.flip(2), x)
        net.train()
        images, (texts, means) = net(x, frozen), captions.draw(photos, rng)
        scores, own = images @ texts.T / args.tau, torch.arange(args.batch)
        loss = F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own) + 1 - (images * means).sum(1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        keep = min(args.ema, (2 + step) / (11 + step))
        with torch.no_grad():
            for a, b in zip(average.parameters(), net.parameters()):
                a.lerp_(b, 1 - keep)
        if step % 50 == 49:
            left = (time.time() - started) / (step + 1 - begin) * (args.head_steps + args.steps - step - 1)
            print(f"step {step + 1}: loss {loss:.3f}, {retrieval(embed(average, dev_grids), dev_captions)}, "
                  f"{left / 60:.0f} min left", flush=True)
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)
    return average


# The graph.


def int8(rows, axis):
    """Symmetric, a scale a channel."""
    other = tuple(i for i in range(rows.ndim) if i != axis)
    scale = np.maximum(np.abs(rows).max(axis=other) / 127, 1e-12).astype(np.float32)
    shape = [1] * rows.ndim
    shape[axis] = -1
    return np.clip(np.rint(rows / scale.reshape(shape)), -127, 127).astype(np.int8), scale


def export(net, base, out):
    """The base's graph with the weights of `net`; its attention over the grid becomes an average."""
    model = onnx.load(base)
    known = {tensor.name: tensor for tensor in model.graph.initializer}

    def put(name, rows, axis):
        rows = np.ascontiguousarray(rows.detach().numpy() if torch.is_tensor(rows) else rows, np.float32)
        if f"{name}_i8" in known:
            values, scale = int8(rows, axis)
            known[f"{name}_i8"].CopyFrom(numpy_helper.from_array(values, f"{name}_i8"))
            known[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{name}_scale"))
        elif f"{name}_f16" in known:
            known[f"{name}_f16"].CopyFrom(numpy_helper.from_array(rows.astype(np.float16), f"{name}_f16"))
        else:
            known[name].CopyFrom(numpy_helper.from_array(rows, name))

    for (i, _, _), block in zip(BLOCKS, net.blocks):
        for number, layer in ((i, block.widen), (i + 2, block.narrow)):
            put(f"w{number}", layer.weight[:, :, None, None], 0)
            put(f"b{number}", layer.bias, 0)
        put(f"b{i + 1}", block.filter.bias, 0)
    put("expand_weight", net.expand.weight.T, 1)
    put("expand_bias", net.expand.bias, 0)
    for name in ("score_weight", "score_bias"):
        n_heads = numpy_helper.to_array(known["score_bias"]).shape
        put(name, np.zeros(n_heads if name.endswith("bias") else (FEATURES, *n_heads), np.float32), -1)
    # The standardisation of the pooled row becomes part of the layer behind it.
    weight = net.hidden.weight * net.scale[None]
    put("hidden_weight", weight.T, 1)
    put("hidden_bias", net.hidden.bias - weight @ net.shift, 0)
    put("out_weight", net.out.weight.T, 1)
    put("out_bias", net.out.bias, 0)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in (("data", pathlib.Path), ("text", pathlib.Path), ("base", pathlib.Path), ("out", pathlib.Path)):
        args.add_argument(f"--{name}", type=kind, required=True)
    for name, value in (("views", 5), ("batch", 256), ("head-steps", 120), ("steps", 700), ("threads", 2), ("seed", 1),
                        ("lr", 1e-3), ("lr-stage", 3e-4), ("layer-decay", 0.8), ("weight-decay", 0.05), ("tau", 0.05),
                        ("dropout-in", 0.3), ("dropout", 0.6), ("path-drop", 0.1), ("cell-drop", 0.15), ("ema", 0.99)):
        args.add_argument(f"--{name}", type=type(value), default=value)
    args.add_argument("--photos", type=int, help="the first N training photos alone: to try the script out")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    pairs = [json.loads(line) for line in open(args.data / "pairs.jsonl")]
    learnt = [pair for pair in pairs if pair["split"] == "train"][: args.photos]
    dev = [pair for pair in pairs if pair["split"] == "dev" and pair["source"] == "flickr8k"][: args.photos]
    captions, dev_captions = Captions(args.text, learnt), Captions(args.text, dev)
    name = f"train{args.photos or ''}"
    views = [features(args, name, [pair["image"] for pair in learnt], k) for k in range(args.views)]
    dev_grids = features(args, f"dev{args.photos or ''}", [pair["image"] for pair in dev], 0)
    backbone = onnx.load(args.data / "backbone/mobilenet_edgetpu_224_dequant_f32.onnx").graph.initializer
    weights = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in backbone}
    net = Encoder(weights, args).eval()
    with torch.no_grad():
        pooled = torch.cat([net.pooled(grid_of(views[0][i : i + 50])) for i in range(0, min(1000, len(learnt)), 50)])
    net.shift.copy_(pooled.mean(0))
    net.scale.copy_(1 / (pooled.std(0) + 1e-3))
    average = train(args, net, views, captions, dev_grids, dev_captions)
    export(average, args.base, args.out / "image_encoder.onnx")
    run = session(str(args.out / "image_encoder.onnx"), args.threads)
    shown = [pixels(Image.open(args.data / "images" / pair["image"]).convert("RGB")) for pair in dev]
    images = torch.from_numpy(np.concatenate([run.run(["embedding"], {"pixels": x})[0] for x in shown]))
    print(f"{args.out / 'image_encoder.onnx'}, as stored: {retrieval(images, dev_captions)}")


if __name__ == "__main__":
    main()
