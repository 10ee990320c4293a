"""Writes resize.json: what Pillow makes of a few synthetic images. Run: python resize.py (needs Pillow).

Pillow resamples rows first and columns second, the daemon's resizer the other way round, and both round
in between. So that the fixture tests the filter and not the order, Pillow resamples one axis per call; but for
`shortest`, which is Pillow's own order, and its sizes and offsets those of CLIP's image processor.
"""

import json
import pathlib

import PIL
from PIL import Image

CASES = [  # source width, height, target width, height, mode
    (37, 23, 16, 16, "squash"),
    (64, 48, 24, 18, "squash"),
    (5, 7, 16, 12, "squash"),
    (16, 16, 16, 16, "squash"),
    (100, 3, 8, 8, "squash"),
    (1, 1, 4, 4, "squash"),
    (40, 20, 16, 16, "crop"),
    (21, 50, 12, 12, "crop"),
    (50, 21, 20, 12, "crop"),
    (64, 48, 16, 16, "shortest"),
    (37, 61, 15, 15, "shortest"),
    (7, 5, 12, 12, "shortest"),
    (90, 31, 13, 13, "shortest"),
    (16, 16, 16, 16, "shortest"),
    (3, 400, 8, 8, "shortest"),
]


def pixel(x: int, y: int, channel: int) -> int:
    return ((x * 7 + y * 13 + channel * 50) ^ (x * y)) & 255


def crop_box(width: int, height: int, to_width: int, to_height: int) -> tuple[float, ...]:
    """The largest centred box of the target's aspect."""
    scale = min(width / to_width, height / to_height)
    box_width, box_height = to_width * scale, to_height * scale
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return (left, top, left + box_width, top + box_height)


def main() -> None:
    cases = []
    for width, height, to_width, to_height, mode in CASES:
        image = Image.new("RGB", (width, height))
        image.putdata([tuple(pixel(x, y, c) for c in range(3)) for y in range(height) for x in range(width)])
        bicubic = Image.Resampling.BICUBIC
        if mode == "shortest":
            short = min(width, height)
            size = (to_width * width // short, to_height * height // short)
            left, top = (size[0] - to_width) // 2, (size[1] - to_height) // 2
            resized = image.resize(size, bicubic).crop((left, top, left + to_width, top + to_height))
            cases.append({"from": [width, height], "to": [to_width, to_height], "resize": mode, "rgb": list(resized.tobytes())})
            continue
        whole = (0, 0, width, height)
        left, top, right, bottom = crop_box(width, height, to_width, to_height) if mode == "crop" else whole
        shorter = image.resize((width, to_height), bicubic, box=(0, top, width, bottom))
        resized = shorter.resize((to_width, to_height), bicubic, box=(left, 0, right, to_height))
        cases.append({"from": [width, height], "to": [to_width, to_height], "resize": mode, "rgb": list(resized.tobytes())})
    file = pathlib.Path(__file__).with_name("resize.json")
    file.write_text(json.dumps({"pillow": PIL.__version__, "cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
