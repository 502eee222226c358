"""A `ShardedIndex` behind HTTP, as a deployment of Ray Serve."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from deepq._common.checks import as_size
from deepq._common.errors import InputError
from deepq._common.extras import need
from deepq.distributed.calls import ShardError, ShardTimeoutError
from deepq.distributed.manifest import Manifest, as_manifest
from deepq.distributed.sharded import ShardedIndex
from deepq.index.search_parameters import SearchParameters

_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]

_THREADS = 64  # requests that wait for results at a time
_STATUS = (  # the first kind that an error is
    (ShardTimeoutError, 504),
    (ShardError, 503),
    ((ValueError, TypeError, RuntimeError), 400),
)


def application(
    manifest: Manifest | str | os.PathLike[str],
    *,
    max_bytes: int = 8 << 20,
    max_queries: int = 1024,
    max_k: int = 1000,
    name: str = "deepq",
    **index: Any,
) -> Any:
    """Describe a service for `ray.serve.run`: ``POST /search``, ``GET /info`` and ``GET /health``.

    Requests that come at the same time are searched for together. ``/openapi.json`` describes all,
    and ``/docs`` shows it. Errors are JSON with ``detail``: 400 and 422 for a request that does not
    suit, 413 for one that is too large, 503 and 504 for shards that do not answer, or not in time.

    Parameters
    ----------
    manifest : Manifest or path
        What is served. To serve another one later, run the deployment again with it in
        ``user_config={"manifest": path}``.
    max_bytes, max_queries, max_k : int
        Largest request.
    name : str
        Of the deployment.
    **index
        Further arguments of `ShardedIndex`.

    Returns
    -------
    ray.serve.Application

    Raises
    ------
    ImportError
        If Ray Serve or FastAPI is missing.
    FileNotFoundError, FormatError
        If there is no manifest, or it is damaged.
    """
    serve = need("ray.serve", "serve over HTTP", "ray", "ray")
    need("fastapi", "serve over HTTP", "ray")
    limits = [as_size(max_bytes, "max_bytes"), as_size(max_queries, "max_queries")]
    limits.append(as_size(max_k, "max_k"))
    cls = serve.ingress(_api(*limits))(_Service)
    deployment = serve.deployment(
        cls,
        name=name,
        max_ongoing_requests=4 * _THREADS,
        logging_config={"enable_access_log": False},  # the proxy has one
    )
    return deployment.bind(as_manifest(manifest), limits[1], index)


class _Service:
    """What runs in the process of the deployment."""

    def __init__(self, manifest: Manifest, max_queries: int, index: dict[str, Any]) -> None:
        self.index = ShardedIndex(manifest, **index)
        self._max_queries = max_queries
        self._pool = ThreadPoolExecutor(_THREADS)

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Serve another manifest: Ray Serve calls this with ``user_config``."""
        if config and "manifest" in config:
            self.index.update(Path(config["manifest"]))

    async def answer(
        self, vectors: Any, k: int, *, rerank: int | None, nprobe: int | None, ids: Any
    ) -> dict[str, Any]:
        """Search in a thread, beside others."""
        if len(vectors) > self._max_queries:
            raise InputError(f"expected at most {self._max_queries} queries, got {len(vectors)}")
        x = np.asarray(vectors, np.float32)
        sel = None if ids is None else np.asarray(ids, np.int64)
        params = None
        if (rerank, nprobe, ids) != (None, None, None):
            params = SearchParameters(rerank=rerank, nprobe=nprobe, sel=sel)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._pool, lambda: self.index.search(x, k, params=params)
        )
        D, I = found
        return {"distances": D.tolist(), "ids": I.tolist(), "missing": list(found.missing)}


class _Bounded:
    """Refuses a request as soon as more bytes have come than there may be (ASGI)."""

    def __init__(self, app: Any, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Read the body, and hand it on whole."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from fastapi.responses import JSONResponse

        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most:
                detail = f"expected at most {self._most} bytes, got more"
                await JSONResponse({"detail": detail}, status_code=413)(scope, receive, send)
                return
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Any:
            return next(whole, None) or await receive()

        await self._app(scope, again, send)


def _api(max_bytes: int, max_queries: int, max_k: int) -> Any:
    """Make the HTTP part: what requests look like, and which errors mean what."""
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import JSONResponse
    from pydantic import BaseModel, Field
    from ray import serve

    api = FastAPI(title="deepq", description="Nearest neighbours by learned codes.")

    class Search(BaseModel):
        vectors: list[list[float]] = Field(
            description="Queries, (n, d).", min_length=1, max_length=max_queries
        )
        k: int = Field(10, ge=1, le=max_k, description="Neighbours per query.")
        rerank: int | None = Field(None, ge=0, description="Results that are ranked anew.")
        nprobe: int | None = Field(None, ge=1, description="Cells that a query looks into.")
        ids: list[int] | None = Field(None, description="The only ids that may be found.")

    class Found(BaseModel):
        distances: list[list[float]] = Field(description="Scores, (n, k), best first.")
        ids: list[list[int]] = Field(description="Ids, (n, k); -1 where there is none.")
        missing: list[str] = Field(description="Shards that did not answer.")

    class Info(BaseModel):
        d: int
        ntotal: int
        shards: list[str]
        fingerprint: str

    api.add_middleware(_Bounded, most=max_bytes)

    def service() -> Any:
        return serve.get_replica_context().servable_object

    async def search(query: Search) -> Any:
        """Find the nearest stored vectors of every query."""
        how = {"rerank": query.rerank, "nprobe": query.nprobe, "ids": query.ids}
        try:
            found = await service().answer(query.vectors, query.k, **how)
            return JSONResponse(found)  # as it is: to check it again would take as long as all else
        except (ValueError, TypeError, RuntimeError) as error:
            status = next(code for kinds, code in _STATUS if isinstance(error, kinds))
            raise HTTPException(status, str(error)) from error

    async def info() -> Any:
        """Say what is served."""
        manifest = service().index.manifest
        return {
            "d": service().index.d,
            "ntotal": manifest.ntotal,
            "shards": [shard.name for shard in manifest.shards],
            "fingerprint": manifest.fingerprint,
        }

    async def health() -> dict[str, str]:
        """Say that the service is there."""
        return {"status": "ok"}

    search.__annotations__ = {"query": Search}
    errors: dict[int | str, dict[str, Any]] = {
        code: {"description": text}
        for code, text in (
            (400, "A request that does not suit the index."),
            (413, "A request that is too large."),
            (503, "Shards that do not answer."),
            (504, "Shards that do not answer in time."),
        )
    }
    api.post("/search", response_model=Found, responses=errors)(search)
    api.get("/info", response_model=Info)(info)
    api.get("/health")(health)
    return api
