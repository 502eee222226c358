from __future__ import annotations

from collections.abc import Iterator

import pytest

import deepq

from .kinds import KINDS, OwnNetwork


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "clients":
            item.add_marker(pytest.mark.clients)


@pytest.fixture
def patched() -> Iterator[None]:
    """The one line that programs need, with the network that files leave out."""
    deepq.patch_faiss(encoder=OwnNetwork())
    yield
    deepq.unpatch_faiss()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
