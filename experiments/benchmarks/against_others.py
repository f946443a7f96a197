"""Speed of the same distillation with other tools and with distill, in turn, on this machine.

    pip install -e '.[demo,bench]'
    python experiments/benchmarks/against_others.py --data PATH/sst2 --threads 2 --json out.json

All tools get the same teacher, the same initial weights of the student, the same texts of natural
length and the same loss; loss and gradient are checked on one batch before anything is timed. In
each round every tool trains for one epoch on the same number of examples, in rotating order; ratios
are of two epochs of the same round. Only the training loop is timed, see ``contestants/clock.py``.
Peak memory is measured in a separate process. Also measured: hardware utilization of a training
step, the time of its parts, and the cost of caching the teacher's logits.
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from beside_torchvision import make_importable

import distill  # noqa: F401, sets what OpenMP reads when torch is imported

make_importable()

from contestants import CONTESTANTS, OTHERS, maker, title  # noqa: E402
from contestants.clock import Clock  # noqa: E402
from contestants.work import BERT_BASE, Work, lay_out  # noqa: E402

from distill.core.third_party_logging import silence_third_party_logging  # noqa: E402
from distill.data.prepare import prepare_data  # noqa: E402
from distill.data.sources.files import FileSource  # noqa: E402
from distill.metrics.statistics import bootstrap_interval  # noqa: E402
from distill.tasks.sequence_classification import SequenceClassification  # noqa: E402

DEFAULT = ("textbrewer", "torchdistill", "trainer", "live", "cached", "fine_tuning")
PACKAGES = ("torch", "transformers", "pytorch_lightning", "textbrewer", "torchdistill")
# Tolerances of loss and gradient in bf16 (8 bits of precision) and in fp32.
TOLERANCE = {True: (0.02, 0.1), False: (1e-5, 1e-3)}


def main() -> None:
    """Measure, print and save the results."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    silence_third_party_logging()
    warnings.filterwarnings("ignore")
    if arguments.memory_of:
        print(json.dumps(memory(Work.read(arguments.folder), arguments.memory_of)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        work = Work(
            Path(folder), arguments.batch_size, arguments.max_length, arguments.layers,
            arguments.device, arguments.seed,
        )  # fmt: skip
        lay_out(
            work, arguments.data, arguments.examples, arguments.teacher, arguments.teacher_epochs
        )
        result = {"setting": setting(arguments, work)}
        _log("checking losses")
        result["losses"] = check_losses(work, arguments.contestants)
        result["rounds"] = rounds(work, arguments.contestants, arguments.rounds)
        if arguments.accuracy:
            _log("measuring accuracies")
            result["accuracy"] = accuracies(work, arguments.contestants, arguments.data)
        if not arguments.no_memory:
            _log("measuring memory")
            result["memory"] = {
                name: _memory_apart(work, name, arguments.threads) for name in arguments.contestants
            }
        if "cached" in arguments.contestants:
            _log("measuring steps")
            result |= inside(work, 1 if arguments.quick else 3)
    print(markdown(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder, as for data=files data.path=...")
    parser.add_argument("--examples", type=int, default=1024, help="number of training examples")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--teacher", default="package:minilm", help=f"folder, package:minilm or {BERT_BASE}"
    )
    parser.add_argument(
        "--teacher-epochs", type=int, default=0, help="epochs of fine-tuning the teacher first"
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", help="layers of the teacher for the student"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(DEFAULT))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--accuracy", action="store_true", help="also measure test accuracy")
    parser.add_argument(
        "--quick", action="store_true", help="2 batches, 1 round, to check that it runs"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data is None and arguments.folder is None:
        parser.error("--data is missing: a folder with train.csv, such as GLUE's SST-2")
    if arguments.layers is None:
        arguments.layers = list(range(0, 12 if arguments.teacher == BERT_BASE else 6, 2))
    if arguments.quick:
        arguments.examples, arguments.rounds = 2 * arguments.batch_size, 1
    return arguments


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def setting(arguments: argparse.Namespace, work: Work) -> dict:
    """Return date, data, models, hardware and versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except ImportError:
            versions[name] = None
    lengths = [len(row["input_ids"]) for row in work.rows]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "data": arguments.data.name,
        "examples": len(work.rows),
        "tokens": {"mean": statistics.mean(lengths), "longest": max(lengths)},
        "teacher": arguments.teacher,
        "layers": work.layers,
        "batch_size": work.batch_size,
        "max_length": work.max_length,
        "threads": torch.get_num_threads(),
        "device": arguments.device,
        "processor": _processor(arguments.device),
        "processors": os.cpu_count(),
        "seed": work.seed,
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def check_losses(work: Work, names: list[str]) -> dict[str, dict[str, float]]:
    """Compare loss and gradient of every tool with an independent implementation, on one batch.

    Without dropout. For a cross-entropy instead of a KL divergence the teacher's entropy is
    subtracted; plain fine-tuning has another loss and is left out.

    Raises:
        AssertionError: If a tool trains on another loss.
    """
    rows = list(range(min(work.batch_size, len(work.rows))))
    reference, entropy, student = work.reference_loss(rows)
    reference.backward()
    reference = reference.detach()
    expected = _gradient(student)
    found = {}
    for name in names:
        if name == "fine_tuning":
            continue
        contestant = maker(name)(work)
        contestant.student.eval()
        loss = contestant.loss(rows)
        loss.backward()
        loss = loss.detach()
        if contestant.counts_entropy:
            loss = loss - entropy
        gradient = _gradient(contestant.student)
        loss_error = float(abs(loss - reference))
        gradient_error = float((gradient - expected).norm() / expected.norm())
        bf16 = bool(getattr(contestant, "in_bf16", False))
        found[name] = {
            "loss": float(loss), "loss_error": loss_error, "gradient_error": gradient_error,
        }  # fmt: skip
        loss_limit, gradient_limit = TOLERANCE[bf16]
        assert loss_error < loss_limit and gradient_error < gradient_limit, (
            f"{title(name)} has another loss: {found[name]}, by hand {float(reference):.6f}"
        )
    return {"by_hand": {"loss": float(reference)}} | found


def _gradient(model: torch.nn.Module) -> torch.Tensor:
    named = sorted(model.named_parameters())
    return torch.cat([parameter.grad.flatten().float().cpu() for _, parameter in named])


def rounds(work: Work, names: list[str], count: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each tool's epoch in each round."""
    seconds = {name: {"wall": [], "processor": []} for name in names}
    for turn in range(count):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            clock = one_pass(work, name)
            seconds[name]["wall"].append(clock.wall)
            seconds[name]["processor"].append(clock.processor)
            rate = len(work.rows) / clock.wall
            _log(f"round {turn + 1} of {count}: {title(name)}, {rate:.1f} examples/s")
    return seconds


def one_pass(work: Work, name: str) -> Clock:
    """Train a new student for one epoch and return its clock."""
    torch.manual_seed(work.seed)
    threads = torch.get_num_threads()
    contestant = maker(name)(work)
    clock = Clock(work.steps, torch.device(work.device))
    with clock.running():
        contestant.train(clock)
    assert torch.get_num_threads() == threads, f"{title(name)} changed the number of threads"
    # Global settings: distill requests deterministic kernels on a GPU.
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    del contestant
    gc.collect()
    return clock


def accuracies(work: Work, names: list[str], data: Path) -> dict[str, dict[str, float]]:
    """Return test accuracy of each student after one epoch and of the teacher, with intervals.

    Measured on the whole evaluated split of the data folder, with plain transformers.
    """
    source, task = FileSource(name="whole", path=str(data)), SequenceClassification()
    with tempfile.TemporaryDirectory(dir=work.folder) as cache:
        test = prepare_data(source, task.schema, Path(cache)).splits["test"]
        students = {"teacher": work.teacher()}
        for name in names:
            torch.manual_seed(work.seed)
            contestant = maker(name)(work)
            with (clock := Clock(work.steps, torch.device(work.device))).running():
                contestant.train(clock)
            students[name] = contestant.student
        return {
            name: bootstrap_interval(np.mean, work.correct_predictions(student, test))._asdict()
            for name, student in students.items()
        }


def memory(work: Work, name: str) -> dict[str, float]:
    """Return the peak memory of this process after one epoch, in MB."""
    maker(name)  # imports this tool only
    before = _peak()
    one_pass(work, name)
    found = {"imported": before, "peak": _peak()}
    if work.device == "cuda":
        found["device"] = torch.cuda.max_memory_allocated() / 1e6
    return found


def _peak() -> float:
    try:  # on Linux ru_maxrss of a new process includes its parent's peak
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _memory_apart(work: Work, name: str, threads: int) -> dict[str, float]:
    command = [
        sys.executable, __file__, "--memory-of", name, "--folder", work.folder,
        "--threads", str(threads),
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def inside(work: Work, tries: int) -> dict:
    """Return the time of each part of a training step of distill, and its hardware utilization."""
    import peak
    import step_parts
    from contestants.distill_training import DistillTraining

    contestant = DistillTraining(work)
    config = contestant.student.config
    batches = contestant.batches
    lengths = [
        (len(rows), max(batches.student[rows]["length"]))
        for rows in batches.loader(work.batch_size, work.seed).sampler
    ]
    tokens = round(sum(b * length for b, length in lengths) / len(lengths))
    shapes = peak.products(config, tokens)
    result = {
        "gflop_per_example": peak.step_flops(config, lengths) / 1e9 / len(work.rows),
        "peak": {
            str(dtype).removeprefix("torch."): peak.rates(shapes, dtype, work.device)
            for dtype in (torch.bfloat16, torch.float32)
        },
        "parts": step_parts.parts(work, tries),
        "cached_over_plain": step_parts.cached_over_plain(work),
        "outputs": step_parts.outputs_over_forward(work),
    }
    gflop = result["gflop_per_example"] * len(work.rows) / work.steps
    index = 0 if work.device == "cuda" else 1  # wall or processor time, as for the peaks
    milliseconds = {name: spent[index] for name, spent in result["parts"].items()}
    passes = milliseconds["forward"] + milliseconds["backward"]
    result["gflops"] = {
        "whole step": 1e3 * gflop / milliseconds["step"],
        "forward and backward": 1e3 * gflop / passes,
    }
    return result


def markdown(result: dict) -> str:
    """Return the results as Markdown."""
    about = result["setting"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    lines = [
        f"{about['date']}, {about['processor']}, {about['processors']} processors, "
        f"{about['threads']} threads, {about['device']}; Python {about['python']}, {versions}.",
        f"{about['data']}: {about['examples']} examples of {about['tokens']['mean']:.1f} tokens on "
        f"average (longest {about['tokens']['longest']}), batches of {about['batch_size']}, "
        f"{about['teacher']} to its layers {about['layers']}, seed {about['seed']}.",
        "",
        *_speed(result),
        "",
        *_ratios(result["rounds"]),
    ]
    if "parts" in result:
        lines += ["", *_parts(result)]
    return "\n".join(lines)


def _speed(result: dict) -> list[str]:
    examples = result["setting"]["examples"]
    lines = [
        "| | examples/s | range | examples per processor-second | peak memory, MB | loss | "
        "accuracy after one pass |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, seconds in result["rounds"].items():
        wall = sorted(examples / value for value in seconds["wall"])
        processor = examples / statistics.median(seconds["processor"])
        memory = result.get("memory", {}).get(name, {}).get("peak")
        loss = result["losses"].get(name, {}).get("loss")
        lines.append(
            f"| {title(name)} | {statistics.median(wall):.1f} | {wall[0]:.1f} to {wall[-1]:.1f} | "
            f"{processor:.1f} | {_number(memory, 0)} | {_number(loss, 5)} | "
            f"{_interval(result.get('accuracy', {}).get(name))} |"
        )
    if "accuracy" in result:
        blanks = " | ".join([""] * 5)
        lines.append(f"| (the teacher) | {blanks} | {_interval(result['accuracy']['teacher'])} |")
    return lines


def _interval(value: dict | None) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" if value else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _ratios(seconds: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return speed ratios of distill to the other tools, per round: median and range."""
    variants = [name for name in ("cached", "live", "live_fp32") if name in seconds]
    against = [name for name in (*OTHERS, "fine_tuning") if name in seconds]
    lines = [
        "| times as fast as | "
        + " | ".join(f"{title(n)} | processor time" for n in variants)
        + " |",
        "|---|" + "---:|" * 2 * len(variants),
    ]
    for other in against:
        cells = []
        for name in variants:
            for kind in ("wall", "processor"):
                pairs = zip(seconds[other][kind], seconds[name][kind], strict=True)
                ratio = sorted(slow / fast for slow, fast in pairs)
                cells.append(f"{statistics.median(ratio):.2f} ({ratio[0]:.2f} to {ratio[-1]:.2f})")
        lines.append(f"| {title(other)} | " + " | ".join(cells) + " |")
    return lines


def _parts(result: dict) -> list[str]:
    parts = result["parts"]
    whole = parts["step"][1]
    lines = ["| part of a step | ms | processor ms | share |", "|---|---:|---:|---:|"]
    for name, (seconds, of_processor) in parts.items():
        lines.append(
            f"| {name} | {seconds:.2f} | {of_processor:.2f} | {of_processor / whole:.1%} |"
        )
    whole, passes = result["gflops"]["whole step"], result["gflops"]["forward and backward"]
    types = " | ".join(f"{dtype}, GFLOP/s | utilization of a step" for dtype in result["peak"])
    lines += ["", f"| matrix product | {types} |", "|---|" + "---:|" * 2 * len(result["peak"])]
    for shape in next(iter(result["peak"].values())):
        rates = [of_type[shape] for of_type in result["peak"].values()]
        cells = " | ".join(f"{rate:.0f} | {whole / rate:.1%}" for rate in rates)
        lines.append(f"| {shape} | {cells} |")
    lines += [
        "",
        f"- a step reaches {whole:.0f} GFLOP/s, its forward and backward passes {passes:.0f} "
        "(on a CPU per second of processor time, as in the table)",
    ]
    outputs = result["outputs"]
    lines += [
        f"- {result['gflop_per_example']:.3f} GFLOP per example, including padding",
        f"- a step on cached logits takes {result['cached_over_plain']:.3f} times as long as plain "
        "fine-tuning (processor time, median over batches)",
        f"- caching logits: {outputs['examples_per_second']:.0f} examples/s, "
        f"{outputs['share_wall']:.1%} of the speed of bare forward passes "
        f"({outputs['share_processor']:.1%} by processor time)",
    ]
    return lines


if __name__ == "__main__":
    main()
