"""TensorBoard's own backend reads back what runs of many kinds leave below one folder."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from torch.utils.data import DataLoader

from distill.reporting.figure import draw_tradeoff, save_figure
from distill.reporting.run_report import markdown
from distill.reporting.schema import Report
from distill.reporting.tensorboard import write_final, write_sweep
from distill.training.loggers import TensorBoardLogger
from tests.reporting.example_reports import report, typed_report

COMMON = {
    "data": "sst2",
    "teacher": "minilm",
    "learning_rate": 3e-4,
    "epochs": 3,
    "batch_size": 32,
    "seed": 0,
}
KD = {"soft_targets.weight": 0.5, "soft_targets.temperature": 4.0, "hard_labels.weight": 0.5}
PATIENT = {"soft_targets.temperature": 10.0, "hidden_states.weight": 100.0}
OBJECTIVES = {
    "kd": KD,
    "pkd": KD | PATIENT | {"hidden_states.normalize": True},
    "dkd": {"decoupled.weight": 1.0, "decoupled.beta": 8.0, "decoupled.temperature": 2.0},
    "logits": {"mean_squared_error.weight": 1.0},
}
# What TensorBoard's page shows at first of either kind (tf-hparams-query-pane, 2.21).
SHOWN = 5


def provider(root: Path) -> MultiplexerDataProvider:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(root))
    multiplexer.Reload()
    return MultiplexerDataProvider(multiplexer, str(root))


def hparams_tab(root: Path):
    """(hyperparameter infos, metric tags, rows) as the page gets them."""
    request_context = RequestContext()
    context = Context(TBContext(data_provider=provider(root)))
    experiment = get_experiment.Handler(
        request_context, context, "", api_pb2.GetExperimentRequest()
    ).run()
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=1000,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS],
    )
    rows = list_session_groups.Handler(request_context, context, "", request).run()
    tags = [info.name.tag for info in experiment.metric_infos]
    assert {info.name.group for info in experiment.metric_infos} <= {"", "."}
    return experiment.hparam_infos, tags, rows.session_groups


def values(row) -> dict[str, float]:
    return {metric.name.tag: metric.value for metric in row.metric_values}


def finish(directory: Path, hyperparameters: dict, **content) -> None:
    """A run's end, after two curves."""
    TensorBoardLogger(directory).log_metrics({"train/loss": 1.0, "validation/accuracy": 0.8}, 1)
    TensorBoardLogger(directory).log_metrics({"control/validation/accuracy": 0.7}, 1)
    made = typed_report(directory.name, **content)
    save_figure(draw_tradeoff(made), directory / "tradeoff.png")
    write_final(directory, made, hyperparameters, markdown(made), directory / "tradeoff.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two sweeps with runs of the same names, each with a summary, and two single runs."""
    root = tmp_path_factory.mktemp("logdir") / "runs"
    for sweep, seed in (("sweep-1120-110000", 0), ("sweep-1121-110000", 1)):
        for number, (objective, terms) in enumerate(OBJECTIVES.items()):
            settings = COMMON | {"student": "half", "objective": objective, "seed": seed} | terms
            if objective == "dkd":  # what one objective alone has may vary as well
                settings["decoupled.beta"] = 8.0 - seed
            name = f"{number:02}-{objective}"
            finish(root / sweep / name, settings, value=0.85 + 0.01 * number + 0.001 * seed)
        front = root / sweep / "00-kd" / "tradeoff.png"
        write_sweep(root / sweep, "| run |\n|---|\n| 00-kd |\n", front)
    write_sweep(root / sweep, "| run |\n", front, part="mrpc")
    for student, learning_rate in (("third", 1e-4), ("single", 3e-4)):
        settings = COMMON | {"student": student, "objective": "kd", "learning_rate": learning_rate}
        finish(root / f"sst2-{student}-1122-090000", settings | KD, student=student)
    return root


def test_every_run_is_one_row_and_nothing_else_is(root):
    _, tags, rows = hparams_tab(root)
    sweeps = [f"sweep-{day}-110000" for day in (1120, 1121)]
    expected = {
        f"{n:02}-{name} in {sweep}" for n, name in enumerate(OBJECTIVES) for sweep in sweeps
    }
    expected |= {f"sst2-{student}-1122-090000 in runs" for student in ("third", "single")}
    assert {row.name for row in rows} == expected
    assert all(len(row.sessions) == 1 for row in rows)
    assert not {"hp_metric", "epoch"} & set(tags)
    assert all(values(row)["final/accuracy"] > 0 for row in rows)
    by_name = {row.name: values(row) for row in rows}
    found = by_name["02-dkd in sweep-1121-110000"]
    assert found["final/accuracy"] == pytest.approx(0.871)
    assert found["final/parameters"] == 17_390_000
    assert found["final/latency_ms"] == pytest.approx(5.4)
    assert found["final/retention"] == pytest.approx(0.871 / 0.881)
    assert found["final/gain_over_control"] == pytest.approx(0.003)
    assert found["measures/agreement"] == pytest.approx(0.912)


def test_parameters_of_differing_objectives_are_all_columns(root):
    infos, _, rows = hparams_tab(root)
    columns = {info.name for info in infos}
    assert columns == {
        "data", "objective", "seed", "student", "teacher",
        "temperature.soft_targets", "weight.soft_targets", "weight.hard_labels",
        "training.learning_rate", "training.epochs", "training.batch_size",
        "with.hidden_states.weight", "with.hidden_states.normalize",
        "with.decoupled.weight", "with.decoupled.beta", "with.decoupled.temperature",
        "with.mean_squared_error.weight",
    }  # fmt: skip
    cells = {row.name: dict(row.hparams) for row in rows}
    assert cells["02-dkd in sweep-1120-110000"]["with.decoupled.beta"].number_value == 8
    patient = cells["01-pkd in sweep-1120-110000"]
    assert patient["with.hidden_states.normalize"].bool_value is True
    assert patient["temperature.soft_targets"].number_value == 10
    assert "with.decoupled.beta" not in cells["00-kd in sweep-1120-110000"]
    absent = cells["03-logits in sweep-1120-110000"]
    assert absent["weight.soft_targets"].number_value == 0
    assert absent["temperature.soft_targets"].number_value == 1


@pytest.mark.parametrize("below", [".", "sweep-1120-110000"])
def test_columns_shown_at_first_are_those_that_matter_and_every_run_has(root, below):
    infos, tags, rows = hparams_tab(root / below)
    # A row that lacks one of these has no line in the parallel coordinates.
    hyperparameters = [info.name for info in infos][:SHOWN]
    assert {"objective"} | ({"student", "seed"} if below == "." else set()) <= set(hyperparameters)
    assert all(set(hyperparameters) <= set(row.hparams) for row in rows)
    final = ["accuracy", "gain_over_control", "latency_ms", "multiply_accumulates", "parameters"]
    assert tags[:SHOWN] == [f"final/{name}" for name in final]
    assert all(set(tags[:SHOWN]) <= set(values(row)) for row in rows)


def test_rows_can_be_sorted_by_a_measurement(root):
    _, _, rows = hparams_tab(root)
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=3, allowed_statuses=[api_pb2.STATUS_UNKNOWN]
    )
    request.col_params.add(
        metric=api_pb2.MetricName(tag="final/accuracy"), order=api_pb2.ORDER_DESC
    )
    context = Context(TBContext(data_provider=provider(root)))
    best = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    everything = sorted((values(row)["final/accuracy"] for row in rows), reverse=True)
    assert [values(row)["final/accuracy"] for row in best] == everything[:3]


# A copy of html5lib within TensorBoard says of itself that it is deprecated.
@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_charts_merge_and_match_what_they_name(root):
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

    data = provider(root)
    plugin = CustomScalarsPlugin(TBContext(data_provider=data, logdir=str(root)))
    layout = json.loads(plugin.layout_impl(RequestContext(), ""))
    charts = [chart for category in layout["category"] for chart in category["chart"]]
    assert sorted(chart["title"] for chart in charts) == ["accuracy", "loss", "macro_f1"]
    tags = [
        "train/loss", "train/loss/control", "train/loss/teacher", "train/loss/hard_labels",
        "train/loss/hard_labels/control", "validation/accuracy", "validation/accuracy/control",
        "validation/accuracy/teacher", "validation/macro_f1", "final/accuracy", "learning_rate",
    ]  # fmt: skip
    matched = {
        chart["title"]: [tag for tag in tags if re.match(chart["multiline"]["tag"][0], tag)]
        for chart in charts
    }
    assert matched == {
        "accuracy": ["validation/accuracy", "validation/accuracy/control"],
        "macro_f1": ["validation/macro_f1"],
        "loss": ["train/loss", "train/loss/hard_labels"],
    }


def test_report_and_figure_of_runs_and_sweeps(root):
    data = provider(root)
    texts = data.read_tensors(RequestContext(), experiment_id="", plugin_name="text", downsample=10)
    content = {
        run: {tag: points[-1].numpy.item().decode() for tag, points in tags.items()}
        for run, tags in texts.items()
    }
    assert content["sweep-1120-110000"] == {"comparison/text_summary": "```\nrun\n00-kd\n```\n"}
    page = content["sst2-third-1122-090000"]["report/text_summary"]
    # A wide table's words would be broken: it is aligned text.
    assert "\nparameters  " in page and "| parameters |" not in page and "![" not in page
    images = data.list_blob_sequences(RequestContext(), experiment_id="", plugin_name="images")
    assert set(images["sweep-1121-110000"]) == {"front", "front/mrpc"}
    assert all(list(images[run]) == ["tradeoff"] for run in images if run.count("-") > 2)


def test_a_run_without_student_or_comparison(tmp_path):
    lone = report("evaluated", control=None)
    lone["models"] = [lone["models"][0] | {"fidelity": None, "calibration": None}]
    lone["comparison"] = None
    lone = Report.from_dict(lone)
    save_figure(draw_tradeoff(lone), tmp_path / "tradeoff.png")
    figure = tmp_path / "tradeoff.png"
    write_final(tmp_path / "evaluated", lone, {"data": "sst2"}, "text", figure)
    _, _, (row,) = hparams_tab(tmp_path)
    assert values(row)["final/parameters"] == 22_713_216
    assert "final/gain_over_control" not in values(row)


class Line(pl.LightningModule):
    """y = w x; logs under a prefix as the distillation module does."""

    def __init__(self, prefix: str):
        super().__init__()
        self.save_hyperparameters()
        self.prefix, self.weight = prefix, torch.nn.Parameter(torch.zeros(1))

    def training_step(self, x, index):
        loss = (self.weight * x - x).square().mean()
        self.log(f"{self.prefix}train/loss", loss)
        return loss

    def validation_step(self, x, index):
        self.log(f"{self.prefix}validation/accuracy", self.weight.sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


# Lightning's advice to use more workers; there is no time to be won on eight numbers.
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
# Lightning 2.6.6 asks torch 2.13 in a way that is on its way out.
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")
def test_three_trainings_share_a_folder(tmp_path):
    data = DataLoader(torch.ones(8, 1), batch_size=2)
    logger = TensorBoardLogger(tmp_path)
    for prefix in ("teacher/", "", "control/"):
        trainer = pl.Trainer(
            max_epochs=2,
            logger=logger,
            log_every_n_steps=1,
            accelerator="cpu",
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Line(prefix), data, data)
    assert all(path.name.startswith("events.out.tfevents") for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3
    curves = provider(tmp_path).read_scalars(
        RequestContext(), experiment_id="", plugin_name="scalars", downsample=100
    )["."]
    names = ["train/loss", "validation/accuracy"]
    assert set(curves) == {name + role for name in names for role in ("", "/control", "/teacher")}
    for tag, points in curves.items():
        steps = range(8) if tag.startswith("train") else (3, 7)
        assert [point.step for point in points] == list(steps)
    student, control = (
        np.array([point.value for point in curves[f"train/loss{role}"]])
        for role in ("", "/control")
    )
    assert np.array_equal(student, control)
