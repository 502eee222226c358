"""A page about an index: one file, whole, safe, for every screen and for paper."""

from __future__ import annotations

import io
import re
import sys
from itertools import pairwise

import numpy as np
import pytest

import deepq
from deepq.datasets import Dataset
from deepq.plots import report
from tests.hash_table import builders
from tests.index.reranked.builders import XB
from tests.plots.pages import Page

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")

HOSTILE = '</li><script>alert("1")</script><img src=x onerror=alert(1)> & "quotes" \x00\ud800'


def page_of(index, data, **how):
    memory = io.BytesIO()
    told = report(index, data, memory, **how)
    text = memory.getvalue().decode()
    return told, text, Page(text)


@pytest.fixture(scope="module")
def whole(small):
    """A page with all that there may be in one."""
    tried = [
        deepq.Suggestion(4, 4, 0, 2, 0.3, 5.0, 1.0),
        deepq.Suggestion(8, 4, 0, 4, 0.5, 6.0, 1.0),
    ]
    return page_of(
        small.index,
        Dataset(
            "s",
            small.base,
            small.base,
            small.queries,
            base_labels=small.labels,
            query_labels=small.query_labels,
            label_names=("first", "second", HOSTILE),
            base_texts=tuple(f"{HOSTILE} {i}" for i in range(600)),
            query_texts=tuple(f"query {i} {HOSTILE}" for i in range(30)),
        ),
        title=HOSTILE,
        suggestions=tried,
    )


def test_the_figures_that_are_returned(small, whole):
    told = whole[0]
    gt = deepq.datasets.exact_neighbours(small.base, small.queries, 100)[1]
    labels = small.query_labels, small.labels
    names = ["10-recall@10", "mAP", "precision@10"]
    right = deepq.evaluate(small.index, small.queries, gt, names, labels=labels)
    assert {name: told[name] for name in names} == right
    assert told["queries"] == 30
    assert told["error"] == pytest.approx(deepq.diagnose(small.index, small.base).error)
    for name in names:
        assert f"{told[name]:.3f}" in whole[2].text


def test_it_is_one_file_that_asks_for_nothing(whole):
    _, text, page = whole
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for address in page.values("href") + page.values("src") + page.values("xlink:href"):
        assert address.startswith(("#", "data:image/")), address
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    policy = next(a for a in page.all("meta") if a.get("http-equiv"))["content"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_what_users_write_is_text(whole):
    _, text, page = whole
    assert "alert(1)" in text
    assert not page.all("script")
    assert not [a for a in page.all("img") if "onerror" in a]
    shown = HOSTILE.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace(
        "\ud800", "\N{REPLACEMENT CHARACTER}"
    )
    assert shown in page.text
    assert page.all("h1") == [{"dir": "auto"}]


def test_it_can_be_read_without_eyes(whole):
    _, text, page = whole
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title")
    assert [tag for tag, _ in page.elements if tag == "main"] == ["main"]
    pictures = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(pictures) == len(page.all("svg"))
    assert all(len(a["aria-label"]) > 3 for a in pictures)
    assert all(len(a["alt"]) > 3 for a in page.all("img"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 5
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["href"][1:] in ids
    assert text.count('aria-label="right"') + text.count('aria-label="not right"') == 60


def test_light_dark_narrow_and_paper(whole):
    text, page = whole[1:]
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    names = set(re.findall(r"var\((--[a-z0-9-]+)\)", text))
    for scheme in text.split(":root {")[1:]:  # light, dark, and paper
        said = set(re.findall(r"(--[a-z0-9-]+):", scheme))
        assert names - {"--font"} <= said


def contrast(text, one, other, scheme):
    colors = pytest.importorskip("matplotlib.colors")
    values = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", text.split(":root {")[scheme]))
    bright = []
    for name in (one, other):
        rgb = np.array(colors.to_rgb(values[name]))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        bright.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(bright) / min(bright)


@pytest.mark.parametrize("scheme", [1, 2], ids=["light", "dark"])
def test_contrast(whole, scheme):
    for name in ("--ink", "--muted", "--accent", "--right", "--wrong"):
        for under in ("--page", "--surface", "--wash"):
            assert contrast(whole[1], name, under, scheme) >= 4.5, (name, under)
    for i in range(6):
        assert contrast(whole[1], f"--series-{i}", "--surface", scheme) >= 3


def test_sections_are_those_there_is_something_for(small, cells):
    names = [a["id"] for a in page_of(small.index, small.base)[2].all("section")]
    assert names == ["recall", "samples", "time", "codebooks", "training", "index"]
    gt = deepq.datasets.exact_neighbours(small.base, small.queries, 10)[1]
    how = {"queries": small.queries, "truth": gt, "samples": 0}
    page = page_of(cells, None, **how)[2]
    assert [a["id"] for a in page.all("section")] == [
        *("recall", "time", "codebooks", "training", "index"),
    ]
    assert "8 cells" in page.text


def test_every_kind_of_index(small, reranked):
    page = page_of(reranked, XB)[2]
    assert "the best 20 of a scan, by a decoder" in page.text
    flat = deepq.DeepQuantIndex(16, 2, 4, "cosine", training=small.index.training)
    flat.train(small.base)
    flat.add(small.base)
    flat.history = []
    page = page_of(flat, small.base, queries=small.queries)[2]
    assert "training" not in [a["id"] for a in page.all("section")]
    assert "compared by cosine" in page.text
    assert page_of(deepq.to_faiss(small.index), small.base)[0]["queries"] == 60


def test_a_hash_table_is_refused(tmp_path):
    with pytest.raises(TypeError, match="HashTableIndex"):
        report(builders.filled(), builders.XB, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_the_same_page_twice(small):
    def plain(text):
        text = re.sub(r"<time.*?</time>", "", text)
        return (
            text[: text.index('<section id="time"')] + text[text.index('<section id="codebooks"') :]
        )

    pages = [
        re.sub(r"[0-9,.]+ (µs|ms)", "", plain(page_of(small.index, small.base)[1]))
        for _ in range(2)
    ]
    assert pages[0] == pages[1]


def shapes(n):
    return np.random.default_rng(0).integers(0, 255, (n, 3, 20, 24)).astype(np.uint8)


def test_pictures_are_in_the_page(small, tmp_path):
    image = pytest.importorskip("PIL.Image")
    paths = []
    for number, pixels in enumerate(shapes(600)[:, :, :20, :20].transpose(0, 2, 3, 1)[:600:60]):
        paths.append(tmp_path / f"{number}.png")
        image.fromarray(pixels).resize((300, 200)).save(paths[-1])
    pictures = [paths[i % 10] for i in range(600)]
    _, text, page = page_of(small.index, small.base, images=pictures, labels=small.labels)
    assert len(page.all("img")) == 66
    assert text.count("data:image/jpeg;base64,") == 66
    assert max(int(a["width"]) for a in page.all("img")) <= 224
    arrays = page_of(
        small.index, small.base, queries=small.queries, images=shapes(600), query_images=shapes(30)
    )
    assert arrays[1].count("data:image/png;base64,") == 66


def test_a_network_of_images_shows_its_queries():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = (rng.integers(0, 100, (80, 3, 12, 12)) + 100 * y[:, None, None, None]).astype(np.uint8)
    index = deepq.recipes.dsh((3, 12, 12), 8)
    index.training = deepq.TrainConfig(epochs=1)
    index.train(x, y)
    index.add(x[:60])
    told, _, page = page_of(
        index,
        x[:60],
        queries=x[60:],
        labels=y[:60],
        query_labels=y[60:],
    )
    assert len(page.all("img")) == 66
    assert list(told) == ["queries", "us_per_query", "mAP", "precision@10", "error"]


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"images": ["gone.png"] * 600}, OSError, "expected a picture gone.png, got no such file"),
        ({"images": [3] * 600}, TypeError, "expected an image or a path, got int"),
        ({"images": np.zeros((600, 2, 2, 7))}, ValueError, "expected an image"),
        ({"suggestions": [3]}, TypeError, "expected suggestions of deepq.suggest, got int"),
        ({"samples": -1}, ValueError, "samples"),
        ({"seed": "x"}, TypeError, "expected seed to be an integer"),
        ({"verbose": 1}, TypeError, "expected verbose to be True or False"),
        ({"queries": np.zeros((3, 8))}, ValueError, "queries"),
        ({"labels": np.zeros(5)}, ValueError, "expected 600"),
    ],
)
def test_an_error_leaves_the_file(small, tmp_path, how, kind, words):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(kind, match=words):
        report(small.index, small.base, path, **how)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_file_is_replaced_whole(small, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    path.chmod(0o640)
    report(small.index, small.base, path, samples=1)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(OSError, match=r"expected a folder for .*gone.*, got none"):
        report(small.index, small.base, tmp_path / "gone" / "report.html")
    with pytest.raises(TypeError, match="expected a path or a binary file, got int"):
        report(small.index, small.base, 3)
    with pytest.raises(TypeError, match="index"):
        report("index.dpq", small.base, path)


def test_a_picture_that_is_none(small, tmp_path):
    pytest.importorskip("PIL.Image")
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"x\.png: expected a picture, got"):
        report(small.index, small.base, tmp_path / "r.html", images=[tmp_path / "x.png"] * 600)


def test_a_missing_matplotlib_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"expected matplotlib, to draw.*deepq\[plots\]"):
        report(small.index, small.base, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_progress_on_stderr(small, capsys):
    report(small.index, small.base, io.BytesIO(), verbose=True)
    said = capsys.readouterr()
    assert "report" in said.err
    assert not said.out
