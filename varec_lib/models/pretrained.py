"""Models that know something before anything is trained: published Kinetics-400 classifiers, whole with their head."""

from typing import Any

from torch import nn
from torchvision.models.video import R3D_18_Weights

from varec_lib.config import TrainConfig
from varec_lib.errors import ConfigError
from varec_lib.models.backbone import channels_last, read_state_dict
from varec_lib.models.checkpoint import Checkpoint
from varec_lib.models.fetch import fetch
from varec_lib.models.registry import build_model, model_entry
from varec_lib.models.weights import weights_for

CLASSIFIERS = ("i3d", "r3d18")  # models with weights for Kinetics-400's classes
# From which top probability on nine in ten answers were right: `varec_lib.evaluation.metrics.sure_above` with its 0.9.
# Fitted on 144 clips (72 groups, from the training list of split 1) of four classes of UCF-101 that Kinetics names too:
# Archery, BodyWeightSquats, Lunges, PlayingViolin. Any of the 400 answers was allowed; a clip's probabilities are the
# mean over windows of 64 frames that overlap by half, in bf16, as the predictor page has them. 98.6 % of the clips
# reach it, and 0.90 of these are right. The line is low as 0.89 of all are right, and it did not hold for the same
# classes' 56 test clips: all reach it, 0.82 are right. Nor does it tell what is none of the 400: 48 of 50 clips of
# JumpingJack reach it. Other actions were not tried. R3D-18 was not measured and has no threshold.
SURE_ABOVE = {"i3d": 0.1647}


def kinetics_classes() -> list[str]:
    """The 400 action names of Kinetics-400 in the order of the models' outputs, from torchvision's metadata."""
    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])


def load_pretrained(model: str) -> tuple[nn.Module, Checkpoint]:
    """A published Kinetics-400 classifier in evaluation mode on the CPU, and its description, as `load_checkpoint`.

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
    return channels_last(network).eval(), Checkpoint(model, {}, classes, model_entry(model).spec, metrics)


def _whole(model: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """A classifier's tensors under our names: torchvision's last layer is our head."""
    if model == "i3d":
        return tensors
    head = {"fc.weight": "head.1.weight", "fc.bias": "head.1.bias"}
    return {head.get(name, f"backbone.{name}"): tensor for name, tensor in tensors.items()}


def frozen_settings(config: TrainConfig) -> dict[str, Any]:
    """Settings that suit a frozen pretrained backbone: the clips its weights were trained on, and no augmentation.

    Empty for any other configuration.
    """
    if not (config.pretrained and config.freeze_backbone):
        return {}
    spec = model_entry(config.model).spec
    settings = {"num_frames": spec.num_frames, "frame_size": spec.frame_size, "augment": False}
    if spec.sampling == "dense":
        settings |= {"sampling": "dense", "stride": spec.stride, "fps": spec.fps}
    return settings
