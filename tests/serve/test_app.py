"""The HTTP interface in this process: answers, limits and their codes, jobs, graphs."""

import asyncio
import json
import threading
import time

import httpx
import pytest

from distill.answers.base import RecordError
from distill.core.errors import UserError
from distill.predict import Predictor
from distill.serve.app import Limits, Service, make_app
from distill.serve.batcher import Batcher, QueueFullError
from distill.serve.graph import Graph, Node
from distill.serve.jobs import Jobs
from tests.factories import sentences

TEXTS = [row["text"] for row in sentences(40, 7)]


class Echo:
    """Answers at once, or waits for a signal; keeps what it was asked."""

    def __init__(self):
        self.asked, self.go = [], threading.Event()
        self.go.set()

    def check(self, record):
        if not isinstance(record, dict) or "text" not in record:
            raise RecordError("there is no 'text'")

    def answers(self, records, *, everything=False):
        self.asked.append(list(records))
        assert self.go.wait(10)
        return [
            RecordError("it is bad") if "bad" in record["text"] else {"label": record["text"]}
            for record in records
        ]


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def service(echo, tmp_path):
    made = []

    def make(**limits) -> Service:
        made.append(Service(echo, {"form": "echo"}, tmp_path / "jobs", Limits(**limits)))
        return made[-1]

    yield make
    echo.go.set()
    for one in made:
        one.close()


def ask(service, *requests, raises=True):
    """Send requests at the same time: (method, path, content) each."""

    async def run():
        transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=raises)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(
                *(
                    client.request(
                        method, path, content=content
                        if isinstance(content, bytes | None) else json.dumps(content),
                    )
                    for method, path, content in requests
                )
            )  # fmt: skip

    return asyncio.run(run())


def test_one_record_and_a_list(service):
    one, several, none = ask(
        service(), ("POST", "/predict", {"text": "a"}),
        ("POST", "/predict", [{"text": "b"}, {"text": "c"}]), ("POST", "/predict", []),
    )  # fmt: skip
    assert one.status_code == 200 and one.json() == {"label": "a"}
    assert several.json() == [{"label": "b"}, {"label": "c"}] and none.json() == []


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (b"{", 400, "no JSON"), (b"\xff", 400, "no JSON"), (b"", 400, "no JSON"),
        (b"[" * 50_000, 400, "no JSON"), (b"[" * 500 + b"]" * 500, 400, "nested"),
        (b"9" * 5_000, 400, "no JSON"), (b" " * 70_000 + b"{}", 413, "at most 60000"),
        ({"txt": "a"}, 422, "there is no 'text'"), (7, 422, "there is no 'text'"),
        ([{"text": "a"}, {"text": "b"}, {}], 422, "record 2: there is no"),
        ([{"text": "a"}] * 9, 422, "9 records, at most 8"),
        ({"text": "a" * 501}, 422, "501 characters, at most 500"),
        ({"text": "bad"}, 422, "it is bad"),
    ],
)  # fmt: skip
def test_a_bad_request_has_its_code_and_its_reason(content, code, reason, service, echo):
    limited = service(body=60_000, records=8, characters=500)
    bad, good = ask(limited, ("POST", "/predict", content), ("POST", "/predict", {"text": "g"}))
    assert bad.status_code == code and reason in bad.json()["error"]
    assert good.status_code == 200 and good.json() == {"label": "g"}


def test_a_full_queue_and_an_answer_that_does_not_come(service, echo):
    limited = service(queue=2, timeout=0.3)
    echo.go.clear()
    requests = [("POST", "/predict", {"text": str(i)}) for i in range(4)]
    answers = ask(limited, *requests)
    assert sorted(answer.status_code for answer in answers) == [503, 503, 504, 504]
    full = next(answer for answer in answers if answer.status_code == 503)
    assert full.headers["retry-after"] == "1"
    echo.go.set()
    end = time.monotonic() + 5
    while limited.batcher.waiting and time.monotonic() < end:
        time.sleep(0.01)
    assert ask(limited, requests[0])[0].status_code == 200
    assert sum(map(len, echo.asked)) <= 3, "what was given up is not computed"


def test_a_failure_of_the_model_does_not_end_it(service, echo, monkeypatch):
    running = service()
    answers = echo.answers
    running.batcher._answer = lambda records, everything: 1 / 0
    (failed,) = ask(running, ("POST", "/predict", {"text": "a"}), raises=False)
    assert failed.status_code == 500
    running.batcher._answer = answers
    assert ask(running, ("POST", "/predict", {"text": "a"}))[0].status_code == 200


def test_health_readiness_information_metrics_and_page(service):
    running = service()
    ask(running, ("POST", "/predict", {"text": "a"}), ("POST", "/predict", b"{"))
    found = ask(
        running, *(("GET", path, None) for path in ("/health", "/ready", "/info", "/metrics", "/"))
    )
    health, ready, info, metrics, page = found
    assert all(one.status_code == 200 for one in found)
    assert health.json() == {"status": "ok"} and ready.json() == {"ready": True}
    assert info.json() == {"form": "echo"}
    assert 'distill_requests_total{path="/predict",code="200"} 1' in metrics.text
    assert 'distill_requests_total{path="/predict",code="400"} 1' in metrics.text
    assert 'distill_predict_seconds_bucket{le="+Inf"} 2' in metrics.text
    assert "<textarea" not in page.text and "predict?all=true" in page.text
    running.draining = True
    (ready,) = ask(running, ("GET", "/ready", None))
    assert ready.status_code == 503 and ready.headers["connection"] == "close"
    assert ask(running, ("GET", "/nowhere", None))[0].status_code == 404


def wait_for(service, name):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        (found,) = ask(service, ("GET", f"/jobs/{name}", None))
        if found.json()["status"] == "finished":
            return found.json()
        time.sleep(0.02)
    raise AssertionError(found.json())


def test_jobs_are_kept_and_continue_after_a_restart(service, echo, tmp_path):
    first = service()
    records = [{"text": f"{number} bad" if number == 5 else str(number)} for number in range(200)]
    echo.go.clear()
    added, refused = ask(first, ("POST", "/jobs", records), ("POST", "/jobs", {"text": "a"}))
    assert added.status_code == 202 and refused.status_code == 422
    name = added.json()["id"]
    assert added.headers["location"] == f"/jobs/{name}"
    (found,) = ask(first, ("GET", f"/jobs/{name}", None))
    assert found.json()["status"] == "waiting" and "answers" not in found.json()
    for unknown in ("0" * 32, "%2E%2E", "x"):
        assert ask(first, ("GET", f"/jobs/{unknown}", None))[0].status_code == 404

    # It ends in the middle, and a line is broken.
    first.jobs._stopped = True
    echo.go.set()
    first.close()
    answers = tmp_path / "jobs" / name / "answers.jsonl"
    whole = answers.read_bytes()
    assert 0 < whole.count(b"\n") < 200
    answers.write_bytes(whole + b'{"lab')
    found = wait_for(service(), name)
    assert found["done"] == 200
    assert found["answers"][5] == {"error": "it is bad"}
    assert [one.get("label") for one in found["answers"][6:]] == [str(i) for i in range(6, 200)]


def test_what_is_canceled_is_not_computed(echo):
    batcher = Batcher(echo.answers, capacity=10)
    echo.go.clear()
    (first,) = batcher.submit([{"text": "a"}])
    end = time.monotonic() + 5
    while not echo.asked and time.monotonic() < end:
        time.sleep(0.005)
    second, third = batcher.submit([{"text": "b"}, {"text": "c"}])
    assert second.cancel()
    with pytest.raises(QueueFullError):
        batcher.submit([{"text": "x"}] * 8)
    echo.go.set()
    assert first.result(5) == {"label": "a"} and third.result(5) == {"label": "c"}
    batcher.close()
    assert echo.asked == [[{"text": "a"}], [{"text": "c"}]] and batcher.waiting == 0


def test_jobs_make_way_for_requests(echo, tmp_path):
    batcher = Batcher(echo.answers, capacity=100)
    jobs = Jobs(tmp_path, batcher)
    jobs.add([{"text": "j"}] * 500, everything=False)
    (future,) = batcher.submit([{"text": "r"}])
    assert future.result(5) == {"label": "r"}
    jobs.close()
    batcher.close()


# --- graphs -------------------------------------------------------------------------------------


def write_graph(folder, text):
    (folder / "graph.yaml").write_text(text)
    return folder / "graph.yaml"


def test_an_answer_decides_whether_the_next_model_is_asked(runs, tmp_path):
    first, second = (
        runs().folder, runs("multi_label").folder,
    )  # fmt: skip
    file = write_graph(
        tmp_path,
        f"models:\n  tone: {first}\n  topic: {{model: {second}, after: tone, "
        'when: {label: [positive], score: "> 0.5"}}\n'
        f"  other: {{model: {second}}}\n",
    )
    graph = Graph.read(file)
    tones, topics = Predictor(first)(TEXTS), Predictor(second)(TEXTS)
    answers = graph.answers(TEXTS)
    assert {tone["label"] for tone in tones} == {"negative", "positive"}
    for answer, tone, topic in zip(answers, tones, topics, strict=True):
        assert list(answer) == ["tone", "other", "topic"]
        assert answer["tone"]["label"] == tone["label"]
        assert answer["other"]["labels"] == topic["labels"]
        asked = tone["label"] == "positive" and tone["score"] > 0.5
        assert (answer["topic"] is not None) == asked
        if asked:
            assert answer["topic"]["labels"] == topic["labels"]
    mixed = graph.answers(["the good film", 3, {"text": ""}])
    assert isinstance(mixed[1], RecordError) and isinstance(mixed[2], RecordError)
    assert mixed[0]["tone"] == Predictor(first)("the good film")
    with pytest.raises(RecordError):
        graph.check({"text": ""})


def test_a_record_is_tokenized_once_for_models_that_read_it_alike(runs):
    a, b, c = (Predictor(runs(*case).folder) for case in (
        ("sequence_classification",), ("sequence_classification", "static"), ("regression",)
    ))  # fmt: skip
    calls = []

    def counted(predictor):
        encode = predictor.tokenizer.texts
        predictor.tokenizer.texts = lambda texts: calls.append(len(texts)) or encode(texts)
        return Node(predictor)

    graph = Graph({name: counted(one) for name, one in (("a", a), ("b", b), ("c", c))})
    graph.answers(TEXTS)
    assert [count for count in calls if count] == [40]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "cannot be read"),
        ("a: 1", "has no models"),
        ("models: {a: {form: onnx}}", "names no model"),
        ("models: {a: {model: RUN, then: b}}", "a has then"),
        ("models: {a: {model: RUN, after: b, when: {}}}", "a comes after b"),
        ("models: {a: {model: RUN, after: a, when: {}}}", "a comes after a"),
        ("models: {a: RUN, b: {model: RUN, after: a}}", "needs both after: and when:"),
        ("models: {a: RUN, b: {model: RUN, after: a, when: {value: 1}}}", "names value, the ans"),
        ("models: {a: {model: nowhere}}", "no such folder"),
    ],
)
def test_a_graph_that_cannot_be_is_said_in_one_line(text, message, runs, tmp_path):
    file = write_graph(tmp_path, text.replace("RUN", str(runs().folder)))
    with pytest.raises(UserError, match=message):
        Graph.read(file)
