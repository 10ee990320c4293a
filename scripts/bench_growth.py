#!/usr/bin/env python3
"""What captions cost as there is more to do, and write it with plots into docs/benchmarks.md.

    cargo build --release
    scripts/bench_growth.py [--photos DIR]

More cameras: the daemon with 1, 2, 4, 8 and 16 cameras, each of which shows another photo four times a second and wants a
caption of every one (no gate), beside a real mosquitto. Where the machine cannot follow, frames are overwritten by newer
ones, which is by design; the latency of what is captioned is that from the photo to the broker's subscriber.
A wider beam and longer captions: `captiond bench` with copies of the bundle whose manifest says so, in turns.
"""
import argparse
import calendar
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

from bench_peers import ROOT, commit, machine, run, write
from idle import cpu_s
from soak import free_port
from soak_plot import svg

CAMERAS = (1, 2, 4, 8, 16)
INTERVAL_MS = 250
# Candidates of each search, which are the width of its beam; below the bundle's own beam they are no fewer.
BEAMS = (3, 5, 8, 11, 14)
TOKENS = (4, 8, 12, 16, 24)


def quantile(values, q):
    values = sorted(values)
    return values[min(int(q * len(values)), len(values) - 1)] if values else float("nan")


def unix(ts):
    head, _, rest = ts.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(head, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest or 0}")


def configuration(args, n, port):
    lines = [f'bundle = "{args.bundle.resolve()}"', f"threads = {args.threads}", "[mqtt]", 'host = "127.0.0.1"',
             f"port = {port}", "discovery = false"]
    for nth in range(n):
        lines += ["[[camera]]", f'name = "c{nth}"', "[camera.gate]", "enabled = false", "[camera.source]",
                  'type = "replay"', f'path = "{args.photos.resolve()}"', f'interval = "{INTERVAL_MS}ms"']
    return "\n".join(lines) + "\n"


def with_cameras(args, n):
    """Rates and latencies over `args.seconds` of `n` cameras, after a warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        folder, port = pathlib.Path(folder), free_port()
        (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        (folder / "c.toml").write_text(configuration(args, n, port))
        quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
        processes = [subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")], **quiet)]
        try:
            return watch(args, n, folder, port, processes)
        finally:
            for process in reversed(processes):
                # The viewer is a shell with a program of its own.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def watch(args, n, folder, port, processes):
    captions = []

    def read(lines):
        for line in lines:
            captions.append((time.time(), json.loads(line)))

    # It tries again until the broker is there.
    viewer = subprocess.Popen(["sh", "-c", f"until mosquitto_sub -p {port} -t 'captiond/+/caption'; do sleep .1; done"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    processes.append(viewer)
    threading.Thread(target=read, args=(viewer.stdout,), daemon=True).start()
    daemon = subprocess.Popen([args.captiond, "run", "--config", str(folder / "c.toml")],
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    processes.append(daemon)
    deadline = time.monotonic() + 60
    while len({caption["camera"] for _, caption in captions}) < n:
        if time.monotonic() > deadline:
            raise SystemExit(f"{n} cameras: no caption of some after a minute")
        time.sleep(0.1)
    time.sleep(3)
    begun, cpu, first = time.time(), cpu_s(daemon.pid), len(captions)
    time.sleep(args.seconds)
    took, cpu, said = time.time() - begun, cpu_s(daemon.pid) - cpu, captions[first:]
    ages = [1e3 * (at - unix(caption["frame_ts"])) for at, caption in said]
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    span = lambda key: sum(max(of_one) - min(of_one) for of_one in counted(said, key))
    return {
        "captions/s": len(said) / took,
        "overwritten/s": span("overwritten") / took,
        "p50": statistics.median(ages),
        "p99": quantile(ages, 0.99),
        "cores": cpu / took,
        "MB": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3,
    }


def counted(said, key):
    by_camera = {}
    for _, caption in said:
        by_camera.setdefault(caption["camera"], []).append(caption["counters"][key])
    return by_camera.values()


def variant(bundle, folder, field, value):
    """The bundle with another number in `[decoder]`."""
    shutil.copytree(bundle, folder)
    path = folder / "manifest.toml"
    text, n = re.subn(rf"(?m)^{field} *=.*$", f"{field} = {value}", path.read_text(encoding="utf-8"), count=1)
    if n != 1:
        raise SystemExit(f"{path}: no {field}")
    path.write_text(text, encoding="utf-8")


def searches(args, field, values):
    """Milliseconds of a caption for each value, medians over the rounds."""
    with tempfile.TemporaryDirectory() as scratch:
        bundles = [pathlib.Path(scratch) / str(value) for value in values]
        for bundle, value in zip(bundles, values):
            variant(args.bundle, bundle, field, value)
        command = lambda bundle: [args.captiond, "bench", "--json", "--bundle", bundle, "--threads", str(args.threads),
                                  "--runs", "3", "--warmup", "1"]
        rounds = [[run(command(bundle))["latency_ms"]["caption"]["p50"] for bundle in bundles]
                  for _ in range(args.rounds)]
    return [statistics.median(column) for column in zip(*rounds)]


def section(args, of_cameras, beams, tokens, load, marker):
    rows = "\n".join(
        f"| {n} | {1000 / INTERVAL_MS * n:.0f} | {r['captions/s']:.1f} | {r['overwritten/s']:.1f} | {r['p50']:.0f} "
        f"| {r['p99']:.0f} | {r['cores']:.2f} | {r['MB']:.0f} |" for n, r in zip(CAMERAS, of_cameras))
    table = lambda name, values, took: "\n".join([
        f"| {name} | {' | '.join(map(str, values))} |", "|---|" + "---:|" * len(values),
        f"| caption, ms | {' | '.join(f'{ms:.1f}' for ms in took)} |"])
    return f"""{marker[0]}
## As work grows

Cameras that show another photo four times a second and want a caption of each, {args.seconds:g} s each after a warm-up, medians over {args.rounds} round{'s' if args.rounds > 1 else ''} in which all took turns:

| cameras | photos/s | captions/s | overwritten/s | latency p50, ms | p99, ms | cores | resident, MB |
|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}

![Captions, latency and memory against the number of cameras](plots/growth.svg)

Where there is more than one inference thread can do, newer frames overwrite older ones, and what is captioned is about as fresh as before: a frame waits for the captions before it, of the other cameras too.

How wide the beam is, which is how many candidates each search gives, and how many tokens a caption may have at most:

{table('beam', BEAMS, beams)}

{table('tokens', TOKENS, tokens)}

![Time of a caption against the width of the beam and its length](plots/search.svg)

- bundle: {args.bundle.name}, {args.threads} thread{'s' if args.threads > 1 else ''} an inference
- machine: {machine()}; load {load:.1f} before the first round
- captiond at {commit()}, {datetime.date.today().isoformat()}, `scripts/bench_growth.py --rounds {args.rounds} --seconds {args.seconds:g}`
{marker[1]}"""


def plots(folder, of_cameras, beams, tokens):
    line = lambda key: list(zip(CAMERAS, (r[key] for r in of_cameras)))
    panels = [
        ("photos a second", [("captioned", line("captions/s")), ("overwritten", line("overwritten/s"))]),
        ("latency, ms", [("p50", line("p50")), ("p99", line("p99"))]),
        ("resident memory, MB", [("", line("MB"))]),
    ]
    (folder / "growth.svg").write_text(svg(panels, [], CAMERAS[-1], " cameras"))
    panels = [("a caption, ms", [("width of the beam", list(zip(BEAMS, beams))),
                                 ("tokens at most", list(zip(TOKENS, tokens)))])]
    (folder / "search.svg").write_text(svg(panels, [], TOKENS[-1], ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=pathlib.Path, default=ROOT / "models/lite")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--captiond", type=pathlib.Path, default=target / "release/captiond", help="the program")
    parser.add_argument("--photos", type=pathlib.Path, default=ROOT / "assets/demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="of each number of cameras in each round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    rounds = [[with_cameras(args, n) for n in CAMERAS] for _ in range(args.rounds)]
    median = lambda results: {key: statistics.median(r[key] for r in results) for key in results[0]}
    of_cameras = [median(results) for results in zip(*rounds)]
    beams, tokens = searches(args, "n_candidates", BEAMS), searches(args, "max_new_tokens", TOKENS)
    marker = [f"<!-- scripts/bench_growth.py {edge} -->" for edge in ("begin", "end")]
    text = section(args, of_cameras, beams, tokens, load, marker)
    write(args.out, text, marker)
    plots(args.out.parent / "plots", of_cameras, beams, tokens)
    print(text)


if __name__ == "__main__":
    main()
