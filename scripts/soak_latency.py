"""Slopes with their intervals, and whether the latency of a soak grows: by halves, and at the same load of the machine.

A soak of hours shares its machine, and what the neighbours do in the second half would pass for a daemon that ages.
"""
import math
import random
import statistics

WINDOW_S = 300
CAPTIONS_MIN = 100


def quantile(values, q):
    values = sorted(values)
    return values[min(int(q * len(values)), len(values) - 1)] if values else float("nan")


def windows(latencies, start):
    """Latencies by five minutes."""
    parts = {}
    for at, ms in latencies:
        parts.setdefault(int((at - start) / WINDOW_S), []).append(ms)
    return dict(sorted(parts.items()))


def ratio_of_halves(parts):
    """The p99 of the second half by that of the first, with a 95 % interval by drawing the windows anew."""
    ordered = [parts[n] for n in sorted(parts)]
    if len(ordered) < 4:
        return None
    halves = ordered[: len(ordered) // 2], ordered[len(ordered) // 2:]
    rng = random.Random(1)

    def p99(half):
        return quantile([ms for window in half for ms in window], 0.99)

    draws = [p99(rng.choices(halves[1], k=len(halves[1]))) / p99(rng.choices(halves[0], k=len(halves[0])))
             for _ in range(2000)]
    return p99(halves[0]), p99(halves[1]), quantile(draws, 0.025), quantile(draws, 0.975)


def growth_at_one_load(parts, samples, start):
    """By what factor the p99 of the windows grows from the first to the last at the same load average, and its 95 %
    interval: least squares of its logarithm on the time and the load, widened for what neighbouring windows have in
    common. None where there is too little."""
    loads = {}
    for sample in samples:
        loads.setdefault(int((sample["at"] - start) / WINDOW_S), []).append(sample["load"])
    chosen = [n for n, ms in parts.items() if len(ms) >= CAPTIONS_MIN and n in loads]
    if len(chosen) < 8:
        return None
    load = [statistics.fmean(loads[n]) for n in chosen]
    time = without([float(n) for n in chosen], load)
    p99 = without([math.log(quantile(parts[n], 0.99)) for n in chosen], load)
    found = slope([list(zip(time, p99))], len(chosen) - 3)
    if found is None:
        return None
    growth, error = found
    span = chosen[-1] - chosen[0]
    return tuple(math.exp(span * s) for s in (growth, growth - error, growth + error))


def slope(parts, freedom):
    """Least squares through the origin over all points of the parts, and half its 95 % interval, widened for what
    neighbouring points of a part have in common. None where there is too little."""
    spread = sum(x * x for part in parts for x, _ in part)
    if freedom < 3 or spread == 0:
        return None
    found = sum(x * y for part in parts for x, y in part) / spread
    rests = [[y - found * x for x, y in part] for part in parts]
    total = sum(r * r for part in rests for r in part)
    neighbours = sum(a * b for part in rests for a, b in zip(part, part[1:]))
    alike = min(max(neighbours / total if total else 0.0, 0.0), 0.9)
    return found, (1.96 + 2.5 / freedom) * math.sqrt(total / freedom / spread * (1 + alike) / (1 - alike))


def without(values, load):
    """Values less their regression on the load."""
    y0, x0 = statistics.fmean(values), statistics.fmean(load)
    spread = sum((x - x0) ** 2 for x in load)
    slope = sum((x - x0) * (y - y0) for x, y in zip(load, values)) / spread if spread else 0.0
    return [y - y0 - slope * (x - x0) for x, y in zip(load, values)]
