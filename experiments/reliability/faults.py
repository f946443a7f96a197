"""Kills, faults, hostile files, lack of room and of permission, many processes, long soaks.

    python -m experiments.reliability.faults              # all parts, about 25 minutes on two cores
    python -m experiments.reliability.faults kills faults --seed 1
    python -m experiments.reliability.faults kinds --kills 40 --minutes 30
    python -m experiments.reliability.faults soak --runs 1000

Every part prints a line for each case and, at the end, its figures; with ``--json FILE`` they are
written there as well. The exit code is 1 if anything was lost, silently different or a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reliability import damage, hostile, kinds, moments
from experiments.reliability.workspace import (
    Outcome,
    Process,
    Workspace,
    missing_points,
    points_twice,
)


@dataclass
class Figures:
    """What a part has found.

    Attributes:
        part: its name.
        counts: number of cases by how they ended.
        wrong: cases that must not be.
        values: measured values by name.
    """

    part: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def note(self, case: str, ending: str, problem: str | None = None) -> None:
        """Count a case and print its line."""
        self.counts[ending] += 1
        if problem is not None:
            self.wrong.append(f"{case}: {problem}")
        print(f"{self.part}: {case}: {ending}{'' if problem is None else f' WRONG: {problem}'}")
        sys.stdout.flush()


def ending(outcome: Outcome) -> tuple[str, str | None]:
    """Return how a command ended in words, and what is wrong with it."""
    if outcome.code < 0:
        return "killed", f"by signal {-outcome.code}"
    if outcome.has_traceback:
        return "traceback", (outcome.err or outcome.out).strip().splitlines()[-1]
    if outcome.code == 0:
        return "finished", None
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    if len(lines) == 1 and lines[0].startswith("error: "):
        return "refused in one line", None
    return f"exit code {outcome.code}", f"standard error: {outcome.err[-200:]!r}"


def compare(workspace: Workspace, name: str, reference: str) -> str | None:
    """Return in what a run differs from the reference; ``None`` if it is the same to the bit."""
    found, expected = workspace.result(name), workspace.result(reference)
    different = [part for part in expected if found[part] != expected[part]]
    if different:
        return f"other {', '.join(different)}"
    if twice := points_twice(workspace.folder / name):
        return f"points twice: {twice[0]}"
    return None


def kills(root: Path, options: argparse.Namespace) -> Figures:
    """Kill runs at random and at chosen moments, and continue them."""
    figures = Figures("kills")
    workspace = Workspace(root / "kills")
    whole = workspace.run("reference")
    assert whole.code == 0, whole.err
    reference = workspace.folder / "reference"
    draw = random.Random(options.seed)

    def resumed(case: str, name: str, tries: int = 6) -> None:
        for _ in range(tries):
            begun = (workspace.folder / name / "config.yaml").exists()
            if begun and not (workspace.folder / name / "report.json").exists():
                outcome = workspace.start(f"resume={workspace.folder / name}").wait()
            else:
                outcome = workspace.run(name)
            how, problem = ending(outcome)
            if how == "finished":
                break
        if problem is None and how == "finished":
            problem = compare(workspace, name, "reference")
            lost = missing_points(workspace.folder / name, reference)
            if problem is None and lost:
                problem = f"other points: {lost[0]}"
        figures.note(case, how if problem else "same bits", problem)

    for number in range(options.kills):
        name, moment = f"random{number}", draw.uniform(0.05, 0.95) * whole.seconds
        shutil.rmtree(workspace.cache, ignore_errors=True)
        kills_of_run = draw.randint(1, 2)
        for _ in range(kills_of_run):
            output = f"output_dir={workspace.folder / name}"
            process = workspace.start(*workspace.options, output)
            time.sleep(moment)
            process.kill()
            process.wait()
            moment *= draw.uniform(0.3, 1)
        resumed(f"{kills_of_run} random, last after {moment:.1f} s", name)
        workspace.forget(name)
    for case, (patch, keeps_cache) in moments.MOMENTS.items():
        name = "chosen"
        if not keeps_cache:
            shutil.rmtree(workspace.cache, ignore_errors=True)
        outcome = workspace.run(name, before=patch)
        if outcome.code != -signal.SIGKILL:
            figures.note(case, "not killed", f"exit code {outcome.code}: {outcome.err[-200:]}")
        else:
            resumed(f"killed {case}", name)
        workspace.forget(name)
    for case, overrides in moments.EARLY_STOPS.items():
        plain = workspace.run("plain", *overrides)
        assert plain.code == 0, plain.err
        workspace.run(
            "chosen", *overrides, before=moments.MOMENTS["before the student is saved"][0]
        )
        moved = workspace.folder / "moved"
        (workspace.folder / "chosen").rename(moved)
        how, problem = ending(workspace.start(f"resume={moved}").wait())
        if how == "finished":
            problem = compare(workspace, "moved", "plain")
        figures.note(f"{case}, killed, folder moved", how if problem else "same bits", problem)
        workspace.forget("moved", "plain")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        shutil.rmtree(workspace.cache, ignore_errors=True)
        output = f"output_dir={workspace.folder / 'signal'}"
        process = workspace.start(*workspace.options, output)
        while not (workspace.folder / "signal" / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.02)
        process.kill(number)
        outcome = process.wait()
        problem = None
        if outcome.code != 128 + number or "resume=" not in outcome.err or outcome.has_traceback:
            problem = f"exit code {outcome.code}, {outcome.err[-300:]!r}"
        figures.note(f"{number.name}", f"exit code {outcome.code}", problem)
        resumed(f"continued after {number.name}", "signal")
        workspace.forget("signal")
    before = damage.snapshot(reference)
    outcome = workspace.start(f"resume={reference}").wait()
    changed = damage.snapshot(reference) != before
    figures.note(
        "resume= of a finished run", f"exit code {outcome.code}",
        "it wrote something" if changed or outcome.code != 2 else None,
    )  # fmt: skip
    return figures


def kills_of_kinds(root: Path, options: argparse.Namespace) -> Figures:
    """Kill sweeps, searches, recipes and runs of two processes at random, and start them again."""
    figures = Figures("kinds")
    near = Workspace(root / "kinds")
    draw = random.Random(options.seed)
    with _small_disk(root / "far", 64) as disk:
        far = near if disk is None else Workspace(root / "kinds", disk / "cache")
        if disk is None:
            figures.values["another file system"] = "mount is not allowed here: left out"
        known = {}
        for name, kind in kinds.KINDS.items():
            workspace = far if kind.far_cache else near
            shutil.rmtree(workspace.cache, ignore_errors=True)
            overrides = kinds.overrides_of(kind, workspace, "reference")
            whole = workspace.start(*overrides, program=kind.program).wait()
            how, problem = ending(whole)
            known[name] = workspace, whole.seconds, kinds.models(near.folder / "reference")
            figures.values[f"models of {name}"] = sum(known[name][2].values())
            if problem is not None or not known[name][2]:
                figures.note(f"{name}, undisturbed", how, problem or "it left no model")
            workspace.forget("reference")
        deadline = time.monotonic() + 60 * options.minutes
        for number in range(options.kills):
            if time.monotonic() > deadline:
                figures.values["kills left out for lack of time"] = options.kills - number
                break
            name = list(kinds.KINDS)[number % len(kinds.KINDS)]
            workspace, seconds, expected = known[name]
            moments_of_kills, how, problem = kinds.killed_and_continued(
                workspace, kinds.KINDS[name], "killed", seconds, draw, ending
            )
            figures.counts["kills"] += moments_of_kills.count(",") + 1
            if problem is None and kinds.models(near.folder / "killed") != expected:
                problem = "other models"
            if twice := points_twice_below(near.folder / "killed"):
                problem = problem or f"points twice: {twice[0]}"
            case = f"{name}, killed after {moments_of_kills} of {seconds:.1f} s"
            figures.note(case, how if problem else "same bits", problem)
            workspace.forget("killed")
    return figures


def points_twice_below(folder: Path) -> list[str]:
    """Return the tags of curves with two points of a step, in every folder with event files."""
    folders = sorted({file.parent for file in folder.rglob("events.out.tfevents.*")})
    return [tag for one in folders for tag in points_twice(one)]


def faults(root: Path, options: argparse.Namespace) -> Figures:
    """Damage every kind of kept file in every way, and run again."""
    figures = Figures("faults")
    workspace = Workspace(root / "faults")
    extra = [
        f"data.unlabeled={workspace.folder / 'more.csv'}", "augmentation=deletion",
        "student=bilstm", "student.start=outputs",
    ]  # fmt: skip
    whole = workspace.run("reference", *extra)
    assert whole.code == 0, whole.err
    kept = root / "kept"
    shutil.copytree(workspace.cache, kept, dirs_exist_ok=True)
    draw = random.Random(options.seed)
    cases = [
        (kind, file, fault)
        for kind, file in damage.kinds(workspace.cache)
        for fault in damage.FAULTS
        if damage.applies(fault, file)
    ]
    chosen = (
        cases if options.faults is None else draw.sample(cases, min(options.faults, len(cases)))
    )
    for kind, file, fault in chosen:
        shutil.rmtree(workspace.cache)
        shutil.copytree(kept, workspace.cache)
        damage.FAULTS[fault](workspace.cache / file.relative_to(workspace.cache), draw)
        if kind == "augmented":  # read only where the data are prepared
            shutil.rmtree(workspace.cache / "prepared")
        outcome = workspace.run("again", *extra)
        how, problem = ending(outcome)
        if how == "finished":
            said = "made anew" in outcome.out + outcome.err
            how = "made anew, same bits" if said else "not noticed"
            problem = compare(workspace, "again", "reference")
            if problem is None and not said:
                problem = "nothing was said"
        figures.note(f"{kind}/{file.name}, {fault}", how, problem)
        workspace.forget("again")
    _damaged_runs(workspace, figures, draw)
    return figures


def _damaged_runs(workspace: Workspace, figures: Figures, draw: random.Random) -> None:
    """Damage the files of run folders: interrupted ones are continued, finished ones are read."""
    plain = workspace.run("plain")
    assert plain.code == 0, plain.err
    workspace.run("stopped", before=moments.MOMENTS["before the student is saved"][0])
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt", "checksums.json"):
        for fault, apply in damage.FAULTS.items():
            file = workspace.folder / "again" / "checkpoints" / name
            if not damage.applies(fault, file):
                continue
            workspace.forget("again")
            shutil.copytree(workspace.folder / "stopped", workspace.folder / "again")
            apply(file, draw)
            how, problem = ending(workspace.start(f"resume={workspace.folder / 'again'}").wait())
            if how == "finished":
                problem = compare(workspace, "again", "plain")
                how = "continued, same bits"
            figures.note(f"run/checkpoints/{name}, {fault}", how, problem)
    for name in ("report.json", "student/model.safetensors", "control/config.json", "config.yaml"):
        for fault, apply in damage.FAULTS.items():
            file = workspace.folder / "again" / name
            if not damage.applies(fault, file):
                continue
            workspace.forget("again")
            shutil.copytree(workspace.folder / "plain", workspace.folder / "again")
            apply(file, draw)
            how, problem = ending(workspace.run("again"))
            if how == "finished":
                problem = compare(workspace, "again", "plain")
                how = "made anew, same bits"
            figures.note(f"run/{name}, {fault}", how, problem)
    workspace.forget("again")


def rooms(root: Path, options: argparse.Namespace) -> Figures:
    """A full disk, a limit on files, a read-only folder, no permission, two file systems."""
    figures = Figures("rooms")
    workspace = Workspace(root / "rooms")
    assert workspace.run("reference").code == 0

    def tried(case: str, start: Callable[[], Outcome], after: Callable[[], Outcome] | None) -> None:
        how, problem = ending(start())
        figures.note(case, how, problem)
        if after is not None:
            how, problem = ending(after())
            if how == "finished":
                problem = compare(workspace, "tried", "reference")
            figures.note(f"{case}, then with room", how if problem else "same bits", problem)
        workspace.forget("tried")

    for megabytes in options.disk:
        with _small_disk(root / "disk", megabytes) as disk:
            if disk is None:
                figures.values["small disk"] = "mount is not allowed here: left out"
                break
            small = Workspace(root / "rooms", disk / "cache")
            tried(
                f"cache on a disk of {megabytes} MB", lambda one=small: one.run("tried"),
                lambda: workspace.run("tried"),
            )  # fmt: skip
        with _small_disk(root / "disk", megabytes) as disk:
            assert disk is not None
            output = f"output_dir={disk / 'run'}"
            shutil.rmtree(workspace.cache, ignore_errors=True)

            def on_disk(output: str = output) -> Outcome:
                return workspace.start(*workspace.options, output).wait()

            how, problem = ending(on_disk())
            figures.note(f"run on a disk of {megabytes} MB", how, problem)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            how, problem = ending(on_disk())
            if how == "finished":
                shutil.copytree(disk / "run", workspace.folder / "tried")
                problem = compare(workspace, "tried", "reference")
            figures.note(
                f"run on a disk of {megabytes} MB, then with room",
                how if problem else "same bits", problem,
            )  # fmt: skip
            workspace.forget("tried")

    def limited(kilobytes: int) -> Callable[[], None]:
        import resource

        limit = 1024 * kilobytes
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    for kilobytes in (8, 64, 128, 256):
        shutil.rmtree(workspace.cache, ignore_errors=True)
        tried(
            f"ulimit -f {kilobytes}",
            lambda size=kilobytes: workspace.run("tried", before=limited(size)),
            lambda: workspace.run("tried"),
        )  # fmt: skip
    for folder in ("run", "cache"):
        closed = root / "closed" / folder
        closed.mkdir(parents=True, exist_ok=True)
        closed.chmod(0o555)

        def as_nobody() -> None:
            os.setgid(65534)
            os.setuid(65534)
            os.environ["HOME"] = "/nonexistent"

        outcome = workspace.start(
            *workspace.options,
            f"output_dir={closed if folder == 'run' else workspace.folder / 'tried'}",
            *([f"cache_dir={closed}"] if folder == "cache" else []),
            before=as_nobody if os.getuid() == 0 else None,
        ).wait()
        how, problem = ending(outcome)
        figures.note(f"no permission in {folder}", how, problem)
        workspace.forget("tried")
    return figures


class _small_disk:
    """Mount a small file system in memory; ``None`` where that is not allowed."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self.megabytes, self.mounted = folder, megabytes, False

    def __enter__(self) -> Path | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self.megabytes}m", "tmpfs", str(self.folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        return self.folder if self.mounted else None

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


def crowd(root: Path, options: argparse.Namespace) -> Figures:
    """Start many processes at once on one empty cache, and kill some of them."""
    figures = Figures("crowd")
    workspace = Workspace(root / "crowd")
    assert workspace.run("reference").code == 0
    draw = random.Random(options.seed)
    for killed in (0, options.processes // 2):
        shutil.rmtree(workspace.cache)
        names = [f"one{number}" for number in range(options.processes)]
        processes = [
            workspace.start(*workspace.options, f"output_dir={workspace.folder / name}")
            for name in names
        ]
        victims: list[Process] = draw.sample(processes, killed)
        for victim in victims:
            time.sleep(draw.uniform(0.2, 2))
            victim.kill()
        trained = 0
        for name, process in zip(names, processes, strict=True):
            outcome = process.wait()
            trained += "teacher: fine-tuning" in outcome.out
            if process in victims:
                outcome = workspace.run(name)
            how, problem = ending(outcome)
            if how == "finished":
                problem = compare(workspace, name, "reference")
            case = f"one of {options.processes}, {killed} killed"
            figures.note(case, how if problem else "same bits", problem)
            workspace.forget(name)
        figures.values[f"trainings of the teacher begun, {killed} killed"] = trained
    return figures


def attacks(root: Path, options: argparse.Namespace) -> Figures:
    """Offer hostile configurations, weights, data and names; each has a canary."""
    figures = Figures("hostile")
    workspace = Workspace(root / "hostile")
    finished = workspace.run("reference")
    assert finished.code == 0, finished.err
    for case, attack in hostile.ATTACKS.items():
        canary = root / "canary"
        canary.unlink(missing_ok=True)
        outcome, problem = attack(workspace, canary)
        if canary.exists():
            problem = "the canary fired"
        how = ending(outcome)[0]
        if outcome.has_traceback:
            problem = problem or ending(outcome)[1]
        figures.note(case, how, problem)
    for case, problem in hostile.foreign_reports(workspace):
        figures.note(f"distill-report: {case}", "read or listed" if not problem else "no", problem)
    return figures


def soak(root: Path, options: argparse.Namespace) -> Figures:
    """Do many short runs in one process, and watch its memory, threads and open files."""
    figures = Figures("soak")
    workspace = Workspace(root / "soak")

    def watch() -> int:
        import distill
        from distill.evaluation import speed

        speed.EXAMPLES, speed.ROUNDS = 4, 1
        lines = []
        for number in range(options.runs):
            folder = workspace.folder / "short"
            distill.run([
                *workspace.options, f"output_dir={folder}", f"seed={number % 3}",
                "trainer.max_epochs=1", "control=false", "baselines=[]",
            ])  # fmt: skip
            shutil.rmtree(folder)
            lines.append(json.dumps(_resources()))
        (workspace.folder / "resources").write_text("\n".join(lines))
        return 0

    how, problem = ending(Process(watch, workspace.log).wait())
    if how == "finished":
        rows = [
            json.loads(line) for line in (workspace.folder / "resources").read_text().split("\n")
        ]
        warm = len(rows) // 4
        for key in rows[0]:
            values = np.array([row[key] for row in rows[warm:]], dtype=float)
            slope = float(np.polyfit(range(len(values)), values, 1)[0]) if warm else 0
            figures.values[key] = {
                "first": rows[0][key], "after a quarter": rows[warm][key], "last": rows[-1][key],
                "per run": round(slope, 4),
            }  # fmt: skip
        for key in ("threads", "open files"):
            if rows[-1][key] > rows[warm][key] + 2:
                problem = f"{key} grow"
    figures.note(f"{options.runs} runs in one process", how, problem)
    return figures


def _resources() -> dict[str, float]:
    """Return what this process holds."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "resident MB": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "open files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
    }


def cost(root: Path, options: argparse.Namespace) -> Figures:
    """Measure what the checksums cost a run that takes everything from the cache."""
    figures = Figures("cost")
    workspace = Workspace(root / "cost")

    def measure() -> int:
        import distill
        from distill.core import checksums
        from distill.evaluation import speed

        if not options.default_run:
            speed.EXAMPLES, speed.ROUNDS = 4, 1
        spent = [0.0, 0.0]
        original = checksums.file_checksum

        def timed(file: Path) -> Any:
            started = time.perf_counter()
            found = original(file)
            spent[0] += time.perf_counter() - started
            spent[1] += found.bytes
            return found

        checksums.file_checksum = timed
        given = [f"cache_dir={workspace.cache}"] if options.default_run else workspace.options
        for name in ("first", "cached"):
            spent[:] = [0.0, 0.0]
            started = time.perf_counter()
            distill.run([*given, f"output_dir={workspace.folder / name}"])
            seconds = time.perf_counter() - started
            (workspace.folder / f"{name}.json").write_text(json.dumps({
                "seconds": round(seconds, 2), "seconds of checksums": round(spent[0], 4),
                "MB": round(spent[1] / 1e6, 2), "share": round(spent[0] / seconds, 5),
            }))  # fmt: skip
        return 0

    how, problem = ending(Process(measure, workspace.log).wait())
    for name in ("first", "cached"):
        file = workspace.folder / f"{name}.json"
        figures.values[name] = json.loads(file.read_text()) if file.exists() else None
    figures.note("a first and a cached run", how, problem)
    return figures


PARTS: dict[str, Callable[[Path, argparse.Namespace], Figures]] = {
    "kills": kills, "kinds": kills_of_kinds, "faults": faults, "rooms": rooms, "crowd": crowd,
    "hostile": attacks, "soak": soak, "cost": cost,
}  # fmt: skip


def versions() -> Iterator[str]:
    """Yield what the figures depend on."""
    import datasets
    import pytorch_lightning
    import torch
    import transformers

    yield time.strftime("%Y-%m-%d")
    yield f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    for module in (torch, transformers, pytorch_lightning, datasets):
        yield f"{module.__name__} {module.__version__}"


def main() -> int:
    """Run the parts, and print what they found."""
    parser = argparse.ArgumentParser(prog="python -m experiments.reliability.faults")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=40, help="runs killed at random")
    parser.add_argument(
        "--minutes", type=float, default=60, help="after which no further kind is killed"
    )
    parser.add_argument("--faults", type=int, help="so many of the faults, drawn (default: all)")
    parser.add_argument("--disk", type=int, nargs="*", default=[1, 2], help="sizes in MB")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=100, help="runs of the soak")
    parser.add_argument("--default-run", action="store_true", help="cost: of distill as it comes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}")
    from distill.core.third_party_logging import silence_third_party_logging

    silence_third_party_logging()
    import distill.pipeline.run  # noqa: F401 - before the processes are forked

    found = []
    with tempfile.TemporaryDirectory(prefix="reliability") as folder:
        Path(folder).chmod(0o755)
        for part in options.parts or PARTS:
            started = time.monotonic()
            figures = PARTS[part](Path(folder), options)
            figures.values["seconds"] = round(time.monotonic() - started)
            found.append(figures)
    print("\n" + ", ".join(versions()) + f", seed {options.seed}")
    for figures in found:
        print(f"{figures.part}: {sum(figures.counts.values())} cases: {dict(figures.counts)}")
        print(f"    {json.dumps(figures.values)}")
        for wrong in figures.wrong:
            print(f"    WRONG {wrong}")
    if options.json:
        options.json.write_text(json.dumps([vars(figures) for figures in found], indent=2))
    return 1 if any(figures.wrong for figures in found) else 0


if __name__ == "__main__":
    sys.exit(main())
