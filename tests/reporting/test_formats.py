import csv
import io
import json
import struct
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from distill.reporting.budget import answer, parse_limit
from distill.reporting.compare import compare
from distill.reporting.formats import render, save
from distill.reporting.gather import gather
from tests.reporting.example_reports import report, sweep, write_run

NASTY = 'half <b>&"|</script>'


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = sweep(tmp_path_factory.mktemp("runs") / "sweep", students=("half", "third"))
    write_run(root / "nasty", report(NASTY, student="single", overrides=[f"note={NASTY}"]))
    write_run(root / "dead", None, error="error: <none> of it, sorry")
    write_run(root / "open", None)
    result = compare(*gather([root]))
    result.answer = answer(result, [parse_limit("latency_ms=4", True)])
    return result


def test_csv_reads_back(comparison):
    lines = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert len(lines) == len(comparison.rows) + 2
    for line, row in zip(lines, comparison.rows, strict=False):
        assert line["status"] == "finished"
        assert line["name"] == row.name
        assert float(line["parameters"]) == row.values["parameters"]
        assert float(line["accuracy"]) == row.values["accuracy"]
        low = row.intervals.get("accuracy", ("",))[0]  # none where all seeds have one value
        assert line["accuracy_low"] == str(low)
        assert line["on_front"] == str(row.on_front)
        assert (line["gain_p_holm"] == "") == (row.gain is None)
    assert [line["status"] for line in lines[-2:]] == ["failed", "not finished"]
    assert lines[-2]["reason"] == "error: <none> of it, sorry"


def test_json_reads_back(comparison):
    content = json.loads(render(comparison, "json"))
    assert content["schema"] == 1
    assert [row["title"] for row in content["rows"]] == [row.title for row in comparison.rows]
    assert content["rows"][0]["values"] == comparison.rows[0].values
    assert content["hypervolume"]["value"] == comparison.hypervolume
    assert content["answer"]["within"] is True
    assert [run["state"] for run in content["unfinished"]] == ["failed", "not finished"]
    assert len(content["rows"][2]["runs"]) == 3


def test_table_lists_everything(comparison):
    text = render(comparison, "table")
    for row in comparison.rows:
        assert (row.title in text) == (row.role != "control")
    assert "sweep/dead: failed (error: <none> of it, sorry)" in text
    assert "sweep/open: not finished" in text
    assert "over the seeds (Student's t) where there are several, otherwise" in " ".join(
        text.split()
    )
    assert comparison.answer.text in " ".join(text.split())


def test_table_says_what_it_left_out(comparison):
    lines = render(comparison, "table", width=100).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("Not shown for want of width: " in line for line in lines)
    assert "accuracy" in lines[0]
    assert "parameters" in lines[0]
    assert "agreement" not in lines[0]


def test_markdown_table_is_whole(comparison):
    lines = [line for line in render(comparison, "markdown").splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert len(bars) == 1
    assert len(lines) == 2 + sum(row.role != "control" for row in comparison.rows)


class Page(HTMLParser):
    """What a browser would see of the page: table cells, scripts, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.stack, self.rows, self.scripts, self.fetched, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.fetched += [attrs[key] for key in ("src", "href") if key in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")
        if tag not in ("meta", "input"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "td" in self.stack or "th" in self.stack:
            self.rows[-1][-1] += data
        elif self.stack and self.stack[-1] == "script":
            self.scripts[-1] += data
        self.text.append(data)


def test_html_is_whole_and_needs_nothing_else(comparison):
    source = render(comparison, "html")
    page = Page()
    page.feed(source)
    assert page.stack == []
    assert page.fetched == []
    assert "http" not in source.replace("http://www.w3.org/2000/svg", "")
    assert [row[1] for row in page.rows[1:]] == [row.title for row in comparison.rows]
    assert {len(row) for row in page.rows} == {len(page.rows[0])}
    data = json.loads(page.scripts[0])
    assert [row["values"] for row in data["rows"]] == [row.values for row in comparison.rows]
    assert data["axes"]["x"] == [
        *("parameters", "bytes", "multiply_accumulates", "latency_ms", "cpu_ms")
    ]
    assert {"accuracy", "macro_f1", "agreement", "retention"} <= set(data["axes"]["y"])
    text = "".join(page.text)
    assert "sweep/dead: failed (error: <none> of it, sorry)" in text
    assert comparison.answer.text in text
    assert "{{" not in source
    assert "{%" not in source


@pytest.mark.parametrize(
    "x", ["parameters", "bytes", "latency_ms", "cpu_ms", "multiply_accumulates"]
)
def test_png_of_every_cost(tmp_path, x):
    root = sweep(tmp_path / "sweep", seeds=(1,))
    save(compare(*gather([root]), x=x), tmp_path / "front.png")
    png = (tmp_path / "front.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (1200, 800)


def test_svg_is_xml(comparison, tmp_path):
    save(comparison, tmp_path / "front.svg")
    assert ElementTree.parse(tmp_path / "front.svg").getroot().tag.endswith("}svg")


def test_the_page_of_one_student_says_so_and_has_no_hypervolume(tmp_path):
    write_run(tmp_path / "one", report("one"))
    page = render(compare(*gather([tmp_path])), "html")
    assert "<title>docstrings: 1 student</title>" in page
    assert "Hypervolume" not in page


def test_an_interval_without_0_beside_a_large_p_is_explained(tmp_path):
    for index in range(4):
        gain = (0.012, 0.001, 0.023, 0.03)
        write_run(
            tmp_path / str(index), report(f"run-{index}", overrides=[f"x={index}"], gain=gain)
        )
    several = render(compare(*gather([tmp_path])), "markdown")
    assert "may exclude 0 beside a p (Holm) that shows nothing" in several
    alone = render(compare(*gather([tmp_path / "0"])), "markdown")
    assert "may exclude 0" not in alone
