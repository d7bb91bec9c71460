"""A crop of a photograph that scikit-image ships (CC0 or public domain, no person shown; see `qi2.data.photos`)."""

from functools import lru_cache
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data import photos


def draw(values: Any, size: int) -> Image.Image:
    """``file`` is one of `photos.PHOTOS`; ``box`` (left, top, side in its pixels) the square that is shown, the largest in the middle where left out."""
    whole = _load(str(values["file"]))
    side = min(whole.size)
    left, top, side = values.get("box", ((whole.width - side) // 2, (whole.height - side) // 2, side))
    if min(left, top) < 0 or side < 1 or left + side > whole.width or top + side > whole.height:
        raise QI2Error(f"the box {[left, top, side]} leaves {values['file']}, which is {whole.width}x{whole.height} px; give left, top and side inside it")
    return whole.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


@lru_cache(maxsize=4)
def _load(file: str) -> Image.Image:
    known = {photo.file: photo for photo in photos.PHOTOS}
    if file not in known:
        raise QI2Error(f"{file!r} is no photograph of this project; choose {', '.join(known)}")
    return photos.load(known[file])
