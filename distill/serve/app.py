"""The HTTP interface: what it answers, its limits, and its page."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from distill.answers.base import RecordError
from distill.serve.batcher import Batcher, QueueFullError
from distill.serve.jobs import Jobs

PAGE = Path(__file__).with_name("page.html")
POLL_SECONDS = 0.1
"""How often a request that waits looks whether its client has gone."""
DEPTH = 16
"""How often lists and objects of a body may be nested."""
GONE = 499
"""Code of a request whose client has gone, as in nginx; nobody sees it but the metrics."""
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Answering(Protocol):
    """A model, or several."""

    def check(self, record: Any) -> None:
        """Raise a :class:`RecordError` for a record that cannot be answered."""

    def answers(self, records: Any, *, everything: bool = False) -> list[Any]:
        """Return an answer or a :class:`RecordError` for each record."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        body: bytes of a request.
        job_body: bytes of a job.
        records: records of a request.
        characters: characters of all texts of a record.
        queue: records that wait at the same time.
        timeout: seconds until a request is given up.
    """

    body: int = 1_000_000
    job_body: int = 100_000_000
    records: int = 256
    characters: int = 100_000
    queue: int = 2048
    timeout: float = 30.0


class Refusal(Exception):
    """An answer that is none, with its code and reason."""

    def __init__(self, code: int, reason: str, headers: Mapping[str, str] | None = None):
        super().__init__(reason)
        self.code, self.reason, self.headers = code, reason, dict(headers or {})


class Metrics:
    """Counters in Prometheus' text format."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.buckets, self.seconds, self.count = Counter[float](), 0.0, 0

    def add(self, path: str, code: int, seconds: float) -> None:
        """Count a request."""
        self.requests[path, code] += 1
        if path == "/predict":
            self.count, self.seconds = self.count + 1, self.seconds + seconds
            for bound in BOUNDS:
                self.buckets[bound] += seconds <= bound

    def text(self, batcher: Batcher) -> str:
        """Return all metrics."""
        lines = ["# TYPE distill_requests_total counter"]
        lines += [
            f'distill_requests_total{{path="{path}",code="{code}"}} {count}'
            for (path, code), count in sorted(self.requests.items())
        ]
        lines.append("# TYPE distill_predict_seconds histogram")
        lines += [
            f'distill_predict_seconds_bucket{{le="{bound}"}} {self.buckets[bound]}'
            for bound in BOUNDS
        ]
        lines += [
            f'distill_predict_seconds_bucket{{le="+Inf"}} {self.count}',
            f"distill_predict_seconds_sum {self.seconds}",
            f"distill_predict_seconds_count {self.count}",
            "# TYPE distill_records_total counter",
            f"distill_records_total {batcher.answered}",
            "# TYPE distill_batches_total counter",
            f"distill_batches_total {batcher.batches}",
            "# TYPE distill_queue gauge",
            f"distill_queue {batcher.waiting}",
        ]
        return "\n".join(lines) + "\n"


class Service:
    """What the endpoints share.

    Args:
        model: answers records.
        info: answer of ``/info``.
        jobs: folder of the jobs.
        limits: of requests.

    Attributes:
        draining: whether no new connections are accepted any more.
        in_flight: number of requests that are being answered.
    """

    def __init__(
        self, model: Answering, info: Mapping[str, Any], jobs: Path, limits: Limits | None = None
    ):
        self.model, self.info, self.limits = model, info, limits or Limits()
        self.batcher = Batcher(model.answers, self.limits.queue)
        self.jobs = Jobs(jobs, self.batcher)
        self.metrics = Metrics()
        self.draining, self.in_flight = False, 0

    def close(self) -> None:
        """End the threads."""
        self.jobs.close()
        self.batcher.close()

    async def predict(self, request: Request) -> Response:
        """Answer a record, or a list of them."""
        content, everything = await self._read(request, self.limits.body)
        records = content if isinstance(content, list) else [content]
        if len(records) > self.limits.records:
            raise Refusal(
                422, f"{len(records)} records, at most {self.limits.records} in a request: "
                "POST /jobs takes more"
            )  # fmt: skip
        for place, record in enumerate(records):
            self._check(record, place, content)
        answers = await self._answer(request, records, everything)
        for place, answer in enumerate(answers):
            if isinstance(answer, RecordError):
                raise _bad_record(answer, place, content)
        return _json(answers if isinstance(content, list) else answers[0])

    async def add_job(self, request: Request) -> Response:
        """Keep a list of records, to be answered in the background."""
        content, everything = await self._read(request, self.limits.job_body)
        if not isinstance(content, list) or not content:
            raise Refusal(422, "a job is a list of records")
        name = await asyncio.to_thread(self.jobs.add, content, everything)
        found = {"id": name, "status": "waiting", "records": len(content), "done": 0}
        return _json(found, 202, {"Location": f"/jobs/{name}"})

    async def get_job(self, name: str) -> Response:
        """Return the state of a job, and its answers when it is finished."""
        found = await asyncio.to_thread(self.jobs.get, name)
        if found is None:
            raise Refusal(404, "there is no such job")
        return _json(found)

    async def _read(self, request: Request, limit: int) -> tuple[Any, bool]:
        """Return the content of a request, and whether it asks for the scores of all classes."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise Refusal(413, f"the body has {length} bytes, at most {limit} are read")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise Refusal(413, f"the body has more than {limit} bytes")
        try:
            content = json.loads(body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the body is no JSON: {error}") from None
        if _is_deep(content):
            raise Refusal(400, f"the body is nested more than {DEPTH} times")
        wants = request.query_params.get("all", "false").lower()
        if wants not in ("true", "false", "1", "0"):
            raise Refusal(422, "all is true or false")
        return content, wants in ("true", "1")

    def _check(self, record: Any, place: int, content: Any) -> None:
        try:
            characters = _characters(record)
            if characters > self.limits.characters:
                raise RecordError(
                    f"it has {characters} characters, at most {self.limits.characters} are read"
                )
            self.model.check(record)
        except RecordError as error:
            raise _bad_record(error, place, content) from None

    async def _answer(self, request: Request, records: list[Any], everything: bool) -> list[Any]:
        """Wait for the answers, as long as the client does."""
        try:
            futures = self.batcher.submit(records, everything)
        except QueueFullError:
            raise Refusal(
                503, f"{self.batcher.waiting} records are waiting", {"Retry-After": "1"}
            ) from None
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures))
        end = time.monotonic() + self.limits.timeout
        try:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    raise Refusal(504, f"no answer within {self.limits.timeout:g} seconds")
                done, _ = await asyncio.wait({waiting}, timeout=min(POLL_SECONDS, left))
                if done:
                    return list(waiting.result())
                if await request.is_disconnected():
                    raise Refusal(GONE, "the client has gone")
        finally:
            if not waiting.done():
                waiting.cancel()  # what is not begun is not computed


def _bad_record(error: RecordError, place: int, content: Any) -> Refusal:
    where = f"record {place}: " if isinstance(content, list) else ""
    return Refusal(422, f"{where}{error}")


def _characters(record: Any) -> int:
    if isinstance(record, str):
        return len(record)
    if isinstance(record, dict):
        record = list(record.values())
    return sum(map(_characters, record)) if isinstance(record, list) else 0


def _is_deep(content: Any) -> bool:
    """Return whether lists and objects are nested more than ``DEPTH`` times."""
    level = [content]
    for _ in range(DEPTH + 1):
        level = [
            part
            for one in level
            if isinstance(one, list | dict)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
    return bool(level)


def _json(content: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Response(body, code, dict(headers or {}), "application/json")


class _Watch:
    """Counts requests, and asks clients to leave while the service ends."""

    def __init__(self, app: Any, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        service, start, code = self.service, time.monotonic(), 500
        service.in_flight += 1

        async def watched(message: Any) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                if service.draining:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            service.in_flight -= 1
            path = scope["path"]
            known = "/jobs/ID" if path.startswith("/jobs/") else path
            known = known if known in PATHS else "other"
            service.metrics.add(known, code, time.monotonic() - start)


PATHS = {"/", "/predict", "/jobs", "/jobs/ID", "/health", "/ready", "/info", "/metrics"}


def make_app(service: Service) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="distill", description="Answers of a distilled model.")
    app.add_middleware(_Watch, service=service)

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return _json({"error": refusal.reason}, refusal.code, refusal.headers)

    @app.post("/predict", summary="Answer a record, or a list of them")
    async def predict(request: Request) -> Response:
        return await service.predict(request)

    @app.post("/jobs", summary="Answer many records in the background", status_code=202)
    async def add_job(request: Request) -> Response:
        return await service.add_job(request)

    @app.get("/jobs/{name}", summary="State and answers of a job")
    async def get_job(name: str) -> Response:
        return await service.get_job(name)

    @app.get("/health", summary="Whether the process lives")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/ready", summary="Whether it takes requests")
    async def ready() -> Response:
        return _json({"ready": not service.draining}, 503 if service.draining else 200)

    @app.get("/info", summary="The model: card, schema, hash, form")
    async def info() -> Response:
        return _json(service.info)

    @app.get("/metrics", summary="Metrics for Prometheus")
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(service.batcher))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    return app
