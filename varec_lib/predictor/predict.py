"""What is in a video: a model applied to single files, whole or clip by clip along them (notebook 06)."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

from varec_lib.data.class_folders import videos_below
from varec_lib.data.dataset import VideoFiles, load_views
from varec_lib.data.video import VideoInfo, open_video, probe
from varec_lib.errors import ConfigError, VideoError
from varec_lib.models.checkpoint import LoadedModel, load_checkpoint
from varec_lib.models.pretrained import load_pretrained
from varec_lib.predictor.windows import Prediction, Windows, best


@dataclass(frozen=True)
class Predictor:
    """A loaded model that answers for video files, with its probabilities averaged over `views` clips of each."""

    model: LoadedModel
    views: int = 1

    @classmethod
    def load(cls, checkpoint: Path | str, *, views: int = 1, precision: str = "auto") -> "Predictor":
        """From a checkpoint file or an experiment folder; on a GPU if there is one. Raises `VarecError`."""
        return cls._of(load_checkpoint(checkpoint), views, precision)

    @classmethod
    def pretrained(cls, model: str = "i3d", *, views: int = 1, precision: str = "auto") -> "Predictor":
        """A published model that knows the 400 actions of Kinetics without any training. Raises `VarecError`."""
        return cls._of(load_pretrained(model), views, precision)

    @classmethod
    def _of(cls, model: LoadedModel, views: int, precision: str) -> "Predictor":
        if views < 1:
            raise ConfigError(f"views is {views}, but must be at least 1.")
        return cls(model.on_device(precision), views)

    def clips(self, path: Path | str) -> torch.Tensor:
        """What the network sees of the video: uint8 `(V, T, C, H, W)`. Raises `VideoError`."""
        return self._clips(path, probe(path))

    def _clips(self, path: Path | str, info: VideoInfo) -> torch.Tensor:
        video = VideoFiles(pd.DataFrame([{"path": path, **vars(info)}]), self.model.clip_spec)
        return load_views(video, 0, self.model.clip_spec, views=self.views)

    def predict(self, path: Path | str, *, top: int = 5) -> Prediction:
        """The `top` most probable classes of a video (all of them if there are fewer). Raises `VideoError`."""
        info = probe(path)
        clips = self._clips(path, info)
        found, far = best(self.probabilities(clips), self.model.classes, top), self.distance(clips)
        return Prediction(Path(path), found, unlike=self.unlike([] if far is None else [far]), lost=info.lost)

    def predict_along(self, path: Path | str, *, top: int = 5, seconds: float = 0.0) -> Prediction:
        """The same clip by clip: the video in segments, and the mean of their probabilities for the whole.

        The segments are those that the page shows, too: see `Windows`. For a model that takes frames from all over a
        video they have `seconds` (4 where 0). The video is decoded once, and never held as a whole.
        Raises `VideoError`.
        """
        clips = self.model.clip_spec
        with open_video(path) as video:
            windows = self.windows(fps=video.promised_fps, promised_s=video.promised_s, top=top, seconds=seconds)
            for frame in video.thinned(clips.fps):
                windows.add(frame.picture(clips.short_side), frame.time_s)
        answer = windows.finish(video.ends_s)
        return Prediction(Path(path), *answer, unlike=self.unlike(windows.distances), lost=video.lost)

    def windows(self, **options: Any) -> Windows:
        """An answer to be given frame by frame; options as `Windows` has them."""
        how = {"distance": self.distance} | options
        return Windows(self.model.clip_spec, self.model.classes, self.probabilities, **how)

    def probabilities(self, clips: torch.Tensor) -> torch.Tensor:
        """Mean over uint8 clips `(V, T, C, H, W)`: `(K,)`."""
        return self.model.probabilities(clips[None])[0]

    def distance(self, clips: torch.Tensor) -> float | None:
        """Mean over uint8 clips `(V, T, C, H, W)` of how far they are from the training; None where not measured."""
        found = self.model.distances(clips[None])
        return None if found is None else float(found[0])

    def unlike(self, distances: list[float]) -> bool | None:
        """Whether a video whose clips are so far is unlike anything the model was trained on; None of no distances.

        The median counts, because a single window with a cut in it is far from everything.
        """
        return median(distances) > self.model.unlike_above if distances else None


def find_videos(paths: list[Path]) -> list[Path]:
    """The given files, and every video in and below the given folders, in the order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            if not (inside := videos_below(path)):
                raise VideoError(f"{path}: no video in this folder.")
            found += inside
        else:
            found.append(path)
    if not found:
        raise VideoError("No video was given: name files, or folders of them.")
    return found


def predict_videos(predictor: Predictor, paths: list[Path], *, top: int = 5, along: bool = False) -> list[Prediction]:
    """A prediction for every file, clip by clip with `along`. One that cannot be read gets a sentence in `error`."""
    predict = predictor.predict_along if along else predictor.predict
    found = []
    for path in paths:
        try:
            found.append(predict(path, top=top))
        except VideoError as error:
            found.append(Prediction(Path(path), [], error=str(error)))
    return found


def as_table(predictions: list[Prediction]) -> pd.DataFrame:
    """One row per video: `video, top1, p1, ..., error`."""
    rows = []
    for prediction in predictions:
        row: dict[str, object] = {"video": str(prediction.path)}
        for rank, (name, probability) in enumerate(prediction.top, start=1):
            row |= {f"top{rank}": name, f"p{rank}": probability}
        rows.append(row | {"error": prediction.error})
    table = pd.DataFrame(rows)
    return table[[column for column in table if column != "error"] + ["error"]]
