"""A model's backbone: loading its first weights, and freezing all or part of it."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError, WeightsError
from varec_lib.models.frame_average import FrameEncoder
from varec_lib.models.weights import fetch, named_weights, weights_for, weights_table


@dataclass(frozen=True)
class LoadReport:
    """What a weight file and a backbone had in common, as tensor names."""

    matched: list[str]
    missing: list[str]  # in the backbone, not in the file: keep their random start
    unused: list[str]  # in the file, not in the backbone
    wrong_shape: list[str]

    def __str__(self) -> str:
        text = f"{len(self.matched)} tensors matched"
        for name in ("missing", "unused", "wrong_shape"):
            tensors = getattr(self, name)
            if tensors:
                shown = ", ".join(tensors[:3]) + (", ..." if len(tensors) > 3 else "")
                text += f"; {len(tensors)} {name.replace('_', ' ')} ({shown})"
        return text


def read_state_dict(file: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file or a PyTorch state_dict; a file that holds anything but tensors is refused."""
    if not file.is_file():
        raise WeightsError(f"{file}: no such weight file.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"{file}: not a readable weight file ({reason}).") from error
    except Exception as error:  # weights_only refuses by pickle.UnpicklingError
        raise WeightsError(f"{file}: holds more than tensors, and is not loaded for safety.") from error
    content = content.get("state_dict", content.get("model", content)) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"{file}: is not a state_dict (names and tensors).")
    return content


def load_backbone(backbone: nn.Module, file: Path) -> LoadReport:
    """Copies what fits of a weight file into a backbone, in place. Raises `WeightsError` if nothing fits.

    A leading `module.` (data parallel), `backbone.` or `network.` of all names in the file is ignored.
    """
    loaded = {_own_name(name): tensor for name, tensor in read_state_dict(file).items()}
    target = backbone.network if isinstance(backbone, FrameEncoder) else backbone
    own = target.state_dict()
    wrong_shape = [k for k, v in loaded.items() if k in own and own[k].shape != v.shape]
    matched = [k for k in loaded if k in own and k not in wrong_shape]
    learned = {name for name, _ in target.named_parameters()}
    report = LoadReport(
        matched=matched,
        missing=[k for k in own if k not in matched and not k.endswith("num_batches_tracked")],
        unused=[k for k in loaded if k not in own],
        wrong_shape=wrong_shape,
    )
    if not learned.intersection(matched):
        raise WeightsError(f"{file}: none of its tensors fits this backbone ({report}). Is it another architecture?")
    target.load_state_dict({k: loaded[k] for k in matched}, strict=False)
    return report


def _own_name(name: str) -> str:
    name = re.sub(r"^((module|backbone|network)\.)+", "", name)
    return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)  # DenseNet files have older names


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """The parts of a backbone that come one after the other and learn: `stem, layer1, ..., layer4` of a ResNet.

    A part that holds all the others (`features` of MobileNetV2) is opened.
    """
    parts = [part for part in backbone.children() if any(True for _ in part.parameters())]
    return blocks_of(parts[0]) if len(parts) == 1 and list(parts[0].children()) else parts


def freeze(backbone: nn.Module, train_blocks: int = 0) -> None:
    """Stops all training of a backbone but for its last blocks: no gradients.

    `train_mode` keeps the batch norm of what is frozen in evaluation mode too. Raises `ConfigError` where there are
    not that many blocks.
    """
    blocks = blocks_of(backbone)
    if train_blocks and train_blocks >= len(blocks):
        raise ConfigError(f"train_blocks is {train_blocks}, but this backbone has {len(blocks)}: leave it out.")
    backbone.requires_grad_(False)
    for block in blocks[len(blocks) - train_blocks :]:
        block.requires_grad_(True)


def train_mode(model: nn.Module) -> None:
    """`model.train()`, but what is frozen stays in evaluation mode: batch norm keeps its running statistics there."""
    model.train()
    backbone = getattr(getattr(model, "module", model), "backbone", None)  # `module`: wrapped by data parallel
    for part in backbone.modules() if backbone is not None else ():
        parameters = list(part.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            part.eval()


def channels_last(model: nn.Module) -> nn.Module:
    """Lays convolution weights out channels-last, in place: several times faster in bf16 on a processor."""
    for parameter in model.parameters():
        if parameter.dim() in (4, 5):
            layout = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def prepare_backbone(model: nn.Module, config: TrainConfig) -> None:
    """Loads and freezes the backbone as configured; raises `ConfigError` if the model has none to load or freeze."""
    backbone = getattr(model, "backbone", None)
    wanted = (config.pretrained, config.weights, config.freeze_backbone, config.train_blocks, config.backbone_lr)
    if backbone is None and any(wanted):
        raise ConfigError(
            f"model {config.model} has no attribute `backbone` to load weights into, to freeze, or to train at a rate "
            "of its own."
        )
    if config.pretrained:
        _load(backbone, fetch(weights_for(config.model, config.backbone)))
    elif config.weights:
        by_name = not config.weights.exists() and str(config.weights) in weights_table()
        _load(backbone, fetch(named_weights(str(config.weights))) if by_name else config.weights)
    if config.freeze_backbone or config.train_blocks:
        freeze(backbone, config.train_blocks)


def _load(backbone: nn.Module, file: Path) -> None:
    print(f"{file.name}: {load_backbone(backbone, file)}")
