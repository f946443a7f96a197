"""Every config composes and binds; every one that can run offline takes a step."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from distill.config.resolvers import conf_dir
from distill.config.validation import validate_config
from tests.factories import composed

GROUPS = ("task", "data", "teacher", "student", "objective", "optimizer", "trainer")
CHOICES = [
    (group, file.stem)
    for group in GROUPS
    for file in sorted((Path(conf_dir()) / group).glob("*.yaml"))
]
WHOLE = [
    (group, file.stem)
    for group in ("experiment", "debug")
    for file in sorted((Path(conf_dir()) / group).glob("*.yaml"))
]
# What no single machine has.
DEMANDING = {
    "fsdp": nullcontext()
    if torch.cuda.is_available()
    else pytest.raises(InstantiationException, match="needs GPUs"),
    "multi_node": pytest.raises(InstantiationException, match="on every node"),
}
NEEDED = {
    "ensemble": ["teacher.paths=[a,b]"],
    "files": ["data.path=folder"],
    "images": ["data.path=folder"],
    "hub": ["{group}.path=someone/something"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_composes_and_binds(group, choice):
    needed = [text.format(group=group) for text in NEEDED.get(choice, [])]
    config = composed(f"{group}={choice}", *needed)
    validate_config(config)
    with DEMANDING.get(choice, nullcontext()):
        instantiate(config[group], _convert_="all")


@pytest.mark.parametrize(("group", "choice"), WHOLE)
def test_experiments_and_debug_compose_and_bind(group, choice):
    text = (Path(conf_dir()) / group / f"{choice}.yaml").read_text()
    needed = ["data.path=folder"] if "/data: files" in text else []
    config = composed(f"{group}={choice}", *needed)
    validate_config(config)


# Of images: tests/student/test_network.py and tests/objectives/terms/test_feature_map_terms.py.
FOR_IMAGES = {
    "student": {"vgg", "resnet", "mobilenet", "vit", "convnext"},
    "objective": {"at", "fitnets", "sp", "pkt", "rkd"},
}


@pytest.mark.parametrize(
    "choice",
    [
        choice
        for group, choice in CHOICES
        if group == "student" and choice not in {"hub", *FOR_IMAGES["student"]}
    ],
)
def test_every_student_takes_a_step(choice, command, small):
    code, _, err = command(
        *small, f"student={choice}", "debug=fast", "data.max_length=24", "control=false",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    assert Path("run/report.json").is_file()


@pytest.mark.parametrize(
    "choice",
    [
        choice
        for group, choice in CHOICES
        if group == "objective" and choice not in FOR_IMAGES["objective"]
    ],
)
def test_every_objective_takes_a_step(choice, command, small, three_classes):
    stages = composed(f"objective={choice}").objective
    shorter = [
        f"objective.{key}.epochs=null" for key, node in stages.items() if "epochs" in str(node)
    ]
    code, _, err = command(
        *small, f"data.path={three_classes}", f"objective={choice}", "debug=fast",
        "data.max_length=24", "output_dir=run", *shorter,
    )  # fmt: skip
    assert code == 0, err
    assert Path("run/report.json").is_file()


@pytest.mark.parametrize("choice", ["constant", "linear", "cosine", "step", "flsw", "cwsm"])
def test_every_schedule_takes_a_step(choice, command, small):
    code, _, err = command(
        *small, f"+schedule@objective.soft_targets.temperature={choice}", "debug=fast",
        "data.max_length=24", "output_dir=run", "control=false",
        *(["objective.soft_targets.temperature.start=2"] if choice in ("linear", "cosine") else []),
    )  # fmt: skip
    assert code == 0, err


def test_a_student_from_a_folder_with_another_tokenizer(command, small, tmp_path):
    from tests.factories import FILLER, GOOD, make_model, make_tokenizer

    make_model("distilbert", layers=1).save_pretrained(tmp_path / "other")
    make_tokenizer(GOOD + FILLER).save_pretrained(tmp_path / "other")
    code, _, err = command(
        *small, "student=hub", f"student.path={tmp_path}/other", "teacher.outputs=live",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err


def test_pairs(command, small, tmp_path, corpus):
    import csv

    from tests.factories import write_csv

    for split in ("train", "validation", "test"):
        with (corpus / f"{split}.csv").open() as lines:
            rows = [row | {"text_pair": "the film"} for row in csv.DictReader(lines)]
        write_csv(tmp_path / "pairs" / f"{split}.csv", rows)
    code, _, err = command(
        *small, f"data.path={tmp_path}/pairs", "debug=fast", "data.max_length=24", "output_dir=run"
    )
    assert code == 0, err


@pytest.mark.parametrize("student", ["fast", "fastest"])
def test_a_student_brings_its_settings_and_what_the_user_sets_counts(student):
    usual, own = composed("student=half"), composed(f"student={student}")
    assert own.student.name == student
    assert own.optimizer.learning_rate is not None and usual.optimizer.learning_rate is None
    assert own.trainer.max_epochs != usual.trainer.max_epochs
    given = composed(
        f"student={student}", "optimizer.learning_rate=1e-3", "trainer.max_epochs=2",
        "student.vocabulary=full", "objective=dkd",
    )  # fmt: skip
    assert (given.optimizer.learning_rate, given.trainer.max_epochs) == (1e-3, 2)
    assert given.student.vocabulary == "full" and given.objective.name == "dkd"
    # An experiment and debug=fast come after the student.
    assert composed(f"student={student}", "debug=fast").trainer.max_epochs == 1


def test_every_option_of_the_contract_exists():
    config = composed("data=files", "data.path=folder", "student=half")
    for option in (
        "data.path", "data.text", "data.text_pair", "data.label", "data.limit", "data.max_length",
        "data.batch_size", "teacher.path", "teacher.epochs", "teacher.learning_rate",
        "student.layers", "objective.soft_targets.weight", "objective.soft_targets.temperature",
        "objective.hard_labels.weight", "trainer.max_epochs", "trainer.precision",
        "trainer.devices", "trainer.strategy", "seed", "control", "output_dir", "cache_dir",
        "resume",
    ):  # fmt: skip
        node = config
        for key in option.split("."):
            assert key in node, option
            node = node[key]
