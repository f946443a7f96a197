"""Cost of a training step of each objective relative to plain fine-tuning of the same student.

    python experiments/benchmarks/objective_cost.py [--rounds 9] [--student third]

Real docstrings, MiniLM as the teacher, batches of 32 of similar length, one thread. Objectives take
turns batch by batch and are measured in processor time, so that other processes affect them
equally; a ratio is the median over batches of the objective's fastest round over fine-tuning's
fastest round.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from distill.config.resolvers import conf_dir, register_resolvers
from distill.core.third_party_logging import silence_third_party_logging
from distill.data.dataset import DistillationDataset
from distill.data.prepare import prepare_data
from distill.modeling import loading
from distill.modeling.active_rows_embedding import train_active_rows
from distill.modeling.shape import model_shape
from distill.objectives.objective import Objective, Stage, training_stages
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.student.base import StudentContext
from distill.teacher.prepare import Teacher
from distill.training.inference import predict_logits
from distill.training.module import DistillationModule

BATCHES, SIZE = 8, 32


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--student", default="third")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_third_party_logging()
    register_resolvers()
    names = sorted(path.stem for path in (Path(conf_dir()) / "objective").glob("*.yaml"))
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        configs = {
            name: compose("config", [f"objective={name}", f"student={arguments.student}"])
            for name in names
        }
    any_config = configs["kd"]
    task, source, settings, optimizer = (
        instantiate(any_config[group], _convert_="all")
        for group in ("task", "data", "student", "optimizer")
    )
    cache = Path(any_config.cache_dir).expanduser()
    data = prepare_data(source, task.schema, cache)
    path = loading.resolve_model_path("package:minilm", "teacher.path")
    tokenizer = loading.load_tokenizer(path, "the teacher")
    torch.manual_seed(0)
    model = task.head.load(path, data.label_names).eval()
    teacher = Teacher("minilm", model, tokenizer, "", 0.0, True)
    encoder = task.encoder(data, cache)
    rows = encoder.encode("train", tokenizer, source.max_length)
    # Batches of similar length, spread evenly over the lengths.
    order = np.argsort(rows["length"], kind="stable")
    starts = np.linspace(0, len(order) - SIZE, BATCHES, dtype=int)
    chosen = [order[start : start + SIZE].tolist() for start in starts]
    few = rows.select([row for batch in chosen for row in batch])
    collate = encoder.collator(tokenizer)
    hardware = instantiate(any_config.trainer, _convert_="all").hardware
    logits = predict_logits(model, DistillationDataset(few, collate), hardware)
    cached = DistillationDataset(few, collate, teacher_logits=logits)
    live = DistillationDataset(few, collate, few, collate)

    stages = {"fine-tuning": Stage(labels=HardLabels(1.0))}
    for name, config in configs.items():
        for stage in training_stages(instantiate(config.objective, _convert_="all")):
            stages[f"{name}, {stage.name}" if stage.name else name] = stage
    stages["kd, live teacher"] = stages["kd"]
    student = settings.build(StudentContext(teacher, task, data, cache))
    modules, batches = {}, {}
    for name, stage in stages.items():
        torch.manual_seed(0)
        stage.objective.bind(
            ModelPair(task, len(data.label_names), model_shape(student.model.config),
                 {None: model_shape(model.config)}, {None: True})
        )  # fmt: skip
        needs = stage.objective.needs
        batches[name] = live if needs - {"logits"} or "live" in name else cached
        if not needs:
            batches[name] = DistillationDataset(few, collate)
        modules[name] = Steps(student.model, stage.objective, task, optimizer, model, hardware)
    seconds = {name: np.full((arguments.rounds, BATCHES), np.inf) for name in stages}
    for turn in range(-1, arguments.rounds):
        for number in range(BATCHES):
            rows_of = list(range(number * SIZE, (number + 1) * SIZE))
            for name, module in modules.items():
                batch = batches[name][rows_of]
                clock = time.process_time()
                module.step(batch)
                if turn >= 0:
                    seconds[name][turn, number] = time.process_time() - clock
    floor = seconds["fine-tuning"].min(0)
    print(f"{'objective':28} {'ms/step':>10} {'times fine-tuning':>18}   range over batches")
    for name, taken in seconds.items():
        fastest = taken.min(0)
        ratio = fastest / floor
        print(
            f"{name:28} {1e3 * np.median(fastest):10.1f} {np.median(ratio):18.3f}   "
            f"[{ratio.min():.2f}, {ratio.max():.2f}]"
        )


class Steps:
    """A copy of the student and whole training steps, without Lightning's loop.

    ``ids`` are the token ids that occur in the examples: as in a run, only their rows of the
    embeddings are trained.
    """

    def __init__(self, student, objective: Objective, task, optimizer, teacher, hardware, ids=None):
        student = copy.deepcopy(student).train()
        self.rows = train_active_rows(student, ids)
        self.rows.__enter__()
        self.module = DistillationModule(student, objective, task, optimizer, teacher)
        self.module.to(hardware.device).on_fit_start()
        self.module.log = lambda *_, **__: None
        self.module.lr_schedulers = lambda: self.schedule
        groups = optimizer.parameter_groups(self.module, sized=student)
        self.optimizer, self.schedule = optimizer.build(groups, 10_000)
        self.hardware = hardware

    def step(self, batch: dict) -> None:
        """Run forward pass, backward pass, clipping and update."""
        batch = self.module.transfer_batch_to_device(batch, self.hardware.device, 0)
        with self.hardware.autocast():
            loss = self.module.training_step(batch, 0)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()


if __name__ == "__main__":
    main()
