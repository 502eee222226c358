"""The page of a report in a real browser: wide and narrow, light and dark, and on paper.

It needs PySide6-WebEngine, the extra `browser`: `make browser-check` installs it and runs this.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import deepq
from deepq.datasets import Dataset
from deepq.plots import report
from tests.plots.browser import seen

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("PySide6") is None or find_spec("PySide6.QtWebEngineCore") is None,
        reason="needs deepq[browser]",
    ),
]

PHONE, DESK = 360, 1280
LONG = "https://a.very.long.address/" + "without-a-place-to-break" * 12


@pytest.fixture(scope="module")
def page(small, cells, tmp_path_factory):
    """A page with everything, long words included."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    tags = np.eye(3, dtype=bool)
    report(
        cells,
        Dataset(
            "s",
            small.base,
            small.base,
            small.queries,
            base_labels=tags[small.labels],
            query_labels=tags[small.query_labels],
            label_names=("one", "two", LONG),
            base_texts=tuple(f"{LONG} <script>document.title='no'</script>" for _ in range(600)),
            query_texts=("Wörter, слова, 語, كلمات",) * 30,
        ),
        path,
        title=LONG,
        images=np.full((600, 3, 20, 30), 99, np.uint8),
        suggestions=[
            deepq.Suggestion(4, 4, 100, 2, 0.3, 5.0, 1.0, 16, 4),
            deepq.Suggestion(8, 4, 0, 4, 0.5, 6.0, 1.0),
        ],
    )
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_on_a_screen(page, tmp_path, width, dark):
    picture = tmp_path / "page.png"
    found = seen(page, width, dark=dark, picture=picture)
    assert found["loaded_whole"]
    assert found["width"] == width
    assert found["page_width"] <= width, found["outside"]
    assert found["outside"] == []
    assert found["out_of_picture"] == []
    assert found["said"] == [], "nothing on the console"
    assert found["asked"] == found["loaded"] == [], "no requests"
    assert found["title"].startswith("https://a.very"), "no script has run"
    assert found["small"] >= 9, "letters of pictures are not too small"
    assert found["dark"] is dark
    back, ink = (
        sum(map(int, re.findall(r"\d+", found[name])[:3])) for name in ("background", "colour")
    )
    assert (back < 150 < 600 < ink) if dark else (ink < 150 < 600 < back)
    assert picture.stat().st_size > 20_000


def test_on_paper(page, tmp_path):
    pdf = tmp_path / "page.pdf"
    found = seen(page, DESK, dark=True, pdf=pdf)
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert found["said"] == []
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 3 <= pages <= 12


@pytest.mark.skipif("DEEPQ_DOCS" not in os.environ, reason="DEEPQ_DOCS names no folder")
def test_pictures_for_the_docs(glosses, tmp_path):
    """A picture of both, light and dark, which docs/plots.md shows."""
    image = pytest.importorskip("PIL.Image")
    index = deepq.index_factory(glosses.d, "OPQ16,PQ16")
    index.train(glosses.train)
    index.add(glosses.base)
    path = tmp_path / "report.html"
    report(index, glosses, path, title="WordNet glosses")
    parts = []
    for width, dark in ((1200, False), (390, True)):
        picture = tmp_path / f"{width}.png"
        seen(path, width, dark=dark, picture=picture)
        with image.open(picture) as opened:
            parts.append(opened.convert("RGB").crop((0, 0, width, 1500)))
    whole = image.new("RGB", (1200 + 390 + 72, 1500 + 48), "#c9ced4")
    whole.paste(parts[0], (24, 24))
    whole.paste(parts[1], (24 + 1200 + 24, 24))
    whole = whole.resize((whole.width * 3 // 4, whole.height * 3 // 4), image.Resampling.LANCZOS)
    few = whole.quantize(256, image.Quantize.MAXCOVERAGE, kmeans=2, dither=image.Dither.NONE)
    few.save(Path(os.environ["DEEPQ_DOCS"]) / "report.png", optimize=True)
