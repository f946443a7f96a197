"""A sharded model is trained as a whole one."""

import pytest
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from distill.data.dataset import DistillationDataset
from distill.distributed.launcher import ProcessLauncher
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory, TrainingPlan
from tests.factories import NO_DROPOUT, collator, encoded, make_model


class CPUShardingStrategy(FSDPStrategy):
    """Lightning's FSDP on CPUs, which it would refuse."""

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
    """Shards a model over two processes."""

    shards = True

    @staticmethod
    def sharding(units):
        return CPUShardingStrategy(auto_wrap_policy=units, process_group_backend="gloo")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sharded_model_is_trained_as_a_whole_one(tokenizer, tmp_path):
    rows, collate = encoded(tokenizer, 65), collator(tokenizer)
    validation = DistillationDataset(encoded(tokenizer, 21, 2), collate)
    task, trained = SequenceClassification(), []
    for kind in (ProcessLauncher, Sharded):
        objective = Objective("any", hard_labels=HardLabels(1.0)).bind(ModelPair(task, 2))
        settings = AdamW(learning_rate=3e-3, epsilon=1e-3, weight_decay=0.5)
        module = DistillationModule(make_model(layers=2, **NO_DROPOUT), objective, task, settings)
        trainer = TrainerFactory(
            max_epochs=2, accelerator="cpu", precision="32-true", gradient_clip_val=0.1
        )
        if kind is Sharded:
            trainer.launcher = Sharded("ddp", 2)
        plan = TrainingPlan(
            module=module, train=DistillationDataset(rows, collate), validation=validation,
            batch_size=16, seed=0, checkpoint_dir=tmp_path / kind.__name__,
        )  # fmt: skip
        with trainer.launcher.worker_group():
            trainer.fit(plan)
        trained.append(module.state_dict())
    first, second = trained
    assert first.keys() == second.keys()
    occurring = DistillationDataset(rows, collate).embedding_ids()
    for name, value in first.items():
        chosen = occurring if name.endswith("word_embeddings.weight") else slice(None)
        # Rows that do not occur have weight decay when sharded, and none as a whole.
        torch.testing.assert_close(second[name][chosen], value[chosen], rtol=0, atol=1e-5)
