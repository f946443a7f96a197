"""Texts made out of the training examples: what they may be, and when they are made."""

import json
import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM

from distill.config.resolvers import conf_dir, register_resolvers
from distill.config.validation import validate_config
from distill.core.errors import UserError
from distill.core.hardware import resolve_hardware
from distill.data.augmentation import base, masked_words
from distill.data.augmentation.base import augment
from distill.data.augmentation.masked_words import MaskedWords, whole_words
from distill.data.augmentation.word_noise import WordNoise
from distill.data.prepare import prepare_data
from distill.data.row_hashes import near_duplicate_keys
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import BAD, FILLER, GOOD, SPECIAL, Given, make_model, make_tokenizer, sentences

TEXTS = [row["text"] for row in sentences(300, 1)]
FILES = (Path(conf_dir()) / "augmentation").glob("*.yaml")
CHOICES = sorted({file.stem for file in FILES} - {"none"})


@pytest.fixture
def noise(pretrained):
    return lambda **settings: WordNoise(name="n", tokenizer=str(pretrained), **settings)


@pytest.fixture
def masked(pretrained):
    def make(**settings):
        plain = {"accelerator": "cpu", "precision": "32-true", "max_length": 24}
        return MaskedWords(**{"name": "masking", "model": str(pretrained)} | plain | settings)

    return make


# --- noise ---


def test_masking_leaves_every_other_word_where_it_is(noise):
    made = noise(mask=0.3, copies=4)(TEXTS)
    words = hidden = 0
    for text, copies in zip(TEXTS, made, strict=True):
        assert len(copies) == 4
        for copy in copies:
            pairs = list(zip(text.split(), copy.split(), strict=True))
            assert all(new in (old, "[MASK]") for old, new in pairs)
            words, hidden = words + len(pairs), hidden + sum(n == "[MASK]" for _, n in pairs)
    # Five standard deviations of a binomial.
    assert abs(hidden / words - 0.3) < 5 * (0.3 * 0.7 / words) ** 0.5


def test_deletion_keeps_the_order_and_one_word_at_least(noise):
    made = noise(delete=0.4, copies=4)(TEXTS)
    pairs = [(text.split(), copy.split()) for text, copies in zip(TEXTS, made, strict=True)
             for copy in copies]  # fmt: skip
    for words, kept in pairs:
        rest = iter(words)
        assert all(word in rest for word in kept)  # a subsequence
    left = sum(len(kept) for _, kept in pairs)
    words = sum(len(words) for words, _ in pairs)
    assert abs(1 - left / words - 0.4) < 5 * (0.4 * 0.6 / words) ** 0.5
    gone = noise(delete=1.0)(TEXTS)
    assert all(len(copy.split()) == 1 and copy in text.split()
               for text, copies in zip(TEXTS, gone, strict=True) for copy in copies)  # fmt: skip


def test_ngrams_are_stretches_of_one_to_five_words_of_equal_chance(noise):
    long = [" ".join(f"w{i}" for i in range(30)) + f" {n}" for n in range(400)]
    made = noise(ngram=1.0)(long)
    sizes = Counter(len(copy.split()) for copies in made for copy in copies)
    assert set(sizes) == {1, 2, 3, 4, 5}
    assert all(abs(count / 2000 - 0.2) < 5 * (0.2 * 0.8 / 2000) ** 0.5 for count in sizes.values())
    for text, copies in zip(long, made, strict=True):
        assert all(f" {copy} " in f" {text} " for copy in copies)
    starts = Counter(copy.split()[0] for copies in made for copy in copies)
    assert len(starts) > 25  # from anywhere
    assert noise(ngram=1.0)(["one"]) == [["one"] * 5]


def test_the_share_of_texts_that_are_cut(noise):
    made = noise(ngram=0.25, longest=1)([f"a b c d e {n}" for n in range(500)])
    cut = sum(len(copy.split()) == 1 for copies in made for copy in copies) / 2500
    assert abs(cut - 0.25) < 5 * (0.25 * 0.75 / 2500) ** 0.5


@pytest.mark.parametrize("kind", ["noise", "masked"])
def test_is_decided_by_seed_and_text_alone(kind, noise, masked):
    make = masked if kind == "masked" else lambda **seed: noise(mask=0.2, ngram=0.2, **seed)
    once = make()(TEXTS[:40])
    assert make()(TEXTS[:40]) == once
    assert make()(TEXTS[:40][::-1]) == once[::-1]
    assert make()(TEXTS[7:9]) == once[7:9]
    assert make(seed=1)(TEXTS[:40]) != once
    assert len({tuple(copies) for copies in once}) > 35
    assert sum(len(set(copies)) for copies in once) > 3 * len(once)  # copies differ too


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "changes nothing"),
        ({"mask": 1.5}, r"augmentation\.mask=1\.5: it is a probability"),
        ({"delete": -0.1}, "it is a probability"),
        ({"mask": 0.6, "delete": 0.6}, "sum to more than 1"),
        ({"mask": 0.1, "copies": 0}, r"copies=0: it must be 1 or more"),
        ({"ngram": 1.0, "longest": 0}, r"longest=0 is below shortest=1"),
        ({"mask": 0.1, "seed": -1}, r"seed=-1"),
    ],
)
def test_noise_refuses(noise, settings, says):
    with pytest.raises(UserError, match=says):
        noise(**settings)


def test_a_tokenizer_without_a_mask_token(tmp_path):
    tokenizer = make_tokenizer(FILLER)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no mask token"):
        WordNoise(name="n", tokenizer=str(tmp_path), mask=0.1).settings()
    WordNoise(name="n", tokenizer="someone/unheard-of", delete=0.1)(TEXTS[:2])  # not asked for


# --- masked words ---


def likeliest(model, tokenizer, text: str, place: int, count: int) -> list[str]:
    """One text, one word masked, no batch, the whole vocabulary projected: word by word."""
    words = text.split()
    words[place] = "[MASK]"
    ids = tokenizer(" ".join(words), return_tensors="pt")
    with torch.no_grad():
        logits = model(**ids).logits[0, place + 1]
    usable = [tokenizer.vocab[word] for word in FILLER + GOOD + BAD]
    best = sorted(usable, key=lambda token: -logits[token].item())[:count]
    return [tokenizer.decode([token]) for token in best]


def test_each_word_is_replaced_by_one_of_the_likeliest_in_its_place(masked, pretrained, tokenizer):
    model = AutoModelForMaskedLM.from_pretrained(pretrained).eval()
    texts, replaced, words = TEXTS[:12], Counter(), 0
    made = masked(copies=6, probability=0.5, candidates=4, batch_size=7)(texts)
    for text, copies in zip(texts, made, strict=True):
        old = text.split()
        likely = [likeliest(model, tokenizer, text, place, 4) for place in range(len(old))]
        for copy in copies:
            new = copy.split()
            assert len(new) == len(old)
            words += len(new)
            for place, (before, after) in enumerate(zip(old, new, strict=True)):
                if after != before:
                    assert after in likely[place], (text, place)
                    replaced[likely[place].index(after)] += 1
    assert set(replaced) == {0, 1, 2, 3}  # all of them are drawn
    # A draw may give the word that stood there.
    assert 0.3 < sum(replaced.values()) / words < 0.55


def test_what_stands_between_words_stays(masked):
    text = 'The film,  very "bright"! (And warm.)'
    for copy in masked(copies=8, probability=0.9)([text])[0]:
        assert re.sub(r"\w+", "#", copy) == re.sub(r"\w+", "#", text)


def test_a_word_of_several_pieces_is_masked_as_a_whole(tmp_path):
    words = ["the", "film", "was", "good", "##er", "bad", "##ly", "fine"]
    tokenizer = make_tokenizer(words)
    torch.manual_seed(0)
    BertForMaskedLM(
        BertConfig(vocab_size=len(SPECIAL) + len(words), hidden_size=32, num_hidden_layers=1,
                   num_attention_heads=2, intermediate_size=64, max_position_embeddings=64)
    ).save_pretrained(tmp_path)  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer.tokenize("gooder") == ["good", "##er"]
    assert set(whole_words(tokenizer).values()) == {w for w in words if not w.startswith("#")}
    make = MaskedWords(name="m", model=str(tmp_path), probability=1.0, copies=20, max_length=24,
                       accelerator="cpu", precision="32-true")  # fmt: skip
    copies = make(["the film was gooder"])[0]
    assert all(len(copy.split()) == 4 and "gooder" not in copy for copy in copies)
    assert not any("#" in copy for copy in copies)


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Roberta", "Electra"])
def test_every_family_is_asked_for_one_place_alone(family, tokenizer):
    """The same logits as of the whole text, and no projection of the other places."""
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 64, "pad_token_id": 0}  # fmt: skip
    if family == "DistilBert":
        shape = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "pad_token_id": 0}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=32, max_position_embeddings=64, **shape
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
    filler = masked_words._MaskFiller(
        model, tokenizer, 5, 24, 8, resolve_hardware("cpu", "32-true")
    )
    rows = tokenizer(["the [MASK] was good", "a very [MASK] and rather bright plot"])
    batch = filler.collate(rows)
    places, seen = torch.tensor([2, 3]), []
    head = model.get_output_embeddings()
    watching = head.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape)))
    logits = filler._logits(batch, places)
    assert seen == [(2, 1, 32)]
    watching.remove()
    inputs = {key: value for key, value in batch.items() if key != "token_type_ids"}
    with torch.no_grad():
        whole = model(**inputs).logits
    torch.testing.assert_close(logits, whole[torch.arange(2), places], atol=1e-5, rtol=1e-4)


def test_whole_words_of_byte_level_pieces():
    """RoBERTa's vocabulary marks where a word begins, not where it goes on."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator(
        [" good better the film was brighter and warmer, again"] * 20, vocab_size=400,
        min_frequency=1, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )  # fmt: skip
    tokenizer = RobertaTokenizerFast(tokenizer_object=backend._tokenizer)
    words = whole_words(tokenizer)
    assert {"good", "film", "brighter", "again"} <= set(words.values())
    pieces = tokenizer.convert_ids_to_tokens(sorted(words))
    assert all(piece.startswith("Ġ") for piece in pieces)
    for token, word in words.items():
        assert tokenizer(f" {word}", add_special_tokens=False)["input_ids"] == [token]


def test_words_behind_the_length_that_is_read_stay(masked):
    text = " ".join(["film"] * 30)
    for copy in masked(max_length=10, probability=1.0)([text])[0]:
        changed = [place for place, word in enumerate(copy.split()) if word != "film"]
        assert max(changed) < 8
        assert len(copy.split()) == 30


def test_a_text_with_a_mask_token_of_its_own(masked, pretrained, tokenizer):
    model = AutoModelForMaskedLM.from_pretrained(pretrained).eval()
    filler = masked_words._MaskFiller(
        model, tokenizer, 3, 24, 8,
        resolve_hardware("cpu", "32-true"),
    )  # fmt: skip
    text = "the [MASK] was good"
    word = re.search("good", text)
    assert filler([(text, word)])[0] == likeliest(model, tokenizer, text, 3, 3)


def test_long_passes_say_how_far_they_are(masked, monkeypatch, caplog):
    monkeypatch.setattr(masked_words, "CHUNK_TEXTS", 10)
    monkeypatch.setattr(masked_words, "LOG_INTERVAL_SECONDS", 0)
    with caplog.at_level(logging.INFO):
        masked(copies=1)(TEXTS[:25])
    assert [r.message for r in caplog.records if "augmentation" in r.message] == [
        f"augmentation: {done} of 25 texts" for done in (10, 20, 25)
    ]


def test_chunks_and_batches_change_nothing(masked, monkeypatch):
    once = masked()(TEXTS[:30])
    monkeypatch.setattr(masked_words, "CHUNK_TEXTS", 7)
    assert masked(batch_size=3)(TEXTS[:30]) == once


def test_a_model_without_a_trained_head(trained, masked):
    with pytest.raises(UserError, match=r"no trained head that fills in masked words .*: name a"):
        masked(model=str(trained)).settings()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"probability": 0}, "changes nothing"),
        ({"probability": 2}, "it is a probability"),
        ({"candidates": 0}, "candidates=0: it must be 1 or more"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_masked_words_refuse(masked, settings, says):
    with pytest.raises(UserError, match=says):
        masked(**settings)


# --- made once ---


class Counted(WordNoise):
    def __call__(self, texts):
        self.made = getattr(self, "made", 0) + 1
        return super().__call__(texts)


def test_made_once_until_texts_or_settings_change(tmp_path, pretrained):
    rows = Dataset.from_dict({"text": TEXTS[:20]})

    def call(rows=rows, **settings):
        noise = Counted(name="n", tokenizer=str(pretrained), mask=0.3, **settings)
        made = augment(noise, rows, ["text"], tmp_path)
        return list(made["text"]), getattr(noise, "made", 0)

    first, made = call()
    assert made == 1
    assert len(first) == 100
    assert call() == (first, 0)
    for changed in ({"copies": 4}, {"seed": 1}, {"ngram": 0.1}, {"delete": 0.1}):
        assert call(**changed)[1] == 1, changed
    other = Dataset.from_dict({"text": [*TEXTS[:19], "the film"]})
    again, made = call(other)
    assert made == 1
    assert again[:95] == first[:95]


def test_made_in_pieces_as_in_one(noise, masked, tmp_path, monkeypatch):
    rows = Dataset.from_dict({"text": TEXTS[:50], "text_pair": TEXTS[50:100]})
    monkeypatch.setattr(masked_words, "CHUNK_TEXTS", 10)
    for number, one in enumerate((noise(mask=0.3), masked())):
        whole = augment(one, rows, ["text", "text_pair"], tmp_path / f"whole {number}")
        with monkeypatch.context() as patch:
            patch.setattr(base, "CHUNK_ROWS", 20)
            pieces = augment(one, rows, ["text", "text_pair"], tmp_path / f"pieces {number}")
        assert whole.to_dict() == pieces.to_dict()


def test_other_weights_make_other_texts(masked, pretrained, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS[:5]})
    model = BertForMaskedLM.from_pretrained(pretrained)
    with torch.no_grad():
        model.cls.predictions.bias[7] += 9
    model.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_bytes(
        (pretrained / "tokenizer.json").read_bytes()
    )
    (tmp_path / "other" / "tokenizer_config.json").write_bytes(
        (pretrained / "tokenizer_config.json").read_bytes()
    )
    for model in (str(pretrained), str(tmp_path / "other"), str(pretrained)):
        augment(masked(model=model), rows, ["text"], tmp_path)
    assert len([path for path in (tmp_path / "augmented").iterdir() if path.is_dir()]) == 2


def test_copies_of_pairs_change_the_first_the_second_and_both_in_turn(noise, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS[:50], "text_pair": TEXTS[50:100]})
    made = augment(noise(mask=0.9, copies=4), rows, ["text", "text_pair"], tmp_path)
    assert len(made) == 200
    changed = np.array(
        [
            [made[4 * row + copy][column] != rows[row][column] for column in rows.column_names]
            for row in range(50)
            for copy in range(4)
        ]
    ).reshape(50, 4, 2)
    never, mostly = ~changed.any(axis=0), changed.mean(axis=0) > 0.9
    assert never.tolist() == [[False, True], [True, False], [False, False], [False, True]]
    assert mostly.tolist() == [[True, False], [False, True], [True, True], [True, False]]


def test_nothing_made_equals_a_labelled_text(noise, tmp_path):
    """One word of two texts of test is masked away: without the check both would come in."""
    words = [f"{a} {b}" for a in FILLER for b in GOOD + BAD]
    rows = [{"text": t, "label": "pn"[t.split()[1] in BAD]} for t in words]
    held = [{"text": f" {t.split()[0].upper()}", "label": "p"} for t in words[::12]]
    held += [{"text": word, "label": "n"} for word in BAD]
    splits = {"train": rows, "validation": held[::2], "test": held[1::2]}
    source = Given(splits, augmentation=noise(delete=0.5))
    data = prepare_data(source, SequenceClassification().schema, tmp_path)
    schema = SequenceClassification().schema
    made, _ = near_duplicate_keys(data.splits["unlabelled"], schema)
    for split in ("train", "validation", "test"):
        assert not np.isin(made, near_duplicate_keys(data.splits[split], schema)[0]).any()
    assert 0 < len(made) < len(GOOD) + 1  # the other words that were left alone
    assert len(set(made.tolist())) == len(made)
    note = next(note for note in data.notes if note.startswith("Left out"))
    assert "stand in test" in note
    assert "stand in train" in note


def test_beside_texts_without_labels_of_their_own(noise, tmp_path):
    (tmp_path / "more.txt").write_text("\n".join(TEXTS[100:200]))
    splits = {"train": sentences(100, 1), "validation": sentences(20, 2), "test": sentences(20, 3)}

    def sizes(**settings):
        data = prepare_data(Given(splits, **settings), SequenceClassification().schema, tmp_path)
        return data.sizes["unlabelled"]

    more = {"unlabeled": str(tmp_path / "more.txt")}
    made = {"augmentation": noise(ngram=1.0)}
    both = sizes(**more, **made)
    assert max(sizes(**more), sizes(**made)) < both <= sizes(**more) + sizes(**made)


# --- the command ---


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_binds(choice):
    register_resolvers()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("config", overrides=[f"augmentation={choice}", "seed=3"])
    validate_config(config)
    made = instantiate(config.data, _convert_="all").augmentation
    assert made.name == choice
    assert made.seed == 0  # of its own: seeds share what is made


def test_the_comment_names_every_choice():
    text = (Path(conf_dir()) / "base" / "data.yaml").read_text()
    named = re.search(r"augmentation=(.*)\n", text)[1].split(", ")
    assert sorted(named) == CHOICES


@pytest.mark.parametrize("choice", ["masking", "combined"])
def test_the_command(choice, command, small):
    overrides = [
        *small, "data.limit=40", f"augmentation={choice}", "data.augmentation.copies=2",
        "data.augmentation.max_length=24" if choice == "masking" else "data.augmentation.mask=0.2",
        "trainer.max_epochs=1", "teacher.epochs=1", "output_dir=run",
    ]  # fmt: skip
    code, _, err = command(*overrides)
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    assert 40 < report["data"]["examples"]["unlabelled"] <= 80
    assert f"augmentation={choice}" in " ".join(report["data"]["notes"])


def test_a_sweep_over_augmentations(command, small):
    code, _, err = command(
        "-m", *small, "data.limit=40", "augmentation=none,ngrams,deletion", "control=false",
        "trainer.max_epochs=1", "teacher.epochs=1", "output_dir=sweep",
    )  # fmt: skip
    assert code == 0, err
    folders = sorted(path.name for path in Path("sweep").iterdir() if path.is_dir())
    assert folders == ["00-none", "01-ngrams", "02-deletion"]
    counts = []
    for folder in folders:
        report = json.loads((Path("sweep") / folder / "report.json").read_text())
        counts.append(report["data"]["examples"].get("unlabelled", 0))
    assert counts[0] == 0 < counts[2] < counts[1]
    table = Path("sweep/sweep.csv").read_text().splitlines()
    column = table[0].split(",").index("settings.augmentation")
    assert {"none", "ngrams", "deletion"} <= {line.split(",")[column] for line in table[1:]}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("augmentation=maskin", "did you mean masking?"),
        ("augmentation=masking data.augmentation.copys=2", "did you mean data.augmentation.copies"),
        ("augmentation=masking data.augmentation.copies=many", "it must be a whole number"),
        ("augmentation=masking data.augmentation.model=./nowhere", "there is no such folder"),
        ("augmentation=masking data.augmentation.max_length=99", "positions for 64 tokens"),
        ("augmentation=masking objective.soft_targets.weight=0", "data.augmentation gives texts"),
    ],
)
def test_mistakes(override, says, command, small, monkeypatch):
    def trained(*_, **__):
        raise AssertionError("something was trained")

    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", trained)
    code, _, err = command(*small, *override.split())
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1, err
    assert says in err, err


def test_a_teacher_that_has_lost_its_pretrained_head(command, small, trained):
    """A teacher that is a classifier already: one line says what to do."""
    code, _, err = command(*small, f"teacher.path={trained}", "augmentation=masking")
    assert code == 2
    assert f"data.augmentation.model={trained} has no trained head" in err
    assert "augmentation=combined" in err
    assert len(err.strip().splitlines()) == 1
