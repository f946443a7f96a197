"""The command ``distill-evaluate``: measures a saved model on any data set."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from distill.cli.shell import HydraCommand
from distill.pipeline.execute import execute_evaluation

if TYPE_CHECKING:
    from distill.pipeline.evaluate import ExportedModel


def open_exported(path: str, form: str | None) -> "ExportedModel | None":
    """Open an exported model; what runs it is imported late."""
    from distill.export import evaluated

    return evaluated.open_exported(path, form)


class EvaluateCommand(HydraCommand):
    """Evaluates one model."""

    config_name = "evaluate"

    def after_interrupt(self) -> str:
        """Return how to go on: nothing is kept of an evaluation."""
        return "the same command starts again"

    def run(self, config: DictConfig, overrides: list[str], folder: Path) -> str:
        """Evaluate, and return the report's short form."""
        return str(execute_evaluation(config, overrides, folder, open_exported))


def main() -> None:
    """Entry point of the command."""
    sys.exit(EvaluateCommand().execute(sys.argv[1:]))


if __name__ == "__main__":
    main()
