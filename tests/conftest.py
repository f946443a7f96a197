"""Fixtures with tiny models and data; everything runs offline in seconds."""

import gc
import logging
import os
import sys
from pathlib import Path

# Set before any library reads them: no network, no cache of the user.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# On a busy machine, spinning threads take minutes instead of seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
)

from distill.evaluation import speed
from tests.factories import BAD, FILLER, GOOD, make_model, make_tokenizer, sentences, write_csv


def pytest_xdist_auto_num_workers(config) -> int:
    """Return one worker more than processors, because tests of whole commands wait at times."""
    return (os.cpu_count() or 1) + 1


# Collecting garbage walks over every object of the libraries: 0.3 s each time a run measures speed.
gc.collect()
gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def speed_defaults():
    """Time models on few examples in short turns: the values matter to tests/evaluation only.

    Returns:
        The module's own values.
    """
    quick = {
        "EXAMPLES": 4, "BATCHES": 1, "PATIENCE": 1, "WARM_UP_SECONDS": 0.0, "TURN_SECONDS": 0.0
    }  # fmt: skip
    defaults = {name: getattr(speed, name) for name in quick}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quick.items():
            patch.setattr(speed, name, value)
        yield defaults


@pytest.fixture(autouse=True)
def _leave_no_trace():
    """Undo the global settings of commands, which run in this process."""
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    handlers = logging.getLogger().handlers[:]
    yield
    GlobalHydra.instance().clear()
    for handler in logging.getLogger().handlers[:]:
        if handler not in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def tokenizer() -> BertTokenizerFast:
    return make_tokenizer(FILLER + GOOD + BAD)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory, tokenizer) -> Path:
    """A folder with a tiny pretrained BERT without a classification head."""
    folder = tmp_path_factory.mktemp("models") / "tinybert"
    torch.manual_seed(0)
    BertForMaskedLM(
        BertConfig(
            vocab_size=32,
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tokenizer) -> Path:
    """A folder with a classifier for the labels negative and positive."""
    folder = tmp_path_factory.mktemp("models") / "ready"
    make_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def three_classes(tmp_path_factory) -> Path:
    """A folder with train, validation and test of three classes: positive, negative, neutral."""
    folder = tmp_path_factory.mktemp("data") / "three"
    for split, count, seed in (("train", 240, 1), ("validation", 60, 2), ("test", 80, 3)):
        rows = sentences(count, seed)
        for row in rows[::3]:
            words = [word for word in row["text"].split() if word in FILLER]
            row.update(text=" ".join(words), label="neutral")
        write_csv(folder / f"{split}.csv", rows)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A folder with train, validation and test of two classes."""
    folder = tmp_path_factory.mktemp("data") / "films"
    for split, count, seed in (("train", 240, 1), ("validation", 60, 2), ("test", 80, 3)):
        write_csv(folder / f"{split}.csv", sentences(count, seed))
    return folder


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Make a run's folder with a student of random weights: ``runs(case, student)``."""
    from tests.predict.runs import make_run

    made = {}

    def make(case="sequence_classification", student="half"):
        if (case, student) not in made:
            folder = tmp_path_factory.mktemp(f"{case}-{student}")
            made[case, student] = make_run(folder, case, student)
        return made[case, student]

    return make


@pytest.fixture(scope="session")
def exported(runs):
    """Export the student of such a run to ONNX: ``exported(case, student)``."""
    from distill.export.export import ExportOptions, export_model

    made = {}

    def make(case="sequence_classification", student="half", quantize="none"):
        key = case, student, quantize
        if key not in made:
            run = runs(case, student)
            output = run.folder.parent / f"exported-{quantize}"
            options = ExportOptions(quantize=quantize, output=output)
            made[key] = export_model(run.folder, options).folder
        return made[key]

    return make


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Run the command in this process: ``command("seed=1")`` -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> tuple[int, str, str]:
        from distill.cli.distill import main

        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        monkeypatch.delenv("DISTILL_SWEPT", raising=False)
        monkeypatch.setattr(sys, "argv", ["distill", *map(str, overrides)])
        GlobalHydra.instance().clear()
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def small(corpus, pretrained, shared_cache) -> list[str]:
    """Overrides of a run that takes seconds."""
    return [
        "data=files", f"data.path={corpus}", f"teacher.path={pretrained}",
        f"cache_dir={shared_cache}", "data.max_length=24", "trainer.max_epochs=2",
        "teacher.epochs=4", "teacher.learning_rate=3e-3", "optimizer.learning_rate=3e-3",
        "trainer.precision=32-true", "trainer.accelerator=cpu", "student=half",
    ]  # fmt: skip
