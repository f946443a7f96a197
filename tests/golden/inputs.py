"""Tiny models and data for every task, the same on every machine."""

import csv
import json
import random
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizerFast,
    PreTrainedModel,
)
from transformers.utils.logging import disable_progress_bar

GOOD = ["good", "great", "lovely", "fine", "bright", "warm"]
BAD = ["bad", "awful", "dull", "poor", "cold", "weak"]
FILLER = ["the", "film", "story", "was", "and", "a", "very", "rather", "plot", "cast"]
CHAIN = [f"w{index}" for index in range(12)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Names of one or two pieces of the vocabulary, by their type of entity.
NAMES = {"goodfilm": "PER", "lovelyplotcast": "PER", "badstory": "LOC", "dullthe": "LOC"}
PIECES = ["##film", "##plot", "##cast", "##story", "##the"]
VOCABULARY = SPECIAL + FILLER + GOOD + BAD + PIECES + CHAIN

CLASSES = ["negative", "neutral", "positive"]
LABELS = ["blame", "both", "praise"]
TAGS = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
SIZES = (("train", 80, 1), ("validation", 16, 2), ("test", 8, 3))


def build(root: Path) -> None:
    """Write all models below ``root/models`` and all data below ``root/data``."""
    disable_progress_bar()
    _build_models(root / "models")
    _build_data(root / "data")


def _build_models(folder: Path) -> None:
    heads = {
        "bare": (BertForMaskedLM, {}),
        "classes": (BertForSequenceClassification, _names(CLASSES)),
        "other_classes": (BertForSequenceClassification, _names(CLASSES) | {"seed": 1}),
        "two_classes": (BertForSequenceClassification, _names(["negative", "positive"])),
        "score": (
            BertForSequenceClassification,
            {"num_labels": 1, "problem_type": "regression"},
        ),
        "labels": (
            BertForSequenceClassification,
            _names(LABELS) | {"problem_type": "multi_label_classification"},
        ),
        "tags": (BertForTokenClassification, _names(TAGS)),
        "span": (BertForQuestionAnswering, _names(["start", "end"])),
        "small": (BertForMaskedLM, {"seed": 2, "num_hidden_layers": 1, "hidden_size": 16}),
    }
    for name, (kind, settings) in heads.items():
        _model(kind, **settings).save_pretrained(folder / name)
        _tokenizer().save_pretrained(folder / name)


def _names(labels: list[str]) -> dict:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _model(kind: type[PreTrainedModel], seed: int = 0, **settings) -> PreTrainedModel:
    """A BERT of four layers whose random weights are large enough to tell texts apart."""
    shape = {
        "vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
        "initializer_range": 0.1,
    }  # fmt: skip
    torch.manual_seed(seed)
    return kind(BertConfig(**shape | settings))


def _tokenizer() -> BertTokenizerFast:
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return BertTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def _build_data(folder: Path) -> None:
    makers = {
        "classes": classified, "two_classes": two_classes, "ratings": rated, "labels": labelled,
        "tags": tagged, "answers": asked,
    }  # fmt: skip
    for name, make in makers.items():
        write = _write_csv if name in ("classes", "two_classes", "ratings") else _write_jsonl
        for split, count, seed in SIZES:
            write(folder / name / split, make(count, seed))
    for split, count, seed in SIZES:
        _write_lines(folder / "text" / f"{split}.txt", chained(count, seed))
        _write_lines(folder / "conll" / f"{split}.conll", _conll(tagged(count, seed)))
    _write_lines(folder / "more.txt", (row["text"] for row in classified(40, 9)))


def two_classes(count: int, seed: int) -> list[dict]:
    """Texts with one word that is good or bad."""
    draw, rows = random.Random(seed), []
    for index in range(count):
        label, choice = (("negative", BAD), ("positive", GOOD))[index % 2]
        words = draw.choices(FILLER, k=draw.randint(3, 12))
        words.insert(draw.randrange(len(words)), draw.choice(choice))
        rows.append({"text": " ".join(words), "label": label})
    return rows


def classified(count: int, seed: int) -> list[dict]:
    """The same with a third class: texts without such a word."""
    rows = two_classes(count, seed)
    for row in rows[::3]:
        words = [word for word in row["text"].split() if word in FILLER]
        row.update(text=" ".join(words), label="neutral")
    return rows


def rated(count: int, seed: int) -> list[dict]:
    """Texts with a number: 2, 1 more for every good word, 1 less for every bad one."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        good, bad = draw.choice([(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (2, 1)])
        rows.append({"text": _shuffled(draw, good, bad), "label": 2.0 + good - bad})
    return rows


def labelled(count: int, seed: int) -> list[dict]:
    """Texts with any number of labels."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        good, bad = draw.choice([(0, 0), (1, 0), (1, 0), (0, 1), (0, 1), (1, 1)])
        labels = ["praise"] * good + ["blame"] * bad + ["both"] * (good and bad)
        rows.append({"text": _shuffled(draw, good, bad), "label": labels})
    return rows


def _shuffled(draw: random.Random, good: int, bad: int) -> str:
    words = draw.choices(FILLER, k=draw.randint(2, 8))
    words += draw.choices(GOOD, k=good) + draw.choices(BAD, k=bad)
    draw.shuffle(words)
    return " ".join(words)


def tagged(count: int, seed: int) -> list[dict]:
    """Words with tags: fillers, and names of one or two words."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        tokens, tags = [], []
        for _ in range(draw.randint(1, 3)):
            fill = draw.choices(FILLER, k=draw.randint(1, 3))
            kind = draw.choice(["PER", "LOC"])
            same = [name for name in NAMES if NAMES[name] == kind]
            named = [draw.choice(same) for _ in range(draw.randint(1, 2))]
            tokens += fill + named
            tags += ["O"] * len(fill) + [f"B-{kind}"] + [f"I-{kind}"] * (len(named) - 1)
        rows.append({"tokens": tokens, "ner_tags": tags})
    return rows


def _conll(rows: list[dict]) -> Iterable[str]:
    for row in rows:
        yield from (
            f"{word} {tag}" for word, tag in zip(row["tokens"], row["ner_tags"], strict=True)
        )
        yield ""


def asked(count: int, seed: int) -> list[dict]:
    """Questions about contexts that hold one or two good words, or no answer."""
    draw, rows = random.Random(seed), []
    for index in range(count):
        words = draw.choices(FILLER[:-1], k=draw.randint(5, 14))
        words.insert(draw.randrange(len(words)), draw.choice(BAD))
        at = draw.randrange(len(words))
        answers: dict[str, list] = {"text": [], "answer_start": []}
        if index % 3:
            answer = " ".join(draw.choices(GOOD, k=draw.randint(1, 2)))
            answers["text"] = [answer]
            answers["answer_start"] = [sum(len(word) + 1 for word in words[:at])]
            words.insert(at, answer)
        question = "was the " + draw.choice(["film", "plot", "cast"])
        rows.append({"question": question, "context": " ".join(words), "answers": answers})
    return rows


def chained(count: int, seed: int) -> list[str]:
    """Plain texts in which every word is followed by one of two."""
    draw, texts = random.Random(seed), []
    for _ in range(count):
        word, words = draw.randrange(12), []
        for _ in range(draw.randint(8, 20)):
            words.append(CHAIN[word])
            word = (word + draw.choice((1, 1, 1, 2))) % 12
        texts.append(" ".join(words))
    return texts


def _write_csv(file: Path, rows: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(file: Path, rows: list[dict]) -> None:
    _write_lines(file.with_suffix(".jsonl"), map(json.dumps, rows))


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
