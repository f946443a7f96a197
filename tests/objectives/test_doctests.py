"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import distill.objectives
from distill.modeling import needs, precision

MODULES = [
    *(
        info.name
        for info in pkgutil.walk_packages(distill.objectives.__path__, "distill.objectives.")
    ),
    needs.__name__,
    precision.__name__,
]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


def test_every_loss_function_has_an_example():
    package = "distill.objectives.functional."
    names = [name for name in MODULES if name.startswith(package) and "reduction" not in name]
    assert len(names) >= 6
    for name in names:
        module = importlib.import_module(name)
        for function in vars(module).values():
            if getattr(function, "__module__", None) == name and function.__name__[0] != "_":
                assert ">>>" in function.__doc__, function
                assert "Args:" in function.__doc__, function
