"""What a run leaves behind, in a form that can be frozen."""

import hashlib
import json
import platform
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytorch_lightning
import torch
import transformers
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

# So many values of a scalar are kept, beside the last.
FIRST = 20
# Scalars of which only the number of values and the steps are kept.
CLOCK_SCALARS = re.compile(r"(final/latency_ms|measures/examples_per_second)$")
# What the clock or the machine decides in report.json: only the type is kept.
CLOCK = re.compile(
    r"run\.(directory|started|seconds)"
    r"|environment\.(?!processes$|accelerator$|precision$|threads$).*"
    r"|(models|baselines)\.\d+\.speed\..*"
    r"|comparison\.speedup.*"
    r"|timing\..*"
    r"|training\.\w+\.seconds"
)
# Instructions that decide which kernels of torch, MKL and oneDNN are taken.
INSTRUCTIONS = re.compile(r"(avx|fma|amx|sse|f16c|neon|sve|asimd|bf16)\w*")


def machine() -> dict[str, str]:
    """What results depend on to the bit: processor, instructions and libraries."""
    known = {}
    for line in _processor_lines():
        key, _, value = line.partition(":")
        known.setdefault(key.strip(), value.strip())
    flags = known.get("flags") or known.get("Features") or ""
    chosen = sorted(flag for flag in flags.split() if INSTRUCTIONS.fullmatch(flag))
    family = (known.get(key, "") for key in ("vendor_id", "cpu family", "model"))
    return {
        "processor": known.get("model name") or platform.processor() or platform.machine(),
        "family": " ".join(family).strip(),
        "instructions": " ".join(chosen),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "pytorch_lightning": pytorch_lightning.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
    }


def _processor_lines() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []


def record(folder: Path) -> dict[str, Any]:
    """The scalars, the report and the weights of a finished run."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    models = {"student", "control"} & {path.name for path in folder.iterdir() if path.is_dir()}
    return {
        "exit": 0,
        "scalars": scalars(folder),
        "weights": {role: weights(folder / role) for role in sorted(models)},
        "report": stripped(report),
    }


def scalars(folder: Path) -> dict[str, str]:
    """Every curve by its tag: ``COUNT @FIRST_STEP-LAST_STEP: VALUES .. LAST_VALUE``.

    Values are the float32 of the event files as hexadecimal digits. Of two values of one step,
    which a resumed run leaves, the later written counts.
    """
    curves: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for file in folder.glob("events.out.tfevents.*"):
        for tag, step, time, value in _events(file):
            if step not in curves[tag] or curves[tag][step][0] <= time:
                curves[tag][step] = (time, value)
    return {tag: _line(tag, curve) for tag, curve in sorted(curves.items())}


def _events(file: Path) -> Iterator[tuple[str, int, float, float]]:
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                (number,) = value.tensor.float_val or struct.unpack(
                    "<f", value.tensor.tensor_content
                )
                yield value.tag, event.step, event.wall_time, number


def _line(tag: str, curve: dict[int, tuple[float, float]]) -> str:
    steps = sorted(curve)
    head = f"{len(steps)} @{steps[0]}-{steps[-1]}:"
    if CLOCK_SCALARS.search(tag):
        return f"{head} <clock>"
    values = [struct.pack(">f", curve[step][1]).hex() for step in steps]
    last = f" .. {values[-1]}" if len(values) > FIRST else ""
    return f"{head} {' '.join(values[:FIRST])}{last}"


def weights(folder: Path) -> str:
    """Hash of all tensors, whatever they are called."""
    hashes = sorted(
        hashlib.sha256(f"{tuple(value.shape)}".encode() + value.numpy().tobytes()).hexdigest()
        for file in folder.glob("*.safetensors")
        for value in load_file(file).values()
    )
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:20]


def stripped(value: Any, path: str = "") -> Any:
    """A report, with types in the place of what the clock or the machine decides."""
    if isinstance(value, dict):
        return {key: stripped(one, f"{path}.{key}".lstrip(".")) for key, one in value.items()}
    if isinstance(value, list):
        return [stripped(one, f"{path}.{index}") for index, one in enumerate(value)]
    return kind(value) if CLOCK.fullmatch(path) else value


def kind(value: Any) -> str | None:
    """The type of a leaf; whole numbers are not told from others."""
    if value is None or isinstance(value, bool):
        return value
    return "<number>" if isinstance(value, int | float) else "<text>"


def render(value: Any, indent: str = "") -> str:
    """JSON with a line for whatever fits into one, and for every curve."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(indent) + len(line) <= 100:
        return line
    deeper = indent + " "
    if isinstance(value, list):
        inner = [deeper + render(one, deeper) for one in value]
        return "[\n" + ",\n".join(inner) + f"\n{indent}]"
    inner = [f"{deeper}{json.dumps(key)}: {render(one, deeper)}" for key, one in value.items()]
    return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
