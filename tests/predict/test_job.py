"""``distill-predict``: formats, order, bad lines, resuming, shards, memory."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from distill.cli.predict import main
from distill.predict import Predictor, job
from tests.factories import sentences
from tests.predict.runs import pairs

TEXTS = [row["text"] for row in sentences(30, 7)]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    monkeypatch.setattr(job, "WINDOW", 8)


def written(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def as_jsonl(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def as_csv(path, texts):
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows([["id", "text"], *enumerate(texts)])


def as_tsv(path, texts):
    path.write_text("text\tid\n" + "".join(f"{text}\t1\n" for text in texts))


def as_txt(path, texts):
    path.write_text("\r\n".join(texts))


def as_parquet(path, texts):
    parquet.write_table(pa.table({"text": texts}), path)


def as_gzip(path, texts):
    path.write_bytes(gzip.compress(("\ufeff" + "\n".join(texts)).encode()))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("in.jsonl", as_jsonl), ("in.csv", as_csv), ("in.tsv", as_tsv), ("in.txt", as_txt),
        ("in.parquet", as_parquet), ("in.txt.gz", as_gzip),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_answers_in_order(name, write, runs, tmp_path):
    run = runs()
    write(tmp_path / name, TEXTS)
    assert main([str(run.folder), str(tmp_path / name), "-o", str(tmp_path / "out.jsonl")]) == 0
    rows = written(tmp_path / "out.jsonl")
    assert [row["line"] for row in rows] == list(range(1, 31))
    for row, answer in zip(rows, Predictor(run.folder)(TEXTS), strict=True):
        assert row["label"] == answer["label"]
        assert row["score"] == pytest.approx(answer["score"], abs=2e-6)


def test_csv_and_parquet_hold_what_jsonl_does(runs, tmp_path):
    file, run = tmp_path / "in.jsonl", str(runs().folder)
    lines = [json.dumps({"text": text, "id": f"a{i}"}) for i, text in enumerate(TEXTS[:10])]
    file.write_text("\n".join([*lines, "no json"]))
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        assert main([run, str(file), "-o", str(tmp_path / name), "--keep", "id", "--all"]) == 1
    expected = written(tmp_path / "out.jsonl")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert list(rows[0]) == list(table[0]) == ["line", "id", "label", "score", "scores", "error"]
    for answer, row, cells in zip(expected[:-1], rows, table, strict=False):
        assert row["id"] == cells["id"] == answer["id"] and row["label"] == answer["label"]
        assert float(row["score"]) == cells["score"] == answer["score"]
        assert json.loads(row["scores"]) == json.loads(cells["scores"]) == answer["scores"]
    assert rows[-1]["error"] == table[-1]["error"] == expected[-1]["error"] != ""
    assert not list(tmp_path.glob("*.partial"))


def test_a_bad_line_becomes_a_record_and_the_rest_goes_on(runs, tmp_path, capsys):
    lines = [
        b'{"text": "the good film"}', b"{", b'{"txt": "x"}', b'{"text": "\xff"}', b"",
        b'{"text": ""}', b'"a text by itself"', b'["two", "texts"]', b'{"text": "the dull plot"}',
        b'{"text": null}', b"[" * 100_000,
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    run, out = str(runs().folder), tmp_path / "out.jsonl"
    assert main([run, str(tmp_path / "in.jsonl"), "-o", str(out)]) == 1
    rows = written(out)
    bad = [row["line"] for row in rows if "error" in row]
    assert bad == [2, 3, 4, 5, 6, 10, 11] and len(rows) == len(lines)
    assert "7 of 11 records are bad; the first is line 2: the line is no JSON" in (
        capsys.readouterr().err
    )
    predictor = Predictor(run)
    assert rows[0]["label"] == predictor("the good film")["label"]
    assert rows[8]["label"] == predictor("the dull plot")["label"]
    (tmp_path / "in.csv").write_bytes(b"text,id\na film,1\nonly one\nbad \xff,2\ngood,3\n")
    assert main([run, str(tmp_path / "in.csv"), "-o", str(tmp_path / "csv.jsonl")]) == 1
    reasons = [row.get("error") for row in written(tmp_path / "csv.jsonl")]
    assert reasons[0] is None is reasons[3]
    assert reasons[1] == "the row has 1 fields, the header 2" and "UTF-8" in reasons[2]


def test_pairs_and_named_columns(runs, tmp_path):
    run = runs("pairs")
    rows = pairs(12, 9)
    answers = [answer["label"] for answer in Predictor(run.folder)(rows)]
    (tmp_path / "in.txt").write_text(
        "".join(f"{row['text']}\t{row['text_pair']}\n" for row in rows)
    )
    named = [json.dumps({"a": row["text"], "b": row["text_pair"]}) for row in rows]
    (tmp_path / "in.jsonl").write_text("\n".join(named))
    for name, options in (
        ("in.txt", ["--pairs"]), ("in.jsonl", ["--text", "a", "--text-pair", "b"]),
    ):  # fmt: skip
        out = tmp_path / f"{name}.out.jsonl"
        assert main([str(run.folder), str(tmp_path / name), "-o", str(out), *options]) == 0
        assert [row["label"] for row in written(out)] == answers


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_an_interrupted_job_continues_to_the_same_bytes(suffix, runs, tmp_path, capsys):
    as_txt(tmp_path / "in.txt", [*TEXTS[:12], " ", *TEXTS[12:]])
    whole, part = tmp_path / f"whole.{suffix}", tmp_path / f"part.{suffix}"
    arguments = [str(runs().folder), str(tmp_path / "in.txt"), "-o"]
    assert main([*arguments, str(whole)]) == 1
    content = whole.read_bytes()
    state = json.loads(job.state_file(whole).read_text())
    assert state.pop("finished")
    for length in (0, 3, len(content) // 3, len(content) // 2, len(content) - 1):
        part.write_bytes(content[:length])
        job.state_file(part).write_text(json.dumps(state))
        assert main([*arguments, str(part), "--resume"]) in (0, 1)
        assert part.read_bytes() == content, length
    # What is finished is left as it is; what exists is not written over.
    assert main([*arguments, str(part), "--resume"]) == 0
    assert main([*arguments, str(part)]) == 2
    assert "exists: --resume continues it" in capsys.readouterr().err
    # Another model, input or option is another job.
    assert main([*arguments, str(part), "--resume", "--all"]) == 2
    assert "of another job: options differs" in capsys.readouterr().err
    as_txt(tmp_path / "in.txt", TEXTS)
    assert main([*arguments, str(part), "--resume"]) == 2
    assert "of another job: input differs" in capsys.readouterr().err
    arguments[0] = str(runs("sequence_classification", "static").folder)
    assert main([*arguments, str(part), "--resume"]) == 2
    assert "of another job: model, input differs" in capsys.readouterr().err


def test_shards_are_every_record_once(runs, tmp_path):
    as_txt(tmp_path / "in.txt", TEXTS)
    lines = []
    for part in (1, 2, 3):
        out = tmp_path / f"{part}.jsonl"
        assert main([
            str(runs().folder), str(tmp_path / "in.txt"), "-o", str(out), "--shard", f"{part}/3",
        ]) == 0  # fmt: skip
        lines.append([row["line"] for row in written(out)])
    assert lines == [list(range(part, 31, 3)) for part in (1, 2, 3)]


def test_mistakes_are_said_in_one_line(runs, tmp_path, capsys):
    run = str(runs().folder)
    (tmp_path / "in.xyz").write_text("")
    for arguments, message in (
        ([run, "no.txt"], "there is no such file"),
        ([run, str(tmp_path / "in.xyz")], "--format jsonl|csv"),
        ([run, "-", "--resume"], "--resume continues a file"),
        ([run, "-", "-o", str(tmp_path / "x.abc")], "--output-format"),
        ([run, "-", "--output-format", "parquet"], "cannot be written to a pipe"),
        ([run, "-", "--shard", "3/2"], "--shard 3/2"),
        ([run, "-", "-o", str(tmp_path / "no" / "x.csv")], "there is no such folder"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def distill_predict(*arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "distill.predict", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings,
    )  # fmt: skip


@pytest.mark.slow
def test_a_reader_that_leaves_and_answers_that_come_as_they_are_ready(exported):
    process = distill_predict(exported(), "--format", "txt")
    # A window and the first answers come before the end of the input.
    process.stdin.write(b"the good film\n" * 3000)
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["line"] == 1
    process.stdout.close()
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.slow
def test_a_killed_job_continues_to_the_same_bytes(exported, tmp_path):
    as_txt(tmp_path / "in.txt", TEXTS * 700)
    arguments = [exported(), tmp_path / "in.txt", "-o"]
    process = distill_predict(*arguments, tmp_path / "out.jsonl")
    out = tmp_path / "out.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (out.exists() and out.stat().st_size > 100_000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed_at = out.stat().st_size
    for options in (["out.jsonl", "--resume"], ["whole.jsonl"]):
        process = distill_predict(*arguments, tmp_path / options[0], *options[1:])
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert killed_at < out.stat().st_size
