"""Networks for images that are trained from random weights, by the names of their shapes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    MobileNetV2Config,
    PreTrainedConfig,
    ResNetConfig,
    ViTConfig,
)

from distill.core.errors import UserError
from distill.modeling.architectures.cifar_resnet import CifarResNetConfig
from distill.modeling.architectures.vgg import VggConfig
from distill.modeling.features import named_feature_maps

Settings = dict[str, Any]


def _cifar_resnet(blocks: int, width: int = 16, factor: int = 1) -> tuple[Any, Settings]:
    """Return a residual network of 6 n + 2 layers (He et al. 2016, section 4.2)."""
    sizes = [width * factor, 2 * width * factor, 4 * width * factor]
    # The wide ones keep twice the narrow first convolution (Tian et al. 2020, resnet8x4).
    embedding = width if factor == 1 else 32
    return CifarResNetConfig, {
        "embedding_size": embedding, "hidden_sizes": sizes, "depths": [blocks] * 3,
    }  # fmt: skip


def _vgg(depths: list[int]) -> tuple[Any, Settings]:
    """Return a VGG (Simonyan and Zisserman 2015, table 1) for images of 32 x 32.

    The poolings after the last two stages are left out, as for CIFAR (Tian et al. 2020).
    """
    return VggConfig, {"hidden_sizes": [64, 128, 256, 512, 512], "depths": depths,
                       "pooled_stages": 3}  # fmt: skip


def _vit(width: int, layers: int, heads: int, patch: int = 16) -> tuple[Any, Settings]:
    return ViTConfig, {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * width, "patch_size": patch,
    }  # fmt: skip


SHAPES: Mapping[str, tuple[Any, Settings]] = {
    # For small images.
    "resnet8": _cifar_resnet(1),
    "resnet14": _cifar_resnet(2),
    "resnet20": _cifar_resnet(3),
    "resnet32": _cifar_resnet(5),
    "resnet44": _cifar_resnet(7),
    "resnet56": _cifar_resnet(9),
    "resnet110": _cifar_resnet(18),
    "resnet8x4": _cifar_resnet(1, factor=4),
    "resnet32x4": _cifar_resnet(5, factor=4),
    "vgg_tiny": (VggConfig, {"hidden_sizes": [8, 16, 32], "pooled_stages": 2}),
    "vgg8": _vgg([1, 1, 1, 1, 1]),
    "vgg11": _vgg([1, 1, 2, 2, 2]),
    "vgg13": _vgg([2, 2, 2, 2, 2]),
    "vgg16": _vgg([2, 2, 3, 3, 3]),
    "vgg19": _vgg([2, 2, 4, 4, 4]),
    "vit_small_images": _vit(96, 6, 3, patch=4),
    # transformers' own networks; the first convolutions and the pooling of resnet* and convnext*
    # leave a quarter of height and width.
    "resnet_small": (
        ResNetConfig,
        {
            "embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [2, 2, 2],
            "layer_type": "basic",
        },
    ),
    "resnet18": (
        ResNetConfig,
        {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
    ),
    "resnet34": (
        ResNetConfig,
        {"hidden_sizes": [64, 128, 256, 512], "depths": [3, 4, 6, 3], "layer_type": "basic"},
    ),
    "resnet50": (ResNetConfig, {}),
    "mobilenet_v2": (MobileNetV2Config, {}),
    "mobilenet_v2_half": (MobileNetV2Config, {"depth_multiplier": 0.5}),
    "vit_tiny": _vit(192, 12, 3),
    "vit_small": _vit(384, 12, 6),
    "convnext_tiny": (ConvNextConfig, {}),
    "convnext_atto": (
        ConvNextConfig,
        {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]},
    ),
}  # fmt: skip


def network_config(
    shape: str, settings: Mapping[str, Any], option: str, size: tuple[int, int], channels: int
) -> PreTrainedConfig:
    """Return the configuration of a network by the name of its shape.

    Args:
        shape: one of :data:`SHAPES`.
        settings: fields of the configuration that differ from the shape.
        option: the group that both are options of, for messages.
        size: height and width of the images in pixels.
        channels: channels of the images.

    Raises:
        UserError: for a shape or field that does not exist, or a value that it cannot have.
    """
    if shape not in SHAPES:
        raise UserError(f"{option}.shape={shape}: choose one of {', '.join(SHAPES)}")
    config_class, fields = SHAPES[shape]
    known = config_class().to_dict()
    for name in settings:
        if name not in known:
            raise UserError(f"{option}.settings.{name}: {config_class.__name__} has no such field")
    fields = {**fields, **settings}
    if isinstance(known.get("image_size"), int):
        if size[0] != size[1]:
            raise UserError(
                f"{option}.shape={shape}: it reads square images, these have {size[0]}x{size[1]} "
                "pixels: set teacher.image_size to one number"
            )
        fields = {"image_size": size[0], **fields}
    try:
        config: PreTrainedConfig = config_class(num_channels=channels, **fields)
        with torch.device("meta"):
            AutoModelForImageClassification.from_config(config)
    except Exception as error:  # whatever a network raises that cannot be built so
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{option}.settings={dict(settings)}: {reason}") from error
    if not isinstance(known.get("image_size"), int):
        config.image_size = list(size)
    return config


def check_image_size(
    config: PreTrainedConfig, size: tuple[int, int], channels: int, description: str
) -> None:
    """Refuse images that a network cannot read: too small for its strides, or of other channels.

    A forward pass without weights and numbers finds out, whatever the architecture. A layer that
    strides over a map smaller than its stride counts as failing, too: it does nothing, and in bf16
    torch 2.13 on a CPU leaves parts of its weights' gradient unset (oneDNN; a convolution of 3 x 3
    with stride 2 over 1 x 1).

    Args:
        config: the network's configuration.
        size: height and width of the images in pixels.
        channels: channels of the images.
        description: what messages call the network.

    Raises:
        UserError: in one line.
    """
    wanted = getattr(config, "num_channels", None)
    if wanted is not None and wanted != channels:
        raise UserError(
            f"{description} reads images of {wanted} channels, its processor makes {channels}: "
            "the two do not belong together"
        )
    with torch.device("meta"):
        model = AutoModelForImageClassification.from_config(config).eval()
        pixels = torch.zeros(1, channels, *size)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            module.register_forward_pre_hook(_stride_check(name))
    try:
        with torch.no_grad():
            model(pixel_values=pixels)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{description} cannot read images of {size[0]}x{size[1]} pixels: {reason}"
        ) from error


def feature_map_sizes(
    config: PreTrainedConfig, size: tuple[int, int], channels: int
) -> dict[str, tuple[int, int, int]]:
    """Return channels, height and width of the last feature map of each size, by ``strideN``.

    Args:
        config: the network's configuration.
        size: height and width of the images in pixels.
        channels: channels of the images.
    """
    with torch.device("meta"):
        model = AutoModelForImageClassification.from_config(config).eval()
        pixels = torch.zeros(1, channels, *size)
    with torch.no_grad():
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    return {
        name: (maps.shape[1], maps.shape[2], maps.shape[3])
        for name, maps in named_feature_maps(states, pixels).items()
    }


def _stride_check(name: str) -> Callable[..., None]:
    def check(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        stride: Any = module.stride
        stride = max(stride) if isinstance(stride, tuple) else stride
        height, width = arguments[0].shape[-2:]
        if min(height, width) < stride:
            raise ValueError(
                f"at {name} {height}x{width} of them are left, too few for its stride {stride}"
            )

    return check
