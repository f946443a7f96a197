"""Several processes come to what one comes to; what must happen once happens once."""

import copy
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from pytorch_lightning.strategies import FSDPStrategy
from safetensors.torch import load_file
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import BertConfig, BertForMaskedLM

from distill.config.resolvers import register_resolvers
from distill.core.errors import UserError
from distill.core.hardware import resolve_hardware
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.distributed import workers
from distill.distributed.environment import ProcessRank, external_launcher
from distill.distributed.workers import ProcessLauncher
from distill.modeling.features import forward_with_features
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.inference import iter_logits
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory
from tests.factories import (
    BAD,
    FILLER,
    GOOD,
    encoded,
    make_model,
    make_tokenizer,
    sentences,
    teacher_logits,
    write_csv,
)

DISTILL = (sys.executable, "-m", "distill")
DDP = ("trainer=ddp", "trainer.devices=2")
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}  # fmt: skip


@pytest.fixture
def as_process(monkeypatch):
    """What a process of several sees, one after the other in this one."""

    def become(rank, count):
        monkeypatch.setattr(workers, "_share", (rank, count))

    return become


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_example_is_in_one_process_s_part_of_the_same_batch(tokenizer, as_process, count):
    rows = encoded(tokenizer, 22)  # of batches of 7, the last has 1 example
    batches = DistillationDataset(rows, PaddingCollator(tokenizer))
    whole = list(batches.loader(7, 0).sampler)
    parts = []
    for rank in range(count):
        as_process(rank, count)
        loader = batches.loader(7, 0)
        assert list(loader.sampler) == whole  # so all take equally many steps
        parts.append(list(loader))
    for indices, of_processes in zip(whole, zip(*parts, strict=True), strict=True):
        texts = [
            tuple(ids[mask == 1].tolist())
            for part in of_processes
            if len(part["rows"])
            for ids, mask in zip(
                part["student"]["input_ids"], part["student"]["attention_mask"], strict=True
            )
        ]
        assert sorted(texts) == sorted(tuple(rows[i]["input_ids"]) for i in indices)
        if count > 1:
            assert sum(part["part"] for part in of_processes) == pytest.approx(count)


def test_parts_of_a_pass_are_the_whole_pass(tokenizer, as_process):
    batches = DistillationDataset(encoded(tokenizer, 13), PaddingCollator(tokenizer))
    model, hardware = make_model(layers=1), resolve_hardware("cpu", "32-true")
    whole = {
        i: row
        for own, logits in iter_logits(model, batches, hardware, 4)
        for i, row in zip(own, logits, strict=True)
    }
    parts = {}
    for rank in range(2):
        as_process(rank, 2)
        for own, logits in iter_logits(model, batches, hardware, 2):
            assert not set(own) & set(parts)
            parts |= dict(zip(own, logits, strict=True))
    assert sorted(parts) == list(range(13))
    for index, row in whole.items():
        assert parts[index] == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_gradients_of_the_parts_average_to_the_gradient_of_the_batch(
    tokenizer, as_process, monkeypatch, size
):
    """However unequal the parts are, down to none of a batch of one example."""
    rows, collate = encoded(tokenizer, 7), PaddingCollator(tokenizer)
    said = teacher_logits(make_model(layers=2).eval(), rows, collate)
    examples = DistillationDataset(rows, collate, teacher_logits=said)
    task = SequenceClassification()
    terms = {"soft_targets": SoftTargets(0.3, 2.0), "hard_labels": HardLabels(0.7)}
    objective = Objective("kd", **terms).bind(ModelPair(task, 2))
    start = make_model(layers=1, **STILL).train()

    def step(batch, averaged=None):
        monkeypatch.setattr("distill.training.module.all_reduce_mean", averaged)
        module = DistillationModule(copy.deepcopy(start), objective, task, AdamW())
        module._trainer = SimpleNamespace(barebones=True, global_step=0)
        logged = {}
        module.log = lambda name, value, **_: logged.update({name: float(value)})
        module.lr_schedulers = lambda: SimpleNamespace(get_last_lr=lambda: [0.0])
        loss = module.training_step(batch, 0)
        loss.backward()
        logged[""] = loss.item()
        return [parameter.grad for parameter in module.parameters()], logged

    expected, log = step(examples[list(range(size))])
    parts = []
    for rank in range(2):
        as_process(rank, 2)
        parts.append(examples[list(range(size))])
    seen = []
    for part in parts:  # what each process brings to the mean over processes
        step(part, lambda values: seen.append(values.detach()) or values)
    gradients, logs = zip(*(step(part, lambda _: sum(seen) / 2) for part in parts), strict=True)
    for whole, first, second in zip(expected, *gradients, strict=True):
        torch.testing.assert_close((first + second) / 2, whole, rtol=1e-4, atol=1e-7)
    assert logs[0] == pytest.approx(log, rel=1e-4)
    assert logs[0] == logs[1]


def test_a_model_is_sent_whole_even_if_it_has_recorded_its_outputs(tokenizer):
    model = make_model(layers=2).eval().requires_grad_(False)
    inputs = DistillationDataset(encoded(tokenizer, 3), PaddingCollator(tokenizer))[[0, 1, 2]][
        "student"
    ]
    said = forward_with_features(model, inputs, {"logits", "hidden_states"})  # installs hooks
    content = io.BytesIO()
    torch.save([model, model], content, pickle_module=workers._ModelPickling)
    one, other = torch.load(io.BytesIO(content.getvalue()), weights_only=False)
    assert one is other and not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())
    again = forward_with_features(one, inputs, {"logits", "hidden_states"})
    assert torch.equal(again.logits, said.logits)
    assert len(again.hidden_states) == 3
    assert all(map(torch.equal, again.hidden_states, said.hidden_states))


def test_torchrun_and_srun_are_recognised(monkeypatch):
    assert external_launcher() is None
    for variables in (TORCHRUN, SRUN):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert external_launcher() == ProcessRank(rank=3, count=4, local_rank=1, local_count=2)
    for name, value in (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}).items():
        monkeypatch.setenv(name, value)  # a job of its own
    assert external_launcher() is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "dpp"}, "trainer.strategy=dpp: choose one of auto, ddp"),
        ({"devices": 0}, "trainer.devices=0: it must be 1 or more"),
        ({"num_nodes": 0}, "trainer.num_nodes=0: it must be 1 or more"),
        ({"devices": 2}, "trainer.devices=2 needs a strategy: trainer.strategy=ddp"),
        ({"strategy": "ddp", "num_nodes": 2}, "start the command on every node"),
        ({"strategy": "ddp", "devices": 2, "accelerator": "mps"}, "there is one device"),
    ],
)
def test_what_cannot_be_is_refused(settings, says):
    with pytest.raises(UserError) as refused:
        ProcessLauncher(**settings)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "4 processes were started from outside, use trainer.strategy=ddp"),
        ({"strategy": "ddp_spawn", "devices": 2}, "use trainer.strategy=ddp"),
        ({"strategy": "ddp", "devices": "auto"}, "so there are 2 nodes"),
        ({"strategy": "ddp", "num_nodes": 2, "devices": 3}, "2 of them on this machine"),
        ({"strategy": "ddp", "num_nodes": 2, "devices": "auto"}, None),
    ],
)
def test_what_does_not_fit_the_processes_found_is_refused(monkeypatch, settings, says):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    if says is None:
        assert ProcessLauncher(**settings).count == 4
        return
    with pytest.raises(UserError) as refused:
        ProcessLauncher(**settings)
    assert says in str(refused.value)


class Runs:
    """The real command in processes of its own, on a tiny model without dropout."""

    def __init__(self, folder: Path):
        self.folder = folder
        tokenizer = make_tokenizer(FILLER + GOOD + BAD)
        torch.manual_seed(0)
        BertForMaskedLM(
            BertConfig(
                vocab_size=32, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
                intermediate_size=64, max_position_embeddings=64, **STILL,
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

    def finish(self, process: subprocess.Popen, timeout=240) -> tuple[int, str, str]:
        """Exit code and what was said; nothing of it is left running, come what may."""
        try:
            out, err = process.communicate(timeout=timeout)
            left = True
            for _ in range(50):  # the others end at once, but not before the first
                try:
                    os.killpg(process.pid, 0)
                except ProcessLookupError:
                    left = False
                    break
                time.sleep(0.1)
            assert not left, "processes are left behind"
            return process.returncode, out, err
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            process.stderr.close()

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


@pytest.mark.slow
def test_two_processes_come_to_the_same_and_make_everything_once(runs, alone):
    code, out, err = runs(
        "trainer=ddp", "trainer.devices=2", "output_dir=two", "cache_dir=cache_two"
    )
    assert (code, err) == (0, "")
    assert_same_run(alone, runs.folder / "two")
    assert out.count("teacher: fine-tuning") == out.count("measuring") == 1
    assert out.count("teacher: computing its outputs") == 2  # train and test
    cache = runs.folder / "cache_two"
    assert len([path for path in (cache / "teachers").iterdir() if path.is_dir()]) == 1
    assert len(list((cache / "outputs").glob("*/logits.npy"))) == 2
    assert not list(cache.rglob("*.partial"))
    assert len(list((runs.folder / "two").rglob("report.json"))) == 1
    # What they have made serves one process too.
    code, out, err = runs("output_dir=again", "cache_dir=cache_two", "control=false")
    assert (code, err) == (0, "")
    report = json.loads((runs.folder / "again" / "report.json").read_text())
    assert report["reused"]["teacher"] and report["reused"]["teacher_outputs"]


@pytest.mark.slow
def test_stages_with_a_live_teacher_come_to_the_same(runs, alone):
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


class OnProcessors(FSDPStrategy):
    """Lightning's FSDP with processors in the place of GPUs, which it would refuse."""

    def _setup_model(self, model):
        return FullyShardedDataParallel(
            module=model, sharding_strategy=self.sharding_strategy, device_id=torch.device("cpu"),
            **self.kwargs,
        )  # fmt: skip

    def lightning_module_state_dict(self):
        with FullyShardedDataParallel.summon_full_params(self.model, writeback=False):
            return {
                name.replace("_fsdp_wrapped_module.", ""): value.detach().clone()
                for name, value in self.model.named_parameters()
            }

    def optimizer_state(self, optimizer):
        return {}


class Sharded(ProcessLauncher):
    """Two processes that cut a model into pieces."""

    shards = True

    @staticmethod
    def sharding(units):
        return OnProcessors(auto_wrap_policy=units, process_group_backend="gloo")


@pytest.mark.slow
def test_a_model_in_pieces_is_trained_as_a_whole_one(tokenizer, tmp_path):
    rows, collate = encoded(tokenizer, 65), PaddingCollator(tokenizer)
    validation = DistillationDataset(encoded(tokenizer, 21, 2), collate).loader(16, None)
    task, trained = SequenceClassification(), []
    for kind in (ProcessLauncher, Sharded):
        objective = Objective("any", hard_labels=HardLabels(1.0)).bind(ModelPair(task, 2))
        settings = AdamW(learning_rate=3e-3, epsilon=1e-3, weight_decay=0.5)
        module = DistillationModule(make_model(layers=2, **STILL), objective, task, settings)
        fitter = TrainerFactory(
            max_epochs=2, accelerator="cpu", precision="32-true", gradient_clip_val=0.1
        )
        if kind is Sharded:
            fitter.processes = Sharded("ddp", 2)
        loader = DistillationDataset(rows, collate).loader(16, 0)
        try:
            fitter.fit(module, loader, validation, tmp_path / kind.__name__, seed=0)
        finally:
            workers.shutdown_workers()
        trained.append(module.state_dict())
    first, second = trained
    assert first.keys() == second.keys()
    occurring = DistillationDataset(rows, collate).occurring_ids()
    for name, value in first.items():
        chosen = occurring if name.endswith("word_embeddings.weight") else slice(None)
        # The others of its rows have weight decay in pieces, and none as a whole.
        torch.testing.assert_close(second[name][chosen], value[chosen], rtol=0, atol=1e-5)


@pytest.mark.slow
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
        code, _, err = runs.finish(process, timeout=150)
    assert code == 130
    assert err.splitlines()[-1] == "interrupted: distill resume=FOLDER continues the run"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "overrides", ["trainer=ddp seed=0,1", "trainer.strategy=ddp trainer.devices=2 seed=0"]
)
def test_a_sweep_under_ddp_is_refused_with_the_two_ways_out(command, small, overrides):
    code, out, err = command("-m", *small, *overrides.split(), "output_dir=sweep")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: -m with trainer.strategy=ddp")
    assert "trainer=ddp_spawn" in line and "torchrun" in line
    assert not Path("sweep").exists()


@pytest.mark.slow
def test_a_job_under_ddp_is_refused_and_the_others_go_on(command, small):
    code, _, err = command(
        "-m", *small, "trainer=default,ddp", "debug=fast", "data.max_length=24", "control=false",
        "output_dir=sweep",
    )  # fmt: skip
    assert code == 2
    assert "trainer=ddp_spawn" in err
    assert [file.parent.name for file in Path("sweep").glob("*/report.json")] == ["00-default"]


def test_a_task_of_a_job_that_would_do_the_run_again_is_refused(command, small):
    code, _, err = command(
        "-m", *small, "hydra/launcher=parallel", "+hydra.launcher.tasks_per_node=2", "seed=0"
    )
    assert code == 2
    assert err.startswith("error: hydra.launcher.tasks_per_node=2")


@pytest.mark.parametrize(("extra", "plugin"), [("parallel", "joblib"), ("cluster", "submitit")])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(
    command, small, monkeypatch, extra, plugin
):
    Plugins.instance()  # from here on the plugins' configs are there
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in [name for name in launchers if name.startswith(plugin)]:
        monkeypatch.delitem(launchers, name)
    code, _, err = command("-m", *small, f"hydra/launcher={extra}", "seed=0,1")
    assert code == 2
    assert err == (
        f"error: hydra/launcher={extra} is not installed: pip install 'distill[{extra}]'\n"
    )


def test_a_sweep_stays_in_one_folder_however_long_it_takes(monkeypatch):
    times = iter(["1120-100000", "1120-100001"])
    monkeypatch.setattr("distill.config.naming._now", lambda: next(times))
    register_resolvers()
    config = OmegaConf.create({"output_dir": None, "dir": "${sweep_dir:${output_dir}}"})
    job = OmegaConf.create({"output_dir": None, "dir": "${sweep_dir:${output_dir}}"})
    first = config.dir
    OmegaConf.copy_cache(config, job)  # what Hydra does for each job
    assert first == job.dir == "runs/sweep-1120-100000"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["trainer=ddp_spawn trainer.devices=2", "hydra/launcher=parallel"])
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


@pytest.mark.slow
def test_processes_from_outside_come_to_the_same(runs, alone):
    torchrun = (
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "distill",
    )  # fmt: skip
    code, out, err = runs(
        "trainer=ddp", "output_dir=outside", "cache_dir=cache_outside", start=torchrun
    )
    assert code == 0, err
    assert_same_run(alone, runs.folder / "outside")
    assert out.count("teacher: fine-tuning") == out.count("measuring") == 1
