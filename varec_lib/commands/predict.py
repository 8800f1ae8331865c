"""`varec predict`: says what is in a video, or in many."""

import json
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.commands.output import made_possible, notes_aside
from varec_lib.config import Count, OptionalPath, Precision, Settings, UserPath
from varec_lib.errors import ConfigError

if TYPE_CHECKING:
    from varec_lib.predictor.predict import Prediction, Predictor


@dataclass
class Options(Settings):
    """Say what is in videos: files, or folders of them."""

    videos: Positional[tuple[UserPath, ...]]
    """Video files, or folders of them; a folder of numbered pictures is one video."""
    checkpoint: OptionalPath = None
    """Checkpoint file or experiment folder."""
    pretrained: bool = False
    """A published model instead, which knows the 400 actions of Kinetics without any training."""
    model: Literal["i3d", "r3d18"] | None = None
    """Which one, with --pretrained; i3d if not given."""
    along: bool = False
    """Clip by clip along the video, with times, and the mean for the whole; --pretrained does so by itself."""
    whole: bool = False
    """One answer per video, without times, also with --pretrained."""
    top: Count = 5
    """How many classes to list."""
    views: Count = 1
    """Clips per video whose class probabilities are averaged (not clip by clip)."""
    precision: Precision = "auto"
    """Number format of the arithmetic; auto as in training."""
    plugin: OptionalPath = None
    """Python file that registers your own models."""
    csv: OptionalPath = None
    """Also write the table to this file."""
    json: bool = False
    """Print JSON only."""


def run(options: Options) -> int:
    """Prints what is in one video or in many; 1 where one cannot be read."""
    from varec_lib.models.registry import load_plugin
    from varec_lib.predictor.predict import as_table, find_videos, predict_videos

    if options.plugin:
        load_plugin(options.plugin)
    videos = find_videos(list(options.videos))
    made_possible(options.csv)
    with notes_aside(options.json):
        predictor = _predictor(options)
    along = options.along or (options.pretrained and not options.whole)
    if len(videos) == 1:  # an error ends the command
        predict = predictor.predict_along if along else predictor.predict
        found = [predict(videos[0], top=options.top)]
    else:
        found = predict_videos(predictor, videos, top=options.top, along=along)
    if options.csv:
        as_table(found).to_csv(options.csv, index=False)
    if options.json:
        print(json.dumps([_as_json(prediction) for prediction in found]))
    elif len(videos) == 1:
        _print_prediction(found[0])
    else:
        print(as_table(found).to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    return 1 if any(prediction.error for prediction in found) else 0


def _predictor(options: Options) -> "Predictor":
    from varec_lib.predictor.predict import Predictor

    if (options.checkpoint is None) != options.pretrained:
        raise ConfigError("Name either --checkpoint, or --pretrained for a model that nobody needs to train.")
    if options.model and options.checkpoint:
        raise ConfigError("--model goes with --pretrained; a checkpoint says itself which model it is.")
    if options.along and options.whole:
        raise ConfigError("--along and --whole exclude each other.")
    how = {"views": options.views, "precision": options.precision}
    if options.pretrained:
        return Predictor.pretrained(options.model or "i3d", **how)
    return Predictor.load(options.checkpoint, **how)


def _print_prediction(prediction: "Prediction") -> None:
    from varec_lib.data.video import damage

    print(prediction.path)
    if len(prediction.segments) > 1:
        for segment in prediction.segments:
            best = ", ".join(f"{probability:.0%} {name}" for name, probability in segment.top[:3])
            print(f"{segment.start_s:7.1f} to {segment.end_s:.1f} s  {best}")
        print(f"whole video, mean of {len(prediction.segments)} clips up to {prediction.segments[-1].end_s:.1f} s")
    for name, probability in prediction.top:
        print(f"{probability:7.1%}  {name}")
    if prediction.lost:
        print(f"Note: {damage(prediction.lost)}.")
    if prediction.unlike:
        print("This is unlike anything the model was trained on; its answer tells little.")


def _as_json(prediction: "Prediction") -> dict:
    def listed(top: list[tuple[str, float]]) -> list[dict]:
        return [{"label": name, "probability": probability} for name, probability in top]

    row = {"video": str(prediction.path)}
    if prediction.error:
        return row | {"error": prediction.error}
    segments = [{"start_s": s.start_s, "end_s": s.end_s, "top": listed(s.top)} for s in prediction.segments]
    row |= {"top": listed(prediction.top)} | ({"segments": segments} if segments else {})
    row |= {"lost": prediction.lost} if prediction.lost else {}
    return row | ({} if prediction.unlike is None else {"unlike": prediction.unlike})
