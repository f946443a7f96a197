"""Made-up but realistic contents of report.json (schema 1) and run folders for the tests."""

import json
from pathlib import Path

import yaml

from distill.reporting.schema import Report

SHAPES = {  # student -> parameters, bytes, multiply-accumulates, latency in ms
    "half": (17_390_000, 69_600_000, 341_000_000, 5.4),
    "third": (15_610_000, 62_500_000, 227_000_000, 3.7),
    "single": (13_840_000, 55_400_000, 114_000_000, 2.0),
}


def model(
    role,
    name,
    value=None,
    *,
    metric="accuracy",
    half_width=0.016,
    parameters=22_713_216,
    size=90_870_000,
    macs=682_000_000,
    latency=10.6,
    ece=0.034,
    agreement=None,
):
    return {
        "role": role,
        "name": name,
        "size": {
            "parameters": parameters,
            "parameters_without_embeddings": max(parameters - 11_900_000, 0),
            "bytes": size,
            "multiply_accumulates": macs,
            "sequence_length": 64,
        },
        "speed": {
            "latency_ms": {"p50": latency, "p95": latency * 1.13},
            "latency_ms_median_round": {"p50": latency * 1.02, "p95": latency * 1.2},
            "cpu_ms": {"p50": latency, "p95": latency * 1.11},
            "examples_per_second": 1000 / latency,
            "batch_size": 1,
            "threads": 1,
            "runtime": "torch",
            "peak_memory_bytes": None,
        },
        "quality": {
            metric: {"value": value, "low": value - half_width, "high": value + half_width},
            "macro_f1": {
                "value": value - 0.004,
                "low": value - 0.004 - half_width,
                "high": value - 0.004 + half_width,
            },
        },
        "per_class": None,
        "calibration": None
        if ece is None
        else {"expected_calibration_error": ece, "negative_log_likelihood": 0.41},
        "fidelity": None if agreement is None else {"agreement": agreement, "kl_divergence": 0.11},
        "constant_prediction": None,
        "calibration_intervals": None,
        "temperature_scaling": None,
    }


def difference(value, low, high, p_value, seeds=1):
    return {
        "value": value,
        "low": low,
        "high": high,
        "p_value": p_value,
        "seeds": seeds,
        "covers": ["examples"] if seeds == 1 else ["seeds", "examples"],
    }


def seed_means(seeds, **values):
    """Means over several seeds by role."""
    found = {
        role: {"value": value, "low": value - 0.013, "high": value + 0.013}
        for role, value in values.items()
        if value is not None
    }
    return found if seeds > 1 else None


def report(
    name="docstrings-half-kd",
    *,
    seed=1,
    student="half",
    teacher=0.881,
    value=0.871,
    control=0.868,
    gain=(0.003, -0.009, 0.015, 0.62),
    seeds=1,
    metric="accuracy",
    half_width=0.016,
    test=1_616,
    fingerprint="5f0e4b1cd2",
    data="docstrings",
    task="sequence_classification",
    overrides=(),
    latency=None,
):
    """A whole report; ``control=None`` leaves the control out, as ``control=false`` does."""
    parameters, size, macs, milliseconds = SHAPES[student]
    shape = {
        "parameters": parameters,
        "size": size,
        "macs": macs,
        "latency": latency or milliseconds,
        "metric": metric,
        "half_width": half_width,
    }
    models = [
        model("teacher", "minilm", teacher, metric=metric, half_width=half_width),
        model("student", student, value, agreement=0.912, ece=0.041, **shape),
    ]
    if control is not None:
        models.append(model("control", student, control, agreement=0.874, ece=0.077, **shape))
    return {
        "schema": 1,
        "run": {
            "name": name,
            "directory": f"runs/{name}",
            "started": "2026-05-04T10:20:30",
            "seconds": 412.5,
            "seed": seed,
            "overrides": list(overrides),
        },
        "task": task,
        "data": {
            "name": data,
            "fingerprint": fingerprint,
            "examples": {"train": 12_482, "validation": 1_460, "test": test},
            "evaluated_on": "test",
            "labels": ["numpy", "torch"],
            "notes": [],
        },
        "environment": {
            "distill": "0.1.0",
            "python": "3.11.9",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "pytorch_lightning": "2.6.6",
            "processor": "AMD EPYC 9B14",
            "threads": 2,
            "processes": 1,
            "accelerator": "cpu",
            "precision": "bf16-mixed",
        },
        "models": models,
        "baselines": [],
        "comparison": {
            "metric": metric,
            "retention": value / teacher,
            "retention_interval": {"low": value / teacher - 0.013, "high": value / teacher + 0.013},
            "size_ratio": parameters / 22_713_216,
            "speedup": 10.6 / (latency or milliseconds),
            "speedup_of": "latency_ms",
            "gain_over_control": None if control is None else difference(*gain, seeds),
            "difference_to_teacher": difference(
                value - teacher,
                value - teacher - 0.012,
                value - teacher + 0.012,
                0.11 if abs(value - teacher) < 0.012 else 0.0001,
                seeds,
            ),
            "difference_to_words": None,
            "gain_over_each_control": None,
            "means": seed_means(seeds, student=value, control=control),
            "calibration": None,
        },
        "timing": {
            "teacher_fine_tune": 176.0,
            "teacher_outputs": 21.4,
            "student": 98.0,
            "control": 93.1,
            "measure": 18.2,
            "baselines": 0.0,
        },
        "reused": {
            "teacher": False,
            "teacher_outputs": False,
            "control": False,
            "baselines": False,
        },
        "training": {
            "student": {"best": value, "best_epoch": 2, "epochs": 3, "seconds": 98.0},
        },
        "repeats": [],
    }


def typed_report(*args, **kwargs) -> Report:
    """The same, as it is read."""
    return Report.from_dict(report(*args, **kwargs))


def write_run(directory: Path, content: dict | None, config: dict | None = None, error=""):
    """A run's folder: finished with ``content``, unfinished without, failed with ``error``."""
    directory.mkdir(parents=True)
    if content is not None:
        (directory / "report.json").write_text(json.dumps(content))
    if config is not None or content is None:
        (directory / "config.yaml").write_text(yaml.safe_dump(config or {"seed": 1}))
    if error:
        (directory / "error.txt").write_text(error + "\n")
    return directory


def sweep(root: Path, students=("half", "third", "single"), temperatures=(1, 4), seeds=(1, 2, 3)):
    """Runs of every combination under ``root``; better with size and temperature."""
    base = {"half": 0.868, "third": 0.851, "single": 0.797}
    for student in students:
        for temperature in temperatures:
            for seed in seeds:
                name = f"{student}-t{temperature}-seed{seed}"
                gain = 0.002 * temperature + 0.001 * seed
                value = base[student] + gain
                write_run(
                    root / name,
                    report(
                        name,
                        seed=seed,
                        student=student,
                        value=value,
                        control=base[student],
                        gain=(gain, gain - 0.011, gain + 0.011, 0.2),
                        overrides=[
                            f"student={student}",
                            f"objective.soft_targets.temperature={temperature}",
                            f"seed={seed}",
                        ],
                    ),
                    {
                        "seed": seed,
                        "output_dir": f"runs/{name}",
                        "data": {"seed": seed, "limit": None},
                        "logger": {"save_dir": f"runs/{name}"},
                        "student": {"layers": {"half": 3, "third": 2, "single": 1}[student]},
                        "objective": {
                            "soft_targets": {"temperature": temperature, "weight": 0.9},
                            "hard_labels": {"weight": 0.1},
                        },
                    },
                )
    return root
