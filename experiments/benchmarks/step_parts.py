"""Where a step of this program goes, what its cache costs, and how fast it asks a teacher."""

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
from contestants.ours import Ours
from contestants.work import Work
from objective_cost import Steps

from distill.data.dataset import DistillationDataset
from distill.teacher.logits_cache import cached_logits
from distill.training.module import DistillationModule


class Watch:
    """Adds up wall and processor time by name."""

    def __init__(self):
        self.spent: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
        self._open: dict[str, np.ndarray] = {}

    def start(self, name: str) -> None:
        """From now on."""
        self._open[name] = self._now()

    def stop(self, name: str) -> None:
        """Until now."""
        self.spent[name] += self._now() - self._open.pop(name)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """While the block runs."""
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


def _observed(watch: Watch) -> type[DistillationModule]:
    """The module, timing what Lightning calls; what it computes is the same."""

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
            # What validation logs is no part of a step.
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
    """A clock that also times how long each batch takes to come."""

    def __init__(self, steps: int, device: torch.device, watch: Watch):
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
    """Milliseconds a step by part, wall and processor time; ``step`` is all of it.

    The mean over the steps of a pass, and of some passes the fastest.
    """
    return min((_parts(work) for _ in range(tries)), key=lambda table: table["step"][0])


def _parts(work: Work) -> dict[str, tuple[float, float]]:
    watch = Watch()
    clock = _Watched(work.steps, torch.device(work.device), watch)
    contestant = Ours(work, module=_observed(watch))
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
        "optimizer, old gradients let go": spent["optimizer_step"] - inside,
    }
    step = np.array([clock.wall, clock.processor])
    table["Lightning and what it logs"] = step - sum(table.values())
    table["step"] = step
    return {name: tuple(1e3 * value / work.steps) for name, value in table.items()}


def cached_over_plain(work: Work, batches: int = 8, rounds: int = 5) -> float:
    """A step on stored outputs by a step of plain fine-tuning, in processor time (GPU: wall time).

    Both take turns on the same batches, fetching included; a ratio is of the least of the rounds,
    and what is returned is the median over batches.
    """
    pair = [Ours(work), Ours(work, alone=True)]
    job, sources = pair[0].parts.job, [one.batches for one in pair]
    steps = [
        Steps(
            one.student,
            one.objective,
            job.task,
            job.optimizer,
            None,
            job.trainer.hardware,
            one.batches.embedding_ids(),
        )
        for one in pair
    ]
    sampler = list(sources[0].loader(work.batch_size, work.seed).sampler)
    chosen = [sampler[i] for i in np.linspace(0, len(sampler) - 1, batches, dtype=int)]
    least = np.full((2, len(chosen)), np.inf)
    for turn in range(-1, rounds):
        for number, rows in enumerate(chosen):
            order = (0, 1) if turn % 2 else (1, 0)
            for one in order:
                watch = Watch()
                with watch.on("step"):
                    steps[one].step(sources[one][rows])
                if turn >= 0:
                    seconds = watch.spent["step"][0 if work.device == "cuda" else 1]
                    least[one, number] = min(least[one, number], seconds)
    return float(np.median(least[0] / least[1]))


def outputs_over_forward(work: Work, rounds: int = 3) -> dict[str, float]:
    """How fast this program stores a teacher's outputs, as a share of its bare forward passes.

    What the model was given while outputs were stored is kept and given to it again, alone.

    Returns:
        ``examples_per_second`` of the storing, and the share by wall and by processor time: the
        medians over the rounds.
    """
    job, data = work.job(), work.data
    teacher = Ours(work).parts.teacher
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
            watch = Watch()
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
