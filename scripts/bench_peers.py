#!/usr/bin/env python3
"""Measure captiond beside what else could caption a photo here, in turns, and write the tables into docs/benchmarks.md.

    cargo build --release
    scripts/bench_peers.py --bundle models/lite photo.jpg ...
    scripts/bench_peers.py --bundle models/lite --vlm photo.jpg ...      # pip install torch transformers

The same graphs in onnxruntime, in f32 (every value that is quantized taken as it was) and in its own best int8 form
(its static quantization of the image encoder, calibrated on the photos given, and its dynamic quantization of the
other graphs). All caption greedily: the bundle is copied with a beam of 1 and without re-ranking, since onnxruntime's
side has no beam. onnxruntime is driven from Python, which costs it some microseconds a run.

With --vlm, also BLIP-base and SmolVLM-256M in PyTorch (f32), in their public implementations and true shapes but with
random weights: time and memory are those of the real ones, words are not. They write as many tokens as captiond does.

All take turns, round by round, so that a machine that slows down or is shared slows down all. A ratio is captiond's
median over the other's in the same round; below 1 captiond is faster.
`decode` and `preprocess` compare libraries (image and fast_image_resize with Pillow), not engines.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGES = ["decode", "preprocess", "encode", "caption", "frame", "adapter", "prefill", "step", "text"]
VLMS = ["BLIP-base", "SmolVLM-256M"]


def greedy_copy(bundle, folder):
    """The bundle in `folder`, with a beam of 1 and no re-ranking. Only the manifest changes."""
    shutil.copytree(bundle, folder)
    path = folder / "manifest.toml"
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^beam_width *=.*$", "beam_width = 1", text)
    text = re.sub(r"(?ms)^\[decoder\.rerank\]$.*?(?=^\[|\Z)", "", text)
    decoder = tomllib.loads(text)["decoder"]
    if decoder["beam_width"] != 1 or "rerank" in decoder:
        raise SystemExit(f"{path}: cannot make its search greedy")
    path.write_text(text, encoding="utf-8")


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def machine():
    fields = dict(
        line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
    )
    model = next((v.strip() for k, v in fields.items() if k.strip() == "model name"), platform.machine())
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"]
    flags = next((v.split() for k, v in fields.items() if k.strip() in ("flags", "Features")), [])
    sets = " ".join(flag for flag in wanted if flag in flags)
    return f"{model} ({sets}), {os.cpu_count()} cores, Linux {platform.release()}"


def commit():
    git = lambda *a: subprocess.run(["git", "-C", ROOT, *a], capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")


def stage_table(rounds, peer):
    """Markdown rows: medians over the rounds, and the ratio with its range."""
    lines = [
        f"| stage | captiond p50 | p95 | {peer} p50 | p95 | ratio of p50 | its range |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for stage in STAGES:
        ours, theirs = ([r[side]["latency_ms"][stage] for r in rounds] for side in ("captiond", peer))
        median = lambda side, key: statistics.median(s[key] for s in side)
        ratios = [a["p50"] / b["p50"] for a, b in zip(ours, theirs)]
        figures = [median(ours, "p50"), median(ours, "p95"), median(theirs, "p50"), median(theirs, "p95")]
        lines.append(
            f"| {stage} | {' | '.join(f'{f:.2f}' for f in figures)} | **{statistics.median(ratios):.2f}** "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    return "\n".join(lines)


def frame_table(rounds):
    """One caption from a photo to its words, and the most memory: everyone beside captiond."""
    lines = [
        "| | a caption, ms | times captiond's | its range | peak memory, MB | times captiond's | loaded in, s |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for side in rounds[0]:
        frames = [r[side]["latency_ms"]["frame"]["p50"] for r in rounds]
        ratios = [r[side]["latency_ms"]["frame"]["p50"] / r["captiond"]["latency_ms"]["frame"]["p50"] for r in rounds]
        memory = [r[side]["rss_peak_bytes"] / 1e6 for r in rounds]
        shares = [r[side]["rss_peak_bytes"] / r["captiond"]["rss_peak_bytes"] for r in rounds]
        load = statistics.median(r[side]["load_ms"] for r in rounds) / 1e3
        lines.append(
            f"| {side} | {statistics.median(frames):.1f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {max(memory):.0f} | {statistics.median(shares):.1f} | {load:.2f} |"
        )
    return "\n".join(lines)


def section(rounds, args, load, marker):
    ours, theirs = rounds[-1]["captiond"], rounds[-1]["onnxruntime int8"]
    tables = "\n\n".join(
        f"Beside {peer}:\n\n{stage_table(rounds, peer)}" for peer in ("onnxruntime int8", "onnxruntime f32")
    )
    tools = {name: v for r in rounds[-1].values() for name, v in r.get("tool", {}).items()}
    versions = ", ".join(f"{name} {version}" for name, version in tools.items())
    return f"""{marker[0]}
## captiond beside others, {args.threads} thread{'s' if args.threads > 1 else ''}

Milliseconds; medians over {len(rounds)} rounds in which all took turns.
A ratio of stages below 1 means that captiond is faster.

{frame_table(rounds)}

{tables}

- bundle: {args.bundle.name}, its search made greedy ({theirs['tokens_per_caption']:.1f} tokens a caption)
- runs: {ours['photos']} photos, {ours['runs']} runs and {ours['warmup']} to warm up in each round
- machine: {machine()}; load {load:.1f} before the first round
- versions: captiond at {commit()}, {versions}
- BLIP-base and SmolVLM-256M, where they are, have random weights in their true shapes
- date: {datetime.date.today().isoformat()}
- command: `scripts/bench_peers.py {args.shown}`
{marker[1]}"""


def write(path, text, marker):
    """Puts the section in place of the one before it, or at the end."""
    begin, end = marker
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        new = head + text + rest.split(end, 1)[1]
    else:
        new = f"{old.rstrip()}\n\n{text}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(new, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--captiond", type=pathlib.Path, default=target / "release/captiond", help="the program")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs over all photos in a turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference (default: %(default)s)")
    parser.add_argument("--vlm", action="store_true", help="also BLIP-base and SmolVLM-256M")
    parser.add_argument("--python-vlm", default=sys.executable, help="a Python with torch and transformers")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("photos", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    options = f"--bundle {args.bundle.name} --rounds {args.rounds} --runs {args.runs} --threads {args.threads}"
    args.shown = f"{options}{' --vlm' if args.vlm else ''} ({len(args.photos)} photos)"

    load = os.getloadavg()[0]
    if load > 0.5 * (os.cpu_count() or 1):
        print(f"warning: the load is {load:.1f}; figures of a busy machine mean little", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = pathlib.Path(scratch) / "bundle"
        greedy_copy(args.bundle, bundle)
        common = ["--bundle", bundle, "--runs", str(args.runs), "--warmup", "1", "--threads", str(args.threads)]
        ort = [sys.executable, ROOT / "scripts/bench_ort.py", *common]
        sides = {
            "captiond": [args.captiond, "bench", "--json", *common, *args.photos],
            "onnxruntime int8": [*ort, "--form", "int8", *args.photos],
            "onnxruntime f32": [*ort, "--form", "f32", *args.photos],
        }
        if args.vlm:
            for vlm in VLMS:
                program = [args.python_vlm, ROOT / "scripts/bench_vlm.py", "--model", vlm]
                sides[vlm] = [*program, "--threads", str(args.threads), *args.photos[:3]]
        rounds = []
        for n in range(args.rounds):
            # Who goes first changes too.
            names = list(sides)
            names = names[n % len(names) :] + names[: n % len(names)]
            reports = {name: run(sides[name]) for name in names}
            rounds.append({name: reports[name] for name in sides})
            print(f"round {n + 1} of {args.rounds}", file=sys.stderr)
    marker = [f"<!-- scripts/bench_peers.py {args.threads} {edge} -->" for edge in ("begin", "end")]
    write(args.out, section(rounds, args, load, marker), marker)
    print(frame_table(rounds))
    print(stage_table(rounds, "onnxruntime int8"))


if __name__ == "__main__":
    main()
