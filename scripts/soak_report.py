"""Judges the log of a soak (scripts/soak.py), and makes the report and its plots of it.

Nothing is judged by what the daemon says of itself alone: a caption counts as lost when its line is in the daemon's log
and a subscriber with a session never got it. The log line is written before the caption is handed over.
"""
import calendar
import json
import re
import statistics
import time

from soak_latency import WINDOW_S, growth_at_one_load, quantile, ratio_of_halves, slope, windows

# Of each run of the daemon. The heap fills up to the most that ever was in use at a time, and chance raises that ever more
# seldom, not never: a doubling of the time may add as much as the one before. Of a run shorter than two hours it is a sixth.
WARM_UP_S = 1200
BLOCK_S = 120
# What a daemon that is killed was just sending is lost (docs/mqtt.md, Delivery).
SENDING_S = 2.0
WORDS = {True: "yes", False: "**no**", None: "too short to tell"}
DEATHS = ("daemon killed", "daemon killed while the broker is away")
FULL = "disk full while the broker is away"


def seconds(ts):
    """Of `2026-11-20T21:00:00.318Z`, with any number of decimals, or none."""
    head, _, rest = ts.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(head, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest or 0}")


class Run:
    """What the files of a soak say."""

    def __init__(self, folder):
        self.entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        of = lambda kind: [entry for entry in self.entries if entry["kind"] == kind]
        self.legs, self.runs, self.exits, self.samples = of("leg"), of("run"), of("exit"), of("sample")
        self.faults, self.last, self.ends = of("recovered"), of("last"), of("end")
        self.skipped = sorted({entry["why"] for entry in of("skipped")})
        self.cameras = self.legs[0]["cameras"]
        self.start = self.legs[0]["at"]
        self.samples = [sample for sample in self.samples if "rss_kb" in sample]
        self.logged, self.troubles = self.read_logs(folder)
        self.received, self.repeated, self.latencies, self.answers, self.late = self.read_received(folder)

    def read_logs(self, folder):
        """The captions of each run of the daemon with the time of their line, and how often each warning came."""
        logged, troubles = {}, {}
        for n in [run["n"] for run in self.runs]:
            for line in (folder / f"daemon-{n:03}.log").read_text(errors="replace").splitlines():
                try:
                    said = json.loads(line)
                except ValueError:
                    # A killed daemon may leave half a line, and a panic in C none of ours.
                    troubles[f"(no JSON) {line[:60]}"] = troubles.get(f"(no JSON) {line[:60]}", 0) + 1
                    continue
                if said.get("message") == "caption" and said.get("level") == "debug":
                    key = (n, self.cameras[int(said["camera"])], int(said["seq"]))
                    logged[key] = seconds(said["ts"])
                elif said.get("level") in ("warn", "error"):
                    key = f"{said['level']}: {said['message']}"
                    troubles[key] = troubles.get(key, 0) + 1
        return logged, troubles

    def run_at(self, at):
        return max((run["n"] for run in self.runs if run["at"] <= at), default=0)

    def read_received(self, folder):
        received, repeated, latencies, answers, late = set(), 0, [], 0, 0
        for line in (folder / "received.jsonl").read_text(errors="replace").splitlines():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            payload = message["payload"]
            answers += message["topic"].endswith("/answer")
            if not message["topic"].endswith("/caption") or not payload["changed"]:
                continue
            made_at = seconds(payload["ts"])
            key = (self.run_at(made_at), payload["camera"], payload["seq"])
            repeated += key in received
            if key not in received:
                latencies.append((made_at, payload["latency_ms"]["total"]))
                late += bool(payload.get("late"))
            received.add(key)
        return received, repeated, sorted(latencies), answers, late

    def times_of(self, *names):
        return [(fault["since"], fault["until"] + (fault["took_s"] or 0)) for fault in self.faults if fault["name"] in names]

    def is_troubled(self, at):
        return any(fault["since"] <= at <= fault["until"] + (fault["took_s"] or 0) for fault in self.faults)

    def lost(self):
        """Captions that nobody got: just being sent by a daemon that was killed; without room on a full disk while the
        broker was away; and all others, which must not be."""
        ends = {}
        for exit_ in self.exits:
            ends[exit_["n"]] = exit_["at"]
        for n in [run["n"] for run in self.runs]:
            lines = [at for key, at in self.logged.items() if key[0] == n]
            ends.setdefault(n, max(lines, default=0))
        killed = {run["n"] for run in self.runs} - {exit_["n"] for exit_ in self.exits if exit_["code"] == 0}
        full = self.times_of(FULL)
        sending, no_room, others = [], [], []
        for key, at in sorted(self.logged.items(), key=lambda item: item[1]):
            if key in self.received:
                continue
            if any(since - SENDING_S <= at <= until for since, until in full):
                no_room.append((key, at))
            elif key[0] in killed and ends[key[0]] - at <= SENDING_S:
                sending.append((key, at))
            else:
                others.append((key, at))
        return sending, no_room, others

    def segments(self):
        """Samples of each run of the daemon after its warm-up, in which nothing was amiss."""
        parts = {}
        first = {run["n"]: run["at"] for run in self.runs}
        span = self.samples[-1]["at"] - self.start
        warm_up = min(WARM_UP_S, span / 6)
        for sample in self.samples:
            if sample["at"] - first[sample["n"]] >= warm_up:
                parts.setdefault(sample["n"], []).append(sample)
        return parts


def pooled_slope(parts, key):
    """Growth an hour by least squares with an intercept for each part, over means of two minutes, and its 95 % interval,
    widened for what neighbouring means have in common. None where there is too little."""
    points = []
    for n, part in parts.items():
        blocks = {}
        for sample in part:
            blocks.setdefault(int(sample["at"] / BLOCK_S), []).append(sample)
        means = [(statistics.fmean(s["at"] for s in block) / 3600, statistics.fmean(key(s) for s in block))
                 for block in blocks.values()]
        if len(means) >= 3:
            x0, y0 = (statistics.fmean(column) for column in zip(*means))
            points.append([(x - x0, y - y0) for x, y in means])
    n = sum(map(len, points))
    found = slope(points, n - len(points) - 1)
    return found and (found[0], found[0] - found[1], found[0] + found[1], n, len(points))


def heap_lines(parts):
    """What the resident memory is made of, where the run knows: what the allocator has in use would grow with every byte
    that is lost."""
    seen = {n: [s for s in part if "in_use_kb" in s] for n, part in parts.items()}
    samples = [s for part in seen.values() for s in part]
    if not samples:
        return []
    middle = lambda key: statistics.median(s[key] for s in samples) / 1024
    in_use, anonymous = (pooled_slope(seen, lambda s, key=key: s[key] / 1024) for key in ("in_use_kb", "anon_kb"))
    return [f"- of that {middle('anon_kb'):.1f} MB anonymous (median), {interval(anonymous, 'MB')}; {middle('file_kb'):.1f} MB of "
            f"files; the allocator's heaps have {middle('heaps_kb'):.1f} MB",
            f"- in use by the allocator's count: {middle('in_use_kb'):.1f} MB (median), {interval(in_use, 'MB')}"]


def thirds(longest, key):
    """The medians of the first and last third of the longest run; None where it is short."""
    third = len(longest) // 3
    if third < 10:
        return None
    return statistics.median(s[key] for s in longest[:third]), statistics.median(s[key] for s in longest[-third:])


def interval(answer, unit):
    if answer is None:
        return "too short to tell"
    slope, low, high, n, parts = answer
    return f"{slope:+.2f} {unit} an hour, 95 % interval {low:+.2f} to {high:+.2f} ({n} means of two minutes in {parts} runs)"


def both(pair):
    return f"{pair[0]:g} and {pair[1]:g}" if pair else "too short to tell"


class Judgement:
    """What a soak comes to, and the sentences that say so."""

    def __init__(self, run):
        self.run, self.parts = run, run.segments()
        self.sending, self.no_room, self.others = run.lost()
        self.memory = pooled_slope(self.parts, lambda s: s["rss_kb"] / 1024)
        well = [(at, ms) for at, ms in run.latencies if not run.is_troubled(at)]
        self.windows = windows(well, run.start)
        self.halves = ratio_of_halves(self.windows)
        self.aged = growth_at_one_load(self.windows, run.samples, run.start)
        longest = max(self.parts.values(), key=len) if self.parts else []
        # A camera that is away has no files open.
        self.longest = [sample for sample in longest if not run.is_troubled(sample["at"])]
        killed = sum(fault["name"] in DEATHS for fault in run.faults)
        self.unexpected = [e for e in run.exits if e["code"] not in (0, -9)]
        self.n_kills = sum(e["code"] == -9 for e in run.exits) - killed
        self.dropped_full = sum(fault["dropped"] for fault in run.faults if fault["name"] == FULL)

    def unreached(self):
        """Captions by the counter of each run's last sample, beyond those with a line in the log by then."""
        beyond = 0
        for n in {sample["n"] for sample in self.run.samples}:
            sample = [s for s in self.run.samples if s["n"] == n and s["metrics"]]
            if not sample:
                continue
            counted = sum(v for k, v in sample[-1]["metrics"].items() if k.startswith("captiond_captioned_total"))
            # A line may be a moment younger than the counter.
            lines = sum(key[0] == n and at <= sample[-1]["at"] + 1 for key, at in self.run.logged.items())
            beyond += max(counted - lines, 0)
        return int(beyond)

    def growth(self, key):
        return thirds(self.longest, key), pooled_slope(self.parts, lambda s: s[key])

    def verdicts(self):
        """True, False, or None where the soak was too short to tell."""
        run = self.run
        fds, threads = thirds(self.longest, "fds"), thirds(self.longest, "threads")
        return {
            "every fault was recovered from": bool(run.faults) and all(f["took_s"] is not None for f in run.faults),
            "a reload was answered as it had to be": not any("no event" in f["how"] for f in run.faults),
            "no caption is lost but on a full disk or in the hands of a daemon that is killed":
                bool(run.logged) and not self.others and self.unreached() == 0,
            "what found no room on a full disk is counted as dropped": len(self.no_room) <= self.dropped_full,
            "memory does not grow: the interval of its slope reaches zero": self.memory and self.memory[1] <= 0,
            "no file leaks": fds and fds[1] <= fds[0] + 2,
            "no thread leaks": threads and threads[1] <= threads[0] + 1,
            "the p99 latency stays: the second half is at most 1.1 times the first, within its interval":
                self.halves and self.halves[2] <= 1.1,
            "nothing ended that was not killed": not self.unexpected and self.n_kills <= 0,
            "orderly end": [end["code"] for end in run.ends[-1:]] == [0],
        }


def summary(judgement):
    run, parts = judgement.run, judgement.windows
    hours = sum(leg_seconds(run)) / 3600
    version, halves, aged = run.legs[0]["version"], judgement.halves, judgement.aged
    fds, threads = judgement.growth("fds"), judgement.growth("threads")
    longest = (judgement.longest[-1]["at"] - judgement.longest[0]["at"]) / 60 if judgement.longest else 0
    all_ms = [ms for window in parts.values() for ms in window]
    lines = [
        f"- {version['captiond']} of commit `{version['commit']}`, Linux {version['kernel']}, {version['cores']} cores; "
        f"{len(run.cameras)} cameras ({', '.join(run.cameras)}) on {run.legs[0]['photos']} photos, seed {run.legs[0]['seed']}",
        f"- {hours * 60:.0f} minutes in {len(run.legs)} leg{'s' * (len(run.legs) > 1)}, {len(run.faults)} faults, "
        f"{len(run.runs)} runs of the daemon, the longest {longest:.0f} minutes after its warm-up",
        f"- captions of new scenes: {len(run.logged)} made, {len(run.received & set(run.logged))} received, of those {run.late} "
        f"late; {run.repeated} came twice; {run.answers} answers to questions beside them",
        f"- lost: {len(judgement.others)} without a reason; {len(judgement.sending)} that a daemon was just sending when it was "
        f"killed; {len(judgement.no_room)} on the full disk while the broker was away, {judgement.dropped_full:.0f} counted as "
        f"dropped then; {judgement.unreached()} between counter and publisher",
        f"- resident memory after {min(WARM_UP_S, 60 * hours * 10) / 60:.0f} minutes of warm-up: {interval(judgement.memory, 'MB')}",
        *heap_lines(judgement.parts),
        f"- files, medians of the first and last third of the longest run: {both(fds[0])}; {interval(fds[1], 'files')}",
        f"- threads, likewise: {both(threads[0])}; {interval(threads[1], 'threads')}",
        f"- latency from capture to caption without times of faults: p50 {quantile(all_ms, 0.5):.0f} ms, "
        f"p99 {quantile(all_ms, 0.99):.0f} ms" + (
            f"; p99 of the first half {halves[0]:.0f} ms, of the second {halves[1]:.0f} ms, ratio {halves[1] / halves[0]:.2f}, "
            f"95 % interval {halves[2]:.2f} to {halves[3]:.2f}" if halves else "; too short for halves"),
        *([f"- p99 at the end beside that at the begin, at the same load of the machine: {aged[0]:.2f} times, 95 % interval "
           f"{aged[1]:.2f} to {aged[2]:.2f}"] if aged else []),
    ]
    lines += [f"- left out: {why}" for why in run.skipped]
    return lines


def leg_seconds(run):
    """How long each driver was at it."""
    starts = [leg["at"] for leg in run.legs] + [float("inf")]
    for start, end in zip(starts, starts[1:]):
        yield max(entry["at"] for entry in run.entries if start <= entry["at"] < end) - start


def tables(run):
    """The faults by their kind, what the daemon warned of, and what else ran."""
    kinds = {}
    for fault in run.faults:
        kinds.setdefault(fault["name"], []).append(fault)
    yield "| fault | times | how | recovered after, s: median, longest |"
    yield "|---|---|---|---|"
    for name, faults in sorted(kinds.items()):
        took = [fault["took_s"] for fault in faults]
        spread = "not recovered: " + "; ".join(f["why"] for f in faults if f["took_s"] is None) if None in took else (
            f"{statistics.median(took):.1f}, {max(took):.1f}")
        how = ", ".join(sorted({fault["how"] for fault in faults} - {""}))
        yield f"| {name} | {len(faults)} | {how} | {spread} |"
    yield ""
    yield "| warnings and errors in the daemon's log | times |"
    yield "|---|---|"
    for what, n in sorted(run.troubles.items()):
        yield f"| {what} | {n} |"
    yield ""
    loads = [sample["load"] for sample in run.samples]
    seen, looks = {}, [sample["neighbours"] for sample in run.samples if "neighbours" in sample]
    for look in looks:
        for name in {re.sub(r"[^\w.+-]", "?", name.strip()) for _, name in look}:
            seen[name] = seen.get(name, 0) + 1
    yield (f"Beside it: load average {quantile(loads, 0.5):.1f} (median), {max(loads):.1f} (highest). "
           f"Programs above 5 % of a core, in how many of {len(looks)} looks: "
           + ", ".join(f"{name} {n}" for name, n in sorted(seen.items(), key=lambda item: -item[1])[:20]) + ".")


def plot(judgement):
    from soak_plot import svg

    run = judgement.run
    hour = lambda at: (at - run.start) / 3600

    def of(read):
        points, before = [], None
        for sample in run.samples:
            if before not in (None, sample["n"]):
                points.append((hour(sample["at"]), None))
            before = sample["n"]
            points.append((hour(sample["at"]), read(sample)))
        return points

    every = windows(run.latencies, run.start)
    middle = lambda n: (n + 0.5) * WINDOW_S / 3600
    made, got = {}, {}
    for key, at in run.logged.items():
        minute = int((at - run.start) / 60)
        made[minute] = made.get(minute, 0) + 1
        got[minute] = got.get(minute, 0) + (key in run.received)
    rate = lambda counts: [((minute + 0.5) / 60, n) for minute, n in sorted(counts.items())]
    gauge = lambda name: of(lambda s: s["metrics"].get(name))
    total = lambda name: of(lambda s: sum(v for k, v in s["metrics"].items() if k.startswith(name)) if s["metrics"] else None)
    panels = [
        ("resident memory, MB", [("RSS", of(lambda s: s["rss_kb"] / 1024))]),
        ("threads and open files", [("threads", of(lambda s: s["threads"])), ("files", of(lambda s: s["fds"]))]),
        ("latency from capture to caption, ms, by five minutes",
         [("p50", [(middle(n), quantile(ms, 0.5)) for n, ms in every.items()]),
          ("p99", [(middle(n), quantile(ms, 0.99)) for n, ms in every.items()])]),
        ("captions a minute", [("made", rate(made)), ("received", rate(got))]),
        ("captions that wait on disk", [("queued", gauge("captiond_queue_messages"))]),
        ("counters of each run of the daemon",
         [(name, total(f"captiond_{name}_total")) for name in ("dropped", "failed", "lost")]),
        ("load average of the machine", [("1 minute", of(lambda s: s["load"]))]),
    ]
    hours = hour(run.entries[-1]["at"])
    return svg(panels, [(hour(fault["since"]), fault["name"]) for fault in run.faults], hours)


def report(folder, docs, note=""):
    """Prints the report, writes it beside the log and into `docs` if that is given. Whether every verdict is good."""
    judgement = Judgement(Run(folder))
    verdicts = judgement.verdicts()
    day = time.strftime("%Y-%m-%d", time.gmtime(judgement.run.start))
    text = "\n".join([
        "# Soak", "",
        f"The daemon on cameras of every kind with one fault after another, on {day}. "
        "Made by `scripts/soak.py --report --write-docs`; how it is done and judged stands in the scripts.", "",
        *summary(judgement), *([f"- {note}"] if note else []), "", "| verdict | |", "|---|---|",
        *(f"| {what} | {WORDS[good]} |" for what, good in verdicts.items()), "",
        *tables(judgement.run), "", "![Memory, threads, latency, captions over the hours](plots/soak.svg)", "",
        "Dashed lines are faults. Recovered means: every camera has given a caption of a new scene since, over the broker, "
        "and nothing waits on disk.", ""])
    print(text)
    picture = plot(judgement)
    (folder / "plots").mkdir(exist_ok=True)
    for place in filter(None, (folder, docs)):
        (place / "soak.md").write_text(text)
        (place / "plots/soak.svg").write_text(picture)
    return False not in verdicts.values()
