"""VGG, a plain stack of convolutions, as a transformers model."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutputWithNoAttention


class VggConfig(PreTrainedConfig):
    """Configuration of a VGG with batch normalization.

    Args:
        num_channels: channels of the image.
        image_size: height and width of the image in pixels, for whoever looks; any size that
            survives the pooling can be read.
        hidden_sizes: channels of each stage.
        depths: convolutions of each stage.
        pooled_stages: number of stages, from the first, that end with a pooling of 2 x 2.
    """

    model_type = "distill_vgg"

    def __init__(
        self,
        num_channels: int = 3,
        image_size: list[int] | None = None,
        hidden_sizes: list[int] | None = None,
        depths: list[int] | None = None,
        pooled_stages: int = 2,
        **kwargs: Any,
    ):
        self.num_channels = num_channels
        self.image_size = list(image_size or [32, 32])
        self.hidden_sizes = list(hidden_sizes or [8, 16, 32])
        self.depths = list(depths or [1] * len(self.hidden_sizes))
        self.pooled_stages = pooled_stages
        super().__init__(**kwargs)


class VggEncoder(nn.Module):
    """Stages of convolutions of 3 x 3, each followed by batch normalization and ReLU."""

    def __init__(self, config: VggConfig):
        super().__init__()
        width, self.stages = config.num_channels, nn.ModuleList()
        for number, (size, depth) in enumerate(
            zip(config.hidden_sizes, config.depths, strict=True)
        ):
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [
                    nn.Conv2d(width, size, 3, padding=1, bias=False),
                    nn.BatchNorm2d(size),
                    nn.ReLU(),
                ]
                width = size
            if number < config.pooled_stages:
                layers.append(nn.MaxPool2d(2))
            self.stages.append(nn.Sequential(*layers))

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> BaseModelOutput:
        """Return the last feature map of images ``(B, C, H, W)``, and those of all stages."""
        states, maps = pixel_values, []
        for stage in self.stages:
            states = stage(states)
            maps.append(states)
        return BaseModelOutput(
            last_hidden_state=states, hidden_states=tuple(maps) if output_hidden_states else None
        )


class VggForImageClassification(PreTrainedModel):
    """VGG with batch normalization (Simonyan and Zisserman 2015; Ioffe and Szegedy 2015).

    The head is a linear layer over the mean of the last feature map, as in networks for CIFAR,
    where the paper has three layers over all positions.
    """

    config_class = VggConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    # Default learning rate: higher than for any transformer.
    usual_learning_rate = 1e-2
    # What a training on a thousand labels alone takes.
    usual_epochs, usual_batch_size = 30, 32

    def __init__(self, config: VggConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.encoder = VggEncoder(config)
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
