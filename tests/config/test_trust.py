"""Config files are data: what they name is not called, and what they must not say is refused."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from distill.config.environment import check_names, resolve_for_writing
from distill.config.resolvers import register_resolvers
from distill.config.trust import check_hydra_node, check_targets, check_typed
from distill.core.cache import entry_name
from distill.core.errors import UserError
from distill.core.terminal import printable
from tests.factories import composed

CANARY = "canary"


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "builtins.exec", "subprocess.Popen", "shutil.rmtree", "pathlib.Path.touch",
        "torch.load", "hydra.utils.get_method", "distill.core.cache.remove",
        "distill.api.os.system", "distill.pipeline.run_directory.RunDirectory",
        "distill.data.prepare.pa.OSFile",
        "distill.reporting.files.write_text", "pytorch_lightning.trainer.trainer.os.getcwd",
        "tests.recipes.student.last_layers.LastLayersFactory",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["data", "objective.soft_targets", "trainer.callbacks.mine"])
def test_only_the_classes_of_options_may_be_named(target, place):
    node: dict = {"_target_": target}
    for key in reversed(place.split(".")):
        node = {key: node}
    with pytest.raises(UserError, match=rf"{place}\._target_="):
        check_targets("", node)


def test_a_foreign_module_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("from pathlib import Path\nPath('canary').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"allow_code=\[evil_module\]"):
        check_targets("", {"task": [{"_target_": "evil_module.Task"}]})
    assert not Path(CANARY).exists()
    with pytest.raises(UserError, match="cannot be imported"):
        check_targets("", {"task": {"_target_": "evil_module.Task"}}, ["evil_module"])
    assert Path(CANARY).exists(), "the canary can fire"


def test_options_of_this_program_and_of_lightning_may_be_named():
    config = OmegaConf.to_container(composed("data=files", "data.path=x"), resolve=True)
    check_targets("", {key: value for key, value in config.items() if key != "hydra"})
    check_targets("trainer.callbacks.x", {"_target_": "pytorch_lightning.callbacks.Timer"})


def test_what_allows_more_counts_on_the_command_line_only():
    config = OmegaConf.create({"allow_code": ["evil"], "overwrite": False})
    with pytest.raises(UserError, match=r"allow_code=\[evil\] stands in a file"):
        check_typed(config, ["seed=1"])
    assert check_typed(config, ["allow_code=[evil]"]) == ["evil"]
    with pytest.raises(UserError, match="overwrite=true stands in a file"):
        check_typed(OmegaConf.create({"overwrite": True}), [])


GOOD_NODE = {
    "run": {"dir": "${run_dir:${output_dir},${resume},${name}}"},
    "sweep": {"dir": "${sweep_dir:${output_dir}}", "subdir": "${job_dir:1,[]}"},
    "overrides": {"hydra": [], "task": []},
}


@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"x": {"_target_": "os.system", "command": "touch canary"}}},
        {"launcher": {"_target_": "os.system"}},
        {"sweeper": {"_target_": "evil.Sweeper"}},
        {"job_logging": {"handlers": {"file": {"class": "evil.Handler"}}}},
        {"hydra_logging": {"handlers": {"file": {"()": "os.system", "command": "touch canary"}}}},
        {"job_logging": {"handlers": {"file": {"filename": "/elsewhere/.bashrc"}}}},
        {"job_logging": {"handlers": {"file": {"stream": "ext://os.environ"}}}},
        {"job_logging": {"formatters": {"x": {"class": "evil.Formatter"}}}},
        {"run": {"dir": "/elsewhere/.ssh"}},
        {"sweep": {"dir": "/root", "subdir": "${job_dir:1,[]}"}},
        {"sweep": {"dir": "${sweep_dir:x}", "subdir": "../../x"}},
    ],
)
def test_no_file_tells_hydra_what_to_call_or_where_to_write(node):
    check_hydra_node({"hydra": GOOD_NODE})
    with pytest.raises(UserError):
        check_hydra_node({"hydra": GOOD_NODE | node})


HOSTILE = {
    "callback": {"hydra": {"callbacks": {"x": {"_target_": "os.mkdir", "path": CANARY}}}},
    "logging": {
        "hydra": {
            "hydra_logging": {
                "version": 1, "handlers": {"x": {"()": "os.mkdir", "path": CANARY}},
                "root": {"handlers": ["x"]},
            }
        }
    },
    "launcher": {"hydra": {"launcher": {"_target_": "os.mkdir", "path": CANARY}}},
    "search path": {"hydra": {"searchpath": ["pkg://evil_module"]}},
    "target": {"data": {"augmentation": {"_target_": "os.mkdir", "path": CANARY}}},
    "allowed": {
        "allow_code": ["os", "posix"], "student": {"_target_": "os.mkdir", "path": CANARY},
    },
}  # fmt: skip


# Hydra looks for a search path in the primary config alone, and at no node of a resumed config.
WAYS = [
    (what, way)
    for what in HOSTILE
    for way in ("--config-path", "--config-dir", "resume")
    if not (way == "--config-dir" and what == "search path")
    and not (way == "resume" and "hydra" in HOSTILE[what])
]


@pytest.mark.parametrize(("what", "way"), WAYS)
def test_a_hostile_file_fires_no_canary(command, tmp_path, monkeypatch, what, way):
    (tmp_path / "evil_module").mkdir()
    (tmp_path / "evil_module" / "__init__.py").write_text(f"import os; os.mkdir({CANARY!r})")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "given"
    content: dict = OmegaConf.to_container(composed("data=files", "data.path=x"), resolve=True)
    for key, value in HOSTILE[what].items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    if way == "--config-dir":
        (folder / "experiment").mkdir(parents=True)
        text = "# @package _global_\n" + yaml.safe_dump(HOSTILE[what])
        (folder / "experiment" / "mine.yaml").write_text(text)
        arguments = ["--config-dir", str(folder), "+experiment=mine"]
    else:
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(content))
        arguments = ["--config-path", str(folder), "--config-name", "config"]
    if way == "resume":
        arguments = [f"resume={folder}"]
    code, _, err = command(*arguments)
    assert not Path(CANARY).exists()
    assert (code, err.count("\n")) == (2, 1), err


def test_environment_variables_stay_variables_in_what_is_written(monkeypatch):
    register_resolvers()
    monkeypatch.setenv("SECRET", "s3cr3t")
    monkeypatch.setenv("NUMBER", "7")
    config = OmegaConf.create(
        {
            "data": {"path": "${oc.env:SECRET}/films", "name": "films", "again": "${.path}"},
            "seed": "${oc.decode:${oc.env:NUMBER}}",
            "list": ["${data.path}", "${data.name}"],
            "plain": "${data.name}-half",
            "cache_dir": "${oc.env:DISTILL_CACHE,${user_cache:}}",
        }
    )
    written = resolve_for_writing(config)
    assert "s3cr3t" not in str(written)
    assert written["data"]["path"] == "${oc.env:SECRET}/films"
    assert written["list"] == ["${data.path}", "films"]
    assert written["plain"] == "films-half"
    assert written["seed"] == "${oc.decode:${oc.env:NUMBER}}"
    assert "oc.env" not in written["cache_dir"]
    again = OmegaConf.to_container(OmegaConf.create(written), resolve=True)
    assert again["data"]["again"] == "s3cr3t/films" and again["seed"] == 7
    config.data.name = "${oc.env:SECRET}"
    with pytest.raises(UserError, match="does not belong"):
        check_names(config)


def test_names_stay_in_their_folder():
    for name in ("../../x", "/etc", "..", "a/../../b", "\0", "~/x", "x" * 500):
        entry = entry_name(name, name, "key")
        assert Path("cache", entry).resolve().parent == Path("cache").resolve()
        assert len(entry.encode()) < 255
    assert entry_name("tinybert", "films", "key") == "tinybert-films-key"


def test_control_characters_are_shown_and_not_obeyed():
    assert printable("a\x1b[31m\x07\u202eb\tc\n한국") == r"a\x1b[31m\x07\u202eb" + "\tc\n한국"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.limit=${oc.env:SECRET}", "data.limit=${oc.env:SECRET}: it must be a whole number"),
        ("data.path=/${oc.env:SECRET}/x", "data.path=/${oc.env:SECRET}/x: there is no such file"),
        ("teacher.path=./${oc.env:SECRET}", "teacher.path=./${oc.env:SECRET}: there is no such"),
        ("task.metric=${oc.env:SECRET}", "task.metric=${oc.env:SECRET}: choose one of"),
        ("seed=${oc.env:NUMBER}", "seed=${oc.env:NUMBER}: it must be a whole number"),
        ("data.text=${oc.env:SECRET}", "data.text=${oc.env:SECRET}: train has no such column"),
        ("+${oc.env:SECRET}=1", ""),
        ("cache_dir=${oc.env:FILE}/x", "cache_dir=${oc.env:FILE}/x: it cannot be written"),
    ],
)
def test_messages_have_the_names_of_variables_not_their_values(
    command, small, monkeypatch, tmp_path, override, says
):
    (tmp_path / "file").touch()
    values = {"SECRET": "s3cr3t", "NUMBER": "-48151623", "FILE": str(tmp_path / "file")}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    code, out, err = command(*small, override)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert not any(value in out + err for value in values.values())


def test_variables_of_an_earlier_command_are_forgotten(command, small, monkeypatch):
    monkeypatch.setenv("SECRET", "half")
    command(*small, "data.limit=${oc.env:SECRET}")
    _, _, err = command(*small, "data.limit=half")
    assert "data.limit=half" in err
