"""The server: one process, and an end that loses no request."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from distill.predict.exported import exported_forms
from distill.predict.predictor import Predictor
from distill.serve.app import Answering, Limits, Service, make_app
from distill.serve.graph import Graph, Node

DRAIN_SECONDS = 8.0
"""Maximum time for the requests in flight after SIGTERM."""
QUIET_SECONDS = 0.3
"""Time without a request after which open connections are taken for idle."""


class Server(uvicorn.Server):
    """uvicorn that ends in order: on SIGTERM and SIGINT it accepts no more and answers the rest.

    Open connections are told to close with their next answer, so that a client that is just
    sending is answered, too.
    """

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service
        self._draining: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals within the loop; uvicorn would raise them again at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_to_end)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _begin_to_end(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        self.service.draining = True
        for server in self.servers:
            server.close()
        end, quiet_since = loop.time() + DRAIN_SECONDS, loop.time()
        while loop.time() < end and loop.time() - quiet_since < QUIET_SECONDS:
            if self.service.in_flight:
                quiet_since = loop.time()
            await asyncio.sleep(0.02)
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        if self.started:
            for server in self.servers:
                for socket in server.sockets:
                    host, port = socket.getsockname()[:2]
                    print(f"serving on http://{host}:{port}", flush=True)


def serve(
    path: Path,
    host: str,
    port: int,
    *,
    form: str | None = None,
    what: str = "student",
    threads: int | None = None,
    jobs: Path | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve a model, or those of a ``graph.yaml``, until SIGTERM or SIGINT.

    Raises:
        UserError: if there is no such model.
    """
    model: Answering
    if path.is_file():
        graph = model = Graph.read(path, form, threads)
        info: dict[str, Any] = {
            "models": {name: describe(node) for name, node in graph.nodes.items()}
        }
    else:
        node = Node(Predictor(path, form=form, model=what, threads=threads))
        info, model = describe(node), _Single(node.predictor)
    folder = path.parent if path.is_file() else path
    service = Service(model, info, jobs or folder / "jobs", limits)
    config = uvicorn.Config(
        make_app(service), host, port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    try:
        Server(config, service).run()
    finally:
        service.close()


class _Single:
    """One model."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self.answers = predictor.answers

    def check(self, record: Any) -> None:
        """Raise a :class:`RecordError` for a record that cannot be answered."""
        self.predictor.reader.parse(record)


def describe(node: Node) -> dict[str, Any]:
    """Return what ``/info`` says of a model."""
    predictor = node.predictor
    form = exported_forms(predictor.folder).get(predictor.form)
    card = predictor.folder / "README.md"
    reader = predictor.reader
    return {
        "kind": reader.kind,
        "form": predictor.form,
        "sha256": predictor.model_hash,
        "runtime": predictor.runtime.name,
        "max_length": predictor.tokenizer.settings.max_length,
        "schema": {
            "record": reader.columns,
            "pairs": reader.pairs,
            "answer": list(reader.fields),
            "labels": getattr(reader, "labels", None),
        },
        "temperature": reader.temperature,
        "neighbors": form.entry["neighbors"] if form is not None else "independent",
        "card": card.read_text(encoding="utf-8") if card.is_file() else None,
        **({"after": node.after, "when": dict(node.when)} if node.after else {}),
    }
