"""Names from data and folders in Markdown, HTML, tables and TensorBoard."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from huggingface_hub import ModelCard
from markdown import markdown as to_html

from distill.reporting import text
from distill.reporting.card import Provenance, write_model_card
from distill.reporting.run_report import markdown
from distill.reporting.run_table import overview
from distill.reporting.tensorboard import aligned_tables
from tests.reporting.example_reports import typed_report

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td><b>bold</b>",
    "`code` and ``more``",
    "a|b||c",
    "*bold* _slanted_ __strong__ ~~gone~~",
    "two\nlines\r\nand a\ttab",
    "[here](javascript:alert(1))",
    "![x](http://host/x.png)",
    "&lt;b&gt; &amp; &#60;",
    "back\\slash \\` \\|",
    "\x1b[31mred\x07 \u202edesrever",
    "# heading",
]
PLAIN = ["macro_f1", "R&D", "p < 0.001", "0.871 [0.855, 0.887]", "x > 1", "한국어", "a_b-c=1.5 +2"]


class Elements(HTMLParser):
    """Tags and text of an HTML document."""

    def __init__(self, document: str):
        super().__init__()
        self.tags, self.content = set(), ""
        self.feed(document)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.content += data


def rendered(source: str) -> Elements:
    extensions = ["markdown.extensions.tables", "markdown.extensions.fenced_code"]
    return Elements(to_html(source, extensions=extensions))


@pytest.mark.parametrize("value", [*HOSTILE, *PLAIN])
def test_escaped_text_is_shown_as_it_is(value):
    found = rendered(f"Label: {text.escape_markdown(value)}.")
    assert found.tags == {"p"}
    assert found.content == f"Label: {text.one_line(value)}."


@pytest.mark.parametrize("value", PLAIN)
def test_text_without_markup_stays_readable(value):
    assert text.escape_markdown(value) == value


@pytest.mark.parametrize("value", HOSTILE)
def test_cells_keep_their_table_together(value):
    cells = [["name", "n"], [text.escape_markdown(value), "1"]]
    table = text.markdown_table(cells[0], cells[1:])
    assert len(table) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table)
    assert not {"script", "img", "b", "a", "em", "strong", "code"} & rendered("\n".join(table)).tags


@pytest.mark.parametrize("value", HOSTILE)
def test_code_shows_its_text(value):
    assert rendered(f"in {text.code_span(value)}.").tags == {"p", "code"}
    block = rendered(text.code_block(f"distill {value}"))
    assert block.tags <= {"pre", "code"}


@pytest.mark.parametrize("value", HOSTILE)
def test_a_report_with_any_name_has_the_usual_elements(value):
    def document(name):
        report = typed_report()
        report = replace(
            report,
            run=replace(report.run, name=name, overrides=(f"data.path={name}",)),
            data=replace(report.data, name=name, labels=(name, "other"), notes=(name,)),
            models=tuple(replace(model, name=name) for model in report.models),
        )
        assert "\x1b" not in overview(report)
        return markdown(report)

    usual, found = rendered(document("half")), rendered(document(value))
    assert found.tags == usual.tags
    assert found.content.count(text.one_line(value)[:6]) >= 4


def test_tables_of_tensorboard_are_aligned_text_that_breaks_no_word():
    header = ["", "teacher", text.escape_markdown("한국어|*")]
    rows = [["expected calibration error", "0.1", "0.25"], ["name", "x", "y"]]
    source = "\n".join(["# run", "", *text.markdown_table(header, rows), "", "The | end |."])
    found = aligned_tables(source)
    assert rendered(found).tags == {"h1", "pre", "code", "p"}
    lines = found.splitlines()
    assert lines[2] == lines[6] == "```"
    assert lines[3].endswith("teacher  한국어|*")
    assert lines[4] == "expected calibration error      0.1      0.25"
    assert len({text.display_width(line) for line in lines[3:6]}) == 1
    assert aligned_tables("| no table |") == "| no table |"


def test_wide_characters_are_aligned():
    lines = text.plain_table(["name", "n"], [["한국", "1"], ["abcd", "22"]])
    assert {text.display_width(line) for line in lines} == {8}


@pytest.mark.parametrize("value", HOSTILE)
def test_a_model_card_with_any_name_has_the_usual_elements(value, tmp_path):
    def body(name):
        report = typed_report()
        report = replace(
            report,
            data=replace(report.data, name=name, labels=(name, "other")),
            models=tuple(replace(model, name=name) for model in report.models),
        )
        (tmp_path / "config.json").write_text("{}")
        write_model_card(tmp_path, report, report.models[1], Provenance(f"layers of {name}"))
        return ModelCard.load(tmp_path / "README.md").text

    usual, found = rendered(body("half")), rendered(body(value))
    assert found.tags == usual.tags
    assert found.content.count(text.one_line(value)[:6]) >= 4
