"""Every option with values of a wrong kind: one line that names it, before anything is loaded."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from distill.config.error_messages import user_message
from distill.config.validation import validate_config
from distill.core.errors import UserError
from distill.pipeline.components import RunComponents
from tests.factories import composed, sentences, write_csv

VALUES = {
    "text": "wrong text", "a list": [1.5, "x", None], "a mapping": {"a": 1}, "negative": -1,
    "not a number": math.nan, "infinite": math.inf, "huge": 10**30,
}  # fmt: skip
# Together they have every group; options that were seen are not tried again.
CONFIGS = {
    "default": "student=half",
    "fastest": "student=fastest",
    "from outputs": "student=bilstm",
    "narrow": "student=narrow",
    "shape": "student=tiny",
    "recipe": "student=half objective=tinybert",
    "hidden states": "student=half objective=distilbert",
    "relations": "student=half objective=minilm",
    "decoupled": "student=half objective=dkd",
    "regression": "student=half task=regression",
    "multi-label": "student=half task=multi_label",
    "questions": "task=question_answering data.label=null",
    "masked": "task=masked_lm objective=distilbert",
    "augmentation": "student=half augmentation=combined",
    "ensemble": "student=half teacher=ensemble teacher.seeds=[0,1]",
}
# Options that say nothing themselves, or whose values are names of anything.
SKIPPED = {
    "name", "overrides", "hydra", "output_dir", "resume", "allow_code", "experiment", "debug",
}  # fmt: skip
# What is right, or is seen only where data or models are known.
RIGHT = {
    "text": (
        "data.text", "data.text_pair", "data.label", "data.label_separator", "data.unlabeled",
        "data.path", "cache_dir", "data.augmentation.tokenizer", ".name",
    ),
    "negative": (
        "data.text", "data.label", ".temperature", ".target_weight", ".non_target_weight",
        ".heads", "task.no_answer_threshold",
    ),
    "huge": (
        "data.text", "data.label", "learning_rate", "weight", "epsilon", "weight_decay",
        ".temperature", "task.scale", "smoothing", "no_answer_threshold",
    ),
}  # fmt: skip
# In all of them together; fewer would mean that options are no longer found.
CASES = 600
TRIED: set[tuple[str, str]] = set()
COUNTS: dict[str, int] = {}


@pytest.fixture(scope="module")
def usual(tmp_path_factory, pretrained) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("data") / "films"
    write_csv(folder / "train.csv", sentences(40, 1))
    return ["data=files", f"data.path={folder}", "data.max_length=24", "trainer.accelerator=cpu"]


def options(node: DictConfig, path: str = "") -> Iterator[str]:
    """Yield the options of a config that have values of their own."""
    for key in node:
        name = f"{path}{key}"
        if name in SKIPPED or key in ("_target_", "_convert_"):
            continue
        value = node._get_node(key)
        if isinstance(value, DictConfig) and not value._is_none() and len(value):
            yield from options(value, f"{name}.")
        elif not isinstance(value, ListConfig | DictConfig) and not OmegaConf.is_interpolation(
            node, key
        ):
            yield name


def mistake(config: DictConfig) -> str | None:
    """Return what is said about a config, or nothing."""
    try:
        validate_config(config, typed=[])
        RunComponents.from_config(config)
    except (UserError, InstantiationException) as error:
        return user_message(error) or repr(error)
    return None


def is_right(option: str, kind: str) -> bool:
    return any(option == each or option.endswith(each) for each in RIGHT.get(kind, ()))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_refuses_values_of_another_kind(name, usual, pretrained, tmp_path):
    given = CONFIGS[name].split()
    teacher = f"teacher.path={pretrained}"
    if "teacher=ensemble" in given:
        teacher = f"teacher.paths=[{pretrained},{pretrained}]"
    config = composed(*usual, *given, teacher, f"cache_dir={tmp_path}/cache")
    assert mistake(config) is None
    wrong = []
    for option in options(config):
        parent = option.rpartition(".")[0]
        target = OmegaConf.select(config, f"{parent}._target_") if parent else ""
        if (option, str(target)) in TRIED:
            continue
        TRIED.add((option, str(target)))
        for kind, value in VALUES.items():
            if is_right(option, kind):
                continue
            changed: Any = config.copy()
            with open_dict(changed):
                OmegaConf.update(changed, option, value, merge=False)
            said = mistake(changed)
            COUNTS[name] = COUNTS.get(name, 0) + 1
            if said is None or "\n" in said or option.rsplit(".", 1)[-1] not in said:
                wrong.append(f"{option} {kind}: {said}")
    assert not wrong
    assert not (tmp_path / "cache").exists()
    if name == list(CONFIGS)[-1] and len(COUNTS) == len(CONFIGS):
        assert sum(COUNTS.values()) > CASES


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.augmentation=-1", "data.augmentation=-1: it is a group"),
        ("data.augmentation=[1]", "data.augmentation=[1]: it is a group"),
        ("student.layers=5", "student.layers=5: it must be"),
        ("student.layers=1.5", "student.layers=1.5: it must be"),
        ("teacher.seeds=100000000", "give a number from 1 to 1000"),
        ("cache_dir=", "cache_dir is empty"),
        ("data.path=", "data.path is empty"),
        ("teacher.path=' '", "teacher.path is empty"),
        ("task=multi_label task.min_steps=0", "task.min_steps=0: it must be 1 or more, or null"),
    ],
)
def test_values_that_only_look_right(usual, pretrained, override, says):
    given = override.split(maxsplit=1 if override.startswith("task=") else 0)
    config = composed(*usual, f"teacher.path={pretrained}", "student=half", *given)
    assert says in str(mistake(config))
