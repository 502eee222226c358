"""Pictures as SVG inside of a page: their colours are the page's, light or dark.

matplotlib writes colours as numbers. Here they are drawn in numbers that stand for names, and these
are put in their place afterwards, ``var(--ink)``; so one picture serves a light page, a dark one
and paper. Letters stay letters, in the font of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from deepq.plots import style
from deepq.plots.markup import Html, escaped

_SIZE = (3.9, 2.8)  # inches: letters are readable where a telephone shows the whole width
_INK, _LINE = "#010203", "#040506"
_NAMES = {
    _INK: "var(--ink)",
    _LINE: "var(--grid)",
    "#808080": "var(--muted)",  # "gray"
    **{colour.lower(): f"var(--series-{i})" for i, colour in enumerate(style.COLOURS)},
}
_RC = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _LINE,
    "legend.edgecolor": _LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "path.sketch": None,
    "text.usetex": False,
}


def svg(draw: Callable[[Any], Any], name: str, said: str) -> Html:
    """Draw on Axes of a new figure, and return it as an ``<svg>`` element.

    Parameters
    ----------
    draw : callable
        Draws on the Axes that it is given.
    name : str
        Letters and digits, which no other picture of the page has: ids begin with it.
    said : str
        What is to be seen, for those who cannot.
    """
    mpl = style.needed("matplotlib")
    figure_of = style.needed("matplotlib.figure").Figure
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's own style is for the user's own pictures
        mpl.rcParams.update({**_RC, "svg.hashsalt": name})
        figure = figure_of(figsize=_SIZE, layout="constrained")
        draw(figure.subplots())
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _as_part(written.getvalue(), name, said)


def _as_part(text: str, name: str, said: str) -> Html:
    """Turn a file into an element: no prologue, sizes, own style sheet, or ids that nobody uses."""
    text = text[text.index("<svg") :].strip()
    box = re.search(r'viewBox="([^"]+)"', text)
    text = text[text.index(">") + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"#[0-9a-fA-F]{6}\b", lambda m: _NAMES.get(m[0].lower(), m[0]), text)
    text = re.sub(r"(font-family:|font: [^;\"]*?px) [^;\"]+", r"\1 var(--font)", text)
    text = re.sub(r"\n\s*", "\n", text)
    view = box[1] if box else "0 0 324 216"
    return Html(
        f'<svg viewBox="{view}" role="img" aria-label="{escaped(said)}">\n'
        f"<title>{escaped(said)}</title>{text}"
    )
