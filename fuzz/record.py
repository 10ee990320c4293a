#!/usr/bin/env python3
"""Writes the table of docs/fuzz.md from the logs of the fuzz targets: `fuzz/record.py LOGS DOCUMENT`.

The row of a target that has no log stays as it is.
"""
import datetime
import pathlib
import platform
import re
import subprocess
import sys

BEGIN, END = "<!-- table: written by fuzz/run.sh -->", "<!-- end of table -->"


def row(path):
    """What libFuzzer says at its end, or that it did not come so far."""
    text = path.read_text(errors="replace")
    last = re.findall(r"#(\d+)\s+(?:DONE|pulse|REDUCE|NEW|RELOAD)\s+cov: (\d+) ft: \d+ corp: (\d+)/", text)
    time = re.search(r"Done (\d+) runs in (\d+) second", text)
    crash = re.search(r"Test unit written to (\S+)", text)
    if not last:
        return f"| `{path.stem}` | | | | | did not run |"
    inputs, covered, corpus = last[-1]
    artifact = pathlib.Path(crash[1]).name if crash else ""
    if artifact.startswith("slow-unit-"):
        found = f"an input that took long, {artifact.removeprefix('slow-unit-')[:8]}" if time else "**ended early**"
    else:
        found = f"**{artifact}**" if artifact else "none" if time else "**ended early**"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    watched = ", AddressSanitizer" if text.startswith("sanitizer: address") else ""
    day = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    return (f"| `{path.stem}` | {int(time[1] if time else inputs):,} | {time[2] + ' s' if time else ''} | {covered} | {corpus} | "
            f"{found} | {day}, {commit}{watched} |")


def main():
    logs, document = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    before, _, rest = document.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = dict(re.findall(r"^(\| `(?:\w+)` )(\|.*)$", old, re.MULTILINE))
    for path in logs.glob("*.log"):
        name, _, values = row(path).partition("` ")
        rows[f"{name}` "] = values
    table = ["", "| target | inputs | time | edges covered | corpus | findings | when, commit |",
             "|---|---:|---:|---:|---:|---|---|", *(name + values for name, values in sorted(rows.items())), ""]
    machine = f"On {platform.machine()}; without a sanitizer but where it says so."
    document.write_text(before + BEGIN + "\n" + machine + "\n" + "\n".join(table) + END + after)


if __name__ == "__main__":
    main()
