"""The user's mistakes: one line, exit code 2, nothing trained, nothing left behind."""

from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from distill.config.error_messages import user_message
from distill.config.validation import validate_node
from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import composed, make_model, sentences, write_csv


def rows(count=40, **changes):
    return [row | changes for row in sentences(count, 5)]


@pytest.fixture
def refused(command, small, monkeypatch):
    def check(*overrides: str, says: str):
        def trained(*_, **__):
            raise AssertionError("something was trained")

        monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", trained)
        code, _, err = command(*small, *overrides)
        assert code == 2, err
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        assert says in lines[0], lines[0]
        runs = Path("runs")
        assert not runs.exists() or not any(runs.iterdir())

    return check


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("studnet=half", "no option studnet: did you mean student?"),
        ("student.layer=[0]", "did you mean student.layers?"),
        ("student=halb", "did you mean half?"),
        (
            "student.widths=[3]",
            "no option student.widths with this student: student=cnn, fast have",
        ),
        ("student.path=x", "with this student: student=hub has it"),
        ("objective.soft_targets.temprature=2", "did you mean objective.soft_targets.temperature?"),
        ("data.limit=abc", "data.limit=abc: it must be a whole number"),
        ("data.limit=0", "it must be 1 or more"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate=fast: it must be a number"),
        ("optimizer.learning_rate=-1", "must be above 0"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0"),
        ("trainer.precision=8", "choose one of"),
        ("+trainer.max_epoch=2", "did you mean trainer.max_epochs?"),
        ("trainer.logger=false", "trainer.logger=False: it is no Logger of pytorch_lightning"),
        ("trainer.logger=wandb", "such as +trainer.logger.mine._target_=pytorch_lightning.loggers"),
        (
            "trainer.callbacks=[timer]",
            "trainer.callbacks takes named values",
        ),
        (
            "+trainer.callbacks.x._target_=pytorch_lightning.callbacks.Timr",
            "trainer.callbacks.x._target_=pytorch_lightning.callbacks.Timr cannot be imported",
        ),
        (
            "+trainer.callbacks.x._target_=os.system +trainer.callbacks.x.command=true",
            "allow_code=[",
        ),
        (
            "+trainer.callbacks.x._target_=pytorch_lightning.trainer.trainer.os.getcwd",
            "allow_code=[",
        ),
        ("+trainer.callbacks.x._target_=fractions.Fraction", "allow_code=[fractions]"),
        (
            "+trainer.callbacks.x._target_=fractions.Fraction allow_code=[fractions]",
            "it is no Callback of pytorch_lightning",
        ),
        (
            "+trainer.callbacks.x={_target_:pytorch_lightning.callbacks.Timer,u:1}",
            "there is no option trainer.callbacks.x.u",
        ),
        ("allow_code=os", "allow_code=os: it must be a list of text"),
        ("+logger=wandb", "there is no option logger: did you mean trainer.logger?"),
        ("+nonsense=1", "there is no option nonsense"),
        ("+sead=1", "there is no option sead: did you mean seed?"),
        ("+learning_rate=1", "did you mean optimizer.learning_rate?"),
        ("+max_length=1", "did you mean data.max_length?"),
        ("+nested.option=1", "there is no option nested"),
        ("+outputdir=x", "did you mean output_dir?"),
        ("overwrite=maybe", "overwrite=maybe: it must be true or false"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1: it must be above 0"),
        ("trainer.gradient_clip_val=.inf", "trainer.gradient_clip_val=.inf"),
        ("trainer.gradient_clip_val=much", "trainer.gradient_clip_val=much"),
        (
            "trainer.gradient_clip_val=null +trainer.gradient_clip_algorithm=norm",
            "would be ignored without trainer.gradient_clip_val",
        ),
        (
            "trainer.accumulate_grad_batches=0",
            "trainer.accumulate_grad_batches=0: it must be a whole number",
        ),
        ("trainer.accumulate_grad_batches=-2", "trainer.accumulate_grad_batches=-2"),
        ("trainer.accumulate_grad_batches=1.5", "trainer.accumulate_grad_batches=1.5"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0: a number of batches"),
        ("trainer.limit_val_batches=0", "trainer.limit_val_batches=0: a number of batches"),
        ("trainer.limit_train_batches=0.0", "trainer.limit_train_batches=0.0"),
        ("trainer.limit_val_batches=1.5", "trainer.limit_val_batches=1.5"),
        ("trainer.limit_train_batches=0.01", "of 8 batches none is left"),
        ("trainer.limit_val_batches=0.1", "of 2 batches none is left"),
        ("+trainer.val_check_interval=9", "the training has 8 batches an epoch"),
        ("+trainer.val_check_interval=5 trainer.limit_train_batches=4", "has 4 batches an epoch"),
        ("+trainer.val_check_interval=0", "trainer.val_check_interval=0: a number of batches"),
        ("+trainer.val_check_interval=-1", "trainer.val_check_interval=-1: a number of batches"),
        ("+trainer.val_check_interval=0.05", "it is less than one of 8 batches"),
        (
            "+trainer.check_val_every_n_epoch=null +trainer.val_check_interval=17",
            "the training has 16 batches and would never be validated",
        ),
        ("+trainer.check_val_every_n_epoch=null", "give trainer.val_check_interval a number"),
        ("+trainer.check_val_every_n_epoch=3", "the training has 2 epochs (trainer.max_epochs)"),
        (
            "+trainer.check_val_every_n_epoch=0",
            "trainer.check_val_every_n_epoch=0: it must be a whole number",
        ),
        ("trainer.log_every_n_steps=-1", "trainer.log_every_n_steps=-1: it must be a whole number"),
        ("+trainer.min_epochs=9", "trainer.min_epochs=9: trainer.max_epochs=2 is smaller"),
        ("+trainer.limit_test_batches=3", "trainer.limit_test_batches would be ignored"),
        ("trainer.devices=4", "trainer.devices=4 needs a strategy: trainer.strategy=ddp"),
        ("trainer.devices=two", "trainer.devices=two: it must be a whole number or auto"),
        ("trainer=multi_node", "start the command on every node"),
        ("trainer=fsdp trainer.accelerator=cpu", "trainer.strategy=fsdp needs GPUs"),
        ("trainer.gradient_clip_val=high", "trainer.gradient_clip_val=high: it must be above 0"),
        ("trainer.limit_train_batches=-1", "trainer.limit_train_batches=-1: a number of batches"),
        ("output_dir=runs/seed=1", "quote what has signs in it, 'output_dir=\"runs/seed=1\"'"),
        ("halb", "halb cannot be read as NAME=VALUE"),
        ("seed=-1", "seed=-1"),
        ("seed=one", "seed=one: it must be a whole number"),
        ("control=maybe", "control=maybe: it must be true or false"),
        ("baselines=words", "baselines=words: it must be a list"),
        ("baselines=[word]", "baselines: there is no word, choose from majority, words"),
        ("objective.soft_targets.temperature=0", "must be above 0"),
        ("objective.soft_targets.weight=-1", "objective.soft_targets.weight=-1"),
        ("task.metric=f2", "task.metric=f2"),
        ("data=files data.path=nowhere", "there is no such file or folder"),
        ("data.path=nowhere", "there is no such file or folder"),
        ("data.text=review", "data.text=review: train has no such column, it has text, label"),
        ("data.label=y", "data.label=y"),
        ("data.text_pair=other", "data.text_pair=other"),
        ("data.max_length=100", "positions for 64 tokens"),
        ("student.layers=[0,4]", "the teacher has the layers 0 to 3, not 4"),
        ("student.layers=[]", "at least one layer"),
        ("student.layers=[1,1]", "is named twice"),
        ("student.layers=most", "student.layers=most"),
        ("teacher.path=./nowhere", "teacher.path=./nowhere: there is no such folder"),
        ("teacher.path=someone/unheard-of", "teacher.path=someone/unheard-of cannot be loaded"),
        ("teacher.fine_tune=false", "teacher.fine_tune=false forbids"),
        ("teacher.fine_tune=perhaps", "teacher.fine_tune=perhaps"),
        ("objective=distilbert teacher.outputs=cached", "stores logits only"),
        ("objective=dkd", "needs 3 classes or more and the data have 2"),
        ("objective=dist", "needs 3 classes or more and the data have 2"),
        ("objective.soft_targets.standardize=true", "needs three classes or more"),
        ("objective=pkd student=single", "a student of one layer has no layer before its last"),
        (
            "objective=tinybert objective.prediction.epochs=null student=bilstm",
            "the student is no transformer",
        ),
        ("objective=minilm student=static", "compares attention, and the student has none"),
        ("objective=tinybert objective.intermediate.epochs=0", "epochs=0: it must be 1 or more"),
        ("objective=distilbert objective.hidden_states.layers=[[0,9]]", "layers 0 to 3, not 9"),
        ("objective=distilbert objective.hidden_states.measure=l1", "it must be mse or cosine"),
        ("objective=distilbert student.vocabulary=corpus", "tokenize differently"),
        ("objective=minilmv2 objective.relations.relations.heads=5", "does not divide the widths"),
        ("+schedule@objective.hard_labels.weight=flsw", "adaptive schedule is for temperatures"),
        (
            "+schedule@objective.soft_targets.temperature=linear",
            "temperature=0.0: it must be above",
        ),
        ("objective=tinybert", "trainer.max_epochs would be ignored"),
        ("objective=pkd objective.hidden_states.layers=[[-1,-1]]", "but_last=false"),
        (
            "objective=tinybert objective.intermediate.hidden_states.weight=-1",
            "objective.intermediate.hidden_states.weight=-1: it must be 0 or above",
        ),
        ("objective.soft_targets=kd", "objective.soft_targets=kd: it is no term"),
        ("+objective.epochs=3", "objective.epochs=3: it is no term"),
        ("objective.soft_targets._target_=builtins.dict", "builtins.dict"),
        (
            "objective.soft_targets._target_=distill.objectives.terms.logit_term.LogitTerm",
            "LogitTerm is an abstract class",
        ),
        ("objective.soft_targets.temperature=.nan", "it must be a number"),
        ("optimizer.learning_rate=.inf", "it must be a number"),
        ("optimizer.epsilon=-1", "optimizer.epsilon=-1: it must be above 0"),
        ("+objective.soft_targets.teacher=foo", "there is no such teacher"),
        ("teacher.seed=-1", "teacher.seed=-1"),
        ("seed=5000000000", "seed=5000000000: it must be"),
        ("objective.soft_targets=null objective.hard_labels=null", "objective has no terms"),
        ("student=hub", "student.path has no value: set student.path=..."),
        ("resume=nowhere", "resume=nowhere: there is no run in it"),
    ],
)
def test_options(refused, override, says):
    refused(*override.split(), says=says)


def test_nothing_to_resume(command):
    code, out, err = command("resume=nowhere")
    assert (code, out) == (2, "")
    assert err == "error: resume=nowhere: there is no run in it (config.yaml is missing)\n"
    assert not Path("nowhere").exists()


def test_weights_that_sum_to_nothing(refused):
    refused(
        "objective.soft_targets.weight=0",
        "objective.hard_labels.weight=0",
        says="the objective's weights sum to 0",
    )


def test_one_class(refused, tmp_path):
    write_csv(tmp_path / "d" / "train.csv", rows(label="positive"))
    refused(f"data.path={tmp_path}/d", says="one class only (positive)")


def test_empty_texts(refused, tmp_path):
    write_csv(tmp_path / "d" / "train.csv", [*rows(), {"text": "  ", "label": "positive"}])
    refused(f"data.path={tmp_path}/d", says="1 texts of train are empty (the first in row 41)")


def test_unknown_label_in_test(refused, tmp_path):
    write_csv(tmp_path / "d" / "train.csv", rows())
    write_csv(tmp_path / "d" / "test.csv", [*rows(), {"text": "so so", "label": "neutral"}])
    refused(f"data.path={tmp_path}/d", says="test row 41 has the label 'neutral'")


def test_missing_label(refused, tmp_path):
    write_csv(tmp_path / "d" / "train.csv", rows())
    write_csv(tmp_path / "d" / "test.csv", [*rows(), {"text": "so so", "label": ""}])
    refused(f"data.path={tmp_path}/d", says="test row 41 has no label")


def test_empty_file(refused, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("")
    refused(f"data.path={tmp_path}/d", says="is empty")


def test_header_alone(refused, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("text,label\n")
    refused(f"data.path={tmp_path}/d", says="train.csv has no examples")


def test_folder_without_training_file(refused, tmp_path):
    write_csv(tmp_path / "d" / "test.csv", rows())
    refused(f"data.path={tmp_path}/d", says="no training file")


def test_too_few_to_cut_from(refused, tmp_path):
    write_csv(tmp_path / "d" / "train.csv", rows(6))
    refused(f"data.path={tmp_path}/d", says="too few to cut")


def test_teacher_folder_without_a_model(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(f"teacher.path={tmp_path}/empty", says="there is no model in it")


def test_teacher_folder_without_weights(refused, tmp_path):
    make_model().config.save_pretrained(tmp_path / "config")
    refused(f"teacher.path={tmp_path}/config", says="there are no weights in it")


def test_full_error_shows_the_traceback(command, small, monkeypatch):
    import sys

    from distill.cli.distill import main
    from distill.core.errors import UserError

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["distill", *small, "student.layers=[9]"])
    with pytest.raises(UserError):
        main()


def test_a_teacher_without_a_tokenizer(refused, pretrained, tmp_path):
    """transformers makes an empty one, to which every word is unknown."""
    import shutil

    shutil.copytree(pretrained, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    refused(f"teacher.path={tmp_path}/bare", says="there is no tokenizer in it")


def test_attention_that_cannot_be_taken(refused, tokenizer, tmp_path):
    from transformers import AlbertConfig, AlbertModel

    shape = {
        "vocab_size": 32, "embedding_size": 16, "hidden_size": 32, "num_attention_heads": 2,
        "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    AlbertModel(AlbertConfig(**shape)).save_pretrained(tmp_path / "albert")
    tokenizer.save_pretrained(tmp_path / "albert")
    albert = f"teacher.path={tmp_path}/albert"
    refused(albert, "objective=minilmv2", "student=tiny", says="no single stack of layers")
    refused(albert, says="no single stack of layers")


def table(*lines: str, header: str = "text,label") -> str:
    """A csv file of good rows and some others."""
    good = [f"{row['text']},{row['label']}" for row in sentences(30, 5)]
    return "\n".join([header, *good, *lines]) + "\n"


# Files of a folder, further overrides, and what the one line says.
FILES = [
    ({"train.csv": table("one, two,positive")}, "", "line 32 has 3 fields and there are 2 columns"),
    ({"train.csv": table("cut sho")}, "", "line 32 has 1 field and there are 2 columns"),
    ({"train.csv": table('"open,positive', '"closed",positive')}, "", "begins in line 32"),
    ({"train.csv": table("nothing \0,positive")}, "", "line 32 holds a NUL byte"),
    ({"train.csv": table(header="text,text")}, "", "its header has 'text' twice"),
    ({"train.csv": table(header=" text, label")}, "", "it has ' text', ' label'; did you mean"),
    ({"train.csv": table(header="\u00a0text,label\u200b")}, "", "'\\xa0text', 'label\\u200b'; did"),
    ({"train.csv": table(header="Text,label")}, "", "did you mean data.text=Text?"),
    ({"train.csv": table().replace(",", ":")}, "", "data.delimiter=... names the character"),
    ({"train.csv": table(header="a great film,positive")}, "", "data.columns=[...] names"),
    ({"train.csv": table(header="Review,Stars")}, "data.columns=[text,label]", "looks like a hea"),
    ({"train.csv": table("more,positive")}, "data.columns=[a,b,c]", "looks like a header"),
    ({"train.csv": table()}, "data.delimiter=::", "it must be one character"),
    ({"train.csv": table()}, "data.encoding=klingon", "there is no such encoding"),
    ({"train.csv": table()}, "data.layout=excel", "it must be auto or conll or table or text"),
    ({"train.csv": table()}, "data.bad_lines=keep", "it must be error or drop"),
    ({"train.csv": table()}, "data.drop_unlabeled=maybe", "it must be true or false or null"),
    ({"train.csv": table()}, "data.label=[text,label]", "a column for each class is for"),
    ({"train.csv": table("x,")}, "", "has no label: data.drop_unlabeled=true"),
    ({"train.csv": table("감정,긍정").encode("cp949")}, "", "it looks like cp949: set data"),
    ({"train.csv": table().encode("utf-16-le")}, "", "it looks like UTF-16"),
    ({"train.csv": b"PK\x03\x04"}, "", "a zip file or a spreadsheet"),
    ({"train.csv": b"version https://git-lfs.github.com/spec/v1\n"}, "", "run git lfs pull"),
    ({"train.parquet": b"no parquet"}, "", "cannot read"),
    ({"train.parquet": b"version https://git-lfs.github.com/spec/v1\n"}, "", "run git lfs pull"),
    ({"train.csv.gz": b"not compressed"}, "", "cannot read"),
    ({"train.jsonl": '{"text": "a", "label": 0}\n{"text": "b",\n'}, "", "line 2 is no JSON object"),
    ({"train.json": '[{"text": "a"}, 3]'}, "", "entry 2 is no object"),
    ({"train.json": '{"text": '}, "", "it is no JSON"),
    ({"train.jsonl": '{"text": "a", "label": "x"}\n'}, "data.columns=[a,b]", "there are none in"),
    ({"train.jsonl": '{"text": "\\ud800", "label": "x"}\n'}, "", "half a character"),
    ({"a_train.csv": table(), "b_train.csv": table()}, "", "two files for train"),
    ({"reviews.csv": table()}, "", "no training file"),
    ({"a/train.csv": table(), "b/train.csv": table()}, "", "several folders in it have a training"),
    ({"data/train-00000-of-00002.parquet": b""}, "", "number 00001 is missing"),
    ({"dataset_dict.json": "{"}, "", "cannot read"),
    ({"train.csv": table(), "test.csv": table("x,Positive")}, "", "differs from 'positive'"),
    (
        {"train.csv": "text,label\n" + "".join(f"text {n},user{n}\n" for n in range(40))}, "",
        "40 different labels in 40 rows of train",
    ),
]  # fmt: skip


def write_files(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(("files", "override", "says"), FILES)
def test_files(tmp_path, files, override, says):
    """Without the rest of the command, which takes longer than the reading."""
    write_files(tmp_path / "d", files)
    config = composed("data=files", f"data.path={tmp_path}/d", *override.split())
    with pytest.raises((UserError, InstantiationException)) as caught:
        validate_node("data", OmegaConf.to_container(config.data, resolve=True))
        source = instantiate(config.data, _convert_="all")
        prepare_data(source, SequenceClassification().schema, tmp_path / "cache")
    message = user_message(caught.value)
    assert message is not None and says in message
    assert len(message.splitlines()) == 1
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in left if "prepared" in path.parts and path.suffix != ".lock"]


@pytest.mark.parametrize(("files", "override", "says"), FILES[::8])
def test_files_through_the_command(refused, tmp_path, files, override, says):
    write_files(tmp_path / "d", files)
    refused(f"data.path={tmp_path}/d", *override.split(), says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["-x", "seed=1"], "unrecognized arguments: -x"),
        (["--config-dir"], "expected one argument"),
        (["seed=1", "--info=everything"], "invalid choice"),
    ],
)
def test_flags(command, arguments, says):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert says in err


def test_a_sweep_is_asked_for_anywhere_in_the_line(command, small):
    """The jobs are refused, not the line."""
    code, _, err = command(*small, "-m", "student=half,single", "teacher.fine_tune=false")
    assert code != 0
    assert err.count("teacher.fine_tune=false forbids") == 2
