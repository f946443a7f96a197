"""docs/report.md names every key of report.json, and none that there is not."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from distill.reporting import schema
from distill.reporting.record import Record
from distill.reporting.schema import Report

TEXT = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
RECORDS = [
    kind
    for _, kind in inspect.getmembers(schema, inspect.isclass)
    if issubclass(kind, Record) and kind is not Record
]
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def keys(kind: type[Record]) -> list[str]:
    return [one.name for one in fields(kind) if one.name != "extra"]


def test_every_object_has_a_section():
    assert {kind.__name__ for kind in RECORDS} == set(SECTIONS)
    assert Report in RECORDS


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_key_is_described_in_the_order_of_the_file(kind):
    rows = re.findall(r"^\| `(\w+)` \| (\+?) ?\| (.+) \|$", SECTIONS[kind.__name__], re.MULTILINE)
    assert [name for name, _, _ in rows] == keys(kind)
    assert all(text.strip() for _, _, text in rows)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_the_overview_names_every_key(kind):
    overview = "\n".join(line for line in TEXT.splitlines() if line.startswith("    "))
    assert set(keys(kind)) <= set(re.findall(r'"(\w+)"', overview))
