"""Time of the parts of a training step, cost of cached logits, and speed of caching them."""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from contestants.clock import Clock, Timed
from contestants.distill_training import DistillTraining
from contestants.work import Work
from objective_cost import Steps

from distill.data.dataset import DistillationDataset
from distill.teacher.logits_cache import cached_logits
from distill.training.module import DistillationModule


class Stopwatch:
    """Sums wall and processor time by name."""

    def __init__(self):
        self.spent: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
        self._open: dict[str, np.ndarray] = {}

    def start(self, name: str) -> None:
        """Start timing a name."""
        self._open[name] = self._now()

    def stop(self, name: str) -> None:
        """Stop timing a name."""
        self.spent[name] += self._now() - self._open.pop(name)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Time the block."""
        self.start(name)
        try:
            yield
        finally:
            self.stop(name)

    @staticmethod
    def _now() -> np.ndarray:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return np.array([time.perf_counter(), time.process_time()])


def _observed(watch: Stopwatch) -> type[DistillationModule]:
    """Return a subclass of the module that times the methods called by Lightning."""

    class Observed(DistillationModule):
        def training_step(self, batch, batch_index):
            hooks = [
                self.student.register_forward_pre_hook(lambda *_: watch.start("forward")),
                self.student.register_forward_hook(lambda *_: watch.stop("forward")),
            ]
            with watch.on("training_step"):
                loss = super().training_step(batch, batch_index)
            for hook in hooks:
                hook.remove()
            return loss

        def log(self, *arguments, **named):
            # Logging in validation is not part of a step.
            with watch.on("log" if self.trainer.training else "validation"):
                super().log(*arguments, **named)

        def backward(self, *arguments, **named):
            with watch.on("backward"):
                super().backward(*arguments, **named)

        def configure_gradient_clipping(self, *arguments, **named):
            with watch.on("clipping"):
                super().configure_gradient_clipping(*arguments, **named)

        def optimizer_step(self, *arguments, **named):
            with watch.on("optimizer_step"):
                super().optimizer_step(*arguments, **named)

    return Observed


class _Watched(Clock):
    """A clock that also times the fetching of each batch."""

    def __init__(self, steps: int, device: torch.device, watch: Stopwatch):
        super().__init__(steps, device)
        self.watch = watch

    def timed(self, loader) -> Timed:
        return super().timed(_Fetching(loader, self.watch))


class _Fetching(Timed):
    def __iter__(self) -> Iterator:
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            with self.clock.on("data"):
                batch = next(batches)
            yield batch


def parts(work: Work, tries: int = 3) -> dict[str, tuple[float, float]]:
    """Return wall and processor time of each part of a step in milliseconds; ``step`` is the total.

    Means over the steps of an epoch, for the fastest of several epochs.
    """
    return min((_parts(work) for _ in range(tries)), key=lambda table: table["step"][0])


def _parts(work: Work) -> dict[str, tuple[float, float]]:
    watch = Stopwatch()
    clock = _Watched(work.steps, torch.device(work.device), watch)
    contestant = DistillTraining(work, module=_observed(watch))
    with clock.running():
        contestant.train(clock)
    spent = watch.spent
    inside = spent["training_step"] + spent["backward"] + spent["clipping"]
    table = {
        "data and collation": spent["data"],
        "forward": spent["forward"],
        "objective": spent["training_step"] - spent["forward"] - spent["log"],
        "log calls": spent["log"],
        "backward": spent["backward"],
        "clipping": spent["clipping"],
        "optimizer and zero_grad": spent["optimizer_step"] - inside,
    }
    step = np.array([clock.wall, clock.processor])
    table["Lightning and logging"] = step - sum(table.values())
    table["step"] = step
    return {name: tuple(1e3 * value / work.steps) for name, value in table.items()}


def cached_over_plain(work: Work, batches: int = 8, rounds: int = 5) -> float:
    """Return the time of a step on cached logits relative to a step of plain fine-tuning.

    In processor time (GPU: wall time). Both take turns on the same batches, including fetching; the
    median over batches of the ratio of the fastest rounds.
    """
    pair = [DistillTraining(work), DistillTraining(work, plain=True)]
    job, sources = pair[0].parts.job, [training.batches for training in pair]
    steps = [
        Steps(
            training.student,
            training.objective,
            job.task,
            job.optimizer,
            None,
            job.trainer.hardware,
            training.batches.embedding_ids(),
        )
        for training in pair
    ]
    sampler = list(sources[0].loader(work.batch_size, work.seed).sampler)
    chosen = [sampler[i] for i in np.linspace(0, len(sampler) - 1, batches, dtype=int)]
    fastest = np.full((2, len(chosen)), np.inf)
    for turn in range(-1, rounds):
        for number, rows in enumerate(chosen):
            order = (0, 1) if turn % 2 else (1, 0)
            for which in order:
                watch = Stopwatch()
                with watch.on("step"):
                    steps[which].step(sources[which][rows])
                if turn >= 0:
                    seconds = watch.spent["step"][0 if work.device == "cuda" else 1]
                    fastest[which, number] = min(fastest[which, number], seconds)
    return float(np.median(fastest[0] / fastest[1]))


def outputs_over_forward(work: Work, rounds: int = 3) -> dict[str, float]:
    """Return the speed of caching a teacher's logits relative to its bare forward passes.

    The inputs of the model are recorded while its logits are cached, and passed to it again.

    Returns:
        ``examples_per_second`` of the caching, and the fraction of the bare speed in wall and in
        processor time: medians over the rounds.
    """
    job, data = work.job(), work.data
    teacher = DistillTraining(work).parts.teacher
    encoder = job.task.encoder(data, job.cache_dir)
    rows = encoder.encode("train", teacher.processor, job.source.max_length)
    examples, hardware = (
        DistillationDataset(rows, encoder.collator(teacher.processor)),
        job.trainer.hardware,
    )
    shares, rates = [], []
    for turn in range(-1, rounds):
        given: list[dict] = []
        hook = teacher.model.register_forward_pre_hook(
            lambda _module, _arguments, inputs, given=given: given.append(dict(inputs)),
            with_kwargs=True,
        )
        with tempfile.TemporaryDirectory(dir=work.folder) as cache:
            watch = Stopwatch()
            with watch.on("stored"):
                cached_logits(
                    teacher, examples, data.hashes["train"], job.task.preprocessor,
                    job.source.max_length, hardware, Path(cache),
                )  # fmt: skip
        hook.remove()
        with watch.on("bare"), torch.inference_mode(), hardware.autocast():
            for inputs in given:
                teacher.model(**inputs)
        if turn >= 0:
            shares.append(watch.spent["bare"] / watch.spent["stored"])
            rates.append(len(examples) / watch.spent["stored"][0])
    wall, processor = np.median(shares, axis=0)
    return {
        "examples_per_second": statistics.median(rates),
        "share_wall": float(wall),
        "share_processor": float(processor),
    }
