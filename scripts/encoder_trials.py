#!/usr/bin/env python3
r"""What else a head of the image encoder could be trained with: losses, negatives, labels, captions that are varied.

Both heads of a bundle's two backbones are trained anew, as scripts/second_backbone.py does at its end, once for each
trial and seed, each trial with one change; the embedding is the normed sum of both. Text to image on Flickr8k dev. The
backbones are those of the bundle in f32, with the ranges of its int8 as limits.

    pip install torch onnx onnxruntime pillow numpy tokenizers
    scripts/encoder_trials.py --data ../shared/data --text models/lite \
        --base models/lite/image_encoder.onnx --out runs/trials

OUT/features holds what the backbones make of the photos, OUT/trials.jsonl what was found; a trial that is there is left
alone. About half an hour for the features, and a minute or two for each trial and seed.
"""
import copy
import json
import math
import re

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import helper, numpy_helper

from jsonl import jsonl
from tuning import (FAST, Head, Photos, arguments, descend, embed_texts, features, follow, grid_of, info_nce, rate_at,
                    retrieval, tidy)

SIDE, FIRST, HIDDENS, CLIP = 256, 1280, (2048, 1536), 512
# Each trial changes one thing; the first changes none.
TRIALS = {
    "as it ships": {},
    "all captions of a photo, mean of their logarithms": {"loss": "mean"},
    "all captions of a photo, logarithm of their sum": {"loss": "sum"},
    "sigmoid of each pair": {"loss": "sigmoid"},
    "names of classes, weight 0.03": {"names": 0.03},
    "names of classes, weight 0.3": {"names": 0.3},
    "uncaptioned photos, their nearest sentences": {"unpaired": "sentences"},
    "uncaptioned photos, their own embeddings": {"unpaired": "self"},
    "batches of neighbours": {"neighbours": 7},
    "hard negatives count more": {"hardness": 0.25},
    "two captions mixed": {"text": "mixed"},
    "captions with noise of cosine 0.9": {"text": "noisy"},
    "captions without a quarter of their words": {"text": "shortened"},
    "both heads trained on their sum": {"joint": True},
    "likewise, all captions of a photo": {"joint": True, "loss": "mean"},
    "captions that are near count too": {"soft": 0.2},
    "the last weights instead of their moving average": {"ema": 0.0},
}


# What the backbones make of photos.


def dequantized(base):
    """The graph in f32, where a quantized value is one kept within the range of its numbers; its output are the rows
    that both heads are given, behind one another."""
    graph = base.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantized = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    nodes, stored = [], []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type != "DequantizeLinear":
            nodes.append(node)
            continue
        name, source = node.output[0], quantized.get(node.input[0])
        if source:
            scale, zero = known[source.input[1]], known[source.input[2]]
            for end, code in (("least", np.iinfo(zero.dtype).min), ("most", np.iinfo(zero.dtype).max)):
                stored.append(numpy_helper.from_array(np.float32((code - float(zero)) * scale), f"{name}_{end}"))
            nodes.append(helper.make_node("Clip", [source.input[0], f"{name}_least", f"{name}_most"], [name]))
            continue
        codes, scale = known[node.input[0]].astype(np.float32), known[node.input[1]]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [-1 if i == axis else 1 for i in range(codes.ndim)] if scale.ndim else []
        stored.append(numpy_helper.from_array(codes * scale.reshape(shape).astype(np.float32), name))
    rows = [node.input[0] for node in nodes if node.op_type == "MatMul" and "hidden_weight" in node.input[1]]
    return pooled(graph, nodes, stored, rows)


def pooled(graph, nodes, stored, rows):
    makers = {node.output[0]: node for node in nodes}
    # Behind the first backbone are its patches and, before them, their average; behind the second a standardisation,
    # which is the head's.
    second = next(row for row in rows if row.startswith("second_"))
    raw = makers[makers[makers[second].input[0]].input[0]].input[0]
    average = makers[makers[next(row for row in rows if row != second)].input[0]].input[0]
    stored += [tensor for tensor in graph.initializer if not any(tensor.name == made.name for made in stored)]
    stored.append(numpy_helper.from_array(np.array([1, -1], np.int64), "one_row"))
    nodes += [helper.make_node("Reshape", [average, "one_row"], ["average"]),
              helper.make_node("Concat", ["average", raw], ["rows"], axis=1)]
    output = helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "backbones", graph.input[:1], [output], stored),
                             opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# Photos and their captions.


def shortened(text, rng):
    words = text.split()
    kept = [word for word in words if rng.random() >= 0.25]
    return " ".join(kept or words)


def named(data, captions):
    """CLIP's embeddings of the names of classes that occur in the captions of 20 photos or more, unit rows
    (names, 512), and which photo's captions have which name, (photos, names)."""
    rows, seen = [], set()
    told = [" ".join(captions.texts[i] for i in group).lower() for group in captions.of]
    spoken = [" " + " ".join(re.findall("[a-z]+", text)) + " " for text in told]
    has = []
    for names in sorted((data / "clip-fragments").glob("*_names.txt")):
        stem = names.name.removesuffix("_names.txt")
        embeddings = np.load(next((data / "clip-fragments").glob(f"{stem}_clip*.npy"))).astype(np.float32)
        for name, row in zip(names.read_text(encoding="utf-8").strip().split("\n"), embeddings, strict=True):
            words = " ".join(re.findall("[a-z]+", re.sub(r"\(.*?\)", "", name.replace("_", " ")).lower()))
            if not words or words in seen:
                continue
            seen.add(words)
            found = np.array([f" {words} " in text or f" {words}s " in text for text in spoken])
            if found.sum() >= 20:
                rows.append(row / np.linalg.norm(row))
                has.append(found)
    # What all names have in common tells none from another.
    rows = F.normalize(torch.from_numpy(np.stack(rows) - np.mean(rows, 0)), dim=1)
    return rows, torch.from_numpy(np.stack(has, 1).astype(np.float32))


class Material:
    """Everything that a trial may learn from, each part made when it is first asked for."""

    def __init__(self, args):
        self.args, self.photos = args, Photos(args)
        self.captions, self.dev_captions = self.photos.captions, self.photos.dev_captions
        self.model, self.made = dequantized(onnx.load(args.base)), {}

    def get(self, name):
        if name not in self.made:
            self.made[name] = getattr(self, name)()
        return self.made[name]

    def train_views(self):
        return [grid_of(view) for view in self.photos.views(self.model, SIDE)]

    def dev_rows(self):
        return grid_of(self.photos.dev_view(self.model, SIDE))

    def unpaired_views(self):
        photos = [line["image"] for line in jsonl(self.args.data / "unpaired.jsonl")]
        views = range(min(2, self.args.views))
        return [grid_of(features(self.args, self.model, SIDE, "unpaired", photos, k)) for k in views]

    def names(self):
        return named(self.args.data, self.captions)

    def shortened(self):
        rng = np.random.default_rng(7)
        return torch.from_numpy(embed_texts(self.args.text, [shortened(text, rng) for text in self.captions.texts]))

    def neighbours(self):
        """The photos whose captions are nearest to those of each, itself first."""
        return (self.captions.means @ self.captions.means.T).topk(32, 1).indices.numpy()

    def sentences(self):
        """Embeddings of the corpus's sentences of the data set that the uncaptioned photos are from."""
        corpus = jsonl(self.args.data / "text/corpus.jsonl.gz")
        texts = sorted({tidy(row["text"]) for row in corpus if row["source"] == "coco"})
        return torch.from_numpy(embed_texts(self.args.text, texts))

    def unpaired_targets(self):
        """For each uncaptioned photo what heads that were trained as it ships make of it, the mean of two views, and
        the five sentences that are nearest to that."""
        heads = [*learn(self, 0, [0], {}), *learn(self, 0, [1], {})]
        with torch.no_grad():
            views = [embedded(heads, rows) for rows in self.get("unpaired_views")]
        own = F.normalize(sum(views), dim=1)
        nearest = torch.cat([(chunk @ self.get("sentences").T).topk(5, 1).indices for chunk in own.split(500)])
        return own, self.get("sentences")[nearest]


# Training.


class Naming(Head):
    """A head that also names what is in the photo, in CLIP's space, from its hidden layer."""

    def __init__(self, n_in, n_hidden, args):
        super().__init__(n_in, n_hidden, args)
        self.name, self.name_bias = nn.Linear(n_hidden, CLIP), nn.Parameter(torch.tensor(-3.0))

    def forward(self, pooled):
        """Unit embeddings, and unit rows in CLIP's space."""
        hidden = self.hidden_row(pooled)
        return F.normalize(self.out(hidden), dim=1), F.normalize(self.name(hidden), dim=1)


def part_of(rows, part):
    return rows[:, :FIRST] if part == 0 else rows[:, FIRST:]


def embedded(heads, rows):
    return F.normalize(sum(head.project(part_of(rows, part)) for part, head in enumerate(heads)), dim=1)


def drawn(material, rng, change):
    """Places of the photos of a batch."""
    captions, n = material.captions, material.args.batch
    if "neighbours" not in change:
        return np.sort(rng.choice(len(captions.of), n, replace=False))
    groups = material.get("neighbours")[:, : change["neighbours"] + 1]
    starts = rng.choice(len(captions.of), n // groups.shape[1], replace=False)
    return np.unique(groups[starts])


def texts_of(material, idx, rng, change):
    """One caption of each photo, (photos, 384), or five, (photos, 5, 384)."""
    captions, kind = material.captions, change.get("text")
    if "loss" in change and change["loss"] != "sigmoid":
        return captions.rows[np.stack([np.resize(captions.of[i], 5) for i in idx])]
    places = [rng.choice(captions.of[i]) for i in idx]
    rows = captions.rows[places]
    if kind == "mixed":
        others, share = captions.rows[[rng.choice(captions.of[i]) for i in idx]], torch.rand(len(idx), 1)
        return F.normalize(share * rows + (1 - share) * others, dim=1)
    if kind == "noisy":
        noise = F.normalize(torch.randn_like(rows), dim=1)
        return F.normalize(0.9 * rows + (1 - 0.9**2) ** 0.5 * noise, dim=1)
    if kind == "shortened":
        return torch.where(torch.rand(len(idx), 1) < 0.5, material.get("shortened")[places], rows)
    return rows


def contrast(images, texts, tau, change, pair_bias):
    """How far the batch is from each photo being nearest to its own captions and they to it."""
    own, kind = torch.arange(len(images)), change.get("loss")
    if kind == "sigmoid":
        scale, bias = pair_bias
        signs = 2 * torch.eye(len(images)) - 1
        return -F.logsigmoid(signs * (images @ texts.T * scale.exp() + bias)).sum(1).mean()
    if kind:
        scores = images @ texts.flatten(0, 1).T / tau
        mine = F.log_softmax(scores, 1).view(len(images), len(images), -1)[own, own]
        found = -(mine.mean(1) if kind == "mean" else mine.logsumexp(1)).mean()
        return found + F.cross_entropy(scores.T, own.repeat_interleave(texts.shape[1]))
    scores = images @ texts.T / tau
    if "soft" in change:
        # A part of what is asked for goes to the captions by how near they are to a photo's own.
        near = F.softmax(texts @ texts.T / tau, 1) * change["soft"] + torch.eye(len(own)) * (1 - change["soft"])
        return F.cross_entropy(scores, near) + F.cross_entropy(scores.T, near)
    if "hardness" in change:
        # Negatives weighted by the exponential of their score (Robinson et al. 2021), one on the mean.
        log_weights = change["hardness"] * scores.detach()
        log_weights[own, own] = -math.inf
        rows, columns = (log_weights - log_weights.logsumexp(d, keepdim=True) + math.log(len(own) - 1) for d in (1, 0))
        eye = torch.eye(len(own), dtype=bool)
        rows, columns = rows.masked_fill(eye, 0), columns.masked_fill(eye, 0)
        return F.cross_entropy(scores + rows, own) + F.cross_entropy((scores + columns).T, own)
    return info_nce(scores)


def batch_of(material, rng, change):
    """Pooled rows, texts, means of a photo's captions, and the places of those photos that have captions."""
    idx, captions = drawn(material, rng, change), material.captions
    views = material.get("train_views")
    rows = torch.stack([views[k][i] for k, i in zip(rng.integers(0, len(views), len(idx)), idx)])
    texts, means = texts_of(material, idx, rng, change), captions.means[idx]
    if "unpaired" in change:
        own, sentences = material.get("unpaired_targets")
        more, views = rng.choice(len(own), len(idx) // 2, replace=False), material.get("unpaired_views")
        k = rng.integers(0, len(views), len(more))
        rows = torch.cat([rows, torch.stack([views[j][i] for j, i in zip(k, more)])])
        if change["unpaired"] == "self":
            texts, means = torch.cat([texts, own[more]]), torch.cat([means, own[more]])
        else:
            texts = torch.cat([texts, sentences[more, rng.integers(0, 5, len(more))]])
            means = torch.cat([means, F.normalize(sentences[more].sum(1), dim=1)])
    return rows, texts, means, idx


def learn(material, seed, parts, change):
    """Heads of some of the backbones, trained from their first weights on the normed sum of what they make: the moving
    average of each."""
    args = material.args
    torch.manual_seed(seed)
    rng, heads = np.random.default_rng(seed), nn.ModuleList()
    for part in parts:
        first = part_of(material.get("train_views")[0], part)
        heads.append(Naming(first.shape[1], HIDDENS[part], args))
        heads[-1].standardise(first)
    averages = copy.deepcopy(heads)
    pair_bias = [nn.Parameter(torch.tensor(math.log(10.0))), nn.Parameter(torch.tensor(-10.0))]
    optimizer = torch.optim.AdamW([*heads.parameters(), *pair_bias], betas=(0.9, 0.98), weight_decay=args.weight_decay)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate_at(step, args.steps)
        rows, texts, means, idx = batch_of(material, rng, change)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            made = [head.train()(part_of(rows, part)) for part, head in zip(parts, heads)]
        images = F.normalize(sum(images for images, _ in made).float(), dim=1)
        loss = contrast(images, texts, args.tau, change, pair_bias)
        loss = loss + args.mean_weight * (1 - (images * means).sum(1).mean())
        if "names" in change:
            parts_unnamed = [unnamed(names, head, material, idx) for (_, names), head in zip(made, heads)]
            loss = loss + change["names"] * sum(parts_unnamed)
        descend(optimizer, loss)
        follow(averages, heads, change.get("ema", args.ema), step)
    return averages.eval()


def unnamed(names, head, material, idx):
    """How far the names are from those of the photos' classes: the binary cross-entropy, summed over classes."""
    known, has = material.get("names")
    scores = names[: len(idx)].float() @ known.T / material.args.tau + head.name_bias
    return F.binary_cross_entropy_with_logits(scores, has[idx], reduction="none").sum(1).mean()


def main():
    args = arguments(__doc__, steps=500, batch=512, views=3, mean_weight=3.0, seeds=2, only="")
    material, found = Material(args), args.out / "trials.jsonl"
    done = {(line["trial"], line["seed"]) for line in jsonl(found)} if found.exists() else set()
    for seed in range(args.seed, args.seed + args.seeds):
        for trial, change in TRIALS.items():
            if (trial, seed) in done or args.only not in trial:
                continue
            together = [[0, 1]] if change.get("joint") else [[0], [1]]
            heads = [head for parts in together for head in learn(material, seed, parts, change)]
            with torch.no_grad():
                images = embedded(heads, material.get("dev_rows"))
            line = {"trial": trial, "seed": seed, "found": retrieval(images, material.dev_captions)}
            with open(found, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")
            print(f"{trial}, seed {seed}: {line['found']}", flush=True)


if __name__ == "__main__":
    main()
