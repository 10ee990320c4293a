"""Plots: one panel beneath the other over the same axis, hours of a soak for example, and a mark for each fault."""
from html import escape

WIDTH, LEFT, RIGHT, PANEL, GAP, TOP = 900, 70, 130, 110, 34, 30
COLOURS = ("#1f5fa8", "#c2571a", "#3a7d2c")


def ticks(low, high, n=4):
    """Round numbers between two others."""
    step = 10 ** len(str(int(max(high - low, 1e-9)))) / 1000
    for factor in (1, 2, 2.5, 2, 2, 2.5, 2, 2, 2.5, 2, 2, 2.5):
        step *= factor
        if (high - low) / step <= n:
            break
    first = int(low / step) if low >= 0 else int(low / step) - 1
    return [k * step for k in range(first, int(high / step) + 2) if low <= k * step <= high]


def panel(title, series, top, hours):
    """`series`: (name, [(hour, value)]) with gaps where the value is None."""
    values = [value for _, points in series for _, value in points if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = 0.0 if low < 0.5 * high else low - 0.1 * (high - low)
    high = high + 0.05 * (high - low) if high > low else low + 1
    x = lambda hour: LEFT + (WIDTH - LEFT - RIGHT) * hour / hours
    y = lambda value: top + PANEL * (1 - (value - low) / (high - low))
    out = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(title)}</text>',
           f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" fill="none" stroke="#bbb"/>']
    for tick in ticks(low, high):
        out.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        out.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#eee"/>')
    for nth, (name, points) in enumerate(series):
        colour, path, is_down = COLOURS[nth % len(COLOURS)], [], False
        for hour, value in points:
            if value is None:
                is_down = False
                continue
            path.append(f"{'L' if is_down else 'M'}{x(hour):.1f} {y(value):.1f}")
            is_down = True
        out.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{top + 14 + 16 * nth}" fill="{colour}">{escape(name)}</text>')
    return out


def svg(panels, faults, hours, unit=" h"):
    """`faults`: (hour, name), `panels`: (title, series); the axis goes from 0 to `hours`, whatever it counts."""
    height = TOP + len(panels) * (PANEL + GAP) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    bottom = TOP + len(panels) * (PANEL + GAP) - GAP
    for hour, name in faults:
        at = LEFT + (WIDTH - LEFT - RIGHT) * hour / hours
        out.append(f'<path d="M{at:.1f} {TOP}V{bottom}" stroke="#d66" stroke-width="0.5" stroke-dasharray="2 3">'
                   f"<title>{escape(name)}</title></path>")
    for nth, (title, series) in enumerate(panels):
        out += panel(title, series, TOP + nth * (PANEL + GAP), hours)
    for tick in ticks(0, hours, 8):
        at = LEFT + (WIDTH - LEFT - RIGHT) * tick / hours
        out.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}{unit}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"
