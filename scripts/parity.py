#!/usr/bin/env python3
"""Write a golden fixture: what onnxruntime makes of a bundle, for a test that compares captiond with it.

    scripts/parity.py --bundle models/lite --out tests/golden/lite.json --root ../shared/data/images \\
        flickr8k/1000268201_693b08cb0e.jpg ...

One JSON object:
  tool      versions of what made the figures
  bundle    its identity, and file and sha256 of each graph
  images    per photo: name as given, sha256 of the file, and what `patterns` has
  patterns  images that need no file and no resizing: pixel (y, x) of channel c of pattern k is
            (x div 16 * (23 + 18 k) + y div 16 * (41 + 10 k) + 67 c) mod 256, as large as the encoder's input
  texts     per sentence: ids (bos and eos included) and embedding

An image has its `embedding` (before bridge and memory) and, of the greedy caption, the token `ids` (`eos` last, if it
was reached), the `margins` (logit of each token less the next best allowed one; a test compares tokens up to the
first margin below its tolerance) and the `text`. Photos go through Pillow: JPEG decoding and resizing may differ by a
grey level elsewhere, so a test allows their embeddings more than those of patterns.
"""
import argparse
import hashlib
import json
import pathlib

import numpy as np
from PIL import Image

from ort_bundle import Bundle, versions

TEXTS = [
    "a dog",
    "two men in hard hats look at a plan",
    "a 5-year-old girl doesn't let go of her kite",
    "is there a person?",
]


def pattern(k, width, height):
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x // 16 * (23 + 18 * k) + y // 16 * (41 + 10 * k) + 67 * c) % 256).astype(np.uint8)


def rounded(values):
    """Nine significant digits hold an f32 exactly; eight save space and stay far below any tolerance."""
    return [float(f"{v:.8g}") for v in np.asarray(values, np.float64)]


def described(bundle, pixels):
    embedding, _, _ = bundle.encode(pixels)
    ids, margins = bundle.greedy(bundle.bridged(embedding))
    return {"embedding": rounded(embedding), "ids": ids, "margins": rounded(margins), "text": bundle.text(ids)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--root", default=".", type=pathlib.Path, help="photo names are relative to it (default: .)")
    parser.add_argument("--patterns", default=4, type=int, help="how many patterns (default: %(default)s)")
    parser.add_argument("photos", nargs="*")
    args = parser.parse_args()

    bundle = Bundle(args.bundle)
    settings = bundle.manifest["preprocess"]
    images = []
    for name in args.photos:
        data = (args.root / name).read_bytes()
        with Image.open(args.root / name) as image:
            pixels = bundle.preprocess(image)
        images.append({"image": name, "sha256": hashlib.sha256(data).hexdigest(), **described(bundle, pixels)})
    patterns = []
    for k in range(args.patterns):
        pixels = bundle.normalize(pattern(k, settings["width"], settings["height"]))
        patterns.append({"pattern": k, **described(bundle, pixels)})
    texts = []
    for text in TEXTS:
        row = bundle.row(text)
        texts.append({"text": text, "ids": row, "embedding": rounded(bundle.encode_row(row))})
    graphs = {role: {"file": g["file"], "sha256": g["sha256"]} for role, g in bundle.manifest["graphs"].items()}
    fixture = {
        "tool": versions(),
        "bundle": {"id": bundle.id, "manifest_sha256": bundle.manifest_sha256, "graphs": graphs},
        "images": images,
        "patterns": patterns,
        "texts": texts,
    }
    # One line an image keeps the file readable and its changes reviewable.
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in list(fixture.items())[:2]]
    for key in ("images", "patterns", "texts"):
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in fixture[key])
        lines.append(f'"{key}": [\n{rows}\n]')
    args.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{args.out}: {len(images)} photos, {len(patterns)} patterns, {len(texts)} texts of {bundle.id}")


if __name__ == "__main__":
    main()
