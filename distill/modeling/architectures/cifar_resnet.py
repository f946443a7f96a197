"""The residual networks for CIFAR as transformers models."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutputWithNoAttention


class CifarResNetConfig(PreTrainedConfig):
    """Configuration of a residual network for small images.

    Args:
        num_channels: channels of the image.
        image_size: height and width of the image in pixels, for whoever looks; any size can be
            read.
        embedding_size: channels of the first convolution.
        hidden_sizes: channels of each stage; every stage but the first halves the size.
        depths: blocks of two convolutions of each stage.
    """

    model_type = "distill_cifar_resnet"

    def __init__(
        self,
        num_channels: int = 3,
        image_size: list[int] | None = None,
        embedding_size: int = 16,
        hidden_sizes: list[int] | None = None,
        depths: list[int] | None = None,
        **kwargs: Any,
    ):
        self.num_channels = num_channels
        self.image_size = list(image_size or [32, 32])
        self.embedding_size = embedding_size
        self.hidden_sizes = list(hidden_sizes or [16, 32, 64])
        self.depths = list(depths or [3] * len(self.hidden_sizes))
        super().__init__(**kwargs)


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 and a shortcut, which is a convolution of 1 x 1 where sizes change.

    Args:
        width: channels before.
        size: channels after.
        stride: of the first convolution.
    """

    def __init__(self, width: int, size: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(width, size, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(size)
        self.second = nn.Conv2d(size, size, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(size)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width != size:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width, size, 1, stride, bias=False), nn.BatchNorm2d(size)
            )

    def forward(self, states: Tensor) -> Tensor:
        """Return the block's output of a feature map ``(B, C, H, W)``."""
        residual = F.relu(self.first_norm(self.first(states)))
        residual = self.second_norm(self.second(residual))
        return F.relu(residual + self.shortcut(states))


class CifarResNetEncoder(nn.Module):
    """A convolution of 3 x 3 and stages of residual blocks."""

    def __init__(self, config: CifarResNetConfig):
        super().__init__()
        width = config.embedding_size
        self.embedder = nn.Sequential(
            nn.Conv2d(config.num_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        for number, (size, depth) in enumerate(
            zip(config.hidden_sizes, config.depths, strict=True)
        ):
            blocks = []
            for index in range(depth):
                blocks.append(ResidualBlock(width, size, 2 if number and not index else 1))
                width = size
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> BaseModelOutput:
        """Return the last feature map of images ``(B, C, H, W)``, and those of all stages."""
        states, maps = self.embedder(pixel_values), []
        for stage in self.stages:
            states = stage(states)
            maps.append(states)
        return BaseModelOutput(
            last_hidden_state=states, hidden_states=tuple(maps) if output_hidden_states else None
        )


class CifarResNetForImageClassification(PreTrainedModel):
    """A residual network for small images (He et al. 2016, section 4.2).

    Its first convolution neither strides nor is followed by a pooling, unlike that of
    transformers' ResNet, which leaves a quarter of the height and width. Shortcuts between stages
    are convolutions (the paper's option B), as the networks of later work on distillation have
    them; the paper's own for CIFAR pad with zeros.
    """

    config_class = CifarResNetConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    # Default learning rate: higher than for any transformer.
    usual_learning_rate = 5e-3
    # What a training on a thousand labels alone takes.
    usual_epochs, usual_batch_size = 30, 32

    def __init__(self, config: CifarResNetConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.encoder = CifarResNetEncoder(config)
        self.classifier = nn.Linear(config.hidden_sizes[-1], config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize convolutions for ReLU (He et al. 2015, equation 10)."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.reset_running_stats()
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutputWithNoAttention | tuple:
        """Return logits ``(B, C)`` of images ``(B, channels, H, W)``.

        Hidden states are the feature maps of the stages.
        """
        encoded = self.encoder(pixel_values, bool(output_hidden_states))
        logits = self.classifier(encoded.last_hidden_state.mean((2, 3)))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config)
        output = ImageClassifierOutputWithNoAttention(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states
        )
        return output.to_tuple() if return_dict is False else output
