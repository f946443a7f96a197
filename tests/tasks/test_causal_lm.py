"""Causal language modeling: targets, borders, masks, students, and what a run leaves behind."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
)

import distill
from distill.core.errors import UserError
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.evaluation.divergence import mean_divergence
from distill.modeling.forward import forward_at_positions
from distill.objectives.objective import OffPolicyObjective
from distill.objectives.terms.divergences import JensenShannon
from distill.student.decoder import OwnShapeFactory
from distill.student.from_layers import LayersFactory
from distill.tasks.causal_lm import CausalLM
from distill.tasks.causal_lm.preprocessor import NextTokenPreprocessor
from distill.tasks.causal_lm.schema import blocks, paragraphs
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.prepare import Teacher
from distill.teacher.scratch import ScratchConfig, byte_level_tokenizer
from tests.factories import make_tokenizer, prepared, student_context
from tests.tasks.test_masked_lm import language

TEXTS = ["the film was good", "a süß 映画 story", "x", "the plot\n\nand the cast"]
TOKENIZER = byte_level_tokenizer(TEXTS * 3, 290)
PREPROCESSOR = NextTokenPreprocessor("test")


def encode(max_length: int = 64, tokenizer=TOKENIZER, **columns) -> dict[str, list]:
    count = len(next(iter(columns.values())))
    return PREPROCESSOR.encode(tokenizer, columns | {"row": list(range(count))}, max_length)


def decoder(family: str, layers: int = 4, width: int = 16):
    torch.manual_seed(0)
    words = {"vocab_size": len(TOKENIZER), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if family == "gpt2":
        config = GPT2Config(
            n_embd=width, n_layer=layers, n_head=2, n_positions=64, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, **words,
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()
    shape = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }  # fmt: skip
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, **words)).eval()
    kinds = ["sliding_attention", "full_attention"] * (layers // 2)
    config = Gemma3TextConfig(
        head_dim=4, sliding_window=8, layer_types=kinds, **shape, **words
    )  # fmt: skip
    return Gemma3ForCausalLM(config).eval()


FAMILIES = ("llama", "gpt2", "gemma3")


# --- targets ---


def test_every_position_predicts_the_next_token_and_the_last_one_the_end():
    found = encode(text=TEXTS)
    for text, ids, positions, labels in zip(
        TEXTS, found["input_ids"], found["positions"], found["label"], strict=True
    ):
        whole = [TOKENIZER.bos_token_id, *TOKENIZER.encode(text, add_special_tokens=False)]
        assert ids == whole and positions == list(range(len(whole)))
        assert labels == [*whole[1:], TOKENIZER.eos_token_id]


@pytest.mark.parametrize("length", (2, 3, 5))
def test_a_long_document_continues_and_each_token_is_a_target_once(length):
    found = encode(length, text=TEXTS)
    assert max(map(len, found["input_ids"])) == length
    for row, text in enumerate(TEXTS):
        mine = [i for i, of in enumerate(found["row"]) if of == row]
        targets = [token for i in mine for token in found["label"][i]]
        ids = TOKENIZER.encode(text, add_special_tokens=False)
        assert targets == [*ids, TOKENIZER.eos_token_id]
        assert sum(found["bytes"][i] for i in mine) == len(text.encode())
        for i in mine:  # the context of a target is what stands before it
            assert found["input_ids"][i][1:] == found["label"][i][:-1]


def test_a_response_and_its_end_are_targets_and_the_prompt_is_not():
    found = encode(prompt=["the film was"], response=[" süß"])
    prompt = [1, *TOKENIZER.encode("the film was", add_special_tokens=False)]
    answer = [*TOKENIZER.encode(" süß", add_special_tokens=False), TOKENIZER.eos_token_id]
    (ids,), (positions,), (labels,) = (found[k] for k in ("input_ids", "positions", "label"))
    assert labels == answer
    assert positions[0] == len(prompt) - 1  # the prompt's last token predicts the first answer
    whole = [*prompt, *answer]
    assert ids == whole[:-1] and [whole[place + 1] for place in positions] == labels
    assert found["bytes"] == [len(" süß".encode())]


def test_prompts_without_room_are_left_out_and_counted():
    texts = {
        "prompt": ["a", "the film was good " * 9, "a"],
        "response": ["x", "y", "the cast " * 9],
    }
    found = encode(12, **texts)
    assert found["row"] == [0, 2] and found["cut"] == [False, True]
    assert found["label"][0][-1] == TOKENIZER.eos_token_id
    assert len(found["input_ids"][1]) == 12 and TOKENIZER.eos_token_id not in found["label"][1]
    notes = PREPROCESSOR.notes({"train": Dataset.from_dict(found)}, 12)
    assert notes[0].startswith("1 prompts of train leave no room")
    assert notes[1].startswith("1 of the 2 responses of train go on beyond")


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_said_by_length_even_where_the_end_token_pads(family):
    tokenizer = byte_level_tokenizer(TEXTS * 3, 290)
    tokenizer.pad_token = tokenizer.eos_token
    rows = Dataset.from_dict(encode(tokenizer=tokenizer, text=TEXTS))
    examples = DistillationDataset(rows, PaddingCollator(PREPROCESSOR.fields(tokenizer)))
    batch, model = examples[[0, 1, 2, 3]], decoder(family)
    lengths = [len(ids) for ids in rows["input_ids"]]
    assert batch["student"]["attention_mask"].sum(1).tolist() == lengths
    assert (batch["labels"] == tokenizer.eos_token_id).sum() == len(TEXTS)
    with torch.no_grad():
        together = forward_at_positions(model, batch["student"]).logits
        alone = [forward_at_positions(model, examples[[i]]["student"]).logits for i in range(4)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_logit_depends_on_its_target(family):
    model, ids = decoder(family), torch.tensor([[1, 5, 6, 7, 8, 9]])
    changed = ids.clone()
    changed[0, 4:] = 11
    positions = torch.arange(6).unsqueeze(0)
    with torch.no_grad():
        before, after = (
            forward_at_positions(model, {"input_ids": x, "positions": positions}).logits
            for x in (ids, changed)
        )
    assert torch.allclose(before[:4], after[:4], atol=1e-6)
    assert not torch.allclose(before[4:], after[4:], atol=1e-3)


# --- documents ---


def test_lines_become_documents():
    lines = ["A:", "one", "", "", "B:", "two ", None, "C"]
    assert paragraphs(lines) == ["A:\none", "B:\ntwo ", "C"]
    long = ["x" * 700, "", "y" * 700, "z" * 700, "end"]
    assert blocks(long) == ["\n".join(long[:4]), "end"]
    assert blocks(["", " "]) == []


# --- metrics ---


def test_metrics_weigh_tokens_and_bytes():
    metrics = CausalLM().evaluator.metrics
    sums, sizes = np.array([[4.0, 1], [2.0, 3]]), np.array([[2, 9], [4, 3]])
    assert list(metrics) == ["perplexity", "bits_per_byte", "accuracy"]
    assert metrics["perplexity"](sums, sizes) == pytest.approx(math.e)
    assert metrics["accuracy"](sums, sizes) == pytest.approx(4 / 6)
    assert metrics["bits_per_byte"](sums, sizes) == pytest.approx(6 / math.log(2) / 12)


def test_the_divergence_is_that_of_whole_distributions(monkeypatch):
    rows = Dataset.from_dict(encode(text=TEXTS))
    examples = DistillationDataset(rows, PaddingCollator(PREPROCESSOR.fields(TOKENIZER)))
    teacher, student = decoder("llama"), decoder("gpt2")
    total, count = 0.0, 0
    with torch.no_grad():
        for ids in rows["input_ids"]:
            p, q = (
                m(torch.tensor([ids])).logits[0].double().log_softmax(-1)
                for m in (teacher, student)
            )
            total, count = total + float((p.exp() * (p - q)).sum()), count + len(ids)
    for whole in (True, False):
        if not whole:
            monkeypatch.setattr("distill.modeling.forward.WHOLE_LOGITS", 0)
        found = mean_divergence(teacher, examples, student, examples)
        assert found == pytest.approx(total / count, rel=1e-4)


# --- students ---


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("layers", "expected"), (("half", [0, 2]), ("single", [0])))
def test_students_copy_layers(family, layers, expected, tmp_path):
    model = decoder(family)
    model.generation_config.max_length = 77
    LayersFactory(name=layers, layers=layers).check(model.config)
    teacher = Teacher("decoder", model, TOKENIZER, "", 0.0, True)
    context = student_context(teacher, tmp_path, prepared([{"text": "x"}], ()), CausalLM())
    student = LayersFactory(name=layers, layers=layers).build(context).model
    assert student.config.num_hidden_layers == len(expected)
    ours = [p for n, p in student.named_parameters() if ".0." in n or ".1." in n]
    theirs = [
        p for n, p in model.named_parameters() if any(f".{layer}." in n for layer in expected)
    ]
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    assert student.generation_config.max_length == 77
    student.save_pretrained(tmp_path / "student")
    tables = [
        w for w in load_file(tmp_path / "student/model.safetensors").values()
        if w.shape == (len(TOKENIZER), 16)
    ]  # fmt: skip
    assert len(tables) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_students_of_a_shape_are_of_the_teachers_family(family, tmp_path):
    model = decoder(family)
    teacher = Teacher("decoder", model, TOKENIZER, "", 0.0, True)
    context = student_context(teacher, tmp_path, prepared([{"text": "x"}], ()), CausalLM())
    factory = OwnShapeFactory(name="shape", hidden_layers=3, hidden_size=8, heads=1)
    factory.check(model.config)
    student = factory.build(context).model.eval()
    assert type(student) is type(model) and student.config.num_hidden_layers == 3
    with torch.no_grad():
        assert student(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, len(TOKENIZER))
    with pytest.raises(UserError, match="3 heads do not divide a hidden_size of 8"):
        OwnShapeFactory(name="shape", hidden_size=8, heads=3).check(model.config)


def test_a_size_below_one_is_refused():
    with pytest.raises(UserError, match=r"student\.heads=0: it must be 1 or more"):
        OwnShapeFactory(name="shape", heads=0)


# --- bad input ---


@pytest.mark.parametrize(
    ("config", "message"),
    ((BertConfig(), "bert is an encoder"), (T5Config(), "t5 has no head that predicts")),
)
def test_what_is_no_decoder_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        CausalLM().head.check_teacher(config, "causal_lm")
    CausalLM().head.check_teacher(BertConfig(is_decoder=True), "causal_lm")
    CausalLM().head.check_teacher(GPT2Config(), "causal_lm")


def test_a_tokenizer_without_an_end_is_refused():
    tokenizer = make_tokenizer(["good"])
    with pytest.raises(UserError, match="has no end token"):
        PREPROCESSOR.check_processor(tokenizer, 16)
    with pytest.raises(UserError, match="needs 2 tokens or more"):
        PREPROCESSOR.check_processor(TOKENIZER, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"metric": "f1"}, "choose one of perplexity, accuracy, bits_per_byte"),
        ({"documents": "pages"}, "choose one of rows, paragraphs, blocks"),
        ({"pairs": ["q"]}, "name two columns, of prompts and of responses"),
        ({"pairs": ["q", "a"], "documents": "blocks"}, "leave one out"),
    ),
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        CausalLM(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"family": "bert"}, "choose one of llama, gpt2"),
        ({"vocabulary": 258}, "make 259"),
        ({"hidden_size": 30}, "multiple of twice"),
        ({"seeds": 2}, "several teachers need a model each"),
    ),
)
def test_a_teacher_that_cannot_be_made_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ScratchConfig(**settings)


def test_a_scratch_teacher_is_for_language_models(tmp_path):
    with pytest.raises(UserError, match="task=sequence_classification needs a pretrained teacher"):
        ScratchConfig().create(SequenceClassification(), prepared([{"text": "x"}]), tmp_path)


def test_texts_of_the_students_own_are_refused():
    with pytest.raises(UserError, match="not implemented, set it to 0"):
        OffPolicyObjective("gkd", on_policy=0.5, jensen_shannon=JensenShannon())
    assert OffPolicyObjective("gkd", jensen_shannon=JensenShannon()).active_terms


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        (["teacher=hub", "teacher.path={bert}", "data.max_length=32"], "bert is an encoder"),
        (["student=tiny"], "student=tiny is a BERT"),
        (["data.max_length=600"], "llama has positions for 512 tokens"),
        (["objective=gkd", "objective.on_policy=0.5"], "not implemented, set it to 0"),
        (["teacher.outputs=cached"], "too many to be stored"),
        (["objective=dist"], "is no mean over tokens"),
        (["task.pairs=[question,answer]"], "no such column"),
    ),
)
def test_mistakes_are_said_in_one_line(
    command, pretrained, corpus, shared_cache, settings, message
):
    code, _, err = command(
        "task=causal_lm", "data=files", f"data.path={corpus}", f"cache_dir={shared_cache}",
        "teacher.vocabulary=280" if "teacher=hub" not in settings else "seed=0",
        *(setting.format(bert=pretrained) for setting in settings),
    )  # fmt: skip
    assert code == 2 and message in err
    assert len(err.strip().splitlines()) == 1 and err.startswith("error: ")


# --- a whole run ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    (folder / "data").mkdir()
    for split, count, seed in (("train", 120, 1), ("validation", 20, 2), ("test", 30, 3)):
        lines = "\n".join(language(count, seed))
        (folder / "data" / f"{split}.txt").write_text(lines + "\n")
    distill.run([
        "task=causal_lm", "data=files", f"data.path={folder / 'data'}",
        f"cache_dir={folder / 'cache'}", f"output_dir={folder / 'run'}", "teacher.vocabulary=280",
        "teacher.hidden_size=32", "teacher.epochs=2", "trainer.max_epochs=1",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "optimizer.learning_rate=1e-2",
    ])  # fmt: skip
    return folder


def test_perplexity_is_that_of_transformers_alone(finished):
    report = json.loads((finished / "run/report.json").read_text())
    models = {model["role"]: model for model in report["models"]}
    tokenizer = AutoTokenizer.from_pretrained(finished / "run/student")
    student = AutoModelForCausalLM.from_pretrained(finished / "run/student").eval()
    total, count, size = 0.0, 0, 0
    for line in (finished / "data/test.txt").read_text().splitlines():
        ids = torch.tensor([[*tokenizer(line)["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            loss = student(ids, labels=ids).loss  # shifted by transformers
        total += float(loss) * (ids.shape[1] - 1)
        count, size = count + ids.shape[1] - 1, size + len(line.encode())
    quality = models["student"]["quality"]
    assert quality["perplexity"]["value"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert quality["bits_per_byte"]["value"] == pytest.approx(total / math.log(2) / size, rel=1e-4)
    assert quality["perplexity"]["value"] < 0.5 * len(tokenizer)
    assert models["student"]["fidelity"]["kl_divergence"] > 0
    assert report["comparison"]["metric"] == "perplexity"


def test_the_saved_student_stops_by_itself_and_keeps_its_table_once(finished):
    student = AutoModelForCausalLM.from_pretrained(finished / "run/student")
    tokenizer = AutoTokenizer.from_pretrained(finished / "run/student")
    assert student.config.num_hidden_layers == 2
    assert student.generation_config.eos_token_id == tokenizer.eos_token_id
    names = load_file(finished / "run/student/model.safetensors")
    assert [n for n, w in names.items() if w.shape[0] == len(tokenizer)] == [
        "model.embed_tokens.weight"
    ]

    def end_at_four(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, tokenizer.eos_token_id] = math.inf if ids.shape[1] == 3 else -math.inf
        return scores

    made = student.generate(
        torch.tensor([[tokenizer.bos_token_id]]), max_new_tokens=20, logits_processor=[end_at_four]
    )
    assert made.shape[1] == 4


def test_the_teacher_from_scratch_is_kept(finished):
    (start,) = filter(Path.is_dir, (finished / "cache/scratch").iterdir())
    assert json.loads((start / "config.json").read_text())["architectures"] == ["LlamaModel"]
    (teacher,) = filter(Path.is_dir, (finished / "cache/teachers").iterdir())
    assert json.loads((teacher / "config.json").read_text())["architectures"] == [
        "LlamaForCausalLM"
    ]
