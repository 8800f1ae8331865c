"""What is in a video: a checkpoint applied to single files, fed exactly as in evaluation (notebook 06)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.data.decode import VIDEO_EXTENSIONS, probe
from varec_lib.errors import ConfigError, VideoError
from varec_lib.evaluation.evaluate import class_probabilities
from varec_lib.models.checkpoint import Checkpoint, load_checkpoint
from varec_lib.models.precision import default_device, resolve_precision


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one video, best first."""

    path: Path
    top: list[tuple[str, float]]


@dataclass(frozen=True)
class Predictor:
    """A loaded checkpoint that answers for video files."""

    model: nn.Module
    about: Checkpoint
    views: int = 1
    precision: str = "auto"

    @classmethod
    def load(cls, checkpoint: Path | str, *, views: int = 1, precision: str = "auto") -> "Predictor":
        """From a checkpoint file or an experiment folder; on a GPU if there is one. Raises `VarecError`."""
        if views < 1:
            raise ConfigError(f"views is {views}, but must be at least 1.")
        model, about = load_checkpoint(checkpoint)
        device = default_device()
        return cls(model.to(device), about, views, resolve_precision(precision, device))

    def clips(self, path: Path | str) -> torch.Tensor:
        """What the network sees of the video: uint8 `(V, T, C, H, W)`. Raises `VideoError`."""
        video = pd.DataFrame([{"path": path, **vars(probe(path))}])
        return load_views(VideoFiles(video, self.about.preprocess), 0, self.about.preprocess, views=self.views)

    def predict(self, path: Path | str, *, top: int = 5) -> Prediction:
        """The `top` most probable classes of a video (all of them if there are fewer). Raises `VideoError`."""
        if top < 1:
            raise ConfigError(f"top is {top}, but must be at least 1.")
        probabilities = class_probabilities(self.model, self.clips(path)[None], self.about.preprocess, self.precision)
        values, numbers = probabilities[0].topk(min(top, len(self.about.classes)))
        names = [self.about.classes[i] for i in numbers.tolist()]
        return Prediction(Path(path), list(zip(names, values.tolist(), strict=True)))


def find_videos(paths: list[Path]) -> list[Path]:
    """The given files, and every video in and below the given folders, in the order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in VIDEO_EXTENSIONS and p.is_file()]
            if not inside:
                raise VideoError(f"{path}: no video in this folder.")
            found += inside
        else:
            found.append(path)
    if not found:
        raise VideoError("No video was given: name files, or folders of them.")
    return found


def predict_videos(predictor: Predictor, paths: list[Path], *, top: int = 5) -> pd.DataFrame:
    """One row per video: `video, top1, p1, ..., error`. A video that cannot be read gets a sentence in `error`."""
    rows = []
    for path in paths:
        row: dict[str, object] = {"video": str(path)}
        try:
            for rank, (name, probability) in enumerate(predictor.predict(path, top=top).top, start=1):
                row |= {f"top{rank}": name, f"p{rank}": probability}
            row["error"] = ""
        except VideoError as error:
            row["error"] = str(error)
        rows.append(row)
    table = pd.DataFrame(rows)
    return table[[column for column in table if column != "error"] + ["error"]]
