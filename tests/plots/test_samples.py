"""Queries of a page with their results: what is right is marked, by labels or by truth."""

from __future__ import annotations

import re

import numpy as np
import pytest

from deepq.datasets import exact_neighbours
from deepq.plots.samples import samples
from tests.plots.pages import Page
from tests.plots.test_questions import ask


def marks(text):
    """Whether each result is right, card by card."""
    cards = text.split("<article")[1:]
    return [
        [mark == "right" for mark in re.findall(r'<li class="(right|wrong)"', c)] for c in cards
    ]


def chosen_queries(text):
    return [int(number) for number in re.findall(r"Query (\d+)", text)]


def test_by_truth(small):
    asked = ask(small.index, small.base, queries=small.queries)
    text = samples(small.index, asked, 4, 1)
    chosen = chosen_queries(text)
    assert len(chosen) == 4
    I = small.index.search(small.queries[chosen], 10)[1]
    gt = exact_neighbours(small.base, small.queries[chosen], 10)[1]
    right = [np.isin(ids, true).tolist() for ids, true in zip(I, gt, strict=True)]
    assert marks(text) == right
    assert text.count('aria-label="right"') == np.sum(right)
    assert re.findall(r"vector (\d+)", text) == [str(i) for i in I.ravel()]
    assert "squared distance" in text


def test_by_labels(small):
    asked = ask(
        small.index,
        small.base,
        queries=small.queries,
        labels=(small.query_labels, small.labels),
    )
    text = samples(small.index, asked, 3, 1)
    chosen = chosen_queries(text)
    I = small.index.search(small.queries[chosen], 10)[1]
    right = small.labels[I] == small.query_labels[chosen][:, None]
    assert marks(text) == right.tolist()
    said = [f"class {small.query_labels[q]}" for q in chosen]
    assert re.findall(r'class="label">([^<]+)<', text) == said


def test_queries_that_were_drawn_are_not_among_the_results(small):
    asked = ask(small.index, small.base)
    text = samples(small.index, asked, 6, 1)
    found = {int(i) for i in re.findall(r"vector (\d+)", text)}
    assert set(chosen_queries(text)) <= set(asked.drawn.tolist())
    assert not found & set(asked.drawn.tolist())


def test_texts_are_cut_and_escaped(small):
    texts = [f"<i>{i}</i> " + "word " * 100 for i in range(600)]
    asked = ask(small.index, small.base, texts=(None, texts))
    page = Page(samples(small.index, asked, 2, 1))
    assert not page.all("i")
    assert "</i> word" in page.text
    assert max(map(len, page.text.split(" ...")[1:])) < 200


@pytest.mark.parametrize("form", ["names", "tags"])
def test_classes_have_names(small, form):
    names = np.array(["first", "second", "third"])
    if form == "names":
        labels = names[small.query_labels], names[small.labels]
    else:
        tags = np.eye(3, dtype=bool)
        labels = tags[small.query_labels], tags[small.labels]
    asked = ask(small.index, small.base, queries=small.queries, labels=labels)
    text = samples(small.index, asked, 1, 1)
    said = re.findall(r'class="label">([^<]+)<', text)[0]
    q = chosen_queries(text)[0]
    assert said == (names[small.query_labels[q]] if form == "names" else str(small.query_labels[q]))
