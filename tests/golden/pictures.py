"""Pictures of the kinds that people have, with the pixels that viewers show: python tests/golden/pictures.py

Needs Pillow and numpy.
"""

import json
from pathlib import Path

import numpy
from PIL import Image, ImageOps

ROOT = Path(__file__).parent / "pictures"
W, H = 16, 8


def smooth():
    x, y = numpy.meshgrid(numpy.linspace(0, 1, W), numpy.linspace(0, 1, H))
    return Image.fromarray((numpy.stack([x, y, 1 - x * y], -1) * 255).round().astype(numpy.uint8))


def main():
    ROOT.mkdir(exist_ok=True)
    rgb = smooth()
    alpha = numpy.asarray(rgb.convert("RGBA")).copy()
    alpha[: H // 2, :, 3] = 0
    alpha[H // 2 :, W // 2 :, 3] = 100
    alpha = Image.fromarray(alpha)
    turned = Image.Exif()
    turned[0x112] = 6
    grey = rgb.convert("L")
    pictures = {
        "rgb.png": (rgb, {}),
        "grey.png": (grey, {}),
        "grey16.png": (Image.fromarray(numpy.asarray(grey).astype(numpy.uint16) * 257), {}),
        "bits.png": (rgb.convert("1"), {}),
        "palette.png": (rgb.convert("P", palette=Image.ADAPTIVE, colors=32), {}),
        "palette_transparent.png": (rgb.convert("P", palette=Image.ADAPTIVE, colors=32), {"transparency": 3}),
        "grey_alpha.png": (alpha.convert("LA"), {}),
        "alpha.png": (alpha, {}),
        "turned.png": (rgb, {"exif": turned}),
        "rgb.jpg": (rgb, {"quality": 95}),
        "progressive.jpg": (rgb, {"quality": 95, "progressive": True}),
        "grey.jpg": (grey, {"quality": 95}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 95}),
        "turned.jpg": (rgb, {"quality": 95, "exif": turned}),
        "rgb.webp": (rgb, {"lossless": True}),
        "lossy.webp": (rgb, {"quality": 95}),
        "alpha.webp": (alpha, {"lossless": True, "exact": True}),
        "turned.webp": (rgb, {"lossless": True, "exif": turned}),
        "moving.webp": (rgb, {"lossless": True, "save_all": True, "append_images": [rgb.rotate(180)]}),
    }
    known = {}
    for name, (picture, how) in pictures.items():
        picture.save(ROOT / name, **how)
        seen = ImageOps.exif_transpose(Image.open(ROOT / name))
        if seen.mode == "I;16":
            seen = Image.fromarray((numpy.asarray(seen) >> 8).astype(numpy.uint8))
        if seen.mode in ("LA", "RGBA") or "transparency" in seen.info:
            seen = seen.convert("RGBA")
            white = Image.new("RGBA", seen.size, "white")
            seen = Image.alpha_composite(white, seen)
        seen = seen.convert("RGB")
        known[name] = {"size": seen.size, "rgb": numpy.asarray(seen).tobytes().hex()}
    (ROOT / "known.json").write_text(json.dumps(known, indent=1) + "\n")


main()
