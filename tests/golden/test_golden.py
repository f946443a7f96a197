"""Runs of the command give what they gave when the golden files were made.

To the bit on the machine that made them; on another one, as the test's id says, training losses
within a tolerance and the structure of everything else. See `compare` for both, and for
``ALLOWED_ADDITIONS``. The quick groups belong to every test run, the others run with
``pytest -m golden`` or ``python -m tests.golden.freeze --check``. To freeze what is meant to have
changed: ``python -m tests.golden.freeze``.
"""

import pytest

from tests.golden.cases import GROUPS, Group
from tests.golden.compare import differences, golden, how
from tests.golden.run import run_group


def _parameter(group: Group):
    marks = []
    if group.slow:
        marks = [pytest.mark.slow, pytest.mark.golden, pytest.mark.timeout(600)]
    return pytest.param(group, id=f"{group.name}-{how(group)}", marks=marks)


@pytest.mark.parametrize("group", [_parameter(group) for group in GROUPS])
def test_runs_give_what_they_gave(group, tmp_path):
    comparison = how(group)
    lines = differences(
        golden(group)["cases"], run_group(group, tmp_path), comparison == "to-the-bit"
    )
    assert not lines, f"{len(lines)} differences ({comparison}):\n" + "\n".join(lines)
