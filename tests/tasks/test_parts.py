"""What every task and its parts promise, of every task that there is."""

import inspect
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, PreTrainedConfig

import distill.tasks
from distill.core.errors import UserError
from distill.core.hardware import Hardware
from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.encode import SplitEncoder
from distill.data.prepare import PreparedData, prepare_data
from distill.data.preprocessor import LENGTH, POSITIONS, Preprocessor
from distill.data.schema import LABEL, DataSchema
from distill.data.text_preprocessor import tokenizer_hash
from distill.metrics.base import Metric
from distill.modeling.forward import forward_at_positions, output_logits
from distill.modeling.head import Head
from distill.modeling.image_networks import network_config
from distill.modeling.size import multiply_accumulates
from distill.objectives.criterion import Criterion, Distribution
from distill.tasks.base import Task
from distill.tasks.causal_lm import CausalLM
from distill.tasks.evaluator import CalibrationSamples, Evaluator
from distill.tasks.image_classification import ImageClassification
from distill.tasks.masked_lm import MaskedLM
from distill.tasks.multi_label import MultiLabel
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from distill.training.inference import predict_logits
from tests.factories import BAD, FILLER, GOOD, Given, make_model, make_tokenizer, sentences
from tests.images import image_processor, image_rows
from tests.subclasses import concrete_subclasses
from tests.tasks.questions import asked
from tests.tasks.test_token_classification import PIECES, tagged_sentences
from tests.tasks.texts import rated, tagged

TASKS = concrete_subclasses(Task, distill.tasks)
every_task = pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)
every_text_task = pytest.mark.parametrize(
    "kind", [kind for kind in TASKS if kind is not ImageClassification],
    ids=lambda kind: kind.__name__,
)  # fmt: skip
PARTS = {
    "schema": DataSchema, "preprocessor": Preprocessor, "head": Head, "criterion": Criterion,
    "evaluator": Evaluator,
}  # fmt: skip
SIZES = (("train", 40, 1), ("validation", 20, 2), ("test", 30, 3))
MAX_LENGTH = 14
CPU = Hardware(torch.device("cpu"), "32-true")

ROWS = {
    SequenceClassification: sentences,
    Regression: rated,
    MultiLabel: tagged,
    TokenClassification: tagged_sentences,
    QuestionAnswering: lambda count, seed: asked(count, seed, unanswerable=True),
    MaskedLM: lambda count, seed: [{"text": row["text"]} for row in sentences(count, seed)],
    ImageClassification: image_rows,
    CausalLM: lambda count, seed: [{"text": row["text"]} for row in sentences(count, seed)],
}
# Another value of each of the tasks' settings.
OTHER_VALUES = {
    "per_class": True, "scale": 2.0, "stride": 1, "max_answer_length": 5,
    "no_answer_threshold": 0.5, "mlm_probability": 0.3, "mask_share": 0.5, "random_share": 0.2,
    "whole_word": True, "smoothing": 0.7, "augmentation": "crop", "views": 3, "documents": "blocks",
    "pairs": ["text", "text"], "min_steps": 7,
}  # fmt: skip
SETTINGS = [
    (kind, name)
    for kind in TASKS
    for name in inspect.signature(kind).parameters
    if name != "metric"
]


@dataclass
class Case:
    """A task with data, and a small model that has its head."""

    task: Task
    data: PreparedData
    encoder: SplitEncoder
    encoded: dict[str, Dataset]
    model: torch.nn.Module
    processor: object

    def examples(self, split: str = "test") -> DistillationDataset:
        transform = self.task.preprocessor.batch_transform(self.processor, self.encoded["train"])
        return DistillationDataset(
            self.encoded[split], self.encoder.collator(self.processor, transform),
            source=self.data.splits[split],
        )  # fmt: skip


TOKENIZER = make_tokenizer(FILLER + GOOD + BAD + PIECES)
OTHER_TOKENIZER = make_tokenizer(BAD + GOOD + FILLER + PIECES)
for tokenizer in (TOKENIZER, OTHER_TOKENIZER):
    tokenizer.eos_token = "[SEP]"  # where texts end, for CausalLM


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    made: dict[type, Case] = {}

    def make(kind: type) -> Case:
        if kind not in made:
            cache, task = tmp_path_factory.mktemp("cache"), kind()
            splits = {split: ROWS[kind](count, seed) for split, count, seed in SIZES}
            data = prepare_data(Given(splits), task.schema, cache)
            encoder = task.encoder(data, cache)
            processor = image_processor(8) if kind is ImageClassification else TOKENIZER
            encoded = {split: encoder.encode(split, processor, MAX_LENGTH) for split in data.splits}
            model = build_model(task, data.label_names)
            made[kind] = Case(task, data, encoder, encoded, model, processor)
        return made[kind]

    return make


def build_model(task: Task, names: list[str]) -> torch.nn.Module:
    config: PreTrainedConfig = make_model(
        layers=2, vocab_size=len(TOKENIZER), initializer_range=0.5
    ).config
    if isinstance(task, ImageClassification):
        config = network_config("vgg_tiny", {}, "student", (8, 8), 3)
    if isinstance(task, CausalLM):  # BERT is none
        config = LlamaConfig(
            vocab_size=len(TOKENIZER), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, pad_token_id=0, initializer_range=0.5,
        )  # fmt: skip
    config.update(task.head.config_settings(names))
    torch.manual_seed(0)
    return task.head.build(config).eval()


def test_every_task_has_a_case():
    assert set(ROWS) == set(TASKS)


# --- parts --------------------------------------------------------------------------------------


@every_task
def test_every_part_is_of_its_class(kind):
    task = kind()
    for name, base in PARTS.items():
        assert isinstance(getattr(task, name), base)
        parts = {part: getattr(task, part) for part in PARTS} | {name: object()}
        with pytest.raises(TypeError, match=f"is not a {base.__name__}"):
            Task(name="toy", **parts)


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name, base in PARTS.items() for method in sorted(base.__abstractmethods__)],
)
def test_a_part_without_a_method_fails_when_the_task_is_built(name, method):
    base = PARTS[name]
    others = dict.fromkeys(base.__abstractmethods__ - {method})
    incomplete = type("Incomplete", (base,), others)

    class Own(Task):
        def __init__(self):
            usual = SequenceClassification()
            parts = {part: getattr(usual, part) for part in PARTS}
            super().__init__(name="own", **parts | {name: incomplete()})

    with pytest.raises(TypeError, match=f"Incomplete .*{method}"):
        Own()


@every_task
def test_names_are_those_of_the_class(kind):
    task = kind()
    assert task.name == task.schema.task_name
    assert task.name.replace("_", "") == kind.__name__.lower()
    assert task.token_level == task.preprocessor.token_level
    assert repr(task) == f"{kind.__name__}(metric='{task.evaluator.metric_name}')"


# --- schema -------------------------------------------------------------------------------------


@every_task
def test_label_names_and_targets_are_consistent(kind, case):
    task, data = case(kind).task, case(kind).data
    schema, names = task.schema, data.label_names
    assert schema.has_labels == (LABEL in schema.columns)
    assert all(column.names for column in schema.columns.values())
    assert len(set(names)) == len(names)
    assert bool(names) == schema.has_labels
    assert schema.describe_outputs(names)
    for split, count, seed in SIZES:
        rows = data.splits[split]
        assert (LABEL in rows.column_names) == schema.has_labels
        assert set(rows.column_names) - {LABEL} <= set(schema.inputs)
        given = Dataset.from_list(ROWS[kind](count, seed))
        columns = {
            role: next(name for name in column.names if name in given.column_names)
            for role, column in schema.columns.items()
            if not column.optional
        }
        given = given.rename_columns({name: role for role, name in columns.items() if name != role})
        targets = schema.targets(split, given, names)
        assert (targets is None) == (not schema.has_labels)
        if targets is None:
            continue
        assert len(targets) == count
        content = schema.target_bytes(targets)
        assert content == schema.target_bytes(targets)
        assert content != schema.target_bytes(targets[:-1])
        other = [*targets[:-1], targets[0]]  # the last one has another label than the first
        assert (content != schema.target_bytes(other)) == (str(targets[0]) != str(targets[-1]))


@every_task
def test_inputs_have_keys_and_know_when_they_are_empty(kind, case):
    data, schema = case(kind).data, case(kind).task.schema
    for role, column_type in schema.inputs.items():
        rows = data.splits["test"]
        if role not in rows.column_names:
            assert schema.columns[role].optional
            continue
        column_type.validate(role, "test", rows.features[role])
        with pytest.raises(UserError, match=f"data.{role}"):
            column_type.validate(role, "test", Dataset.from_dict({"x": [1]}).features["x"])
        values = rows[role][:]
        assert not any(column_type.is_empty(value) for value in values)
        empty = {"bytes": None, "path": None} if role == "image" else type(values[0])()
        assert column_type.is_empty(None) and column_type.is_empty(empty)
        distinct = {repr(value) for value in values}
        assert len({column_type.key(value) for value in values}) == len(distinct)


@pytest.mark.parametrize(
    "kind", [kind for kind in TASKS if kind().schema.has_labels], ids=lambda kind: kind.__name__
)
def test_an_example_without_a_label_teaches_nothing(kind, case):
    task, data, model = case(kind).task, case(kind).data, case(kind).model
    missing = task.schema.missing_label(data.label_names)
    rows = data.splits["train"][:6] | {"row": list(range(6))}
    losses = []
    for labels in (rows[LABEL], [missing] * 6):
        processor = case(kind).processor
        encoded = task.preprocessor.encode(processor, rows | {LABEL: labels}, MAX_LENGTH)
        split = Dataset.from_dict(encoded | {LENGTH: task.preprocessor.cost(encoded)})
        batch = DistillationDataset(split, case(kind).encoder.collator(processor))[[0, 1, 2]]
        logits = forward_at_positions(model, batch["student"]).logits.detach().requires_grad_()
        loss = task.criterion.hard_label_loss(
            task.criterion.to_distributions(logits, batch), batch["labels"]
        )
        loss.backward()
        assert loss.ndim == 0 and logits.grad.isfinite().all()
        losses.append((loss.item(), logits.grad.abs().sum().item()))
    assert losses[0][0] > 0 and losses[0][1] > 0
    assert losses[1] == (0, 0)


# --- preprocessor -------------------------------------------------------------------------------


@every_task
def test_declared_fields_are_what_is_encoded_and_stacked(kind, case):
    task, encoded = case(kind).task, case(kind).encoded["test"]
    examples = case(kind).examples()
    fields = task.preprocessor.fields(case(kind).processor)
    assert examples.collate.fields == fields
    named = {field.name: field for field in fields}
    assert len(named) == len(fields)
    taken = set(inspect.signature(type(case(kind).model).forward).parameters)
    assert set(encoded.column_names) & taken <= set(named) - {LABEL}
    assert {field.mask_of for field in fields} - {None} <= set(named)
    indices = list(range(12))
    rows = examples._rows(encoded, indices, None)
    assert (POSITIONS in rows) == task.token_level
    batch = examples[indices]
    assert set(batch["student"]) == {
        name for name, field in named.items() if (field.mask_of or name) in rows
    }
    assert set(batch["student"]) - {POSITIONS} <= taken
    for name, tensor in batch["student"].items():
        field = named[name]
        column = rows[field.mask_of or name]
        assert str(tensor.numpy().dtype) == field.dtype
        assert len(tensor) == len(indices)
        if not field.padded:
            stacked = np.asarray(column) if field.decode is None else field.decode(column)
            assert np.array_equal(tensor.numpy(), stacked)
            continue
        assert tensor.shape[1] == max(map(len, column)) > min(map(len, column))
        for values, row in zip(tensor.tolist(), column, strict=True):
            own = [1] * len(row) if field.mask_of else list(row)
            assert values == own + [field.fill] * (len(values) - len(row))
    if task.token_level:
        assert batch["position_counts"].tolist() == [len(at) for at in rows[POSITIONS]]


@every_task
def test_cost_is_one_number_per_example(kind, case):
    task, data, encoded = case(kind).task, case(kind).data, case(kind).encoded
    rows = data.splits["test"][:5] | {"row": list(range(5))}
    fresh = task.preprocessor.encode(case(kind).processor, rows, MAX_LENGTH)
    (count,) = {len(column) for column in fresh.values()}  # every column has as many examples
    cost = task.preprocessor.cost(fresh)
    assert len(cost) == count
    limit = 3 * 8 * 8 if kind is ImageClassification else MAX_LENGTH
    assert all(isinstance(value, int) and 1 <= value <= limit for value in cost)
    assert encoded["test"][LENGTH][:count] == cost
    assert case(kind).examples().lengths.tolist() == encoded["test"][LENGTH][:]


@every_text_task
def test_embedding_ids_are_all_that_occur(kind, case):
    examples = case(kind).examples()
    ids = examples.embedding_ids()
    if examples.collate.transform is not None:
        assert ids is None  # masking puts in others
        return
    seen = torch.cat(
        [batch["student"]["input_ids"].flatten() for batch in examples.loader(8, seed=None)]
    )
    assert set(seen.tolist()) | {TOKENIZER.pad_token_id} == set(ids.tolist())


@every_text_task
def test_a_processor_reads_as_itself_and_its_hash_is_stable(kind, case):
    preprocessor = case(kind).task.preprocessor
    preprocessor.check_processor(TOKENIZER, MAX_LENGTH)
    assert preprocessor.same_inputs(TOKENIZER, TOKENIZER) is True
    assert preprocessor.same_inputs(TOKENIZER, OTHER_TOKENIZER) is False
    before = preprocessor.processor_hash(TOKENIZER)
    TOKENIZER(["the film was good"], truncation=True, max_length=3, padding="max_length")
    assert preprocessor.processor_hash(TOKENIZER) == before == tokenizer_hash(TOKENIZER)
    assert preprocessor.same_inputs(TOKENIZER, TOKENIZER)
    assert preprocessor.processor_hash(OTHER_TOKENIZER) != before


@every_text_task
def test_a_processor_is_loaded_from_a_folder_or_refused(kind, tmp_path):
    preprocessor = kind().preprocessor
    with pytest.raises(UserError, match="the teacher"):
        preprocessor.load_processor(str(tmp_path), "the teacher")
    TOKENIZER.save_pretrained(tmp_path / "saved")
    loaded = preprocessor.load_processor(str(tmp_path / "saved"), "the teacher")
    assert loaded("the film was good") == TOKENIZER("the film was good")
    loaded.save_pretrained(tmp_path / "again")
    again = preprocessor.load_processor(str(tmp_path / "again"), "the teacher")
    assert preprocessor.same_inputs(loaded, again)
    assert preprocessor.processor_hash(loaded) == preprocessor.processor_hash(again)


@every_text_task
def test_example_inputs_run_through_a_model_with_the_head(kind, case):
    task, data, model = case(kind).task, case(kind).data, case(kind).model
    operations = []
    for cost in (4, 9):
        inputs = task.preprocessor.example_inputs(model.config, cost)
        assert {len(value) for value in inputs.values()} == {1}
        with torch.no_grad():
            logits = output_logits(model(**inputs))
        assert logits.shape[-1] == task.head.output_size(len(data.label_names), model.config)
        operations.append(multiply_accumulates(model, inputs))
    assert 0 < operations[0] < operations[1]


def test_every_setting_has_another_value():
    assert set(OTHER_VALUES) == {name for _, name in SETTINGS}


@pytest.mark.parametrize(("kind", "name"), SETTINGS)
def test_the_cache_key_changes_with_what_changes_the_encoding(kind, name, case):
    task, other = kind(), kind(**{name: OTHER_VALUES[name]})
    data = case(kind).data
    rows = data.splits["train"][:] | {"row": list(range(len(data.splits["train"])))}
    for each in (task, other):
        each.schema.set_label_names(data.label_names)
    encoded = [
        each.preprocessor.encode(case(kind).processor, rows, MAX_LENGTH) for each in (task, other)
    ]
    keys = [each.preprocessor.cache_key for each in (task, other)]
    assert (keys[0] != keys[1]) == (encoded[0] != encoded[1])
    assert keys[0] == kind().preprocessor.cache_key


def test_the_cache_keys_of_tasks_that_encode_differently_differ(case):
    keys = {kind: case(kind).task.preprocessor.cache_key for kind in TASKS}
    assert len(set(keys.values())) == len(TASKS)


# --- head ---------------------------------------------------------------------------------------


@every_task
def test_a_head_is_built_saved_and_loaded_as_trained(kind, case, tmp_path):
    task, names, model = case(kind).task, case(kind).data.label_names, case(kind).model
    head = task.head
    assert type(model).__name__.endswith(head.architectures)
    assert head.problem_type in head.accepted_problem_types
    head.check_config(model.config, task.name)
    for key, value in head.config_settings(names).items():
        if key != "num_labels":
            assert getattr(model.config, key) == value
    own = dict(enumerate(names))
    assert head.output_order(own, names) == list(range(len(names)))
    if names:
        assert head.output_order({0: "some", 1: "other", 2: "outputs"}, names) is None
    model.save_pretrained(tmp_path)
    loaded = head.load_trained(tmp_path, names)
    assert type(loaded) is type(model)
    for key, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], weight)
    assert {type(head.load(tmp_path, names)), type(head.build(model.config))} == {type(model)}


# --- criterion ----------------------------------------------------------------------------------


@every_task
def test_distributions_are_those_of_the_logits(kind, case):
    task, model = case(kind).task, case(kind).model
    assert task.criterion.distribution in get_args(Distribution)
    batch = case(kind).examples()[list(range(5))]
    with torch.no_grad():
        logits = forward_at_positions(model, batch["student"]).logits
    rows = task.criterion.to_distributions(logits, batch)
    assert torch.equal(task.criterion.from_distributions(rows, batch), logits)
    assert task.criterion.hard_label_loss(rows, batch["labels"]).isfinite()


# --- evaluator ----------------------------------------------------------------------------------

SMALLER_IS_BETTER = ("error", "loss", "perplexity", "per_byte")


@every_task
def test_every_metric_has_a_direction(kind, case):
    evaluator = case(kind).task.evaluator
    metrics = evaluator.metrics
    assert list(metrics) and set(metrics.values()) == set(evaluator.all_metrics)
    for name, metric in metrics.items():
        assert isinstance(metric, Metric) and metric.name == name
        assert metric.higher_is_better is not name.endswith(SMALLER_IS_BETTER)
    assert evaluator.selection_metric == next(iter(metrics.values()))
    assert evaluator.metric_name == evaluator.selection_metric.name
    assert evaluator.metric_name in evaluator.selection_metrics
    with pytest.raises(UserError, match=r"task\.metric=bleu: choose one of"):
        kind(metric="bleu")


@every_task
def test_a_split_is_measured(kind, case):
    task, data, model = case(kind).task, case(kind).data, case(kind).model
    evaluator, examples = task.evaluator, case(kind).examples()
    logits = predict_logits(model, examples, CPU, reduce_logits=evaluator.reduce_logits)
    assert len(logits) == len(examples)
    assert isinstance(logits, JaggedArray) == task.token_level
    own, *shared = evaluator.metric_inputs(logits, examples)
    assert {len(array) for array in shared} <= {len(own)}
    assert evaluator.standardize(own).shape == own.shape
    values = evaluator.evaluate(logits, examples)
    assert list(values) == list(evaluator.metrics)
    assert all(isinstance(value, float) and np.isfinite(value) for value in values.values())
    measures = evaluator.calibration(logits, examples.labels)
    assert measures is None or all(value >= 0 for value in measures.values())
    found = evaluator.categorical_logits(logits, examples)
    assert (found is None) == (kind in (Regression, QuestionAnswering, MaskedLM, CausalLM))
    if found is not None:
        losses = CalibrationSamples.from_logits(*found).losses
        assert losses.mean() == pytest.approx(measures["negative_log_likelihood"])
    fidelity = evaluator.fidelity(logits, logits)
    assert {"agreement", "kl_divergence"} <= set(fidelity)
    assert fidelity["agreement"] in (None, 1.0)
    assert fidelity["kl_divergence"] in (None, pytest.approx(0, abs=1e-9))
    assert any(value is not None for value in fidelity.values())
    fingerprint = evaluator.fingerprint("content", examples)
    assert fingerprint == evaluator.fingerprint("content", case(kind).examples())
    assert fingerprint != evaluator.fingerprint("other", examples)
    if "per_class" not in inspect.signature(kind).parameters:
        with pytest.raises(UserError, match="has no classes"):
            evaluator.per_class_scores(logits, examples, data.label_names)
        return
    for scores in evaluator.per_class_scores(logits, examples, data.label_names).values():
        assert set(scores) == {"precision", "recall", "f1", "support"}
