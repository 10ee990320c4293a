"""What the scripts that tune an image encoder have in common: photos and captions, training, stored weights."""
import argparse
import copy
import math
import pathlib
import time

import numpy as np
import onnxruntime as ort
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import numpy_helper
from PIL import Image, ImageEnhance
from tokenizers import Tokenizer

from jsonl import jsonl

DIM, TOKENS_MAX = 384, 48
# Whether products are computed in bf16: where the processor multiplies tiles of it, else it is slower than f32.
FAST = torch.cpu._is_amx_tile_supported()


# The command line.


def arguments(doc, **defaults):
    """The command line of a script that tunes an encoder, with other defaults and more arguments where they are given."""
    args = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in (("data", pathlib.Path), ("text", pathlib.Path), ("base", pathlib.Path), ("out", pathlib.Path)):
        args.add_argument(f"--{name}", type=kind, required=True)
    for name, value in (("views", 5), ("batch", 256), ("head-steps", 120), ("steps", 700), ("threads", 2), ("seed", 1),
                        ("lr", 1e-3), ("lr-stage", 3e-4), ("layer-decay", 0.8), ("weight-decay", 0.05), ("tau", 0.05),
                        ("dropout-in", 0.3), ("dropout", 0.6), ("path-drop", 0.1), ("cell-drop", 0.15), ("ema", 0.99)):
        args.add_argument(f"--{name}", type=type(value), default=defaults.pop(name.replace("-", "_"), value))
    for name, value in defaults.items():
        args.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args.add_argument("--photos", type=int, help="the first N training photos alone: to try the script out")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def steps_of(args):
    """How long a run was, for what a bundle says of itself."""
    return f"{args.head_steps} and {args.steps} steps of {args.batch}, seed {args.seed}"


# Photos.


def view(photo, k, idx, side):
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
    photo = photo.resize((side, side), Image.BICUBIC, box=(x, y, min(w, x + a), min(h, y + b)))
    if rng.random() < 0.5:
        photo = photo.transpose(Image.FLIP_LEFT_RIGHT)
    if k % 2:
        for enhance, low, high in ((ImageEnhance.Brightness, 0.75, 1.3), (ImageEnhance.Contrast, 0.75, 1.3),
                                   (ImageEnhance.Color, 0.6, 1.4)):
            photo = enhance(photo).enhance(rng.uniform(low, high))
    return photo


def pixels(photo, side):
    photo = photo.resize((side, side), Image.BICUBIC)
    return ((np.asarray(photo, np.float32) - 128) * 0.007874).transpose(2, 0, 1)[None]


def tidy(text):
    return " ".join(text.split())


def session(model, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return ort.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), options)


def features(args, model, side, name, photos, k):
    """What `model`, which has one input and one output, makes of view `k` of the photos, f16, a grid with its channels
    last; from its file, or made and kept."""
    path = args.out / "features" / f"{name}_{k}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    run, rows, port = session(model, args.threads), [], model.graph.input[0].name
    for idx, photo in enumerate(photos):
        image = Image.open(args.data / "images" / photo).convert("RGB")
        row = run.run(None, {port: pixels(view(image, k, idx, side), side)})[0][0]
        rows.append((row.transpose(1, 2, 0) if row.ndim == 3 else row).astype(np.float16))
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
        self.texts, self.rows = unique, torch.from_numpy(embed_texts(folder, unique))
        self.of = [[place[text] for text in group] for group in texts]
        self.means = torch.stack([F.normalize(self.rows[group].sum(0), dim=0) for group in self.of])

    def draw(self, photos, rng):
        return self.rows[[rng.choice(self.of[i]) for i in photos]], self.means[photos]


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


class Head(nn.Module):
    """From a pooled row to an embedding."""

    def __init__(self, n_in, n_hidden, args):
        super().__init__()
        self.hidden, self.out = nn.Linear(n_in, n_hidden), nn.Linear(n_hidden, DIM)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        self.register_buffer("shift", torch.zeros(n_in))
        self.register_buffer("scale", torch.ones(n_in))
        self.dropout_in, self.dropout = args.dropout_in, args.dropout

    def standardise(self, rows):
        """Gives what is like `rows` a mean of zero and a deviation of one."""
        self.shift.copy_(rows.mean(0))
        self.scale.copy_(1 / (rows.std(0) + 1e-3))

    def hidden_row(self, pooled):
        row = F.dropout((pooled - self.shift) * self.scale, self.dropout_in, self.training)
        return F.dropout(F.relu(self.hidden(row)), self.dropout, self.training)

    def project(self, pooled):
        return F.normalize(self.out(self.hidden_row(pooled)), dim=1)


class Tuned(Head):
    """A head behind blocks that are trained with it: subclasses have `blocks`, `expand`, and `pooled`, from grids to rows."""

    def __init__(self, n_in, n_hidden, args):
        super().__init__(n_in, n_hidden, args)
        self.path_drop, self.cell_drop = args.path_drop, args.cell_drop

    def forward(self, x, frozen=False):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            pooled = self.pooled(x)
        return self.project(pooled)


def info_nce(scores):
    """Symmetric, of the scores of images (rows) and captions, those of one photo on the diagonal."""
    own = torch.arange(len(scores))
    return F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)


def distance(images, texts, means, tau, mean_weight=1.0):
    """Symmetric InfoNCE of images and one caption of each, and their distance to the mean of all its captions."""
    return info_nce(images @ texts.T / tau) + mean_weight * (1 - (images * means).sum(1).mean())


def descend(optimizer, loss):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def rate_at(step, steps):
    """The share of the full rate: it rises over 50 steps and falls by a cosine."""
    return 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1, (step + 1) / 50)


@torch.no_grad()
def follow(average, net, ema, step):
    """Moves the average of the weights toward those of `net`: far at first, later by 1 - `ema`."""
    keep = min(ema, (2 + step) / (11 + step))
    for a, b in zip(average.parameters(), net.parameters()):
        a.lerp_(b, 1 - keep)


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
        rate = rate_at(at, of)
        for group in optimizer.param_groups:
            group["lr"] = 0.0 if frozen and group["stage"] else group["base"] * rate
        photos = np.sort(rng.choice(len(captions.of), args.batch, replace=False))
        x = grid_of(np.stack([views[k][i] for k, i in zip(rng.integers(0, len(views), args.batch), photos)]))
        x = torch.where((torch.rand(args.batch) < 0.5)[:, None, None, None], x.flip(2), x)
        net.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            images = net(x, frozen)
        loss = distance(images.float(), *captions.draw(photos, rng), args.tau)
        descend(optimizer, loss)
        follow(average, net, args.ema, step)
        if step % 50 == 49:
            left = (time.time() - started) / (step + 1 - begin) * (args.head_steps + args.steps - step - 1)
            print(f"step {step + 1}: loss {loss:.3f}, {retrieval(embed(average, dev_grids), dev_captions)}, "
                  f"{left / 60:.0f} min left", flush=True)
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)
    return average


class Photos:
    """The photos of the training split and of Flickr8k's dev split, with their captions."""

    def __init__(self, args):
        pairs = jsonl(args.data / "pairs.jsonl")
        learnt = [pair for pair in pairs if pair["split"] == "train"][: args.photos]
        dev = [pair for pair in pairs if pair["split"] == "dev" and pair["source"] == "flickr8k"][: args.photos]
        self.args, self.captions, self.dev_captions = args, Captions(args.text, learnt), Captions(args.text, dev)
        self.learnt, self.dev = ([pair["image"] for pair in group] for group in (learnt, dev))

    def views(self, model, side, prefix=""):
        """What `model` makes of each view of the photos to learn from."""
        name = f"{prefix}train{self.args.photos or ''}"
        return [features(self.args, model, side, name, self.learnt, k) for k in range(self.args.views)]

    def dev_view(self, model, side):
        """What `model` makes of the dev photos."""
        return features(self.args, model, side, f"dev{self.args.photos or ''}", self.dev, 0)

    def learn(self, model, side, net):
        """Trains `net` on what `model` makes of the photos; returns the moving average."""
        args, views, dev_grids = self.args, self.views(model, side), self.dev_view(model, side)
        net.eval()
        with torch.no_grad():
            seen = min(1000, len(self.learnt))
            pooled = torch.cat([net.pooled(grid_of(views[0][i : i + 50])) for i in range(0, seen, 50)])
        net.standardise(pooled)
        return train(args, net, views, self.captions, dev_grids, self.dev_captions)

    def judge(self, path, side):
        """Says how well the stored graph finds the dev photos."""
        run = session(str(path), self.args.threads)
        shown = (pixels(Image.open(self.args.data / "images" / photo).convert("RGB"), side) for photo in self.dev)
        images = torch.from_numpy(np.concatenate([run.run(["embedding"], {"pixels": x})[0] for x in shown]))
        print(f"{path}, as stored: {retrieval(images, self.dev_captions)}")


# Stored weights.


def int8(rows, axis):
    """Symmetric, a scale a channel."""
    other = tuple(i for i in range(rows.ndim) if i != axis)
    scale = np.maximum(np.abs(rows).max(axis=other) / 127, 1e-12).astype(np.float32)
    shape = [1] * rows.ndim
    shape[axis] = -1
    return np.clip(np.rint(rows / scale.reshape(shape)), -127, 127).astype(np.int8), scale


def put(known, name, rows, axis):
    """Other values for a stored tensor of a graph, in the form in which it is stored there."""
    rows = np.ascontiguousarray(rows.detach().numpy() if torch.is_tensor(rows) else rows, np.float32)
    if f"{name}_i8" in known:
        values, scale = int8(rows, axis)
        known[f"{name}_i8"].CopyFrom(numpy_helper.from_array(values, f"{name}_i8"))
        known[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{name}_scale"))
    elif f"{name}_f16" in known:
        known[f"{name}_f16"].CopyFrom(numpy_helper.from_array(rows.astype(np.float16), f"{name}_f16"))
    else:
        known[name].CopyFrom(numpy_helper.from_array(rows, name))


def put_head(known, head):
    """Another head for a graph; the standardisation of its input becomes part of the layer behind it."""
    weight = head.hidden.weight * head.scale[None]
    put(known, "hidden_weight", weight.T, 1)
    put(known, "hidden_bias", head.hidden.bias - weight @ head.shift, 0)
    put(known, "out_weight", head.out.weight.T, 1)
    put(known, "out_bias", head.out.bias, 0)
