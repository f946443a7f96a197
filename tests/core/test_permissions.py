import os
import stat

import pytest

from distill.core.cache import get_or_create
from distill.core.permissions import apply_umask
from distill.pipeline.run_directory import RunDirectory
from distill.training.trainer import TrainingResult
from tests.factories import make_model


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder) -> set[int]:
    return {
        stat.S_IMODE(path.stat().st_mode) & 0o666 for path in folder.rglob("*") if path.is_file()
    }


def test_files_of_the_owner_alone_get_the_usual_permissions(tmp_path, umask):
    private = tmp_path / "part" / "model.safetensors"
    private.parent.mkdir()
    private.touch(0o600)
    script = tmp_path / "run.sh"
    script.touch(0o700)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.touch(0o600)
    (tmp_path / "link").symlink_to(outside)
    apply_umask(tmp_path)
    assert stat.S_IMODE(private.stat().st_mode) == 0o666 & ~umask
    assert script.stat().st_mode & stat.S_IXUSR
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600
    assert os.umask(umask) == umask


def test_student_control_and_cache_are_readable_by_those_whom_the_umask_admits(
    tmp_path, tokenizer, umask
):
    model = make_model(layers=1)
    directory = RunDirectory(tmp_path / "run")
    directory.checkpoints.mkdir(exist_ok=True)
    directory.save_student(model, tokenizer, TrainingResult(1.0, 1, 1, 1.0))
    get_or_create(tmp_path / "cached", lambda partial: model.save_pretrained(partial))
    directory.copy_control(tmp_path / "cached")
    assert (tmp_path / "run/control/model.safetensors").is_file()
    assert modes(tmp_path / "run") == modes(tmp_path / "cached") == {0o666 & ~umask}


def test_a_private_control_from_an_older_cache_is_copied_readably(tmp_path, umask):
    old = tmp_path / "old"
    old.mkdir()
    (old / "model.safetensors").touch(0o600)
    RunDirectory(tmp_path / "run").copy_control(old)
    assert modes(tmp_path / "run/control") == {0o666 & ~umask}
