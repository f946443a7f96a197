"""The server as a process: many clients, an end that loses nothing, mistakes."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from distill.cli.serve import main
from distill.predict import Predictor
from tests.factories import sentences

TEXTS = [row["text"] for row in sentences(40, 7)]
BAD = {
    400: b"{", 413: b" " * 2_000_000, 422: b'{"text": ""}',
}  # fmt: skip


@contextmanager
def served(model, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "distill.serve", str(model), "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line.startswith("serving on "), line + process.stderr.read()
        yield line.split()[-1], process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_every_request_is_answered_and_sigterm_loses_none(exported, tmp_path):
    expected = [answer["label"] for answer in Predictor(exported())(TEXTS)]
    todo, results = queue.SimpleQueue(), []
    for number in range(100_000):
        todo.put(number)
    with served(exported(), "--jobs", str(tmp_path / "jobs")) as (address, process):
        stop = threading.Event()

        def client():
            with httpx.Client(timeout=30) as connection:
                while not stop.is_set():
                    number = todo.get()
                    wanted = 200 if number % 10 else list(BAD)[number // 10 % 3]
                    text = TEXTS[number % 40]
                    body = json.dumps({"text": text}) if wanted == 200 else BAD[wanted]
                    try:
                        answer = connection.post(f"{address}/predict", content=body)
                    except httpx.ConnectError:  # it accepts no more
                        return
                    except httpx.TransportError as error:
                        # A body that is refused before it is read ends the connection.
                        results.append((wanted, wanted if wanted == 413 else repr(error), None))
                        continue
                    label = answer.json().get("label")
                    results.append((wanted, answer.status_code, label))
                    if wanted == 200:
                        assert label == expected[number % 40]

        clients = [threading.Thread(target=client) for _ in range(8)]
        for one in clients:
            one.start()
        end = time.monotonic() + 60
        while len(results) < 400 and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - start < 10
        stop.set()
        for one in clients:
            one.join(30)
        assert process.stderr.read() == ""
    assert len(results) >= 400
    assert {(wanted, found) for wanted, found, _ in results} == {
        (200, 200), (400, 400), (413, 413), (422, 422),
    }  # fmt: skip
    assert all(label for wanted, _, label in results if wanted == 200)


@pytest.mark.slow
def test_the_model_says_what_it_is(exported, runs, tmp_path):
    with served(exported(), "--jobs", str(tmp_path / "jobs")) as (address, process):
        info = httpx.get(f"{address}/info").json()
        assert info["form"] == "onnx" and len(info["sha256"]) == 64
        assert info["schema"]["labels"] == ["negative", "positive"]
        assert info["schema"]["answer"] == ["label", "score"]
        answer = httpx.post(f"{address}/predict?all=true", json={"text": "the good film"}).json()
        assert set(answer["scores"]) == {"negative", "positive"}
        added = httpx.post(f"{address}/jobs", json=TEXTS).json()
        end = time.monotonic() + 20
        found = {}
        while found.get("status") != "finished" and time.monotonic() < end:
            found = httpx.get(f"{address}/jobs/{added['id']}").json()
        labels = [one["label"] for one in found["answers"]]
        assert labels == [one["label"] for one in Predictor(exported())(TEXTS)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_mistakes_are_said_in_one_line(tmp_path, capsys, monkeypatch):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder or graph.yaml" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "there is no model" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "distill.serve.app", raising=False)
    assert main([str(tmp_path)]) == 2
    assert "pip install 'distill[serve]'" in capsys.readouterr().err
