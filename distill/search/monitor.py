"""Watches a trial's training: records its costs and curve, stops it when it is hopeless."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from distill.modeling.size import count_bytes, count_parameters, multiply_accumulates
from distill.search.trial import StopTrial, Trial, is_behind
from distill.training.module import DistillationModule

# Cost of the example at which students' multiply-accumulates are compared before any measurement.
EXAMPLE_COST = 16


class TrialMonitor(Callback):
    """Records a trial's costs and curve in Optuna's journal.

    Args:
        trial: The running trial.
        costs: Names of the minimized costs.
        stop_behind: Margin of :func:`is_behind`; ``None``: never stop.
        finished: Returns the finished trials.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        costs: Sequence[str],
        stop_behind: float | None,
        finished: Callable[[], Sequence[Trial]],
    ) -> None:
        self._trial, self._costs = trial, costs
        self._stop_behind, self._finished = stop_behind, finished

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Record the costs that are known before training."""
        assert isinstance(module, DistillationModule)
        student: Any = module.student
        inputs = module.task.preprocessor.example_inputs(student.config, EXAMPLE_COST)
        known = {
            "parameters": count_parameters(student).total,
            "bytes": count_bytes(student),
            "multiply_accumulates": multiply_accumulates(student, inputs),
        }
        # A latency is known only once it is measured: multiply-accumulates stand in for it.
        names = (name if name in known else "multiply_accumulates" for name in self._costs)
        self._trial.set_user_attr("known", {name: known[name] for name in names})

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Record the metric on validation.

        Raises:
            StopTrial: If the trial is hopeless.
        """
        assert isinstance(module, DistillationModule)
        metric = module.task.evaluator.metric_name
        value = trainer.callback_metrics.get(f"validation/{metric}")
        if value is None:
            return
        assert trainer.max_epochs is not None
        epoch = trainer.current_epoch + 1
        share = epoch / trainer.max_epochs
        # An interrupted epoch is repeated.
        curve = [pair for pair in self._trial.user_attrs.get("curve", []) if pair[0] < share]
        curve.append((share, float(value)))
        self._trial.set_user_attr("curve", curve)
        if share == 1 or self._stop_behind is None:
            return
        known: Mapping[str, float] = self._trial.user_attrs["known"]
        rival = is_behind(curve, known, self._finished(), self._stop_behind)
        if rival is not None:
            best = max(value for _, value in curve)
            raise StopTrial(
                f"{metric} {best:.4f} after epoch {epoch} of {trainer.max_epochs}, where "
                f"{rival.folder} had {rival.best_by(share):.4f} at no greater cost"
            )
