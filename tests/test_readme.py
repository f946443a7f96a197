"""README: its Python examples run as they stand, and its links lead to files."""

import re
from pathlib import Path

import pytest

import distill
from tests.test_imports import ROOMS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "report.md",
    *sorted((ROOT / "experiments").rglob("*.md")),
]


def python_blocks(section: str) -> list[str]:
    """Python examples of a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {section}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", body, re.MULTILINE | re.DOTALL)


def test_the_examples_of_from_python_run(
    small, corpus, trained, shared_cache, tmp_path, monkeypatch, capsys
):
    """The test appends options, so that models and data are tiny."""
    settings = [option for option in small if not option.startswith(("data", "student"))]
    run, evaluate = distill.run, distill.evaluate
    monkeypatch.setattr(distill, "run", lambda options: run([*options, *settings, "debug=fast"]))
    monkeypatch.setattr(
        distill,
        "evaluate",
        lambda model, options, **named: evaluate(model, [*options, "data.max_length=32"], **named),
    )
    monkeypatch.setenv("DISTILL_CACHE", str(shared_cache))
    monkeypatch.chdir(tmp_path)
    folders = {"TEACHER_FOLDER": str(trained), "FOLDER": str(corpus)}
    blocks = python_blocks("From Python")
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        for placeholder, folder in folders.items():
            block = block.replace(f'{placeholder}"', f'{folder}"')
        exec(block, names)
    out = capsys.readouterr().out
    assert "The student has" in out
    assert "there is no student=quarter" in out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_packages_are_listed_from_top_to_bottom():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tour = text.partition("## A tour of the code")[2]
    assert re.findall(r"^    (\w+) {2,}", tour, re.MULTILINE) == list(ROOMS)
