"""An example is what its preprocessor says: other modules name neither tokens nor text columns."""

import ast
from fnmatch import fnmatch
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "distill"
NAMES = {"input_ids", "attention_mask", "token_type_ids", "text", "text_pair", "pixel_values"}
# Where text, tokens and tokenizers are at home.
AT_HOME = (
    "tasks/*",
    "data/text_preprocessor.py", "data/token_masking.py", "data/augmentation/*", "data/readers/*",
    "data/sources/*",
    "data/unlabeled.py",  # the only column of a txt file is called text
    "modeling/inputs.py",  # the name of the mask
    "modeling/loading.py",  # loads tokenizers
    "modeling/architectures/*",  # arguments of the models' own forward passes
    "student/*",  # shapes, vocabularies and tables of text students
    "reporting/formats/json.py", "reporting/event_file.py",  # JSON key and plugin called text
    "config/validation.py",  # the word for a string
    "reporting/formats/html.py",
    "baselines/*",  # a linear model on words
    "data/splits.py",  # the word
    "export/*", "runtime/*",  # students of texts
    "answers/*", "predict/*", "serve/*", "cli/predict.py",  # readers of texts, and who calls them
    "data/retrieval.py",  # vectors of texts by a model and its tokenizer
    "teacher/scratch.py",  # trains a tokenizer
)  # fmt: skip


def identifiers(tree: ast.AST) -> set[str]:
    """Names of variables, attributes and arguments, and strings that name an input."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            found.add(str(node.value))
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found


def test_only_preprocessors_and_text_modules_name_inputs_and_tokenizers():
    strangers = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if any(fnmatch(name, pattern) for pattern in AT_HOME):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        strings = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value in NAMES
        }
        variables = {one for one in identifiers(tree) if "tokenizer" in one or "input_ids" in one}
        if strings | variables:
            strangers[name] = sorted(strings | variables)
    assert not strangers


def test_each_exception_is_one():
    """An entry of the list that covers nothing any more is removed from it."""
    files = [file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")]
    for pattern in AT_HOME:
        covered = [PACKAGE / name for name in files if fnmatch(name, pattern)]
        assert any(
            "tokenizer" in text or any(f'"{name}"' in text or f"{name}:" in text for name in NAMES)
            for text in (file.read_text(encoding="utf-8") for file in covered)
        ), pattern
