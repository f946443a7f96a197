"""Smaller vocabularies: what was kept is read as before, and nothing becomes unknown."""

import json
import random
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as kinds
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaTokenizerFast,
)

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling.size import count_parameters
from distill.student import vocabulary
from distill.student.bilstm import BiLSTMFactory
from distill.student.from_layers import LayersFactory
from distill.student.static import StaticFactory
from distill.student.token_statistics import token_counts
from distill.teacher.prepare import Teacher
from tests.factories import make_model, make_tokenizer, student_context

NAMES = ["negative", "positive"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LETTERS = "abcdeéß한글"


def words(count, seed, letters=LETTERS):
    """Words of syllables, so that trainers find pieces of every length."""
    draw = random.Random(seed)
    syllables = ["".join(draw.choices(letters, k=draw.randint(1, 3))) for _ in range(12)]
    return ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(count)]


def texts(count, seed, letters=LETTERS):
    draw = random.Random(seed)
    known = words(60, 0, LETTERS) + words(30, seed, letters)
    return [" ".join(draw.choices(known, k=draw.randint(1, 6))) for _ in range(count)]


def data_of(lines):
    rows = Dataset.from_dict({"text": lines, "label": [0] * len(lines)})
    splits = {"train": rows, "validation": rows.select([0]), "test": rows.select([0])}
    return PreparedData("texts", splits, NAMES, "test", "f", dict.fromkeys(splits, "h"))


def word_piece():
    backend = Tokenizer(kinds.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=SPECIAL)
    backend.train_from_iterator(texts(200, 1), trainer)
    return backend


def bpe():
    backend = Tokenizer(kinds.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL)
    backend.train_from_iterator(texts(200, 1), trainer)
    return backend


def bpe_of_words():
    """With a mark at the end of words and one before pieces inside of them."""
    backend = Tokenizer(
        kinds.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=150, special_tokens=SPECIAL, continuing_subword_prefix="##",
        end_of_word_suffix="</w>",
    )  # fmt: skip
    backend.train_from_iterator(texts(200, 1), trainer)
    return backend


def bpe_of_bytes():
    backend = Tokenizer(kinds.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(texts(200, 1), trainer)
    return backend


def unigram():
    backend = Tokenizer(kinds.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(texts(200, 1), trainer)
    return backend


MAKERS = [word_piece, bpe, bpe_of_words, bpe_of_bytes, unigram]


def made(maker):
    backend = maker()
    backend.post_processor = processors.Sequence(
        [
            processors.TemplateProcessing(
                single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
                special_tokens=[(t, backend.token_to_id(t)) for t in ("<s>", "</s>")],
            )
        ]
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>",
    )  # fmt: skip


def unknown(tokenizer, ids):
    return sum(one == tokenizer.unk_token_id for one in ids)


def surface(tokenizer, ids):
    return re.sub("##|</w>| ", "", tokenizer.decode(ids))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("wanted", ["corpus", 10, 1])
def test_any_text_is_read_as_before_or_in_smaller_pieces(maker, wanted):
    old = made(maker)
    new, kept = vocabulary.trim_tokenizer(old, wanted, data_of(texts(15, 1)))
    assert len(new) == len(kept) < len(old)
    assert new.convert_ids_to_tokens(range(len(new))) == old.convert_ids_to_tokens(kept.tolist())
    as_before = pieces = 0
    # Other words of the same letters, other letters, no sense at all.
    seen = texts(15, 1)
    others = [*seen, *texts(150, 2), *texts(50, 3, LETTERS + "xyzק"), "", " ", "!? a", "<mask> a"]
    for text in others:
        before, after = old(text)["input_ids"], new(text)["input_ids"]
        if set(before) <= set(kept.tolist()):
            as_before += 1
            assert [kept[one] for one in after] == before, text
        else:
            pieces += 1
            assert len(after) >= len(before)
        assert unknown(new, after) == unknown(old, before), text
        if not unknown(old, before):
            assert surface(new, after) == surface(old, before)
    assert as_before > 3
    assert pieces > 3
    if wanted == "corpus":
        assert all(set(old(text)["input_ids"]) <= set(kept.tolist()) for text in seen)
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(new, f"{name}_token") == getattr(old, f"{name}_token")
    pair = old("a b", "c")["input_ids"]
    if set(pair) <= set(kept.tolist()):
        assert [kept[one] for one in new("a b", "c")["input_ids"]] == pair


@pytest.mark.parametrize("maker", MAKERS)
def test_saved_and_loaded_it_reads_the_same(maker, tmp_path):
    old, lines = made(maker), texts(40, 2)
    before = old(lines)["input_ids"]
    new, _ = vocabulary.trim_tokenizer(old, 10, data_of(texts(15, 1)))
    new.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(lines)["input_ids"] == new(lines)["input_ids"]
    assert len(loaded) == len(new)
    assert old(lines)["input_ids"] == before  # left as it was


def test_roberta_keeps_its_class_and_its_padding_id(tmp_path):
    backend = json.loads(bpe_of_bytes().to_str())["model"]
    old = RobertaTokenizerFast(
        vocab=backend["vocab"], merges=[tuple(pair) for pair in backend["merges"]]
    )
    new, kept = vocabulary.trim_tokenizer(old, 10, data_of(texts(15, 1)))
    assert new.pad_token_id == old.pad_token_id == 1
    new.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(old)
    for text in texts(40, 2):
        assert loaded(text, "a")["input_ids"] == new(text, "a")["input_ids"]
        before = old(text)["input_ids"]
        if set(before) <= set(kept.tolist()):
            assert [kept[one] for one in new(text)["input_ids"]] == before


def test_pieces_whose_characters_are_no_pieces_are_kept():
    tokens = ["a", "##a", "b", "##b", "ab", "##ab", "##éa", "éb", "##aéb"]
    old = make_tokenizer(tokens)
    old.backend_tokenizer.normalizer = None
    new, _ = vocabulary.trim_tokenizer(old, 1, data_of(["b"]))
    dropped = set(old.get_vocab()) - set(new.get_vocab())
    assert dropped == {"ab", "##ab"}
    for text in ("ab", "abab", "béa", "éb", "aaéb"):
        assert new.tokenize(text).count("[UNK]") == old.tokenize(text).count("[UNK]") == 0


def test_number_takes_the_most_frequent_and_corpus_what_occurs():
    old = make_tokenizer(["one", "two", "three", "four"])
    data = data_of(["two two three", "one two three"])
    counts = token_counts(data, old)
    assert {t: counts[i] for t, i in old.get_vocab().items() if counts[i]} == {
        "two": 3, "three": 2, "one": 1,
    }  # fmt: skip
    # Words that have no pieces cannot be dropped: with pieces they can.
    assert len(vocabulary.trim_tokenizer(old, 1, data)[0]) == len(old)
    letters = sorted(set("onetwothreefour"))
    old = make_tokenizer([*["one", "two", "three", "four"], *letters, *(f"##{c}" for c in letters)])
    always = {*letters, *(f"##{c}" for c in letters)}
    for wanted, expected in (
        (1, {"two"}), (2, {"two", "three"}), ("corpus", {"one", "two", "three"}),
    ):  # fmt: skip
        new, _ = vocabulary.trim_tokenizer(old, wanted, data)
        assert {t for t in new.get_vocab() if t[0] != "["} == expected | always
    assert vocabulary.trim_tokenizer(old, "full", data)[0] is old


def test_the_test_split_says_nothing():
    data = data_of(["one"])
    data.splits["test"] = Dataset.from_dict({"text": ["two"], "label": [0]})
    data.splits["unlabelled"] = Dataset.from_dict({"text": ["three"]})
    old = make_tokenizer(["one", "two", "three"])
    counts = token_counts(data, old)
    assert [counts[old.get_vocab()[word]] for word in ("one", "two", "three")] == [1, 0, 1]


@pytest.mark.parametrize("wanted", ["half", 0, -3, True])
def test_refuses_what_is_no_choice(wanted):
    for recipe in (BiLSTMFactory, StaticFactory):
        with pytest.raises(UserError, match=r"student\.vocabulary"):
            recipe(name="s", vocabulary=wanted)
    with pytest.raises(UserError, match=r"student\.vocabulary"):
        LayersFactory(name="s", layers="half", vocabulary=wanted)


def test_refuses_other_tokenizers():
    backend = Tokenizer(kinds.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    old = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with pytest.raises(UserError, match="WordLevel"):
        vocabulary.trim_tokenizer(old, 5, data_of(["a"]))


# --- models ------------------------------------------------------------------------------------


def teacher_of(model, tokenizer):
    return Teacher("teacher", model.eval(), tokenizer, f"hash-{len(tokenizer)}", 0.0, True)


def logits(model, tokenizer, lines):
    inputs = tokenizer(lines, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        return model.eval()(**inputs).logits


@pytest.mark.parametrize(
    ("family", "rank"),
    [
        *((family, None) for family in ("bert", "roberta", "electra", "distilbert")),
        # DistilBERT's word table cannot be factorized.
        *((family, 32) for family in ("bert", "roberta", "electra")),
    ],
)
def test_the_function_stays_where_the_tokens_do(family, rank, tmp_path):
    tokenizer = made(bpe)
    model = make_model(family, vocab_size=len(tokenizer) + 3)
    model.config.pad_token_id = 1
    torch.manual_seed(0)
    teacher = teacher_of(type(model)(model.config), tokenizer)
    lines = texts(15, 1)
    recipe = LayersFactory(name="s", layers="all", vocabulary="corpus", embedding_size=rank)
    student = recipe.build(student_context(teacher, tmp_path, data_of(lines)))
    config = student.model.config
    assert config.vocab_size == len(student.processor) < len(tokenizer)
    assert config.pad_token_id == student.processor.pad_token_id
    expected = logits(teacher.model, tokenizer, lines)
    torch.testing.assert_close(
        logits(student.model, student.processor, lines), expected, rtol=1e-4, atol=1e-5
    )
    assert teacher.model.config.vocab_size == len(tokenizer) + 3
    student.model.save_pretrained(tmp_path / "s")
    student.processor.save_pretrained(tmp_path / "s")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "s")
    reads = AutoTokenizer.from_pretrained(tmp_path / "s")
    torch.testing.assert_close(logits(loaded, reads, lines), expected, rtol=1e-4, atol=1e-5)
    assert f"{len(student.processor)} of its {len(tokenizer)} tokens" in student.origin


def test_a_tied_output_follows():
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8,
        )
    ).eval()  # fmt: skip
    torch.nn.init.normal_(model.cls.predictions.bias)
    kept = torch.tensor([0, 3, 4, 9, 17])
    ids = torch.tensor([[1, 3, 4, 2]])
    with torch.no_grad():
        expected = model(input_ids=kept[ids]).logits[:, :, kept]
    tokenizer = type("Tokenizer", (), {"pad_token_id": 0})
    vocabulary.trim_model(model, kept, tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, expected)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert count_parameters(model).total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("recipe", [BiLSTMFactory, StaticFactory])
def test_small_students_take_their_rows(recipe, tmp_path):
    tokenizer = made(word_piece)
    teacher = teacher_of(make_model(vocab_size=len(tokenizer)), tokenizer)
    data = data_of(texts(15, 1))
    settings = {"weighting": "none"} if recipe is StaticFactory else {}
    full, small = (
        recipe(name="s", start="embeddings", vocabulary=wanted, **settings).build(
            student_context(teacher, tmp_path, data)
        )
        for wanted in ("full", 20)
    )
    theirs, ours = tokenizer.get_vocab(), small.processor.get_vocab()
    assert len(ours) < len(theirs)
    tables = [s.model.get_input_embeddings().weight for s in (full, small)]
    for token, index in ours.items():
        assert torch.equal(tables[1][index], tables[0][theirs[token]])


def test_through_the_command(command, small, tmp_path, corpus):
    teacher = tmp_path / "teacher"
    tokenizer = made(word_piece)
    make_model(vocab_size=len(tokenizer)).save_pretrained(teacher)
    tokenizer.save_pretrained(teacher)
    code, _, err = command(
        *small, f"teacher.path={teacher}", "student=half", "student.vocabulary=corpus",
        "data.max_length=24", "debug=fast", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    config = json.loads(Path("run/student/config.json").read_text())
    assert config["vocab_size"] == len(AutoTokenizer.from_pretrained("run/student"))
    assert config["vocab_size"] < len(tokenizer)
    code, _, err = command(*small, "student.vocabulary=some", "output_dir=refused")
    assert code == 2
    assert "student.vocabulary=some" in err
