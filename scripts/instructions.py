#!/usr/bin/env python3
"""Count the instructions of a start and of a frame, and compare them with those that were written down.

Times are noise on a shared machine, instructions are not: two runs of one program differ by less than a thousandth.
callgrind knows no AVX-512, so the engine takes its AVX2 kernels here; how many bytes they load per instruction is the
same on every machine.

    scripts/instructions.py [--captiond PATH]           # print, and fail above the limit
    scripts/instructions.py [--captiond PATH] --write   # write them down anew

What is written down (docs/instructions.json) holds for one compiler: another one is told, and given twice the room.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KNOWN = ROOT / "docs/instructions.json"
PHOTOS = ["cat.jpg", "boats.jpg", "coffee.jpg"]
# More than runs differ by, less than a lost optimization costs.
ROOM = 0.03


def count(captiond, photos):
    """Instructions of `captiond caption` on photos, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", captiond, "caption"]
        command += ["--bundle", ROOT / "models/lite", "--threads", "1", *(ROOT / "assets/demo" / p for p in photos)]
        done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}")
    return int(found[1])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--captiond", default=ROOT / "target/release/captiond", type=pathlib.Path)
    args.add_argument("--write", action="store_true")
    args = args.parse_args()
    one, all_photos = count(args.captiond, PHOTOS[:1]), count(args.captiond, PHOTOS)
    frame = (all_photos - one) / (len(PHOTOS) - 1)
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    counted = {"compiler": compiler, "start": round((one - frame) / 1e6), "frame": round(frame / 1e6)}
    print(f"million instructions: start {counted['start']}, frame {counted['frame']} ({compiler})")
    if args.write:
        KNOWN.write_text(json.dumps(counted, indent=2) + "\n")
        return
    known = json.loads(KNOWN.read_text())
    room = ROOM if known["compiler"] == compiler else 2 * ROOM
    if room != ROOM:
        print(f"written down for {known['compiler']}")
    for part in ("start", "frame"):
        change = counted[part] / known[part] - 1
        print(f"{part}: {change:+.1%} beside {known[part]} million")
        if change > room:
            sys.exit(f"{part}: {change:.1%} more instructions than {KNOWN.name} says; at most {room:.0%} are let pass")


if __name__ == "__main__":
    main()
