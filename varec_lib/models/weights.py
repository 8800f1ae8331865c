"""Where a backbone's first weights come from: torchvision's files, checked by hash, or a file of yours."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError, WeightsError
from varec_lib.models.frame_average import FrameEncoder


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


def pretrained_url(model: str, backbone: str) -> str:
    """The address of torchvision's weights: Kinetics-400 for r3d18, ImageNet for a frame encoder."""
    name = "r3d_18" if model == "r3d18" else backbone
    return torchvision.models.get_model_weights(name).DEFAULT.url


def weights_cache() -> Path:
    """torch.hub's folder of checkpoints; the environment variable TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, cache: Path | None = None) -> Path:
    """The local copy of a torchvision weight file, downloaded if it is not in the cache yet.

    torchvision's file names end in the first digits of the file's SHA-256 (`resnet18-f37072fd.pth`); they are
    compared on every call, so a damaged or swapped file in the cache is noticed. Raises `WeightsError` that says
    which file to put where when there is no network.
    """
    name = url.rsplit("/", 1)[-1]
    file = (cache or weights_cache()) / name
    if not file.is_file():
        print(f"Downloading {name} to {_short(file.parent)}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), progress=True)
        except (URLError, OSError) as error:
            raise WeightsError(
                f"{name} could not be downloaded ({getattr(error, 'reason', error)}). Without network, fetch {url} "
                f"elsewhere and put it at {file}."
            ) from error
    expected = re.search(r"-([0-9a-f]{8,})\.", name)
    if expected and not _sha256(file).startswith(expected[1]):
        raise WeightsError(f"{file}: the content does not match the SHA-256 in its name. Delete it and try again.")
    return file


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _short(path: Path) -> str:
    home = os.path.expanduser("~")
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)


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


def freeze(backbone: nn.Module) -> None:
    """Stops all training of a backbone: no gradients. `train_mode` keeps its batch norm in evaluation mode too."""
    backbone.requires_grad_(False)


def train_mode(model: nn.Module) -> None:
    """`model.train()`, but a frozen backbone stays in evaluation mode: batch norm keeps its running statistics."""
    model.train()
    backbone = getattr(getattr(model, "module", model), "backbone", None)  # `module`: wrapped by data parallel
    if backbone is not None and not any(p.requires_grad for p in backbone.parameters()):
        backbone.eval()


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
    if backbone is None and (config.pretrained or config.weights or config.freeze_backbone or config.backbone_lr):
        raise ConfigError(
            f"model {config.model} has no attribute `backbone` to load weights into, to freeze, or to train at a rate "
            "of its own."
        )
    if config.pretrained or config.weights:
        file = config.weights or fetch(pretrained_url(config.model, config.backbone))
        print(f"{file.name}: {load_backbone(backbone, file)}")
    if config.freeze_backbone:
        freeze(backbone)
