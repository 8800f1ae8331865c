"""`varec export`: a trained model as an ONNX file."""

from typing import Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.commands.output import made_possible
from varec_lib.config import OptionalPath, Settings, UserPath


@dataclass
class Options(Settings):
    """Write a trained model as one file that other programs run, with its preprocessing and its classes."""

    experiment: Positional[UserPath]
    """Experiment folder or checkpoint."""
    format: Literal["onnx"] = "onnx"
    """Format of the file."""
    out: OptionalPath = None
    """File to write; model.onnx in the experiment folder, or beside the checkpoint, if not given."""
    plugin: OptionalPath = None
    """Python file that registers your own models."""


def run(options: Options) -> int:
    """Writes model and description, and says where."""
    from varec_lib.models.checkpoint import load_checkpoint
    from varec_lib.models.export import export_onnx
    from varec_lib.models.registry import load_plugin

    if options.plugin:
        load_plugin(options.plugin)
    folder = options.experiment if options.experiment.is_dir() else options.experiment.parent
    file = options.out or folder / "model.onnx"
    model = load_checkpoint(options.experiment)
    made_possible(file)
    description = export_onnx(model, file)
    print(f"{file}: {file.stat().st_size / 1e6:.0f} MB; what it takes and answers is in {description.name}.")
    return 0
