"""Plots as SVG, of lines and bars: the standard library has none, and three kinds of plot are no reason for another."""

import math
from html import escape

COLOURS = ["#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6c567b", "#2e4057", "#8d96a3"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 420, 76, 190, 44, 56


def text(x, y, words, size=12, anchor="start", colour="#333", turn=None):
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{turned}>{escape(words)}</text>'


def frame(title, body, height=HEIGHT):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="sans-serif"><rect width="{WIDTH}" height="{height}" fill="white"/>'
            + text(LEFT, 24, title, 15) + "".join(body) + "</svg>\n")


def short(value):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def steps(low, high, about=6):
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / about))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= about)
    first = math.ceil(low / step - 1e-9)
    return [step * count for count in range(first, int(high / step + 1e-9) + 1)]


def lines(title, x_name, y_name, series, log_x=False, y_marks=None, order=(), limit=None):
    """series: {name: [(x, y), …]}; y_marks: [(y, label), …] in place of round numbers.

    A name has the colour of its place in `order`, so that it has the same in every plot; `limit` is (y, label) of a dashed line.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return None
    fx = (lambda x: math.log10(max(x, 1e-9))) if log_x else (lambda x: x)
    xs, ys = [fx(x) for x, _ in points], [y for _, y in points]
    low_x, high_x = min(xs), max(max(xs), min(xs) + 1e-9)
    low_y, high_y = min(0, min(ys)), (y_marks[-1][0] if y_marks else max(ys) * 1.05 or 1)
    high_y = max(high_y, max(ys), limit[0] * 1.05 if limit else 0)
    px = lambda x: LEFT + (fx(x) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
    py = lambda y: HEIGHT - BOTTOM - (y - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)
    body = []
    for y, label in y_marks or [(y, short(y)) for y in steps(low_y, high_y)]:
        body.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>')
        body.append(text(LEFT - 8, py(y) + 4, label, 11, "end"))
    if log_x:
        decades = range(math.floor(low_x), math.ceil(high_x) + 1)
        marks = [m * 10**d for d in decades for m in (1, 2, 5) if low_x - 1e-9 <= d + math.log10(m) <= high_x + 1e-9]
    else:
        marks = steps(low_x, high_x)
    for x in marks:
        body.append(f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        body.append(text(px(x), HEIGHT - BOTTOM + 17, short(x), 11, "middle"))
    body.append(f'<path d="M{LEFT},{TOP} V{HEIGHT - BOTTOM} H{WIDTH - RIGHT}" fill="none" stroke="#888"/>')
    if limit:
        y = py(limit[0])
        body.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#666" stroke-dasharray="5 4"/>')
        body.append(text(WIDTH - RIGHT + 6, y + 4, limit[1], 11, colour="#666"))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[(order.index(name) if name in order else number) % len(COLOURS)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in line)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = TOP + 14 + 20 * number
        body.append(f'<line x1="{WIDTH - RIGHT + 14}" x2="{WIDTH - RIGHT + 38}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        body.append(text(WIDTH - RIGHT + 44, y, name))
    body.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_name, 12, "middle"))
    body.append(text(18, (TOP + HEIGHT - BOTTOM) / 2, y_name, 12, "middle", turn=-90))
    return frame(title, body)


def bars(title, rows, systems):
    """rows: [(label, {system: value}), …], each row to its own greatest value."""
    if not rows:
        return None
    thick, gap, left = 13, 12, 150
    body, y = [], TOP
    for number, name in enumerate(systems):
        x = left + 130 * number
        body.append(f'<rect x="{x}" y="{y - 8}" width="12" height="12" fill="{COLOURS[number % len(COLOURS)]}"/>')
        body.append(text(x + 18, y + 3, name))
    y += 24
    for label, values in rows:
        greatest = max(values.values())
        body.append(text(left - 8, y + thick * len(values) / 2 + 4, label, 12, "end"))
        for number, name in enumerate(systems):
            if name not in values:
                continue
            width = (WIDTH - left - 90) * values[name] / greatest
            body.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{thick - 2}" fill="{COLOURS[number % len(COLOURS)]}"/>')
            body.append(text(left + width + 6, y + thick - 3, short(values[name]), 11))
            y += thick
        y += gap
    return frame(title, body, y + 10)
