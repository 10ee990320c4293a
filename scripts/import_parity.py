#!/usr/bin/env python3
"""Compares what `captiond bundle import` makes of CLIP models with the implementations that they come from.

    scripts/import_parity.py --data ../shared/data --out runs/import --model vit-b-32 tinyclip [--report docs/import.md]

Each model has its true shapes and random weights: no weights are at hand that could be distributed, and a graph does not
know whether it was trained. Photos and sentences are real. The reference runs in PyTorch (transformers, open_clip) from the
same weights as the exported graph; it needs torch, transformers, onnx, onnxruntime and pillow, and torchvision and open_clip
for the models of open_clip. The photos are decoded by Pillow for both sides: decoders of JPEG differ by more than resizers.
"""

import argparse
import gzip
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import torch
from PIL import Image

CARGO = ["cargo", *os.environ.get("CARGO_ARGS", "").split(), "run", "--release", "--quiet"]
N_PHOTOS, N_SENTENCES = 50, 200
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
VIT = {  # vision width, layers, heads, patch, side; text width, layers, heads; embedding
    "vit-b-32": (768, 12, 12, 32, 224, 512, 12, 8, 512),
    "vit-b-16": (768, 12, 12, 16, 224, 512, 12, 8, 512),
    "vit-l-14": (1024, 24, 16, 14, 224, 768, 12, 12, 768),
    "tinyclip": (256, 10, 4, 16, 224, 256, 3, 4, 512),  # TinyCLIP-ViT-8M-16-Text-3M
    "tiny": (32, 2, 2, 8, 32, 32, 2, 2, 16),
}
OPEN_CLIP = {"open_clip-b-32": "ViT-B-32", "rn50": "RN50", "mobileclip-s1": "MobileCLIP-S1"}


class Wrapped(torch.nn.Module):
    """A method of a model as a module, as exporters want it."""

    def __init__(self, model, run):
        super().__init__()
        self.model, self.run = model, run

    def forward(self, x):
        return self.run(x)


def merges(data: pathlib.Path, n: int = 49152 - 256 - 2) -> str:
    lines = gzip.open(data / "tokenizers/bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")
    return "\n".join(["#version: 0.2", *lines[1 : n + 1]]) + "\n"


def hugging_face(name: str, out: pathlib.Path, data: pathlib.Path, n_merges: int = 49152 - 256 - 2):
    """Exports as optimum does; returns pixels -> (features, patches, attention) and tokens -> features."""
    import transformers as tf

    eos = 2 * 256 + n_merges + 1
    width, layers, heads, patch, side, t_width, t_layers, t_heads, dim = VIT[name]
    vision = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, patch_size=patch, image_size=side,
                  intermediate_size=4 * width, projection_dim=dim)
    text = dict(hidden_size=t_width, num_hidden_layers=t_layers, num_attention_heads=t_heads, intermediate_size=4 * t_width,
                projection_dim=dim, vocab_size=eos + 1, bos_token_id=eos - 1, eos_token_id=eos)
    config = tf.CLIPConfig(vision_config=vision, text_config=text, projection_dim=dim)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = tf.CLIPModel(config).eval()
    # Trained weights are larger than those of an initialisation, under which all embeddings are one.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 2.0
    (out / "onnx").mkdir(parents=True, exist_ok=True)
    vision_model, text_model = model.vision_model, model.text_model

    def image(pixels):
        last = vision_model(pixel_values=pixels)
        return model.visual_projection(last.pooler_output), last.last_hidden_state

    def texts(ids):
        last = text_model(input_ids=ids)
        return model.text_projection(last.pooler_output), last.last_hidden_state

    export(model, image, torch.randn(2, 3, side, side), out / "onnx/vision_model.onnx", "pixel_values",
           ["image_embeds", "last_hidden_state"])
    export(model, texts, torch.tensor([[eos - 1, 5, 6, eos], [eos - 1, 7, 8, eos]]), out / "onnx/text_model.onnx", "input_ids",
           ["text_embeds", "last_hidden_state"])
    model.config.to_json_file(out / "config.json")
    processor = {"crop_size": {"height": side, "width": side}, "do_center_crop": True, "do_normalize": True, "do_resize": True,
                 "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": 3, "size": {"shortest_edge": side}}
    (out / "preprocessor_config.json").write_text(json.dumps(processor))
    (out / "merges.txt").write_text(merges(data, n_merges))

    def reference_image(pixels):
        last = vision_model(pixel_values=pixels, output_attentions=True)
        rows = model.visual_projection(vision_model.post_layernorm(last.last_hidden_state[:, 1:]))
        shares = last.attentions[-1][:, :, 0, 1:].mean(1)
        return model.visual_projection(last.pooler_output), rows, shares / shares.sum(-1, keepdim=True)

    tokenizer = reference_tokenizer(data, n_merges)
    reference_text = lambda ids: model.text_projection(text_model(input_ids=ids).pooler_output)
    return reference_image, reference_text, lambda text: [eos - 1, *tokenizer(text), eos], (side, "shortest", CLIP_MEAN, CLIP_STD)


def open_clip_model(name: str, out: pathlib.Path, data: pathlib.Path):
    import open_clip

    torch.manual_seed(0)
    # The fused attention has no form in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    model = open_clip.create_model(OPEN_CLIP[name], pretrained=None, load_weights=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(0.0, 0.1)
    (out / "visual").mkdir(parents=True, exist_ok=True)
    (out / "textual").mkdir(exist_ok=True)
    size = model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    mode, mean, std = "shortest", CLIP_MEAN, CLIP_STD
    if name == "mobileclip-s1":
        mean, std = [0.0] * 3, [1.0] * 3
    context = model.context_length
    export(model, model.encode_image, torch.randn(1, 3, side, side), out / "visual/model.onnx", "image", ["embedding"])
    sample = torch.zeros(2, context, dtype=torch.int64)
    sample[:, :4] = torch.tensor([49406, 5, 6, 49407])
    export(model, model.encode_text, sample, out / "textual/model.onnx", "text", ["embedding"])
    config = {"model_cfg": {"vision_cfg": {"image_size": side}, "text_cfg": {"context_length": context}},
              "preprocess_cfg": {"size": side, "mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": mode}}
    (out / "open_clip_config.json").write_text(json.dumps(config))
    (out / "merges.txt").write_text(merges(data))
    tokenizer = reference_tokenizer(data)

    def reference_text(ids):
        row = torch.zeros(1, context, dtype=torch.int64)
        row[0, : ids.shape[1]] = ids[0]
        return model.encode_text(row)

    reference_image = lambda pixels: (model.encode_image(pixels), None, None)
    return reference_image, reference_text, lambda text: [49406, *tokenizer(text), 49407], (side, mode, mean, std)


def reference_tokenizer(data: pathlib.Path, n_merges: int = 49152 - 256 - 2):
    """OpenAI's simple tokenizer, as open_clip carries it."""
    import tempfile

    from open_clip.tokenizer import SimpleTokenizer

    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        file.write(gzip.compress(merges(data, n_merges).encode()))
        file.flush()
        return SimpleTokenizer(bpe_path=file.name).encode


def fixture(out: pathlib.Path, data: pathlib.Path) -> None:
    """A tiny export and what the reference makes of a drawn picture and a few sentences: the tests' golden files."""
    reference_image, reference_text, tokenize, (side, mode, mean, std) = hugging_face("tiny", out, data, 200)
    picture = np.array([[[(x * 7 + y * 13 + c * 50 ^ x * y) & 255 for c in range(3)] for x in range(50)] for y in range(40)], np.uint8)
    Image.fromarray(picture).save(out / "picture.png")
    pixels = prepared(out / "picture.png", side, mode, np.array(mean, np.float32), np.array(std, np.float32))
    sentences = ["A photo of two DOGS!", "the man's red   bike, 42 wheels", "naïve café über", "", "a " * 100]
    with torch.no_grad():
        features, patches, shares = reference_image(torch.from_numpy(pixels)[None])
        rows = [[tokenize(s)[0], *tokenize(s)[1:-1][:75], tokenize(s)[-1]] for s in sentences]
        texts = [unit(reference_text(torch.tensor([row])).numpy())[0].tolist() for row in rows]
    golden = {"embedding": unit(features.numpy())[0].tolist(), "patches": unit(patches.numpy())[0].tolist(),
              "weights": shares[0].tolist(), "sentences": sentences, "tokens": rows, "texts": texts,
              "pixels": pixels.reshape(-1)[::7].tolist(), "transformers": __import__("transformers").__version__}
    (out / "golden.json").write_text(json.dumps(golden) + "\n")


def export(model, run, sample, file: pathlib.Path, given: str, outputs: list[str]) -> None:
    axes = {given: {0: "batch"}, **{name: {0: "batch"} for name in outputs}}
    if given == "input_ids":
        axes[given][1] = "sequence"
    with torch.no_grad():
        torch.onnx.export(Wrapped(model, run), (sample,), str(file), input_names=[given], output_names=outputs, dynamic_axes=axes,
                          opset_version=14, dynamo=False)


def variants(out: pathlib.Path, which: list[str]) -> None:
    """The other forms of the graphs, as exporters make them."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for stem in ["onnx/vision_model", "onnx/text_model"]:
        if "quantized" in which:
            quantize_dynamic(out / f"{stem}.onnx", out / f"{stem}_quantized.onnx", weight_type=QuantType.QUInt8,
                             op_types_to_quantize=["MatMul", "Gemm", "Gather"])
        if "fp16" in which:
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(out / f"{stem}.onnx"), keep_io_types=False), out / f"{stem}_fp16.onnx")


def prepared(path: pathlib.Path, side: int, mode: str, mean, std) -> np.ndarray:
    """CLIP's preprocessing (openai/CLIP, `_transform`) in Pillow: (3, side, side)."""
    image = Image.open(path)
    if mode == "squash":
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


def compare(name: str, variant: str, work: pathlib.Path, reference, photos, sentences) -> dict:
    reference_image, reference_text, tokenize, (side, mode, mean, std) = reference
    bundle, found = work / f"bundle-{variant}", work / f"found-{variant}"
    captiond = [*CARGO, "--bin", "captiond", "--"]
    if variant == "fp32":
        chosen = []
    else:
        chosen = ["--variant", variant]
    said = subprocess.run([*captiond, "bundle", "import", work / "export", "--out", bundle, "--license", "random weights",
                           "--name", name, *chosen], check=True, capture_output=True, text=True).stdout
    subprocess.run([*CARGO, "--example", "embed", "--", bundle, work / "photos.txt",
                    work / "sentences.txt", found], check=True)
    load = lambda kind: np.fromfile(found / f"{kind}.f32", dtype="<f4")
    pixels = np.stack([prepared(photo, side, mode, np.array(mean, np.float32), np.array(std, np.float32)) for photo in photos])
    ours = load("pixels").reshape(pixels.shape)
    levels = np.abs(ours - pixels) * np.array(std, np.float32).reshape(1, 3, 1, 1) * 255.0
    rows = json.loads((found / "tokens.json").read_text())
    tokens = [tokenize(sentence)[:77] for sentence in sentences]
    same = sum(expected == row[: len(expected)] for expected, row in zip(tokens, rows))
    with torch.no_grad():
        images = [reference_image(torch.from_numpy(p)[None]) for p in ours]
        theirs = np.concatenate([reference_image(torch.from_numpy(p)[None])[0].numpy() for p in pixels])
        texts = np.concatenate([reference_text(torch.tensor([row])).numpy() for row in tokens])
    features = np.concatenate([image[0].numpy() for image in images])
    embeddings, text_embeddings = load("embeddings").reshape(features.shape), load("texts").reshape(texts.shape)
    logits = 100.0 * unit(features) @ unit(texts).T
    result = {
        "model": name, "variant": variant, "levels": float(levels.max()), "tokens": f"{same}/{len(sentences)}",
        "image": float(cosines(embeddings, features).min()), "text": float(cosines(text_embeddings, texts).min()),
        "photo": float(cosines(embeddings, theirs).min()),
        "logits": float(np.abs(100.0 * embeddings @ text_embeddings.T - logits).max()),
        "top1": float((logits.argmax(1) == (embeddings @ text_embeddings.T).argmax(1)).mean()),
        # How far apart different photos and sentences are under these weights: a cosine says little where it is 1 anyway.
        "apart": float(np.mean([cosines(features[i], features[j]) for i in range(9) for j in range(i)])),
        "notes": [line.removeprefix("note").strip() for line in said.splitlines() if line.startswith("note")],
    }
    if images[0][1] is not None:
        patches = np.concatenate([image[1].numpy() for image in images])
        shares = np.concatenate([image[2].numpy() for image in images])
        result["patches"] = float(cosines(load("patches").reshape(patches.shape), patches).min())
        result["shares"] = float(np.abs(load("weights").reshape(shares.shape) - shares).max())
    return result


def table(results: list[dict]) -> str:
    lines = ["| model | form | pixels, levels of 255 | tokens | image | text | patches | shares | logits | first text | whole way | apart |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in results:
        patches = f"{r['patches']:.5f} | {r['shares']:.1e}" if "patches" in r else "| "
        lines.append(f"| {r['model']} | {r['variant']} | {r['levels']:.2f} | {r['tokens']} | {r['image']:.5f} | {r['text']:.5f} | "
                     f"{patches} | {r['logits']:.3f} | {100 * r['top1']:.0f} % | {r['photo']:.5f} | {r['apart']:.2f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default="runs/import")
    parser.add_argument("--model", nargs="+", default=["vit-b-32"], choices=[*VIT, *OPEN_CLIP])
    parser.add_argument("--variant", nargs="+", default=["fp32"], choices=["fp32", "fp16", "quantized"])
    parser.add_argument("--fixture", type=pathlib.Path, help="write the golden files of the tests to this folder, and end")
    parser.add_argument("--report", type=pathlib.Path, help="page in which the table between two marks is replaced")
    args = parser.parse_args()
    if args.fixture:
        fixture(args.fixture, args.data)
        return 0
    pairs = [json.loads(line) for line in open(args.data / "pairs.jsonl")]
    chosen = random.Random(1).sample(sorted(pairs, key=lambda pair: pair["source"] == "flickr8k")[:1700], N_PHOTOS)
    sentences = [pair["captions"][0] for pair in chosen] + [pair["captions"][-1] for pair in random.Random(2).sample(pairs, N_SENTENCES - N_PHOTOS)]
    results = []
    for name in args.model:
        work = args.out / name
        work.mkdir(parents=True, exist_ok=True)
        photos = []
        for idx, pair in enumerate(chosen):
            photos.append(work / f"{idx}.png")
            Image.open(args.data / "images" / pair["image"]).convert("RGB").save(photos[-1])
        (work / "photos.txt").write_text("\n".join(str(photo.resolve()) for photo in photos))
        (work / "sentences.txt").write_text("\n".join(sentences))
        make = hugging_face if name in VIT else open_clip_model
        reference = make(name, work / "export", args.data)
        if name in VIT:
            variants(work / "export", args.variant)
        for variant in args.variant if name in VIT else ["fp32"]:
            results.append(compare(name, variant, work, reference, photos, sentences))
            print(json.dumps(results[-1]), flush=True)
    print(table(results))
    if args.report:
        page = args.report.read_text()
        begin, end = "<!-- parity -->\n", "<!-- /parity -->"
        before, rest = page.split(begin)
        args.report.write_text(before + begin + table(results) + "\n" + end + rest.split(end)[1])
    bars = {"fp32": 0.9999, "fp16": 0.99, "quantized": 0.99}
    failed = [r for r in results if r["levels"] > 1.01 or r["tokens"] != f"{N_SENTENCES}/{N_SENTENCES}"
              or min(r["image"], r["text"], r.get("patches", 1.0)) < bars[r["variant"]]]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
