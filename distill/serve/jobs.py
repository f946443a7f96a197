"""Jobs of many records, kept on disk: answered one after another, continued after a restart."""

import json
import re
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.answers.base import RecordError
from distill.serve.batcher import LARGEST, Batcher, QueueFullError

ID = re.compile(r"[0-9a-f]{32}")
RECORDS, ANSWERS, STATE = "records.jsonl", "answers.jsonl", "job.json"


class Jobs:
    """Jobs in a folder, one folder each.

    A job is computed in batches of the size of requests, so that requests wait for one at most.

    Args:
        folder: made if it is not there.
        batcher: computes the answers.
    """

    def __init__(self, folder: Path, batcher: Batcher):
        self.folder, self._batcher = folder, batcher
        folder.mkdir(parents=True, exist_ok=True)
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def add(self, records: Sequence[Any], everything: bool) -> str:
        """Keep a job and return its id."""
        name = uuid.uuid4().hex
        partial = self.folder / f".{name}.partial"
        partial.mkdir()
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (partial / RECORDS).write_text(lines, encoding="utf-8")
        state = {"records": len(records), "everything": everything, "added": time.time()}
        (partial / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
        partial.replace(self.folder / name)
        self._wake.set()
        return name

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a job's ``status`` and, when it is finished, its ``answers``."""
        folder = self.folder / name
        if not ID.fullmatch(name) or not folder.is_dir():
            return None
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        answers = _whole_lines(folder / ANSWERS)
        finished = len(answers) == state["records"]
        status = "finished" if finished else "running" if answers else "waiting"
        found = {
            "id": name, "status": status, "records": state["records"], "done": len(answers),
        }  # fmt: skip
        return found | ({"answers": [json.loads(line) for line in answers]} if finished else {})

    def close(self) -> None:
        """Stop after the batch that is being computed."""
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            for folder in self._unfinished():
                self._work(folder)
                if self._stopped:
                    return
            if not self._unfinished():
                self._wake.wait()

    def _unfinished(self) -> list[Path]:
        """Return the folders of jobs to be done, the oldest first."""
        found = []
        for folder in self.folder.iterdir():
            if ID.fullmatch(folder.name):
                state = json.loads((folder / STATE).read_text(encoding="utf-8"))
                if len(_whole_lines(folder / ANSWERS)) < state["records"]:
                    found.append((state["added"], folder))
        return [folder for _, folder in sorted(found)]

    def _work(self, folder: Path) -> None:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        lines = (folder / RECORDS).read_text(encoding="utf-8").splitlines()
        done = _whole_lines(folder / ANSWERS)
        with (folder / ANSWERS).open("r+b" if done else "wb") as file:
            file.seek(sum(len(line) + 1 for line in done))
            file.truncate()  # what follows the last whole line
            for start in range(len(done), len(lines), LARGEST):
                if self._stopped:
                    return
                records = [json.loads(line) for line in lines[start : start + LARGEST]]
                answers = self._answers(records, state["everything"])
                file.write("".join(json.dumps(one) + "\n" for one in answers).encode())
                file.flush()

    def _answers(self, records: list[Any], everything: bool) -> list[dict[str, Any]]:
        while True:
            try:
                futures = self._batcher.submit(records, everything)
                break
            except QueueFullError:  # requests come first
                time.sleep(0.05)
        rows = []
        for future in futures:
            try:
                answer = future.result()
            except Exception as error:
                answer = RecordError(f"the model failed: {error}")
            is_bad = isinstance(answer, RecordError)
            rows.append({"error": str(answer)} if is_bad else answer)
        return rows


def _whole_lines(file: Path) -> list[bytes]:
    """Return the lines of a file that end with a line feed, without it."""
    if not file.is_file():
        return []
    return file.read_bytes().split(b"\n")[:-1]
