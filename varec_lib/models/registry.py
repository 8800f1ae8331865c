"""Models by name. `@register_model("mymodel")` is all that a model of your own needs (docs/your_model.md).

A registered builder takes `num_classes` and any of `num_frames`, `frame_size`, `backbone`, by name, and returns a
module that maps normalised clips `(B, T, C, H, W)` to class scores `(B, num_classes)`. If the module has an attribute
`backbone`, the flags --pretrained, --weights and --freeze_backbone apply to it.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.errors import ConfigError

Builder = Callable[..., nn.Module]


@dataclass(frozen=True)
class ModelEntry:
    """A builder, and what the input of its pretrained weights looks like."""

    build: Builder
    clip_spec: ClipSpec


_MODELS: dict[str, ModelEntry] = {}


def register_model(name: str, clip_spec: ClipSpec | None = None) -> Callable[[Builder], Builder]:
    """Decorator that makes a builder (a function or an `nn.Module` class) known as `--model name`.

    Of `clip_spec`, training takes the normalisation (ImageNet's by default); the rest is for pretrained weights.
    """

    def register(build: Builder) -> Builder:
        _MODELS[name] = ModelEntry(build, clip_spec or ClipSpec(16, (112, 112), *IMAGENET))
        return build

    return register


def model_names() -> list[str]:
    """Names that `--model` takes now."""
    return sorted(_MODELS)


def model_entry(name: str) -> ModelEntry:
    """The entry of a registered model; raises `ConfigError` that lists the known names."""
    if name not in model_names():
        raise ConfigError(
            f"There is no model {name!r}. Known: {', '.join(model_names())}. --plugin FILE registers your own."
        )
    return _MODELS[name]


def build_model(name: str, num_classes: int, **arguments: Any) -> nn.Module:
    """Builds a registered model with freshly initialised weights, passing on the arguments that its builder takes."""
    entry = model_entry(name)
    taken = inspect.signature(entry.build).parameters
    return entry.build(num_classes=num_classes, **{k: v for k, v in arguments.items() if k in taken})


def load_plugin(path: Path | str) -> None:
    """Runs a Python file of yours, so that the models it registers become known."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such plugin file.")
    spec = importlib.util.spec_from_file_location(f"varec_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up there
    before = set(model_names())
    spec.loader.exec_module(module)
    if set(model_names()) == before and not any(e.build.__module__ == module.__name__ for e in _MODELS.values()):
        raise ConfigError(f'{path}: registers no model. Put @register_model("name") above a function or class.')


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, trained or not."""
    return sum(p.numel() for p in module.parameters())
