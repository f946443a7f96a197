"""Several teachers: each kept on its own, together what they should be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from distill.core.errors import UserError
from distill.modeling.ensemble import Ensemble
from distill.modeling.features import ModelOutputs
from distill.tasks.sequence_classification import CrossEntropyCriterion
from distill.teacher.config import TeacherConfig
from distill.teacher.ensemble import EnsembleConfig, combine_logits, expand_seeds
from tests.factories import FILLER, GOOD, make_model, make_tokenizer


def said(classes=3):
    draw = torch.Generator().manual_seed(0)
    return {
        name: ModelOutputs(torch.randn(5, classes, generator=draw)) for name in ("one", "other")
    }


def ensemble(combine):
    models = {"one": make_model(layers=1), "other": make_model(layers=2)}
    return Ensemble(models, combine, {"one": 0.25, "other": 0.75})


def test_probabilities_are_averaged_at_every_temperature():
    members = said()
    both = ensemble("probabilities").combine_outputs(members)
    for temperature in (1.0, 4.0):
        expected = 0.25 * softmax(members["one"].logits.numpy() / temperature, -1)
        expected += 0.75 * softmax(members["other"].logits.numpy() / temperature, -1)
        got = torch.softmax(both.logits_at(temperature) / temperature, -1)
        assert np.allclose(got, expected, atol=1e-6)


def test_logits_are_averaged():
    members = said()
    expected = 0.25 * members["one"].logits + 0.75 * members["other"].logits
    both = ensemble("logits").combine_outputs(members)
    assert torch.allclose(both.logits, expected)
    assert torch.equal(both.logits_at(4.0), both.logits)


def test_one_is_drawn_with_the_weights_as_probabilities():
    members, model = said(), ensemble("random")
    torch.manual_seed(0)
    drawn = [
        torch.equal(model.combine_outputs(members).logits, members["one"].logits)
        for _ in range(400)
    ]
    assert 0.18 < np.mean(drawn) < 0.32
    assert torch.allclose(
        model.combine_outputs(members, draws=False).logits,
        ensemble("probabilities").combine_outputs(members).logits,
    )


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_stored_live_and_measured_logits_agree(combine):
    model = ensemble(combine).eval()
    ids = {"input_ids": torch.tensor([[2, 9, 3], [2, 10, 3]]), "attention_mask": torch.ones(2, 3)}
    inputs = {f"{name}.{key}": value for name in model.members for key, value in ids.items()}
    with torch.no_grad():
        each = [member(**ids).logits for member in model.members.values()]
        live = model.outputs(inputs, {"logits"})
        stored = model.combine_cached_logits(torch.stack(each, 1))
        assert torch.allclose(live.logits_at(3.0), stored.logits_at(3.0), atol=1e-6)
        assert torch.allclose(model(**inputs).logits, stored.logits, atol=1e-6)
        assert torch.allclose(model(**ids).logits, stored.logits, atol=1e-6)
    measured = combine_logits(model, [one.numpy() for one in each], CrossEntropyCriterion())
    assert np.allclose(measured, stored.logits.numpy(), atol=1e-6)


def test_names_and_seeds():
    settings = EnsembleConfig(paths=["a/bert", "package:minilm", "b/bert"], seeds=[0, 1, 2])
    assert list(settings.members) == ["bert-1", "minilm", "bert-2"]
    assert [one.seed for one in settings.members.values()] == [0, 1, 2]
    same = EnsembleConfig(paths=["u/x.b", "u/x_b", "u/a", "v/a", "u/a-1"])
    assert list(same.members) == ["x_b-1", "x_b-2", "a-2", "a-3", "a-1"]
    assert list(EnsembleConfig(paths={"big": "a", "small": "b"}).members) == ["big", "small"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"paths": ["a"]}, "two teachers"),
        ({"paths": ["a", "b"], "combine": "vote"}, "choose probabilities"),
        ({"paths": ["a", "b"], "weights": [1.0]}, "one for each"),
        ({"paths": ["a", "b"], "weights": [1.0, 0.0]}, "above 0"),
        ({"paths": ["a", "b"], "seeds": [1]}, "one for each"),
        ({"paths": ["a", "a"]}, "twice with the same seed"),
        ({"paths": {"a.b": "a", "c": "b"}}, "has a dot"),
    ],
)
def test_what_is_no_ensemble_is_refused(settings, says):
    with pytest.raises(UserError, match=says):
        EnsembleConfig(**settings)


@pytest.fixture
def two(pretrained, tmp_path) -> dict[str, Path]:
    """The usual teacher, and another family with another tokenizer."""
    make_model("distilbert", layers=2).distilbert.save_pretrained(tmp_path / "other")
    make_tokenizer(GOOD + FILLER).save_pretrained(tmp_path / "other")
    return {"own": pretrained, "other": tmp_path / "other"}


@pytest.mark.parametrize("combine", ["probabilities", "logits", "random"])
def test_the_command(combine, command, small, two, tmp_path):
    small = [one for one in small if not one.startswith("teacher.path")]
    paths = ",".join(f"{name}:{path}" for name, path in two.items())
    cache = f"cache_dir={tmp_path}/cache"
    run = [*small, "teacher=ensemble", f"teacher.paths={{{paths}}}", f"teacher.combine={combine}",
           "teacher.epochs=4", "teacher.learning_rate=3e-3", cache]  # fmt: skip
    code, _, err = command(*run, "output_dir=run")
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    sizes = {one["role"]: one["size"] for one in report["models"]}
    assert report["models"][0]["name"] == "own+other"
    assert sizes["teacher"]["parameters"] > 2 * sizes["student"]["parameters"] * 0.5
    assert report["models"][1]["quality"]["accuracy"]["value"] > 0.7
    assert len([f for f in (tmp_path / "cache/teachers").iterdir() if f.is_dir()]) == 2
    outputs = [f for f in (tmp_path / "cache/outputs").iterdir() if f.is_dir()]
    assert len(outputs) == 6  # two teachers, each split
    # Alone, one of them is there already, and so is what it says.
    code, _, err = command(
        *small, f"teacher.path={two['own']}", "teacher.epochs=4", "teacher.learning_rate=3e-3",
        cache, "output_dir=alone",
    )  # fmt: skip
    assert code == 0, err
    reused = json.loads(Path("alone/report.json").read_text())["reused"]
    assert reused["teacher"] and reused["teacher_outputs"]


def test_a_term_may_look_at_one_of_them(command, small, two):
    small = [one for one in small if not one.startswith("teacher.path")]
    paths = ",".join(f"{name}:{path}" for name, path in two.items())
    run = [*small, "teacher=ensemble", f"teacher.paths={{{paths}}}", "objective=distilbert",
           "control=false"]  # fmt: skip
    code, _, err = command(*run, "output_dir=run")
    assert code == 2
    assert "name the teacher" in err and len(err.strip().splitlines()) == 1
    code, _, err = command(*run, "+objective.hidden_states.teacher=other", "output_dir=run")
    assert code == 2  # it cuts texts differently
    assert "token by token" in err
    code, _, err = command(*run, "+objective.hidden_states.teacher=own", "output_dir=run")
    assert code == 0, err


def test_a_finished_run_teaches_the_next_one(command, small):
    """Teacher assistants, and self-distillation: a run's folder as the teacher's path."""
    code, _, err = command(*small, "output_dir=first")
    assert code == 0, err
    rest = [one for one in small if not one.startswith("teacher.path")]
    code, _, err = command(*rest, "teacher.path=first", "student=single", "output_dir=second")
    assert code == 0, err
    first, second = (
        json.loads(Path(f"{run}/report.json").read_text()) for run in ("first", "second")
    )
    by_role = {one["role"]: one for one in first["models"]}
    assistant = second["models"][0]
    assert assistant["name"] == "first"
    assert assistant["size"]["parameters"] == by_role["student"]["size"]["parameters"]
    assert assistant["quality"] == by_role["student"]["quality"]  # not fine-tuned again
    assert second["timing"]["teacher_fine_tune"] == 0
    code, _, err = command(*rest, "teacher.path=first", "student.layers=[0,1]", "output_dir=own")
    assert code == 0, err


def test_copies_of_one_model_are_no_ensemble(command, small, trained):
    small = [one for one in small if not one.startswith("teacher.path")]
    code, _, err = command(
        *small, "teacher=ensemble", f"teacher.paths=[{trained},{trained}]", "teacher.seeds=[0,1]"
    )
    assert code == 2
    assert "the very same model" in err


def test_members_may_be_called_anything():
    models = {"half": make_model(layers=1), "train": make_model(layers=2)}
    model = Ensemble(models, "logits", {"half": 0.5, "train": 0.5})
    assert list(model.members) == ["half", "train"]


# --- seeds of one model --------------------------------------------------------------------------


def test_seeds_of_a_single_teacher_are_an_ensemble_of_it():
    settings = {"path": "package:minilm", "epochs": 5, "learning_rate": 1e-4, "batch_size": 8}
    for seeds, expected in ((3, [4, 5, 6]), (2, [4, 5])):
        ensemble = expand_seeds(TeacherConfig(**settings, seed=4, seeds=seeds))
        # Each member is what a single teacher of that seed is, so both share the cache.
        assert list(ensemble.members.values()) == [
            TeacherConfig(**settings, seed=seed) for seed in expected
        ]
        assert ensemble.combine == "probabilities"
    chosen = expand_seeds(TeacherConfig(**settings, seeds=[7, 2]))
    assert [member.seed for member in chosen.members.values()] == [7, 2]


def test_one_seed_or_none_is_a_single_teacher():
    assert expand_seeds(TeacherConfig(path="a", seed=3, seeds=1)) == TeacherConfig(path="a", seed=3)
    assert expand_seeds(TeacherConfig(path="a", seeds=[3])) == TeacherConfig(path="a", seed=3)
    for config in (TeacherConfig(path="a"), EnsembleConfig(paths=["a", "b"])):
        assert expand_seeds(config) is config


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seeds": 0}, "teacher.seeds=0: give a number from 1 to 1000"),
        ({"seeds": -2}, "teacher.seeds=-2"),
        ({"seeds": []}, "or a list of different seeds"),
        ({"seeds": [1, 1]}, "or a list of different seeds"),
        ({"seeds": 2, "fine_tune": False}, "teacher.fine_tune asks for the head as it is"),
        ({"seeds": 2, "labels": ["a", "b"]}, "teacher.labels asks for the head as it is"),
        ({"seeds": [1, 2], "seed": 5}, "teacher.seed=5 would be ignored"),
        ({"seeds": [1, -2]}, "teacher.seed=-2: it must be 0 or above"),
    ],
)
def test_seeds_that_make_no_ensemble_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        expand_seeds(TeacherConfig(path="a", **settings)).members  # noqa: B018


def test_the_command_with_seeds(command, small):
    code, _, err = command(
        *small, "teacher.seeds=2", "teacher.epochs=1", "trainer.max_epochs=1", "control=false",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    assert report["models"][0]["name"] == "tinybert-1+tinybert-2"
    note = next(note for note in report["data"]["notes"] if "ensemble" in note)
    alone = [float(part.split()[-1]) for part in note.split("(")[:-1]]
    assert note.count("tinybert-") == len(alone) == 2
    code, _, err = command(
        *small, "teacher.seed=1", "teacher.epochs=1", "trainer.max_epochs=1", "control=false",
        "output_dir=single",
    )  # fmt: skip
    assert code == 0, err
    single = json.loads(Path("single/report.json").read_text())
    assert single["reused"]["teacher"]
    assert round(single["models"][0]["quality"]["accuracy"]["value"], 3) == alone[1]
