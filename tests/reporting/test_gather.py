import pytest

from distill.core.checksums import write_checksums
from distill.core.errors import UserError
from distill.reporting.gather import Run, gather
from distill.reporting.group import group_runs
from tests.reporting.example_reports import report, sweep, typed_report, write_run


def test_finds_every_run_once_and_says_what_is_not_finished(tmp_path):
    root = tmp_path / "runs"
    write_run(root / "sweep" / "0", report())
    write_run(root / "sweep" / "deep" / "er" / "1", report())
    write_run(root / "open", None)
    write_run(root / "dead", None, error="\nerror: no such column: txt\nmore")
    write_run(root / "broken", report())
    (root / "broken" / "report.json").write_text('{"schema": 1')
    write_run(root / "newer", report() | {"schema": 2})
    write_run(root / ".hidden", report())
    (root / "0" / ".hydra").mkdir(parents=True)
    (root / "0" / ".hydra" / "config.yaml").write_text("seed: 1")

    runs, unfinished = gather([root, root / "sweep", root / "sweep" / "0" / "report.json"])

    assert sorted(run.directory for run in runs) == ["runs/sweep/0", "runs/sweep/deep/er/1"]
    states = {found.directory: (found.state, found.reason) for found in unfinished}
    assert states["runs/open"] == ("not finished", "")
    assert states["runs/dead"] == ("failed", "error: no such column: txt")
    assert states["runs/broken"][0] == states["runs/newer"][0] == "unreadable"
    assert "schema 2" in states["runs/newer"][1]
    assert len(states) == 4


def test_a_report_that_is_not_the_one_written_and_a_model_cut_short_are_listed(tmp_path):
    for name in ("whole", "changed", "short", "removed"):
        write_run(tmp_path / name, report())
        write_checksums(tmp_path / name, files=["report.json"])
        (tmp_path / name / "student").mkdir()
        (tmp_path / name / "student" / "model.safetensors").write_bytes(b"weights")
        write_checksums(tmp_path / name / "student")
    file = tmp_path / "changed" / "report.json"
    file.write_text(file.read_text().replace("0.8", "0.9", 1))
    (tmp_path / "short" / "student" / "model.safetensors").write_bytes(b"wei")
    (tmp_path / "removed" / "student" / "model.safetensors").unlink()
    runs, unfinished = gather([tmp_path])
    assert sorted(run.path.name for run in runs) == ["removed", "whole"]
    reasons = {found.directory.split("/")[-1]: found.reason for found in unfinished}
    assert "checksum differs" in reasons["changed"]
    assert reasons["short"] == "student is damaged (model.safetensors: 3 bytes in place of 7)"


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*nowhere"):
        gather([tmp_path / "nowhere"])


def test_overrides_as_they_are_typed(tmp_path):
    typed = ["student=half", "+data.limit=10", "~control", "'student.layers=[0,2]'", "a='x=y'"]
    run = Run(tmp_path, "run", typed_report(overrides=typed))
    assert run.overrides["data.limit"] == "10"
    assert run.overrides["control"] == "removed"
    assert run.overrides["a"] == "x=y"


def test_groups_are_what_differs_by_seed_alone(tmp_path):
    runs, _ = gather([sweep(tmp_path / "sweep")])
    groups, repeated = group_runs(runs)
    assert repeated == []
    assert sorted(g.name for g in groups) == [
        f"{student}-t{temperature}"
        for student in ("half", "single", "third")
        for temperature in (1, 4)
    ]
    for g in groups:
        assert [run.seed for run in g.runs] == [1, 2, 3]
        student, _, temperature = g.name.partition("-t")
        assert g.settings == {"student": student, "temperature": temperature}


def test_without_configs_the_overrides_decide(tmp_path):
    root = sweep(tmp_path / "sweep")
    for config in root.glob("*/config.yaml"):
        config.unlink()
    groups, _ = group_runs(gather([root])[0])
    assert len(groups) == 6
    assert {tuple(g.settings) for g in groups} == {("student", "temperature")}


def test_the_config_tells_apart_what_was_not_typed(tmp_path):
    for weight in (0.5, 0.9):
        config = {
            "seed": 1,
            "name": f"w{weight}",
            "output_dir": None,
            "overrides": [f"seed={weight}"],
            "objective": {
                "soft_targets": {"weight": weight},
                "hard_labels": {"weight": 1 - weight},
            },
        }
        write_run(tmp_path / f"w{weight}", report(f"w{weight}"), config)
    groups, _ = group_runs(gather([tmp_path])[0])
    assert [g.settings["soft_targets.weight"] for g in groups] == ["0.5", "0.9"]
    assert len(groups[0].settings) == 2


def test_a_group_choice_that_was_left_out_is_the_default(tmp_path):
    write_run(tmp_path / "a", report("a"))
    write_run(tmp_path / "b", report("b", overrides=["objective=patient_kd"]))
    groups, _ = group_runs(gather([tmp_path])[0])
    assert [g.settings for g in groups] == [{"objective": "default"}, {"objective": "patient_kd"}]


def test_a_repetition_is_no_further_seed(tmp_path):
    for name, started in (("old", "2026-01-01T00:00:00"), ("new", "2026-02-01T00:00:00")):
        content = report(name)
        content["run"]["started"] = started
        write_run(tmp_path / name, content)
    groups, repeated = group_runs(gather([tmp_path])[0])
    assert [run.name for g in groups for run in g.runs] == ["new"]
    assert [(found.directory.split("/")[1], found.state) for found in repeated] == [
        ("old", "repeated")
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["00-third-T=4-seed=1", "01-half-T=4-seed=1"], ["third-T=4", "half-T=4"]),
        (["imdb-half-kd-1120-105300", "imdb-third-kd-1120-105301"], ["half-kd", "third-kd"]),
        (["half-kd-1120-105300", "half-kd-1120-105301"],) * 2,  # only the time differs
        (["kd", "kd-long"], ["kd", "kd-long"]),
        (["00-seed=1-pkd", "01-seed=1-kd"], ["pkd", "kd"]),
    ],
)
def test_names_are_cut_to_what_tells(tmp_path, names, expected):
    for i, name in enumerate(names):
        write_run(tmp_path / str(i), report(name, overrides=[f"x={i}"]))
    assert [g.name for g in group_runs(gather([tmp_path])[0])[0]] == expected


def test_a_sweep_over_seeds_alone_is_called_by_its_folder(tmp_path):
    for number, folder in enumerate(("tinybert", "patient")):
        name = "00-seed=1"
        write_run(tmp_path / folder / name, report(name, overrides=[f"x={number}"]))
    groups = group_runs(gather([tmp_path])[0])[0]
    assert {g.name for g in groups} == {"tinybert", "patient"}
