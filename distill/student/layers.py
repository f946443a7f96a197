"""A student made of some of the teacher's layers."""

import copy
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from distill.data.prepare import Data
from distill.errors import UserError
from distill.models import layers as layer_stack
from distill.student.base import Student
from distill.teacher.ready import Teacher

log = logging.getLogger(__name__)

EVERY = {"half": 2, "third": 3}


@dataclass(kw_only=True)
class FromTeacherLayers:
    """Copies embeddings, head and some layers of the teacher, made ready for the task.

    Starting from layers of the teacher is DistilBERT's initialisation (Sanh et al. 2019, section
    3) and PKD's (Sun et al. 2019, section 4), which both start from layers of the pretrained model;
    here the teacher's head and fine-tuned layers are copied, so less is left to learn.

    Attributes:
        name: what reports call it.
        layers: the teacher's layers to copy, counted from 0; or ``half`` (every other one),
            ``third`` (every third) or ``single`` (the first).
    """

    name: str
    layers: list[int] | Literal["half", "third", "single"]

    def chosen(self, depth: int) -> list[int]:
        """The layers to copy of a teacher with so many.

        Raises:
            UserError: for a layer that does not exist or stands twice.
        """
        if isinstance(self.layers, str):
            if self.layers == "single":
                return [0]
            if self.layers not in EVERY:
                raise UserError(
                    f"student.layers={self.layers}: choose half, third, single or a list of layers"
                )
            return list(range(0, depth, EVERY[self.layers]))
        chosen = list(self.layers)
        if not chosen:
            raise UserError("student.layers=[]: name at least one layer")
        outside = [layer for layer in chosen if not 0 <= layer < depth]
        if outside:
            raise UserError(
                f"student.layers={chosen}: the teacher has the layers 0 to {depth - 1}, "
                f"not {outside[0]}"
            )
        if len(set(chosen)) < len(chosen):
            raise UserError(f"student.layers={chosen}: a layer stands twice")
        return chosen

    def check(self, teacher_config) -> None:
        """Refuse layers that the teacher does not have, before anything is trained."""
        if not getattr(teacher_config, "num_attention_heads", None):
            raise UserError(
                f"student.layers={self.layers}: the teacher ({teacher_config.model_type}) has no "
                "transformer layers to copy"
            )
        self.chosen(teacher_config.num_hidden_layers)

    def build(
        self,
        teacher: Teacher,
        task,
        label_names: list[str],
        cache_dir: Path,
        data: Data | None = None,
    ) -> Student:
        """The student with its first weights."""
        name, stack = layer_stack(teacher.model)
        chosen = self.chosen(len(stack))
        config = copy.deepcopy(teacher.model.config)
        config.num_hidden_layers = len(chosen)
        # Per-layer settings (decoders have them) follow their layers.
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[layer] for layer in chosen]
        model = type(teacher.model)(config).to(torch.float32)
        position = {str(layer): str(index) for index, layer in enumerate(chosen)}
        pattern = re.compile(rf"^({re.escape(name)}\.)(\d+)(\..*)$")
        weights = {}
        for key, tensor in teacher.model.state_dict().items():
            match = pattern.match(key)
            if match is None:
                weights[key] = tensor
            elif match[2] in position:
                weights[match[1] + position[match[2]] + match[3]] = tensor
        model.load_state_dict(weights)
        log.info("student: layers %s of the teacher's %d", chosen, len(stack))
        origin = f"layers {', '.join(map(str, chosen))} of the teacher's {len(stack)}"
        return Student(self.name, model, teacher.tokenizer, origin)
