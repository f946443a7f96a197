"""Values that need no quotes on the command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from distill.config.quoting import quote_overrides
from tests.factories import composed

VALUES = [
    "/data/한국어/학습.csv", "리뷰 내용", "Très bon", "コメント", "my film (1).csv", "a;b", ";",
    "it's.csv",
    "#1 String", "a&b", "ü\\n", "ends in \\é\\", "ㄱ=1", '"한" quoted', "~/x (y)", "50% é",
]  # fmt: skip


def value_of(argument: str):
    return OverridesParser.create().parse_override(argument).value()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("option", ["data.path", "+data.text", "++a.b"])
def test_hydra_reads_the_value_itself(option, value):
    (quoted,) = quote_overrides([f"{option}={value}"])
    assert quoted.startswith(f"{option}=")
    assert value_of(quoted) == value


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("data.labels=[부정,긍정]", ["부정", "긍정"]),
        ("data.columns=[id, 리뷰 내용, label]", ["id", "리뷰 내용", "label"]),
        ("data.label=[toxic,obscene (x)]", ["toxic", "obscene (x)"]),
        ("data.labels=['부정',긍정, \"a\"]", ["부정", "긍정", "a"]),
        (
            "data.path={train: /a/한.csv, test: b(1).csv}",
            {"train": "/a/한.csv", "test": "b(1).csv"},
        ),
    ],
)
def test_elements_of_lists_and_mappings(argument, value):
    assert value_of(*quote_overrides([argument])) == value


@pytest.mark.parametrize(
    "argument",
    [
        "student=half", "seed=1,2", "data.labels=[a,b]", "data.text='한국'", "-m", "--help",
        "~data.text", "data.path=$HOME/x", "output_dir=runs/seed=1", "student.layers=[0,",
        "x=choice(a,b)", "halb", "data.path=/plain/path.csv", 'data.label_separator=";"',
    ],
)  # fmt: skip
def test_what_can_be_read_or_is_a_mistake_stays(argument):
    assert quote_overrides([argument]) == [argument]


def test_in_a_sweep_commas_separate():
    _, swept = quote_overrides(["-m", "data.path=한국,나라"])
    values = OverridesParser.create().parse_override(swept).sweep_iterator()
    assert [value.text for value in values] == ["한국", "나라"]
    assert value_of(*quote_overrides(["data.text=한국, 나라"])) == "한국, 나라"


def test_composed_configs_have_the_values():
    overrides = ["data=files", "data.path=/x/리뷰 (1)", "data.label=감정", "data.delimiter=;"]
    config = composed(*quote_overrides(overrides))
    assert (config.data.path, config.data.label) == ("/x/리뷰 (1)", "감정")
    assert config.data.delimiter == ";" and config.data.name == "리뷰 (1)"
