#!/usr/bin/env bash
# How exposed the unit leaves the daemon, by systemd's own measure: at most 1.5 of 10 (the threshold is in tenths).
# `--write` puts the table into docs/systemd.md.
set -euo pipefail
cd "$(dirname "$0")/.."
unit=systemd/captiond.service

warnings=$(systemd-analyze security --offline=true --no-pager --threshold=15 "$unit" 2>&1 >/dev/null) || {
    systemd-analyze security --offline=true --no-pager "$unit" | grep -v '^✓' >&2
    echo "the unit is more exposed than 1.5" >&2
    exit 1
}
# A line that systemd does not understand is one that does not protect.
if [ -n "$warnings" ]; then
    echo "$warnings" >&2
    exit 1
fi
systemd-analyze security --offline=true --no-pager "$unit" | tail -n 1

[ "${1:-}" = --write ] || exit 0
systemd-analyze security --offline=true --no-pager --json=short "$unit" | /usr/bin/env python3 -c '
import json, re, subprocess, sys
checks = json.load(sys.stdin)
left = sorted((c for c in checks if c["exposure"]), key=lambda c: (-float(c["exposure"]), c["name"]))
version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True).stdout.split()[1]
overall = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", sys.argv[1]], capture_output=True, text=True)
score = re.search(r"service: ([0-9.]+)", overall.stdout).group(1)
table = [f"By systemd {version}: {score} of 10; {len(checks) - len(left)} of {len(checks)} checks leave nothing open, and these do:", "",
         "| exposure | setting | what it leaves open |", "|---|---|---|"]
table += ["| {} | `{}` | {} |".format(c["exposure"], c["name"].replace("|", "\\|"), c["description"]) for c in left]
path = "docs/systemd.md"
text = open(path).read()
begin, end = "<!-- exposure: written by scripts/exposure.sh --write -->\n", "<!-- end of exposure -->\n"
head, rest = text.split(begin)
open(path, "w").write(head + begin + "\n".join(table) + "\n" + end + rest.split(end)[1])
' "$unit"
