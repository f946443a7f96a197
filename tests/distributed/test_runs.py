"""Runs of several processes give what one process gives, and do once what must happen once."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM

from tests.factories import BAD, FILLER, GOOD, NO_DROPOUT, make_tokenizer, sentences, write_csv

DISTILL = (sys.executable, "-m", "distill")
DDP = ("trainer=ddp", "trainer.devices=2")
# Seconds that a run and the end of its processes may take beside many busy programs.
RUN_TIMEOUT, END_TIMEOUT = 900, 120

# Two runs or more in a test, and what a fixture does for the first one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * RUN_TIMEOUT)]


class Runs:
    """The real command in processes of its own, on a tiny model without dropout."""

    def __init__(self, folder: Path):
        self.folder = folder
        tokenizer = make_tokenizer(FILLER + GOOD + BAD)
        torch.manual_seed(0)
        BertForMaskedLM(
            BertConfig(
                vocab_size=32, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
                intermediate_size=64, max_position_embeddings=64, **NO_DROPOUT,
            )
        ).save_pretrained(folder / "tiny")  # fmt: skip
        tokenizer.save_pretrained(folder / "tiny")
        # Of the last batches one has 1 example and one 29.
        for split, count, seed in (("train", 225, 1), ("validation", 61, 2), ("test", 80, 3)):
            write_csv(folder / "films" / f"{split}.csv", sentences(count, seed))

    def start(self, *overrides: str, start=DISTILL) -> subprocess.Popen:
        given = [
            "data=files", f"data.path={self.folder}/films", f"teacher.path={self.folder}/tiny",
            "data.max_length=24", "trainer.max_epochs=2", "teacher.epochs=1",
            # Adam divides by the gradient: where that is all but 0, it enlarges rounding.
            "teacher.learning_rate=1e-4", "optimizer.learning_rate=1e-3", "optimizer.epsilon=1e-3",
            "trainer.precision=32-true", "trainer.accelerator=cpu", "student=half",
            f"cache_dir={self.folder}/cache", *overrides,
        ]  # fmt: skip
        root = str(Path(__file__).parents[2])
        return subprocess.Popen(
            [*start, *given],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A suite in a shell's background ignores interrupts, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def finish(self, process: subprocess.Popen) -> tuple[int, str, str]:
        """Exit code, standard output and standard error; no process is left running."""
        try:
            # Until the last process of the run has closed its end of the pipes.
            out, err = process.communicate(timeout=RUN_TIMEOUT)
            assert self._ended(process.pid), "processes are left behind"
            return process.returncode, out, err
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def _ended(self, group: int) -> bool:
        """Whether all processes end; workers may do so after the first one."""
        deadline = time.monotonic() + END_TIMEOUT
        while time.monotonic() < deadline:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.1)
        return False

    def __call__(self, *overrides: str, **settings) -> tuple[int, str, str]:
        """A run from start to end."""
        return self.finish(self.start(*overrides, **settings))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def alone(runs) -> Path:
    """A run of one process, with a cache of its own."""
    code, _, err = runs("output_dir=alone", "cache_dir=cache_alone")
    assert code == 0, err
    return runs.folder / "alone"


def assert_same_run(one: Path, other: Path):
    for role in ("student", "control"):
        if not (one / role).is_dir():
            continue
        first, second = (load_file(run / role / "model.safetensors") for run in (one, other))
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5)
    reports = [json.loads((run / "report.json").read_text()) for run in (one, other)]
    for first, second in zip(*(report["models"] for report in reports), strict=True):
        assert second["quality"]["accuracy"] == first["quality"]["accuracy"]


def test_two_processes_give_the_same_and_make_everything_once(runs, alone):
    code, out, err = runs(
        "trainer=ddp", "trainer.devices=2", "output_dir=two", "cache_dir=cache_two"
    )
    assert (code, err) == (0, "")
    assert_same_run(alone, runs.folder / "two")
    assert out.count("teacher: fine-tuning") == out.count("measuring") == 1
    assert out.count("teacher: computing its outputs") == 3  # of every split
    cache = runs.folder / "cache_two"
    assert len([path for path in (cache / "teachers").iterdir() if path.is_dir()]) == 1
    assert len(list((cache / "outputs").glob("*/logits.npy"))) == 3
    assert not list(cache.rglob("*.partial"))
    assert len(list((runs.folder / "two").rglob("report.json"))) == 1
    # A run of one process reuses what they have cached.
    code, out, err = runs("output_dir=again", "cache_dir=cache_two", "control=false")
    assert (code, err) == (0, "")
    report = json.loads((runs.folder / "again" / "report.json").read_text())
    assert report["reused"]["teacher"] and report["reused"]["teacher_outputs"]


def test_stages_with_a_live_teacher_give_the_same(runs, alone):
    """The first stage leaves out the student's head."""
    stages = (
        "objective=tinybert", "objective.intermediate.epochs=null", "objective.prediction.epochs=1",
        "objective.intermediate.learning_rate=1e-3", "control=false",
        "cache_dir=cache_alone",
    )  # fmt: skip
    for folder, trainer in (("stages_alone", ()), ("stages", DDP)):
        code, _, err = runs(*stages, *trainer, f"output_dir={folder}")
        assert (code, err) == (0, "")
    assert_same_run(runs.folder / "stages_alone", runs.folder / "stages")


def test_a_mistake_and_an_interrupt_end_all_processes(runs):
    code, _, err = runs(*DDP, "data.text=review", "output_dir=mistake")
    assert code == 2
    assert err.startswith("error: data.text=review")
    assert not (runs.folder / "mistake").exists()
    long = ("trainer.max_epochs=500", "trainer.patience=null", "control=false")
    process = runs.start(*DDP, *long, "output_dir=interrupted")
    try:
        log = runs.folder / "interrupted" / "run.log"
        while not log.is_file() or "student: epoch 2" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    finally:
        code, _, err = runs.finish(process)
    assert code == 130
    assert err.splitlines()[-1] == "interrupted: distill resume=interrupted continues the run"
    assert "Traceback" not in err


@pytest.mark.parametrize("how", ["trainer=ddp trainer.devices=2", "hydra/launcher=parallel"])
def test_a_sweep_over_processes_has_its_runs_and_one_report(runs, how):
    folder = f"sweep_{how.count(' ')}"
    code, _, err = runs(
        *how.split(), "seed=0,1", f"output_dir={folder}", "debug=fast", "data.max_length=24",
        "control=false", "cache_dir=cache_sweep", start=(*DISTILL, "-m"),
    )  # fmt: skip
    assert (code, err) == (0, "")
    sweep = runs.folder / folder
    reports = sorted(sweep.rglob("report.json"))
    assert [file.parent.name for file in reports] == ["00-seed=0", "01-seed=1"]
    count = 2 if "devices" in how else 1
    for file in reports:
        assert json.loads(file.read_text())["environment"]["processes"] == count
    assert len(list(sweep.rglob("sweep.md"))) == 1
    assert len(list((runs.folder / "cache_sweep" / "teachers").glob("*/model.safetensors"))) == 1


def test_a_sweep_over_processes_from_outside_gives_the_same(runs, alone):
    torchrun = (
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "distill", "-m",
    )  # fmt: skip
    code, out, err = runs(
        "trainer=ddp", "student=half,third", "output_dir=outside", "cache_dir=cache_outside",
        start=torchrun,
    )  # fmt: skip
    assert code == 0, err
    assert_same_run(alone, runs.folder / "outside" / "00-half")
    assert (runs.folder / "outside" / "01-third" / "report.json").is_file()
    assert out.count("teacher: fine-tuning") == 1
    assert out.count("measuring") == 2
