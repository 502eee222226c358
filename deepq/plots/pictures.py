"""Small pictures inside of a page, as data of an ``<img>``."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

from deepq._common.errors import FormatError, KindError
from deepq.plots import style
from deepq.plots.found import as_image
from deepq.plots.markup import Html, escaped

_MOST = 224  # pixels of a side
_SMALL = 64  # up to which every pixel is kept, and shown as a square


def img(picture: Any, said: str) -> Html:
    """Return an ``<img>`` of an image, or of the file of a path.

    Raises
    ------
    FileNotFoundError, FormatError
        If there is no such file, or no picture in it.
    DimensionError, KindError, InputError
        If it is no image.
    """
    pillow = style.needed("PIL.Image")  # which matplotlib needs
    if isinstance(picture, str | os.PathLike):
        opened = _opened(pillow, Path(picture))
    elif hasattr(picture, "shape"):
        opened = pillow.fromarray(as_image(picture, "an image"))
    else:
        raise KindError(f"expected an image or a path, got {type(picture).__name__}")
    small = max(opened.size) <= _SMALL
    if not small:
        opened.thumbnail((_MOST, _MOST))
    memory = io.BytesIO()
    kind = "png" if small else "jpeg"
    opened.save(memory, kind, **({"optimize": True} if small else {"quality": 82}))
    data = base64.b64encode(memory.getvalue()).decode()
    look = ' class="pixels"' if small else ""
    width, height = opened.size
    return Html(
        f'<img{look} src="data:image/{kind};base64,{data}" width="{width}" height="{height}" '
        f'alt="{escaped(said)}">'
    )


def _opened(pillow: Any, path: Path) -> Any:
    """Read a picture as red, green and blue, on white where it is transparent."""
    try:
        with pillow.open(path) as file:
            whole = file.convert("RGBA")
    except FileNotFoundError:
        raise FileNotFoundError(f"expected a picture {path}, got no such file") from None
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise FormatError(f"{path}: expected a picture, got: {error}") from error
    under = pillow.new("RGBA", whole.size, "white")
    under.alpha_composite(whole)
    return under.convert("RGB")
