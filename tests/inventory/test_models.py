"""``distill-models``: what is listed, verified and removed, and what never is."""

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from distill.cli.models import main
from distill.core import cache
from distill.core.checksums import write_checksums
from distill.core.errors import UserError
from distill.inventory.entries import age, find_entries
from distill.inventory.removal import parse_age


def keep(folder: Path, kind: str, name: str, run: Path | None = None) -> Path:
    """Keep an entry as the program does, for a run."""

    def create(partial: Path) -> None:
        (partial / "rows.bin").write_bytes(b"0123456789" * 100)

    if run is None:
        cache.get_or_create(folder / kind / name, create)
    else:
        with cache.used_by(run):
            cache.get_or_create(folder / kind / name, create)
            cache.begin_run()
    return folder / kind / name


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "runs" / "films"
    (folder / "student").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "report.json").write_text("{}\n")
    (folder / "student" / "config.json").write_text("{}\n")
    write_checksums(folder / "student")
    return folder


@pytest.fixture
def kept(tmp_path, run) -> Path:
    folder = tmp_path / "cache"
    keep(folder, "teachers", "bert-films-1", run)
    keep(folder, "outputs", "2")
    return folder


@pytest.fixture
def models(kept, tmp_path, capsys, monkeypatch):
    """Run the command: ``models("--verify")`` -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def models(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--cache-dir", str(kept)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return models


def test_lists_cache_and_runs(models, run):
    code, out, err = models()
    assert code == 0 and not err
    assert "teachers: fine-tuned teachers, 1, " in out
    (line,) = [line for line in out.splitlines() if "bert-films-1" in line]
    assert line.split()[2] == "kB" and line.endswith("films")
    (line,) = [line for line in out.splitlines() if line.startswith("  2 ")]
    assert line.endswith("none")
    assert "runs/films" in out and "finished" in out and "  student" in out


def test_json_has_the_same(models, run):
    found = json.loads(models("--json", "--verify")[1])
    outputs, teacher = found["cache"]
    assert teacher["runs"] == [str(run)] and outputs["runs"] == []
    assert teacher["checked"] == outputs["checked"] == "ok"
    assert found["runs"][0]["models"].keys() == {"student"}
    assert found["runs"][0]["damage"] == {}


def test_verify_finds_a_flipped_bit_in_the_cache_and_in_a_run(models, kept, run):
    assert models("--verify")[0] == 0
    for file in (kept / "outputs" / "2" / "rows.bin", run / "student" / "config.json"):
        content = bytearray(file.read_bytes())
        content[0] ^= 1
        file.write_bytes(content)
    code, out, _ = models("--verify")
    assert code == 1
    assert "damaged: rows.bin: its checksum differs" in out
    assert "damaged: student: config.json: its checksum differs" in out


def test_a_dry_run_removes_nothing(models, kept):
    code, out, _ = models("--remove", "--unused")
    assert code == 0 and "would be removed: 1, " in out
    assert (kept / "outputs" / "2").is_dir()


def test_what_a_run_refers_to_stays(models, kept):
    code, out, _ = models("--remove", "--older-than", "0min", "--yes")
    assert code == 0 and "kept, for a run refers to them: 1" in out and "removed: 1, " in out
    assert (kept / "teachers" / "bert-films-1").is_dir()
    assert not (kept / "outputs" / "2").exists()


def test_also_after_the_run_was_moved(models, kept, run):
    moved = run.parent.with_name("elsewhere")
    run.parent.rename(moved)
    code, out, _ = models("--remove", "--unused", str(moved))
    assert code == 0 and "bert-films-1" not in out
    assert "would be removed: 2" in models("--remove", "--unused")[1]


def test_a_rule_for_time_counts_from_the_last_use(models, kept, run):
    before = time.time() - 40 * 86400
    for name in (cache.USERS, "checksums.json"):
        os.utime(kept / "outputs" / "2" / name, (before, before))
    assert "would be removed: 1" in models("--remove", "--unused", "--older-than", "30d")[1]
    keep(kept, "outputs", "2")  # used again
    assert "would be removed: 0" in models("--remove", "--unused", "--older-than", "30d")[1]


def test_what_a_process_uses_stays(models, kept):
    with FileLock(f"{kept / 'outputs' / '2'}.lock"):
        code, _, err = models("--remove", "--unused", "--yes")
    assert code == 1 and "in use by another process" in err
    assert (kept / "outputs" / "2").is_dir()


def test_damage_and_leftovers_go_whoever_refers_to_them(models, kept):
    (kept / "teachers" / "bert-films-1" / "rows.bin").write_bytes(b"short")
    (kept / "outputs" / "3.partial").mkdir()
    code, out, _ = models("--remove", "--damaged", "--yes")
    assert code == 0 and "removed: 2, " in out
    assert [path.name for path in (kept / "teachers").iterdir() if path.is_dir()] == []
    assert (kept / "outputs" / "2").is_dir()


def test_only_one_kind(models):
    _, out, _ = models("--kind", "teachers")
    assert "bert-films-1" in out and "outputs" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--remove"], "say what"),
        (["--unused"], "add it"),
        (["--yes"], "confirms"),
        (["--remove", "--older-than", "soon"], "30d"),
        (["--remove", "--older-than", "3 months"], "30d"),
        (["--kind", "teacher"], "there are augmented"),
        (["nowhere"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(models, arguments, said):
    code, out, err = models(*arguments)
    assert code == 2 and not out
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_a_cache_that_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "none"))
    assert main([]) == 2
    assert "there is no cache" in capsys.readouterr().err


def test_ages():
    assert [parse_age(text) for text in ("45min", "1.5h", "2w")] == [2700, 5400, 14 * 86400]
    assert [age(0, now) for now in (59, 61, 7200, 90000)] == ["now", "1 min", "2 h", "1 d"]
    with pytest.raises(UserError):
        parse_age("3 months")


def test_a_run_that_may_not_begin_leaves_its_folder_as_it_was(tmp_path, run):
    before = sorted(path.name for path in run.iterdir())
    with cache.used_by(run):
        cache.get_or_create(tmp_path / "cache" / "outputs" / "2", lambda partial: None)
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_real_run_is_known_to_what_it_uses(command, small, tmp_path):
    kept = tmp_path / "cache"
    options = [one for one in small if not one.startswith("cache_dir")]
    code, _, err = command(
        *options, f"cache_dir={kept}", f"output_dir={tmp_path}/run", "control=false"
    )
    assert code == 0, err
    entries = find_entries(kept)
    assert {"teachers", "outputs", "prepared", "encoded"} <= {entry.kind for entry in entries}
    for entry in entries:
        if entry.kind != "datasets":
            assert entry.users == [tmp_path / "run"], entry
            entry.verify()
            assert entry.state == "ok"
