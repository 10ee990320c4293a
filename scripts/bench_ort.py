#!/usr/bin/env python3
"""Time a bundle's graphs under onnxruntime, stage by stage, the way `captiond bench --json` does under tract.

    scripts/bench_ort.py --bundle models/lite photo.jpg ...

Prints one JSON object; latencies are milliseconds. The stages that both programs have are `decode` (JPEG to RGB),
`preprocess`, `encode`, `caption` (greedy: adapter, prefill and steps until eos) and `frame` (all of these). The others
time single graphs: `adapter`, `prefill` (the decoder's first run), `step` (one token) and `text` (the text encoder on a
short question). `--form int8` takes onnxruntime's own quantization of the same graphs, `f32` none at all.
"""
import argparse
import io
import json
import pathlib
import resource
import time

from PIL import Image

from ort_bundle import Bundle, versions

QUESTION = "is there a person?"
STAGES = ["decode", "preprocess", "encode", "caption", "frame", "adapter", "prefill", "step", "text"]


class Stopwatch:
    """Collects the durations of named stages in milliseconds."""

    def __init__(self):
        self.samples = {stage: [] for stage in STAGES}

    def time(self, stage, work, *arguments):
        started = time.perf_counter()
        result = work(*arguments)
        self.samples[stage].append(1000 * (time.perf_counter() - started))
        return result


def quantile(samples, q):
    """The smallest sample that a share `q` of all does not exceed."""
    rank = -int(-q * len(samples) // 1)
    return sorted(samples)[max(rank, 1) - 1]


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def caption(bundle, embedding):
    return bundle.greedy(bundle.bridged(embedding))


def measure(bundle, data, watch):
    """One photo through every stage; the number of tokens of its caption."""
    started = time.perf_counter()
    image = watch.time("decode", decode, data)
    pixels = watch.time("preprocess", bundle.preprocess, image)
    embedding, _, _ = watch.time("encode", bundle.encode, pixels)
    ids, _ = watch.time("caption", caption, bundle, embedding)
    watch.samples["frame"].append(1000 * (time.perf_counter() - started))

    prefix = watch.time("adapter", bundle.adapt, bundle.bridged(embedding))
    _, cache = watch.time("prefill", bundle.feed_prefix, prefix)
    first = bundle.manifest["decoder"]["prefix_length"]
    for n_fed, token in enumerate([bundle.bos, *ids[:-1]], first):
        _, cache = watch.time("step", bundle.step, [token], n_fed, None, cache)
    watch.time("text", bundle.encode_row, bundle.row(QUESTION))
    return len(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    parser.add_argument("--runs", default=5, type=int, help="measured runs over all photos (default: %(default)s)")
    parser.add_argument("--warmup", default=1, type=int, help="runs before that (default: %(default)s)")
    parser.add_argument("--threads", default=1, type=int, help="threads of one inference (default: %(default)s)")
    parser.add_argument("--form", default="f32", choices=["f32", "int8"], help="(default: %(default)s)")
    parser.add_argument("photos", nargs="+", type=pathlib.Path)
    args = parser.parse_args()

    photos = [photo.read_bytes() for photo in args.photos]
    started = time.perf_counter()
    bundle = Bundle(args.bundle, args.threads, args.form, [decode(data) for data in photos])
    load_ms = 1000 * (time.perf_counter() - started)
    watch, tokens = Stopwatch(), 0
    for run in range(args.warmup + args.runs):
        if run == args.warmup:
            watch, tokens = Stopwatch(), 0
        for data in photos:
            tokens += measure(bundle, data, watch)
    n = args.runs * len(photos)
    report = {
        "bundle": bundle.id,
        "engine": "onnxruntime",
        "tool": versions(),
        "device": "cpu",
        "threads": args.threads,
        "photos": len(photos),
        "runs": args.runs,
        "warmup": args.warmup,
        "form": args.form,
        "search": "greedy",
        "tokens_per_caption": tokens / n,
        "load_ms": round(load_ms, 3),
        "rss_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "latency_ms": {
            stage: {"p50": round(quantile(samples, 0.5), 3), "p95": round(quantile(samples, 0.95), 3)}
            for stage, samples in watch.samples.items()
        },
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
