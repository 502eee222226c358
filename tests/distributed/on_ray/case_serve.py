"""The service over HTTP: results as JSON, limits, and errors that say what was expected."""

from __future__ import annotations

import http.client
import json
import threading

import numpy as np
import pytest
from ray import serve

from deepq.distributed.serve import application
from tests.distributed.builders import in_shards, rows, trained

pytestmark = pytest.mark.usefixtures("small_ray")

PORT = 8765


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    index, x = trained(), rows(400, 5)
    manifest = in_shards(index, tmp_path_factory.mktemp("shards"), np.split(x, [250]))
    index.add(x)
    how = {"max_bytes": 20_000, "max_queries": 50, "max_k": 20, "cpus": 0.5}
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(application(manifest, **how))
    yield index, manifest, x
    serve.shutdown()


def call(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    body = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_answers_are_those_of_one_index(served):
    index, manifest, x = served
    D, I = index.search(x[:3], 5)
    status, found = call("POST", "/search", {"vectors": x[:3].tolist(), "k": 5})
    assert status == 200
    assert found["ids"] == I.tolist()
    assert np.array_equal(np.float32(found["distances"]), D)
    assert found["missing"] == []
    status, found = call("POST", "/search", {"vectors": x[:1].tolist(), "k": 2, "ids": [7, 300]})
    assert sorted(found["ids"][0]) == [7, 300]
    status, info = call("GET", "/info")
    assert (info["d"], info["ntotal"]) == (16, 400)
    assert info["fingerprint"] == manifest.fingerprint
    assert call("GET", "/health") == (200, {"status": "ok"})


def test_requests_at_the_same_time_get_their_own_answers(served):
    index, _, x = served
    wrong = []

    def work(q):
        found = call("POST", "/search", {"vectors": x[q : q + 1].tolist(), "k": 4})[1]
        if found["ids"] != index.search(x[q : q + 1], 4)[1].tolist():
            wrong.append(q)

    threads = [threading.Thread(target=work, args=(q,)) for q in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"vectors": [[1, 2]], "k": 5}, 400, "expected x of shape (n, 16), got (1, 2)"),
        ({"vectors": [[0] * 16], "k": 0}, 422, "greater than or equal to 1"),
        ({"vectors": [[0] * 16], "k": 21}, 422, "less than or equal to 20"),
        ({"vectors": [], "k": 1}, 422, "at least 1 item"),
        ({"vectors": [["a"] * 16], "k": 1}, 422, "valid number"),
        ({"vectors": [[1], [1, 2]], "k": 1}, 400, "inhomogeneous"),
        ({"k": 1}, 422, "Field required"),
        (b"{", 422, "JSON"),
        ({"vectors": [[0] * 16] * 51, "k": 1}, 422, "at most 50 items"),
        (b" " * 20_001, 413, "expected at most 20000 bytes"),
    ],
)
@pytest.mark.usefixtures("served")
def test_bad_requests_are_refused(body, status, text):
    found, answer = call("POST", "/search", body)
    assert found == status, answer
    assert text in json.dumps(answer)


@pytest.mark.usefixtures("served")
def test_the_interface_describes_itself():
    status, api = call("GET", "/openapi.json")
    assert status == 200
    assert set(api["paths"]) == {"/search", "/info", "/health"}
    assert set(api["paths"]["/search"]["post"]["responses"]) == {
        *("200", "400", "413", "422", "503", "504")
    }
    described = api["components"]["schemas"]["Search"]["properties"]
    assert all("description" in field for field in described.values())
