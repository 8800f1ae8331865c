"""A trained model as one ONNX file, with its preprocessing inside, for programs that have neither PyTorch nor varec."""

import contextlib
import io
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from varec_lib.errors import ConfigError
from varec_lib.files import replacing, write_text
from varec_lib.models.checkpoint import LoadedModel

OPSET = 18


class WithPreprocessing(nn.Module):
    """A network that takes clips as they are decoded: uint8 `(B, T, C, H, W)`, RGB, to class scores `(B, K)`."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.network, self.clip_spec = model.network.eval(), model.clip_spec

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Normalises as in training, and runs the network."""
        return self.network(self.clip_spec.normalise(clips))


def described(model: LoadedModel) -> dict[str, Any]:
    """What a program must know to use the file: the input, the classes, and how frames of a video are chosen."""
    spec = model.clip_spec
    return {
        "model": model.checkpoint.model,
        "input": {"name": "clips", "type": "uint8", "shape": ["batch", spec.num_frames, 3, *spec.frame_size]},
        "output": {"name": "scores", "type": "float32", "shape": ["batch", len(model.classes)]},
        "classes": model.classes,
        "clip_spec": asdict(spec),
        "sure_above": model.checkpoint.metrics.get("sure_above"),
    }


def export_onnx(model: LoadedModel, file: Path) -> Path:
    """Writes `file` and, beside it, the same name with `.json`: what the model takes and answers. Returns the latter.

    The batch may have any size. Weights are in the file, in fp32. Raises `ConfigError` for a name that does not end in
    `.onnx`, and where the packages for it are
    missing or PyTorch cannot export the network.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  PyTorch's exporter needs it
    except ImportError as error:
        raise ConfigError(f"Export needs the package {error.name}: pip install 'varec[onnx]'.") from error
    if file.suffix != ".onnx":
        raise ConfigError(f"{file}: the name is to end in .onnx; the description beside it ends in .json.")
    spec = model.clip_spec
    module = WithPreprocessing(LoadedModel(model.network.cpu(), model.checkpoint))
    clips = torch.zeros(2, spec.num_frames, 3, *spec.frame_size, dtype=torch.uint8)
    about = described(model)
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                module, (clips,), dynamo=True, opset_version=OPSET, input_names=["clips"], output_names=["scores"],
                dynamic_shapes={"clips": {0: torch.export.Dim("batch")}}, verbose=False,
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"PyTorch cannot export {model.checkpoint.model}: {reason}") from error
    proto = program.model_proto  # made anew each time it is asked for
    onnx.helper.set_model_props(proto, {"varec": json.dumps(about)})
    with replacing(file) as partial:
        onnx.save(proto, partial)
    write_text(file.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    return file.with_suffix(".json")


@contextlib.contextmanager
def _quietly():
    """The exporter tells of its inner steps; what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
