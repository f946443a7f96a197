"""SIGTERM and SIGHUP end a command as Ctrl-C does, and the line says how to go on."""

import os
import signal
import sys
from pathlib import Path

import pytest

from distill.cli.distill import DistillCommand
from distill.cli.shell import _Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_once_and_is_remembered(number):
    signals = _Signals()
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores one of them
    try:
        with pytest.raises(KeyboardInterrupt), signals.handled():
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) == signal.SIG_IGN
        assert signals.received == number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_what_is_ignored_stays_so(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with _Signals().handled():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_line_names_the_folder_and_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = DistillCommand()
    assert command.after_interrupt() == "nothing was begun, the same command starts again"
    command.folder = tmp_path / "runs" / "my run"
    assert "nothing was begun" in command.after_interrupt()
    command.folder.mkdir(parents=True)
    (command.folder / "config.yaml").touch()
    assert command.after_interrupt() == "distill resume='runs/my run' continues the run"
    command.sweep_folder = Path("/elsewhere/sweep")
    monkeypatch.setattr(sys, "argv", ["distill", "-m", "seed=0,1"])
    assert command.after_interrupt() == (
        "the same command with output_dir=/elsewhere/sweep continues the sweep"
    )
    monkeypatch.setattr(sys, "argv", ["distill", "-m", "output_dir=x"])
    assert command.after_interrupt() == "the same command continues the sweep"


def test_a_finished_run_is_not_touched_by_resume(command, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("student: {}\n")
    report = '{"schema": 1, "run": {"name": "x"}, "task": "t", "data": {"name": "d"}, "models": []}'
    (run / "report.json").write_text(report)
    before = {file: file.stat().st_mtime_ns for file in run.iterdir()}
    code, _, err = command(f"resume={run}")
    assert code == 2 and "is finished" in err
    assert {file: file.stat().st_mtime_ns for file in run.iterdir()} == before
    (run / "report.json").write_text(report[:40])  # cut short: not finished
    code, _, err = command(f"resume={run}")
    assert "is finished" not in err
