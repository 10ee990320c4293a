#!/usr/bin/env python3
"""Compare captiond with onnxruntime on one bundle, in turns, and write the table into docs/benchmarks.md.

    cargo build --release
    scripts/bench.py --bundle models/lite photo.jpg ...

Both run the same f32 graphs on as many threads, greedily: the bundle is copied with a beam of 1 and without
re-ranking, since onnxruntime's side has no beam. They take turns, round by round, so that a machine that slows down or
is shared slows down both. A ratio is captiond's median over onnxruntime's in the same round; below 1 captiond is faster.
onnxruntime is driven from Python, which costs it some microseconds a run.

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
BEGIN, END = "<!-- scripts/bench.py begin -->", "<!-- scripts/bench.py end -->"
STAGES = ["decode", "preprocess", "encode", "caption", "frame"]


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
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def commit():
    git = lambda *a: subprocess.run(["git", "-C", ROOT, *a], capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")


def table(rounds):
    """Markdown rows: medians over the rounds, and the ratio with its range."""
    lines = [
        "| stage | captiond p50 | p95 | onnxruntime p50 | p95 | ratio of p50 | its range |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for stage in STAGES:
        ours, theirs = ([r[side]["latency_ms"][stage] for r in rounds] for side in (0, 1))
        median = lambda side, key: statistics.median(s[key] for s in side)
        ratios = [a["p50"] / b["p50"] for a, b in zip(ours, theirs)]
        figures = [median(ours, "p50"), median(ours, "p95"), median(theirs, "p50"), median(theirs, "p95")]
        lines.append(
            f"| {stage} | {' | '.join(f'{f:.2f}' for f in figures)} | **{statistics.median(ratios):.2f}** "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    alone = [r[1]["latency_ms"] for r in rounds]
    singles = ", ".join(
        f"{stage} {statistics.median(a[stage]['p50'] for a in alone):.2f}"
        for stage in ("adapter", "prefill", "step", "text")
    )
    return "\n".join(lines), singles


def section(rounds, args, load):
    ours, theirs = rounds[-1]
    rows, singles = table(rounds)
    peak = lambda side: max(r[side]["rss_peak_bytes"] for r in rounds) / 1e6
    tool = theirs["tool"]
    return f"""{BEGIN}
## captiond beside onnxruntime

Milliseconds; medians over {len(rounds)} rounds in which the two took turns.
A ratio below 1 means that captiond is faster.

{rows}

- bundle: {args.bundle.name}, its search made greedy ({theirs['tokens_per_caption']:.1f} tokens a caption)
- onnxruntime's single graphs, p50: {singles}
- peak memory: captiond {peak(0):.0f} MB, onnxruntime under Python {peak(1):.0f} MB
- runs: {ours['photos']} photos, {ours['runs']} runs and {ours['warmup']} to warm up in each round, {ours['threads']} thread(s)
- machine: {machine()}; load {load:.1f} before the first round
- versions: captiond at {commit()}, onnxruntime {tool['onnxruntime']}, Python {tool['python']}, Pillow {tool['pillow']}
- date: {datetime.date.today().isoformat()}
- command: `scripts/bench.py {args.shown}`
{END}"""


def write(path, text):
    """Puts the section in place of the one before it, or at the end."""
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    if BEGIN in old and END in old:
        head, rest = old.split(BEGIN, 1)
        new = head + text + rest.split(END, 1)[1]
    else:
        new = f"{old.rstrip()}\n\n{text}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(new, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--captiond", type=pathlib.Path, default=target / "release/captiond", help="the program")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs over all photos in a turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("photos", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    options = f"--bundle {args.bundle.name} --rounds {args.rounds} --runs {args.runs} --threads {args.threads}"
    args.shown = f"{options} ({len(args.photos)} photos)"

    load = os.getloadavg()[0]
    if load > 0.5 * (os.cpu_count() or 1):
        print(f"warning: the load is {load:.1f}; figures of a busy machine mean little", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = pathlib.Path(scratch) / "bundle"
        greedy_copy(args.bundle, bundle)
        common = ["--bundle", bundle, "--runs", str(args.runs), "--warmup", "1", "--threads", str(args.threads)]
        captiond = [args.captiond, "bench", "--json", *common, *args.photos]
        ort = [sys.executable, ROOT / "scripts/bench_ort.py", *common, *args.photos]
        rounds = []
        for n in range(args.rounds):
            # Who goes first alternates too.
            first, second = (captiond, ort) if n % 2 == 0 else (ort, captiond)
            reports = {tuple(command): run(command) for command in (first, second)}
            rounds.append((reports[tuple(captiond)], reports[tuple(ort)]))
            print(f"round {n + 1} of {args.rounds}", file=sys.stderr)
    if rounds[0][0]["bundle"] != rounds[0][1]["bundle"]:
        raise SystemExit("the two did not run the same bundle")
    write(args.out, section(rounds, args, load))
    print(table(rounds)[0])


if __name__ == "__main__":
    main()
