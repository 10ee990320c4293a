#!/usr/bin/env python3
"""Time one caption by a vision-language model in PyTorch, with random weights in the shapes of the real ones.

    pip install torch transformers pillow
    scripts/bench_vlm.py --model BLIP-base photo.jpg ...

Prints one JSON object as bench_ort.py does. Random weights say nothing that makes sense, and cost as much.
"""
import argparse
import importlib.metadata
import json
import resource
import time

import numpy as np
import torch
import transformers
from PIL import Image

# Tokens of a caption, as captiond's own are long.
N_TOKENS = 11
# An image of SmolVLM becomes so many tokens: 512x512 pixels in patches of 16, by the shuffle of 4x4.
SMOLVLM_IMAGE_TOKENS = 64


def blip():
    """Salesforce/blip-image-captioning-base: ViT-B/16 on 384x384, a decoder of 12 layers."""
    config = transformers.BlipConfig(vision_config={"image_size": 384}, text_config={"vocab_size": 30524})
    model = transformers.BlipForConditionalGeneration(config).eval()

    def caption(pixels):
        return model.generate(pixels, min_new_tokens=N_TOKENS, max_new_tokens=N_TOKENS, do_sample=False)

    return model, 384, caption


def smolvlm():
    """HuggingFaceTB/SmolVLM-256M-Instruct: SigLIP-B/16 on 512x512, a language model of 135 M, one picture unsplit."""
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    text = {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "vocab_size": 49280,
    }
    config = transformers.Idefics3Config(
        vision_config={**vision, "image_size": 512, "patch_size": 16},
        text_config=text,
        scale_factor=4,
        image_token_id=49190,
        tie_word_embeddings=True,
    )
    model = transformers.Idefics3ForConditionalGeneration(config).eval()
    prompt = torch.tensor([[1] * 12 + [49190] * SMOLVLM_IMAGE_TOKENS + [2] * 12])

    def caption(pixels):
        return model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            pixel_values=pixels[None],
            min_new_tokens=N_TOKENS,
            max_new_tokens=N_TOKENS,
            do_sample=False,
        )

    return model, 512, caption


MODELS = {"BLIP-base": blip, "SmolVLM-256M": smolvlm}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("photos", nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    transformers.logging.set_verbosity_error()
    started = time.perf_counter()
    model, side, caption = MODELS[args.model]()
    load_ms = 1000 * (time.perf_counter() - started)
    frames = []
    with torch.inference_mode():
        for idx, photo in enumerate([args.photos[0], *args.photos]):
            started = time.perf_counter()
            image = Image.open(photo).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)
            caption(pixels)
            # The first warms up.
            if idx > 0:
                frames.append(1000 * (time.perf_counter() - started))
    frames.sort()
    report = {
        "engine": "torch",
        "tool": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "parameters": sum(p.numel() for p in model.parameters()),
        "load_ms": round(load_ms, 3),
        "rss_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "latency_ms": {"frame": {"p50": round(frames[len(frames) // 2], 3), "p95": round(frames[-1], 3)}},
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
