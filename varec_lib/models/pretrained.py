"""Models that know something before anything is trained: published Kinetics-400 classifiers, whole with their head."""

from typing import Any

from torchvision.models.video import R3D_18_Weights

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError
from varec_lib.models.backbone import channels_last, read_state_dict
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.models.registry import build_model, model_entry
from varec_lib.models.weights import fetch, weights_for

CLASSIFIERS = ("i3d", "r3d18")  # models with weights for Kinetics-400's classes
# Top probability from which on an answer counts as sure, by `sure_above`. For I3D it was fitted here, as nobody's
# validation split is at hand: on the 144 training and validation clips of the four classes of UCF-101 that the course
# has a Kinetics name for, windows along the video averaged. It asks for 0.95 right instead of 0.9, because of all clips
# 0.89 are right anyway, and at 0.9 nearly everything would be sure (0.16). On the same classes' 56 test clips 0.82
# reach it, and 0.87 of these are right; of 50 clips of an action that Kinetics does not name, 0.58 reach it, too.
# Other actions were not tried. R3D-18 was not measured and has no threshold.
SURE_ABOVE = {"i3d": 0.4514}


def kinetics_classes() -> list[str]:
    """The 400 action names of Kinetics-400 in the order of the models' outputs, from torchvision's metadata."""
    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])


def load_pretrained(model: str) -> LoadedModel:
    """A published Kinetics-400 classifier on the CPU, as `load_checkpoint` gives one of ours.

    Its metrics have `sure_above` where that was measured. Downloads the weights if need be. Raises `ConfigError` for a
    model without such weights, `WeightsError`.
    """
    if model not in CLASSIFIERS:
        raise ConfigError(
            f"There are no weights with which {model!r} knows actions untrained; {' and '.join(CLASSIFIERS)} have some."
        )
    classes = kinetics_classes()
    network = build_model(model, len(classes))
    network.load_state_dict(_whole(model, read_state_dict(fetch(weights_for(model, "")))))
    metrics = {"sure_above": SURE_ABOVE[model]} if model in SURE_ABOVE else {}
    checkpoint = Checkpoint(model, {}, classes, model_entry(model).clip_spec, metrics)
    return LoadedModel(channels_last(network).eval(), checkpoint)


def _whole(model: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """A classifier's tensors under our names: torchvision's last layer is our head."""
    if model == "i3d":
        return tensors
    head = {"fc.weight": "head.1.weight", "fc.bias": "head.1.bias"}
    return {head.get(name, f"backbone.{name}"): tensor for name, tensor in tensors.items()}


def suited(config: TrainConfig) -> TrainConfig:
    """The configuration with what it leaves open decided: only a frozen pretrained backbone leaves anything open.

    Its clips are those that its weights were trained on, and not augmented.
    """
    clips = model_entry(config.model).clip_spec
    settings = {"num_frames": clips.num_frames, "frame_size": clips.frame_size, "augment": False}
    if clips.sampling == "dense":
        settings |= {"sampling": "dense", "stride": clips.stride, "fps": clips.fps}
    return config.decided(**settings)
