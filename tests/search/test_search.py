"""The search: its space, its trials, its rule, its report; through the real command."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import distill.cli.search
from distill.core.errors import UserError
from distill.reporting.compare import compare
from distill.reporting.gather import gather
from distill.search import space as spaces
from distill.search import study
from distill.search.trial import Trial, is_behind
from tests.factories import composed
from tests.reporting.example_reports import SHAPES, report, write_run

FREE = ("student", "optimizer.learning_rate")
FIXED = ("objective.soft_targets.temperature=2", "objective.soft_targets.weight=0.5")
GRID = ("student=half,third,single", "optimizer.learning_rate=1e-4,2e-4", *FIXED)


@pytest.fixture
def search(command, small, monkeypatch):
    """``distill-search`` on tiny models: (exit code, stdout, stderr)."""
    given = [o for o in small if o.split("=")[0] not in FREE]

    def run(*overrides: str, folder: str = "found") -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr("distill.cli.distill.main", distill.cli.search.main)
            return command(*given, f"output_dir={folder}", *overrides)

    return run


@pytest.fixture
def quick(monkeypatch):
    """Runs that write a made-up report and train nothing; returns the overrides of each."""
    runs: list[list[str]] = []

    def run(config, callbacks=()):
        overrides = list(config.overrides)
        runs.append(overrides)
        folder = Path(config.output_dir)
        folder.mkdir(exist_ok=True)
        quality = {"half": 0.86, "third": 0.84, "single": 0.85}[config.student.layers]
        quality += 40 * config.optimizer.learning_rate
        content = report(folder.name, student=config.student.layers, control=None)
        content["training"] = {"student": {"best": quality}}
        (folder / "report.json").write_text(json.dumps(content))

    monkeypatch.setattr("distill.pipeline.run.run", run)
    return runs


def found(folder: str = "found") -> dict:
    return json.loads((Path(folder) / "search.json").read_text())


# What is searched


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("student=half,third", CategoricalDistribution(["half", "third"])),
        ("student.layers=[0],[0,2]", CategoricalDistribution(["[0]", "[0,2]"])),
        ("student.layers=choice([0],half)", CategoricalDistribution(["[0]", "half"])),
        ("a.b=interval(1,8)", FloatDistribution(1.0, 8.0)),
        ("a.b=tag(log,interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("a.b=int(interval(2,5))", IntDistribution(2, 5)),
        ("a.b=range(2,6)", IntDistribution(2, 5)),
        ("a.b=range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
    ],
)
def test_several_values_on_the_command_line_are_searched(argument, wanted):
    space, others = spaces.split_overrides(["seed=1", argument, "--info", "data.labels=[a,b]"])
    assert space == {argument.split("=")[0]: wanted}
    assert others == ["seed=1", "--info", "data.labels=[a,b]"]


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (["half", "third"], CategoricalDistribution(["half", "third"])),
        ([[0, 2], None, True, 1e-4], CategoricalDistribution(["[0,2]", "null", "true", "0.0001"])),
        ({"low": 1, "high": 8}, FloatDistribution(1, 8)),
        ({"low": 1e-5, "high": 1e-3, "log": True}, FloatDistribution(1e-5, 1e-3, log=True)),
        ({"low": 2, "high": 6, "step": 2}, IntDistribution(2, 6, step=2)),
        ({"low": 0, "high": 1, "step": 0.5}, FloatDistribution(0, 1, step=0.5)),
    ],
)
def test_values_in_a_file(node, wanted):
    assert spaces._from_config("a.b", node) == wanted


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ([], "a list of choices, or"),
        ("half", "a list of choices, or"),
        ({"low": 1}, "a list of choices, or"),
        (["half", "half"], "a choice is given twice"),
        ({"low": 1, "high": "many"}, "many is not a number"),
        ({"low": 1, "high": 2, "logs": True}, "there is no logs"),
        ({"low": 1, "high": 2, "log": 1}, "log=1: it must be true or false"),
        ({"low": 2, "high": 1}, "low <= high"),
        ({"low": 0, "high": 1, "log": True}, "low > 0"),
        ({"low": 0, "high": 1, "step": 0.3}, "not divisible"),
    ],
)
def test_values_that_cannot_be_read(node, says):
    with pytest.raises(UserError, match=says) as error:
        spaces._from_config("a.b", node)
    assert str(error.value).startswith("search.space: a.b")


def test_the_default_space_is_one_for_the_embedded_default():
    default = composed("+search=default").search

    def run(*overrides):  # as the command composes its runs
        return composed("repeats=1", *overrides)

    space = spaces.read_space(OmegaConf.to_container(default.space), {}, [], run)
    assert list(space) == list(default.space)
    spaces.check_all(space, run)


def test_what_is_not_drawn_takes_no_part():
    """The default student need not fit the task: options are looked up under one that is drawn."""
    rate = FloatDistribution(1e-4, 1e-3)
    students = CategoricalDistribution(["half", "tiny"])
    space = {
        "student": students,
        "student.hidden_layers": IntDistribution(1, 3),
        "optimizer.x": rate,
    }
    assert spaces.first_choices(space) == ["student=half"]
    assert list(spaces._contexts("optimizer.x", space)) == [["student=half"]]
    hidden = list(spaces._contexts("student.hidden_layers", space))
    assert hidden == [["student=half"], ["student=tiny"]]
    assert list(spaces._contexts("student", space)) == [[]]
    assert list(spaces._contexts("optimizer.x", {"optimizer.x": rate})) == [[]]


def test_only_distill_search_searches(command):
    code, _, err = command("search.trials=3")
    assert code == 2
    assert err == "error: there is no option search.trials: distill-search has it\n"


def test_numbers_are_short_and_stay_inside():
    rate = FloatDistribution(1e-4, 2.3456e-4, log=True)
    assert spaces.format_value(rate, 1.23456e-4) == "0.000123"
    assert spaces.format_value(rate, 2.3456e-4) == "0.00023456"
    assert spaces.format_value(IntDistribution(2, 5), 3) == "3"
    assert spaces.format_value(FloatDistribution(0, 1, step=0.1), 0.30000000000000004) == "0.3"


def test_options_are_drawn_for_the_choices_that_have_them():
    from optuna.trial import FixedTrial

    nodes = {"student.hidden_layers": {"low": 1, "high": 3, "step": 1}, "student": ["half", "tiny"]}

    def compose(*overrides):
        return composed(*overrides)

    space = spaces.read_space(nodes, {}, [], compose)
    drawn = [
        spaces.suggest(FixedTrial({"student": s, "student.hidden_layers": 3}), space, compose)
        for s in ("half", "tiny")
    ]
    assert drawn == [["student=half"], ["student=tiny", "student.hidden_layers=3"]]
    assert spaces.combinations(space) == 6


def test_the_command_line_decides_over_the_file():
    nodes = {"student": ["half", "third"], "optimizer.learning_rate": {"low": 1, "high": 2}}
    typed, _ = spaces.split_overrides(["student=single,half"])
    space = spaces.read_space(nodes, typed, ["optimizer.learning_rate=1e-4"], composed)
    assert space == {"student": CategoricalDistribution(["single", "half"])}


def test_an_option_that_the_chosen_configs_lack_is_left_out_of_the_default():
    nodes = {"student": ["half", "third"], "student.hidden_layers": [2, 4]}
    assert list(spaces.read_space(nodes, {}, [], composed)) == ["student"]
    with pytest.raises(UserError, match="no option student"):
        spaces.read_space(
            {}, {"student.hidden_layers": CategoricalDistribution(["2"])}, [], composed
        )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("studnet=half,third", "no option studnet: did you mean student?"),
        ("student=halb,third", "did you mean half?"),
        ("optimizer.lerning_rate=1,2", "did you mean optimizer.learning_rate?"),
        ("optimizer.learning_rate=slow,fast", "optimizer.learning_rate=slow: it must be a number"),
        ("optimizer.learning_rate=interval(0,1)", "learning_rate=0: it must be above 0"),
        ("optimizer.learning_rate=interval(2,1)", "low <= high"),
        ("student=half student=third,single", "student is given twice"),
        ("student=half student.layers=[0],[9]", "the teacher has the layers 0 to 3, not 9"),
        ("student.layers=[0],[1] student=half,third", "are the same run"),
        ("seed=0,1", "seed=1 cannot be searched over"),
        ("data.limit=100,200", "data.limit=100 cannot be searched over"),
        ("student=glob(*)", "name the choices one by one"),
        ("search.trials=0", "search.trials=0"),
        ("search.trials=null", "both null"),
        ("search.trails=9", "did you mean search.trials?"),
        ("search.minimize=[size]", "search.minimize=['size']"),
        ("search.minimize=[]", "name one cost or several"),
        ("search.stop_behind=-1", "search.stop_behind=-1"),
        ("search=mine", "there is no"),
        ("search.space.student=[half]", "student=A,B or 'student=interval(LOW,HIGH)'"),
        ("-m student=half,third", "leave out -m"),
        ("resume=runs/a", "leave out resume"),
        ("data.path=nowhere", "there is no such file or folder"),
        ("teacher.path=./nowhere", "there is no such folder"),
        (f"student=half optimizer.learning_rate=1e-4 {' '.join(FIXED)}", "nothing is searched"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(search, quick, override, says):
    if not override.startswith("student") and "-m" not in override:
        override += " student=half,single"
    code, _, err = search(*override.split())
    assert code == 2
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert says in err
    assert not quick
    assert not Path("found").exists()


def test_help_and_mistakes_import_no_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['distill-search', 'student=half,quarter']\n"
        "from distill.cli.search import main\n"
        "try: main()\n"
        "except SystemExit as exit: print(exit.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("error: there is no student=quarter")


def test_without_optuna(search, monkeypatch):
    monkeypatch.delitem(sys.modules, "distill.search.space")
    monkeypatch.setitem(sys.modules, "optuna.distributions", None)
    code, _, err = search()
    assert code == 2
    assert err == "error: distill-search needs Optuna: pip install 'distill[search]'\n"


# The rule


def trial(number, curve, parameters, quality=0.9):
    return Trial(
        number, f"{number:02d}", [], "finished", quality, curve=curve,
        known={"parameters": parameters},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("curve", "parameters", "stopped_by"),
    [
        ([(0.25, 0.70)], 10, 1),  # 0.10 behind the better of two that cost no more
        ([(0.25, 0.79)], 10, None),  # behind by less than the margin
        ([(0.25, 0.70)], 9, 0),  # trial 1 costs more: it does not count, trial 0 does
        ([(0.25, 0.70)], 4, None),  # nothing is as cheap
        ([(0.25, 0.88), (0.5, 0.50)], 10, None),  # its best so far counts, not its last
        ([(0.1, 0.10)], 10, None),  # no other had been validated by then
        ([(0.5, 0.79)], 10, 0),  # trial 0 had 0.90 by then, at its second of four
        ([(0.4, 0.79)], 10, None),  # which it had not at 0.4
    ],
)
def test_a_trial_is_stopped_when_a_cheaper_one_was_far_ahead(curve, parameters, stopped_by):
    finished = [
        trial(0, [(0.25, 0.75), (0.5, 0.90), (0.75, 0.85), (1.0, 0.95)], 5),
        trial(1, [(0.25, 0.80), (0.5, 0.80), (0.75, 0.80), (1.0, 0.80)], 10),
    ]
    rival = is_behind(curve, {"parameters": parameters}, finished, margin=0.04)
    assert (rival and rival.number) == stopped_by


def test_each_of_several_costs_must_be_no_greater():
    rival = Trial(0, "00", [], "finished", curve=[(1.0, 0.9)], known={"bytes": 5, "parameters": 5})
    for known, stopped in (
        ({"bytes": 5, "parameters": 5}, True),
        ({"bytes": 9, "parameters": 4}, False),
    ):
        assert (is_behind([(1.0, 0.5)], known, [rival], 0.02) is rival) == stopped


# The trials


def test_the_front_is_that_of_brute_force(search, quick):
    code, out, err = search(*GRID, "search.trials=5")
    assert code == 0, err
    trials = found()["trials"]
    assert len(trials) == len({tuple(t["overrides"]) for t in trials}) == 5

    def dominates(a, b):
        no_worse = (
            a["quality"] >= b["quality"] and a["costs"]["parameters"] <= b["costs"]["parameters"]
        )
        return no_worse and (a["quality"], a["costs"]) != (b["quality"], b["costs"])

    best = {t["number"] for t in trials if not any(dominates(other, t) for other in trials)}
    assert set(found()["front"]) == best == {t["number"] for t in trials if t["on_front"]}
    assert "5 trials" in out
    assert all(trials[number]["folder"] in out for number in best)


def test_a_finite_space_is_tried_once_and_then_the_search_ends(search, quick):
    assert search(*GRID, "search.random_trials=2")[0] == 0
    assert len(quick) == len(found()["trials"]) == 6
    assert len({tuple(t["overrides"]) for t in found()["trials"]}) == 6
    code, out, _ = search(*GRID, "search.random_trials=2")
    assert (code, len(quick)) == (0, 6)
    assert "every combination" in out


def test_several_costs_at_once(search, quick):
    code, _, err = search(*GRID, "search.trials=4", "search.minimize=[latency_ms,bytes]")
    assert code == 0, err
    for one in found()["trials"]:
        shape = SHAPES[one["overrides"][0].removeprefix("student=")]
        assert one["costs"] == {"latency_ms": shape[3], "bytes": shape[1]}
    assert json.loads(Path("found/sweep.json").read_text())["x"] == "latency_ms"


def test_a_search_that_was_stopped_draws_what_it_would_have_drawn(search, quick, monkeypatch):
    space = ("student=half,third,single", *FIXED, "search.trials=5", "search.random_trials=3")
    assert search(*space, folder="whole")[0] == 0
    whole = list(quick)
    quick.clear()
    import distill.pipeline.run

    run = distill.pipeline.run.run
    for stops_at in (1, 3):

        def stopped(config, callbacks=(), stops_at=stops_at):
            if len(quick) == stops_at:
                Path(config.output_dir).mkdir()
                raise KeyboardInterrupt
            run(config, callbacks)

        monkeypatch.setattr(distill.pipeline.run, "run", stopped)
        code, _, err = search(*space)
        assert code == 130
        assert "the same command continues the search" in err
    monkeypatch.setattr(distill.pipeline.run, "run", run)
    assert search(*space)[0] == 0
    assert quick == whole
    keys = ("folder", "quality", "costs", "on_front", "hypervolume")
    assert [[t[k] for k in keys] for t in found()["trials"]] == [
        [t[k] for k in keys] for t in found("whole")["trials"]
    ]


def test_a_budget_that_is_used_up_answers_without_a_run_and_a_larger_one_extends(search, quick):
    assert search(*GRID, "search.trials=2")[0] == 0
    code, out, _ = search(*GRID, "search.trials=2")
    assert (code, len(quick)) == (0, 2)
    assert "2 of 2 trials" in out
    assert search(*GRID, "search.trials=3")[0] == 0
    assert len(quick) == 3


def test_minutes_over_all_calls(search, quick, monkeypatch):
    clock = itertools.count(step=31)  # seconds, at every look
    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    minutes = ("search.trials=null", "search.minutes=1")
    assert search(*GRID, *minutes)[0] == 0
    assert [t["seconds"] for t in found()["trials"]] == [31, 31]
    code, out, _ = search(*GRID, *minutes)
    assert (code, len(quick)) == (0, 2)
    assert "1.0 of 1 minutes" in out


def test_a_failure_is_recorded_and_the_search_goes_on(search, quick, monkeypatch):
    import distill.pipeline.run

    run = distill.pipeline.run.run

    def fails(config, callbacks=()):
        if config.student.layers == "third":
            raise RuntimeError("does not fit into memory")
        run(config, callbacks)

    monkeypatch.setattr(distill.pipeline.run, "run", fails)
    code, out, err = search(*GRID)
    assert code == 0, err
    failed = [t for t in found()["trials"] if t["state"] == "failed"]
    assert len(failed) == 2
    assert len(found()["trials"]) == 6
    for one in failed:
        text = (Path("found") / one["folder"] / "error.txt").read_text()
        assert text.startswith("RuntimeError('does not fit into memory')")
        assert f"{one['folder']}: failed (RuntimeError" in out


def test_when_everything_fails_it_gives_up(search, quick, monkeypatch):
    def fails(config, callbacks=()):
        raise UserError("the teacher is on holiday")

    monkeypatch.setattr("distill.pipeline.run.run", fails)
    code, _, err = search(*GRID)
    assert code == 2
    assert err.startswith("error: all of the first 3 trials failed, see error.txt in ")
    assert len(list(Path("found").glob("*/error.txt"))) == 3


def test_another_search_and_another_process_are_refused(search, quick, corpus, tmp_path):
    assert search(*GRID, "search.trials=1")[0] == 0
    code, _, err = search(*GRID, "search.trials=1", "trainer.max_epochs=7")
    assert code == 2
    assert "found holds a search with trainer.max_epochs=2, not 7" in err
    with FileLock("found/.search.lock"):
        code, _, err = search(*GRID, "search.trials=2")
    assert code == 2
    assert "another distill-search is running" in err
    Path("other").mkdir()
    Path("other/thesis.tex").touch()
    code, _, err = search(*GRID, folder="other")
    assert code == 2
    assert "holds something that is no search" in err
    assert Path("other/thesis.tex").exists()


def test_a_search_of_before_is_continued(search, quick):
    """Its record names classes and options as version 0.1.0 did."""
    assert search(*GRID, "search.trials=1")[0] == 0
    record = Path("found/search.yaml")
    new = record.read_text()
    old = (
        new.replace("distill.data.sources.files.FileSource", "distill.data.files.Files")
        .replace("unlabeled:", "unlabelled:")
        .replace("unlabeled_limit:", "unlabelled_limit:")
        .replace("standardize", "standardise")
    )
    assert old != new
    record.write_text(old)
    code, _, err = search(*GRID, "search.trials=2")
    assert code == 0, err
    assert len(quick) == 2


def test_an_option_by_its_old_name_is_searched(search, quick):
    code, _, err = search(
        "student=half", *FIXED, "optimizer.learning_rate=1e-4", "search.trials=1",
        "objective=pkd", "objective.hidden_states.measure=mse,normalised_mse",
    )  # fmt: skip
    assert code == 0, err
    assert err == "note: normalised_mse is now normalized_mse\n"
    assert found()["space"] == {"objective.hidden_states.measure": "mse, normalized_mse"}


def test_data_that_changed_are_refused(search, quick, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "mine")
    path = f"data.path={tmp_path}/mine"
    assert search(*GRID, path, "search.trials=1")[0] == 0
    with (tmp_path / "mine" / "train.csv").open("a") as file:
        file.write("a very bright plot,positive\n")
    code, _, err = search(*GRID, path, "search.trials=2")
    assert code == 2
    assert "the data have changed" in err


def test_a_file_of_ones_own(search, quick, tmp_path):
    (tmp_path / "my" / "search").mkdir(parents=True)
    (tmp_path / "my" / "search" / "mine.yaml").write_text(
        "_target_: distill.search.study.SearchConfig\n"
        "space:\n  student: [half, third]\n"
        "  optimizer.learning_rate: {low: 1e-4, high: 2e-4}\n"
        "minimize: [bytes]\ntrials: 2\n"
    )
    code, _, err = search("search=mine", "--config-dir", str(tmp_path / "my"))
    assert code == 0, err
    assert found()["space"] == {
        "student": "half, third",
        "optimizer.learning_rate": "0.0001 to 0.0002",
    }
    assert len(quick) == 2


def test_having_a_control_is_no_setting_of_a_run(tmp_path):
    for student, control in (("half", True), ("single", False)):
        content = report(student, student=student, control=0.8 if control else None)
        write_run(tmp_path / student, content, {"student": student, "control": control})
    comparison = compare(gather([tmp_path])[0])
    assert [row.settings for row in comparison.candidates] == [
        {"student": "single"},
        {"student": "half"},
    ]


# All of it, trained


@pytest.mark.slow
def test_search_interrupted_continued_and_its_controls(search, command, small, monkeypatch, capsys):
    from distill.cli.report import main as distill_report
    from distill.training.callbacks import EpochLogger

    torch.set_num_threads(1)  # for a busy machine; the fixture of every test sets it back

    def stop(self, trainer, module) -> None:
        if self.description == "student" and trainer.current_epoch == 1:
            raise KeyboardInterrupt

    fixed = (*FIXED, "data.batch_size=8")  # steps enough for one epoch to show
    asked = ("student=single", "optimizer.learning_rate=1e-7,3e-3", *fixed)
    with monkeypatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_start", stop)
        assert search(*asked)[0] == 130
    folder = next(Path("found").glob("00-*"))
    assert (folder / "checkpoints/last.ckpt").is_file()

    code, out, err = search(*asked)
    assert code == 0, err
    first, second = found()["trials"]
    # The one that learns nothing is stopped, by the one that was interrupted and continued.
    assert (first["folder"], first["state"]) == ("00-lr=0.003", "finished")
    assert (second["folder"], second["state"]) == ("01-lr=1e-07", "stopped early")
    reason = (Path("found") / second["folder"] / "stopped.txt").read_text()
    assert "after epoch 1 of 2, where 00-lr=0.003 had " in reason
    assert found()["front"] == [0]
    for name in ("search.md", "search.json", "sweep.md", "sweep.html", "front.png"):
        assert (Path("found") / name).stat().st_size > 0
    assert distill_report(["found"]) == 0
    assert f"found/{second['folder']}: stopped early" in capsys.readouterr().out

    # An ordinary run: the same as by the ordinary command, to the bit.
    assert command(*small, *fixed, "student=single", "control=false", "output_dir=plain")[0] == 0
    weights = [load_file(path / "student/model.safetensors") for path in (folder, Path("plain"))]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    events = EventAccumulator("found").Reload()
    assert [e.step for e in events.Scalars("search/hypervolume")] == [0, 1]
    assert [e.step for e in events.Scalars("search/validation")] == [0]
    assert {"search/text_summary", "comparison/text_summary"} <= set(events.Tags()["tensors"])

    code, out, err = search(*asked, "search.control=true")
    assert code == 0, err
    assert "gain over control" in out
    content = json.loads((folder / "report.json").read_text())
    assert [model["role"] for model in content["models"]] == ["teacher", "student", "control"]
    again = load_file(folder / "student/model.safetensors")
    assert all(torch.equal(again[key], weights[0][key]) for key in again)
