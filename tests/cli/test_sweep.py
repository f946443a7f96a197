"""Sweeps that cannot work are refused; a sweep stays in one folder."""

from contextlib import nullcontext

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from distill.cli.sweep import check_sweep
from distill.config.resolvers import register_resolvers
from distill.core.errors import UserError
from tests.distributed.variables import TORCHRUN


def test_a_launcher_is_refused_where_processes_were_started_from_outside(monkeypatch):
    for launcher, refused in (("BasicLauncher", False), ("JoblibLauncher", True)):
        config = OmegaConf.create({"hydra": {"launcher": {"_target_": f"plugins.{launcher}"}}})
        check_sweep(config)
        with monkeypatch.context() as patch:
            for name, value in TORCHRUN.items():
                patch.setenv(name, value)
            with pytest.raises(UserError, match="torchrun") if refused else nullcontext():
                check_sweep(config)


def test_a_task_of_a_job_that_would_do_the_run_again_is_refused(command, small):
    code, _, err = command(
        "-m", *small, "hydra/launcher=parallel", "+hydra.launcher.tasks_per_node=2", "seed=0"
    )
    assert code == 2
    assert err.startswith("error: hydra.launcher.tasks_per_node=2")
    assert "use trainer=ddp" in err


@pytest.mark.parametrize(("extra", "plugin"), [("parallel", "joblib"), ("cluster", "submitit")])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(
    command, small, monkeypatch, extra, plugin
):
    Plugins.instance()  # from here on the plugins' configs are there
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in [name for name in launchers if name.startswith(plugin)]:
        monkeypatch.delitem(launchers, name)
    code, _, err = command("-m", *small, f"hydra/launcher={extra}", "seed=0,1")
    assert code == 2
    assert err == (
        f"error: hydra/launcher={extra} is not installed: pip install 'distill[{extra}]'\n"
    )


def test_a_sweep_stays_in_one_folder_however_long_it_takes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    times = iter(["1120-100000", "1120-100001"])
    monkeypatch.setattr("distill.config.naming._now", lambda: next(times))
    register_resolvers()
    config = OmegaConf.create({"output_dir": None, "dir": "${sweep_dir:${output_dir}}"})
    job = OmegaConf.create({"output_dir": None, "dir": "${sweep_dir:${output_dir}}"})
    first = config.dir
    OmegaConf.copy_cache(config, job)  # what Hydra does for each job
    assert first == job.dir == "runs/sweep-1120-100000"
