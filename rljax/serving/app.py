"""The routes of a server (ASGI, Starlette): bodies in, JSON or server-sent events out."""

import asyncio
import contextlib
import hmac
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rljax.serving.episodes import segment_json
from rljax.serving.protocol import BadRequest, read_chat, read_completion
from rljax.serving.replies import error_body
from rljax.serving.service import Service, Work
from rljax.serving.worker import Overloaded

Handler = Callable[[Request], Awaitable[Response]]

# Episodes of one listing, by default and at most.
LISTED, MOST_LISTED = 100, 1000


def make_app(service: Service, api_keys: tuple[str, ...] = ()) -> Starlette:
    """The application.

    Args:
        service: that answers.
        api_keys: one of which a request must carry, but for /health; (): none is asked for. Each
            of them has episodes of its own.
    """
    routes = _Routes(service)

    def guarded(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            request.state.owner = _owner(request, api_keys) if api_keys else ""
            return await handler(request)

        return checked

    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/v1/models", guarded(routes.models)),
            Route("/v1/models/{name:path}", guarded(routes.model)),
            Route("/v1/completions", guarded(routes.completions), methods=["POST"]),
            Route("/v1/chat/completions", guarded(routes.chat), methods=["POST"]),
            Route("/v1/episodes", guarded(routes.list_episodes), methods=["GET"]),
            Route("/v1/episodes/{name:path}", guarded(routes.read_episode), methods=["GET"]),
            Route("/v1/episodes/{name:path}", guarded(routes.close_episode), methods=["DELETE"]),
        ],
        exception_handlers={
            BadRequest: _refuse,
            Overloaded: _refuse,
            HTTPException: _refuse,
            ClientDisconnect: _gone,
            Exception: _fault,
        },
    )


def _owner(request: Request, keys: tuple[str, ...]) -> str:
    """The key that a request carries, which is one of these."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    found = [key for key in keys if hmac.compare_digest(given, key.encode())]  # looks at all
    if not found:
        raise BadRequest("The API key is missing or wrong.", code="invalid_api_key", status=401)
    return found[0]


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, request: Request) -> Response:
        worker = self._service.worker
        status = 200 if worker.takes_requests else 503
        word = "ok" if status == 200 else "closing" if worker.error is None else "failed"
        return JSONResponse({"status": word, **worker.busy()}, status)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._service.model.name:
            raise BadRequest(
                f"Unknown model {name!r}; this server has {self._service.model.name!r}.",
                "model",
                code="model_not_found",
                status=404,
            )
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        service = self._service
        return {
            "id": service.model.name,
            "object": "model",
            "created": service.created,
            "owned_by": "rljax",
            "max_model_len": service.model.limits.context,
            "weights_version": service.worker.version,
        }

    async def completions(self, request: Request) -> Response:
        body = read_completion(await self._body(request), self._service.model)
        return await self._answer(request, self._service.completion(body, request.state.owner))

    async def chat(self, request: Request) -> Response:
        body = read_chat(await self._body(request), self._service.model)
        return await self._answer(request, self._service.chat(body, request.state.owner))

    async def list_episodes(self, request: Request) -> Response:
        """Names and sizes, `limit` of them behind the one named `after`, in order of beginning."""
        episodes = self._service.episodes
        found = episodes.listed(request.state.owner)
        names, limit = list(found), request.query_params.get("limit", str(LISTED))
        if not limit.isdecimal() or not 1 <= int(limit) <= MOST_LISTED:
            raise BadRequest(
                f"limit must be a whole number in 1..{MOST_LISTED}, got {limit!r} (limit).", "limit"
            )
        if (after := request.query_params.get("after")) is not None:
            if after not in found:
                raise BadRequest(
                    f"There is no episode {after!r} (after).", "after", code="not_found", status=404
                )
            names = names[names.index(after) + 1 :]
        shown = names[: int(limit)]
        return JSONResponse(
            {
                "object": "list",
                "data": [{"episode": name, **found[name]} for name in shown],
                "has_more": len(shown) < len(names),
                "kept": episodes.kept,  # of all keys together
                "most": self._service.model.limits.episodes,
            }
        )

    async def read_episode(self, request: Request) -> Response:
        name = request.path_params["name"]
        segments = self._service.episodes.read(name, request.state.owner)
        return JSONResponse({"episode": name, "segments": list(map(segment_json, segments))})

    async def close_episode(self, request: Request) -> Response:
        name = request.path_params["name"]
        segments = self._service.close_episode(name, request.state.owner)
        return JSONResponse({"episode": name, "segments": list(map(segment_json, segments))})

    async def _body(self, request: Request) -> Any:
        """The JSON of a body.

        Raises:
            BadRequest: for one that is too long, or no JSON.
        """
        most, read = self._service.model.limits.body_bytes, bytearray()
        async for piece in request.stream():
            read += piece
            if len(read) > most:
                raise BadRequest(
                    f"The body has more than {most} bytes (--body-bytes).",
                    code="body_too_large",
                    status=413,
                )
        try:
            return json.loads(read)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"The body is no JSON: {error}.", code="invalid_json") from error

    async def _answer(self, request: Request, work: Work) -> Response:
        if work.common.stream:
            lines = self._service.stream(work)
            # The first line before the answer begins: what is refused gets a status of its own.
            first = await _unless_gone(request, anext(lines))
            return StreamingResponse(_events(first, lines), media_type="text/event-stream")
        return JSONResponse(await _unless_gone(request, self._service.answer(work)))


async def _events(
    first: dict[str, Any], lines: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[str]:
    """Lines as server-sent events; the worker hears of it when nobody reads any more."""
    async with contextlib.aclosing(lines):
        yield _event(first)
        try:
            async for line in lines:
                yield _event(line)
        except Exception as error:
            traceback.print_exc()
            known = isinstance(error, BadRequest)
            yield _event(error_body(error if known else Exception("the server has failed"), 500))
    yield "data: [DONE]\n\n"


def _event(line: dict[str, Any]) -> str:
    return f"data: {json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any:
    """The answer, which is given up once the client has gone."""
    task, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect()
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refuse(request: Request, error: Exception) -> Response:
    """An error of the request, or of too many of them."""
    if isinstance(error, BadRequest):
        return JSONResponse(error_body(error, error.status), error.status)
    if isinstance(error, Overloaded):
        status = 503 if error.closing else 429
        return JSONResponse(error_body(error, status), status, headers={"retry-after": "1"})
    status = error.status_code
    return JSONResponse(error_body(Exception(error.detail), status), status, headers=error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of the server; its words may hold what a client should not see."""
    return JSONResponse(error_body(Exception("the server has failed"), 500), 500)
