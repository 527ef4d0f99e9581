"""Pictures in and out. A picture's size is read from its header and held to a limit before a pixel is decoded."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadRequest, UnsupportedMedia

if TYPE_CHECKING:
    import numpy

# One decoder each, all of single pictures.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# No side is longer; a strip of one pixel would make some networks pad it enormously.
MAX_SIDE = 16_384


def read(path: Path, max_pixels: int, min_side: int = 1) -> numpy.ndarray:
    """The picture as RGB bytes, [height, width, 3], turned as its camera was held."""
    import numpy
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            # Pillow's own limit only warns at first; ours comes before any decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = image.size
            if width * height > max_pixels or max(width, height) > MAX_SIDE:
                raise BadRequest(f"the image has {width} x {height} pixels; at most {max_pixels} in all "
                                 f"and {MAX_SIDE} a side are taken")
            if min(width, height) < min_side:
                raise BadRequest(f"the image has {width} x {height} pixels; at least {min_side} a side are needed")
            image.load()
            return numpy.asarray(_over_white(ImageOps.exif_transpose(image)))
    except BadRequest:
        raise
    except Image.DecompressionBombError:  # far beyond any limit of ours
        raise BadRequest(f"the image has too many pixels; at most {max_pixels} in all are taken") from None
    # A broken picture shows itself in many ways; none of them is our failure.
    except Exception as err:
        raise UnsupportedMedia("Unsupported image format or malformed file.") from err


def _over_white(image):
    """Without an alpha channel: what is transparent shows white."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def png_url(pixels: numpy.ndarray) -> str:
    """RGB bytes as a `data:` URL."""
    from PIL import Image

    target = io.BytesIO()
    # Level 1: size is no concern on the way to the worker, time is.
    Image.fromarray(pixels).save(target, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def answer(pictures: list[tuple[numpy.ndarray, int]]) -> dict:
    """ai-runner's answer with pictures and their seeds. Nothing judges them, so nothing is `nsfw`."""
    return {"images": [{"url": png_url(pixels), "seed": seed, "nsfw": False} for pixels, seed in pictures]}


def to_planes(pixels: numpy.ndarray) -> numpy.ndarray:
    """RGB bytes to float32 [1, 3, height, width] in 0..1."""
    import numpy

    return numpy.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=numpy.float32) / 255


def from_planes(planes: numpy.ndarray) -> numpy.ndarray:
    """The way back."""
    import numpy

    return (numpy.clip(planes[0], 0, 1) * 255 + 0.5).astype(numpy.uint8).transpose(1, 2, 0)
