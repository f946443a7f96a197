"""The commands as a shell sees them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = str(Path(sys.executable).parent / "distill")


def call(*arguments, **settings):
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **settings)


@pytest.mark.parametrize("start", [[SCRIPT], [sys.executable, "-m", "distill"]])
def test_help_answers_from_any_folder(start, tmp_path):
    started = time.perf_counter()
    result = call(*start, "--help", cwd=tmp_path)
    seconds = time.perf_counter() - started
    assert result.returncode == 0
    assert "student: bilstm, cnn, convnext, fast" in result.stdout
    assert seconds < 10  # 0.8 s on an idle machine: torch is not imported
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    result = call(SCRIPT, "student=quarter", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [result.stderr.strip()]
    assert result.stderr.startswith("error: there is no student=quarter")
    assert not list(tmp_path.iterdir())


def test_help_and_mistakes_import_no_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['distill', 'student=quarter']\n"
        "from distill.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    assert call(sys.executable, "-c", code, cwd=tmp_path).stdout.strip() == "False"
