#!/usr/bin/env python3
"""Compares what `captiond bundle import` makes of CLIP models with the implementations that they come from.

    scripts/import_parity.py --data ../shared/data --out runs/import [--model vit-b-32 ...] [--report docs/import.md]

Each model has its true shapes and random weights: no weights are at hand that could be distributed, and a graph does not
know whether it was trained. Photos and sentences are real. `clip_exports.py` makes the models and says what it needs. The photos
are decoded by Pillow for both sides: decoders of JPEG differ by more than resizers.

What was measured is kept in `results.json` of `--out`, model by model, and the table is made of all of it, so that large models
can be measured one at a time.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys

import clip_exports
import numpy as np
import torch
from PIL import Image

from jsonl import jsonl

CARGO = ["cargo", *os.environ.get("CARGO_ARGS", "").split(), "run", "--release", "--quiet"]
MODELS = [*clip_exports.VIT, clip_exports.SIGLIP, *clip_exports.OPEN_CLIP]
# Photos and sentences; the large towers take seconds a photo.
SIZES = {"tiny": (50, 200), "vit-b-32": (50, 200)}
SIZE = (12, 60)
BARS = {"fp32": 0.9999, "fp16": 0.99, "quantized": 0.99, "q4": 0.99}


def fixture(out: pathlib.Path, data: pathlib.Path) -> None:
    """A tiny export and what the reference makes of a drawn picture and a few sentences: the tests' golden files."""
    reference = clip_exports.hugging_face("tiny", out, data, 200)
    tokenize = reference.tokenize
    picture = np.array([[[(x * 7 + y * 13 + c * 50 ^ x * y) & 255 for c in range(3)] for x in range(50)] for y in range(40)], np.uint8)
    Image.fromarray(picture).save(out / "picture.png")
    pixels = prepared(out / "picture.png", reference)
    sentences = ["A photo of two DOGS!", "the man's red   bike, 42 wheels", "naïve café über", "", "a " * 100]
    with torch.no_grad():
        features, patches, shares = reference.image(torch.from_numpy(pixels)[None])
        rows = [[tokenize(s)[0], *tokenize(s)[1:-1][:75], tokenize(s)[-1]] for s in sentences]
        texts = [unit(reference.text(torch.tensor([row])).numpy())[0].tolist() for row in rows]
    golden = {"embedding": unit(features.numpy())[0].tolist(), "patches": unit(patches.numpy())[0].tolist(),
              "weights": shares[0].tolist(), "sentences": sentences, "tokens": rows, "texts": texts,
              "pixels": pixels.reshape(-1)[::7].tolist(), "transformers": __import__("transformers").__version__}
    (out / "golden.json").write_text(json.dumps(golden) + "\n")


def prepared(path: pathlib.Path, reference) -> np.ndarray:
    """CLIP's preprocessing (openai/CLIP, `_transform`) in Pillow: (3, side, side)."""
    image, side = Image.open(path), reference.side
    mean, std = np.array(reference.mean, np.float32), np.array(reference.std, np.float32)
    if reference.mode == "squash":
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    else:
        width, height = image.size
        short = min(width, height)
        size = (int(side * width / short), int(side * height / short))
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        image = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    return ((np.asarray(image, dtype=np.float32) / 255.0 - mean) / std).transpose(2, 0, 1).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (unit(a.astype(np.float64)) * unit(b.astype(np.float64))).sum(-1)


def captiond(name: str, form: str, work: pathlib.Path) -> tuple:
    """Imports an export and runs the bundle over the photos and sentences: what the import said, and where its stages lie."""
    bundle, found = work / f"bundle-{form}", work / f"found-{form}"
    chosen = [] if form == "fp32" else ["--variant", form]
    said = subprocess.run([*CARGO, "--bin", "captiond", "--", "bundle", "import", work / "export", "--out", bundle, "--license",
                           "random weights", "--name", name, *chosen], capture_output=True, text=True)
    if said.returncode:
        sys.exit(f"{name} {form}: {said.stderr}")
    subprocess.run([*CARGO, "--example", "embed", "--", bundle, work / "photos.txt", work / "sentences.txt", found], check=True)
    return [line.removeprefix("note").strip() for line in said.stdout.splitlines() if line.startswith("note")], found


def own_runs(form: str, work: pathlib.Path, pixels: np.ndarray, tokens: list) -> list:
    """What ONNX Runtime makes of the same files: least exact of all, but by the same weights."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    runs = []
    for stem, rows in [("vision_model", pixels), ("text_model", tokens)]:
        session = ort.InferenceSession(work / f"export/onnx/{stem}{clip_exports.FORMS[form]}.onnx", options)
        given = session.get_inputs()[0]
        kind = {"tensor(float16)": np.float16, "tensor(float)": np.float32}.get(given.type, np.int64)
        first = [output.name for output in session.get_outputs() if "hidden" not in output.name][0]
        runs.append(np.concatenate([session.run([first], {given.name: np.asarray(row, kind)[None]})[0] for row in rows]))
    return [run.astype(np.float32) for run in runs]


class Expected:
    """What the reference makes of photos and sentences."""

    def __init__(self, reference, photos: list, sentences: list, ours: np.ndarray):
        self.reference = reference
        self.pixels = np.stack([prepared(photo, reference) for photo in photos])
        ends = [reference.tokenize(sentence) for sentence in sentences]
        self.tokens = [[*row[: reference.longest - 1], row[-1]] if len(row) > reference.longest else row for row in ends]
        with torch.no_grad():
            images = [reference.image(torch.from_numpy(pixels)[None]) for pixels in ours]
            whole = images
            if not np.array_equal(ours, self.pixels):
                whole = [reference.image(torch.from_numpy(pixels)[None]) for pixels in self.pixels]
            self.texts = np.concatenate([reference.text(torch.tensor([row])).numpy() for row in self.tokens])
        self.features, self.whole = (np.concatenate([image[0].numpy() for image in some]) for some in (images, whole))
        self.patches = self.shares = None
        if images[0][1] is not None:
            self.patches, self.shares = (np.concatenate([image[i].numpy() for image in images]) for i in (1, 2))


def compare(name: str, form: str, work: pathlib.Path, reference, photos: list, sentences: list, known: dict) -> dict:
    notes, found = captiond(name, form, work)
    load = lambda kind: np.fromfile(found / f"{kind}.f32", dtype="<f4")
    ours = load("pixels").reshape(len(photos), 3, reference.side, reference.side)
    if "expected" not in known:
        known["expected"] = Expected(reference, photos, sentences, ours)
    expected = known["expected"]
    levels = np.abs(ours - expected.pixels) * np.array(reference.std, np.float32).reshape(1, 3, 1, 1) * 255.0
    rows = json.loads((found / "tokens.json").read_text())
    # What follows is padding.
    same = sum(row[: len(tokens)] == tokens and set(row[len(tokens) :]) <= {reference.pad} for tokens, row in zip(expected.tokens, rows))
    features, texts = expected.features, expected.texts
    embeddings, text_embeddings = load("embeddings").reshape(features.shape), load("texts").reshape(texts.shape)
    logits = 100.0 * unit(features) @ unit(texts).T
    result = {
        "model": name, "form": form, "photos": len(photos), "sentences": len(sentences), "levels": float(levels.max()),
        "tokens": same, "image": float(cosines(embeddings, features).min()), "text": float(cosines(text_embeddings, texts).min()),
        "photo": float(cosines(embeddings, expected.whole).min()),
        "logits": float(np.abs(100.0 * embeddings @ text_embeddings.T - logits).max()),
        "top1": float((logits.argmax(1) == (embeddings @ text_embeddings.T).argmax(1)).mean()),
        # How far apart different photos and sentences are under these weights: a cosine says little where it is 1 anyway.
        "apart": float(np.mean([cosines(features[i], features[j]) for i in range(9) for j in range(i)])),
        "notes": notes,
    }
    if expected.patches is not None:
        result["patches"] = float(cosines(load("patches").reshape(expected.patches.shape), expected.patches).min())
        result["shares"] = float(np.abs(load("weights").reshape(expected.shares.shape) - expected.shares).max())
    if form in clip_exports.FORMS:
        padded = [row + [row[-1]] * (reference.longest - len(row)) if name == clip_exports.SIGLIP else row for row in expected.tokens]
        images, rows = own_runs(form, work, ours, padded)
        result["own"] = float(min(cosines(embeddings, images).min(), cosines(text_embeddings, rows).min()))
    return result


def fails(result: dict) -> bool:
    """Whether a bar is missed. Four bits are another model: what counts is what ONNX Runtime makes of the same file."""
    found = [result["own"]] if result["form"] == "q4" else [result["image"], result["text"], result.get("patches", 1.0)]
    return result["levels"] > 1.01 or result["tokens"] != result["sentences"] or min(found) < BARS[result["form"]]


def table(results: list) -> str:
    lines = ["| model | form | pixels, levels of 255 | tokens | image | text | patches | shares | logits | first text | whole way "
             "| same file | apart |", "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in results:
        patches = f"{r['patches']:.5f} | {r['shares']:.1e}" if "patches" in r else "none | "
        own = f"{r['own']:.5f}" if "own" in r else ""
        lines.append(f"| {r['model']} | {r['form']} | {r['levels']:.2f} | {r['tokens']}/{r['sentences']} | {r['image']:.5f} | "
                     f"{r['text']:.5f} | {patches} | {r['logits']:.3f} | {100 * r['top1']:.0f} % | {r['photo']:.5f} | {own} | "
                     f"{r['apart']:.2f} |")
    return "\n".join(lines)


def measure(name: str, args, results: list) -> None:
    """Replaces the results of one model in `results` and in their file."""
    n_photos, n_sentences = SIZES.get(name, SIZE)
    pairs = jsonl(args.data / "pairs.jsonl")
    chosen = random.Random(1).sample(sorted(pairs, key=lambda pair: pair["source"] == "flickr8k")[:1700], n_photos)
    more = random.Random(2).sample(pairs, n_sentences - n_photos)
    sentences = [pair["captions"][0] for pair in chosen] + [pair["captions"][-1] for pair in more]
    work = args.out / name
    work.mkdir(parents=True, exist_ok=True)
    photos = []
    for idx, pair in enumerate(chosen):
        photos.append(work / f"{idx}.png")
        Image.open(args.data / "images" / pair["image"]).convert("RGB").save(photos[-1])
    (work / "photos.txt").write_text("\n".join(str(photo.resolve()) for photo in photos))
    (work / "sentences.txt").write_text("\n".join(sentences))
    reference, known = clip_exports.make(name, work / "export", args.data), {}
    wanted = [form for form in args.form if form == "fp32" or form in reference.forms]
    clip_exports.forms(work / "export", wanted)
    for form in wanted:
        found = compare(name, form, work, reference, photos, sentences, known)
        print(json.dumps(found), flush=True)
        results[:] = [r for r in results if (r["model"], r["form"]) != (name, form)] + [found]
        (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default="runs/import")
    parser.add_argument("--model", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--form", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--fixture", type=pathlib.Path, help="write the golden files of the tests to this folder, and end")
    parser.add_argument("--report", type=pathlib.Path, help="page in which the table between two marks is replaced")
    args = parser.parse_args()
    if args.fixture:
        fixture(args.fixture, args.data)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else []
    for name in args.model:
        measure(name, args, results)
    results.sort(key=lambda r: (MODELS.index(r["model"]), list(BARS).index(r["form"])))
    print(table(results))
    if args.report:
        page = args.report.read_text()
        begin, end = "<!-- parity -->\n", "<!-- /parity -->"
        before, rest = page.split(begin)
        args.report.write_text(before + begin + table(results) + "\n" + end + rest.split(end)[1])
    failed = [f"{r['model']} {r['form']}" for r in results if fails(r)]
    if failed:
        print(f"below the bars: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
