"""Every model in every number format, on this processor and as on one that has no AVX-512.

oneDNN asks ONEDNN_MAX_CPU_ISA once in a process, so what other processors do is tried in a process of its own: this
file, run with a dataset folder and a folder to write to, prints what it found as JSON.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varec_lib.cli import main
from varec_lib.config import TrainConfig
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.data.dataset import TrainBatch
from varec_lib.models.backbone import channels_last, freeze
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.models.precision import autocast, processor
from varec_lib.models.registry import build_model, model_names
from varec_lib.training.bench import bench
from varec_lib.training.features import _Head
from varec_lib.training.loop import train
from varec_lib.training.setup import make_accelerator
from varec_lib.training.step import OptimiserStep, make_optimizer

CPU = torch.device("cpu")
PRECISIONS = ("fp32", "bf16")  # all that a processor takes
FRAMES, SIZE, CLASSES = 2, (32, 32), 2
OWN = ["cnnlstm", "frame_average", "i3d", "r3d18"]
# The features of ConvNeXt come out of a layer norm, which autocast leaves in float32.
MODELS = [(name, "resnet18") for name in OWN] + [("cnnlstm", "convnext_tiny")]
WAYS = ("training on clips", "training on stored features", "validation on stored features", "evaluation")


def combinations() -> list[str]:
    return [f"{way}: {name} with {backbone}, {p}" for name, backbone in MODELS for p in PRECISIONS for way in WAYS]


def network_of(name: str, backbone: str) -> nn.Module:
    torch.manual_seed(0)
    return channels_last(build_model(name, CLASSES, backbone=backbone, num_frames=FRAMES, frame_size=SIZE))


def take_step(model: nn.Module, network: nn.Module, inputs: torch.Tensor, precision: str) -> float:
    """The loss of an optimiser step, as `Trainer` takes it."""
    accelerator = make_accelerator(TrainConfig(precision=precision))
    network, optimizer = accelerator.prepare(network, make_optimizer(model, 1e-4, 0.01))
    step = OptimiserStep(accelerator, network, optimizer, lambda batch: (batch.clips, batch.labels), 0.0, 0.0)
    loss, _ = step([TrainBatch(inputs, torch.tensor([0, 1]), torch.arange(2), torch.arange(2))], 2)
    return loss


def results_of(name: str, backbone: str, precision: str) -> Iterator[float]:
    """One number for each of WAYS, finite where all is well."""
    clips = torch.rand(2, FRAMES, 3, *SIZE)
    model = network_of(name, backbone)
    yield take_step(model, model, clips, precision)

    model = network_of(name, backbone).eval()
    freeze(model.backbone)
    with torch.no_grad(), autocast(precision, CPU):
        features = model.features(clips).float()
    yield take_step(model, _Head(model), features, precision)
    with torch.no_grad(), autocast(precision, CPU):
        yield float(model.eval().classify(features).sum())

    shown = (255 * clips[:, None]).to(torch.uint8)
    checkpoint = Checkpoint(name, {}, [], ClipSpec(FRAMES, SIZE, *IMAGENET))
    yield float(LoadedModel(model, checkpoint, precision).probabilities(shown).sum())


def agreement(name: str) -> float:
    """Cosine of the bf16 gradient of a model's head, from stored features, to that in fp32."""
    torch.manual_seed(0)
    model = network_of(name, "resnet18").eval()
    features = model.features(torch.rand(2, FRAMES, 3, *SIZE)).detach()
    gradients = []
    for precision in PRECISIONS:
        model.zero_grad()
        with autocast(precision, CPU):
            loss = F.cross_entropy(model.classify(features), torch.tensor([0, 1]))
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double())
    return float(F.cosine_similarity(*gradients, dim=0))


def tried() -> dict[str, str | float]:
    """For every combination a number, or the error; and how far the gradients of the heads agree."""
    found: dict[str, str | float] = {}
    for name, backbone in MODELS:
        for precision in PRECISIONS:
            numbers = results_of(name, backbone, precision)
            for way in WAYS:
                try:
                    result = next(numbers, "not tried: what came before it failed")
                except Exception as error:
                    result = f"{type(error).__name__}: {error}".splitlines()[0]
                found[f"{way}: {name} with {backbone}, {precision}"] = result
    return found | {f"gradient of {name}": agreement(name) for name in OWN}


def train_on_features(dataset: Path, folder: Path) -> int:
    """Status of `varec train` on stored features in bf16: a CNN+LSTM, one epoch."""
    words = ["--model", "cnnlstm", "--freeze_backbone", "--no-augment", "--precision", "bf16", "--data", dataset,
             "--store_dir", folder / "store", "--experiments_dir", folder / "experiments", "--num_frames", FRAMES,
             "--frame_size", *SIZE, "--epochs", 1, "--num_workers", 0]  # fmt: skip
    return main(["train", *map(str, words)])


def check(found: dict[str, str | float]) -> None:
    for combination in combinations():
        assert isinstance(found[combination], float), f"{combination}: {found[combination]}"
        assert torch.tensor(found[combination]).isfinite(), combination
    for name in OWN:
        assert found[f"gradient of {name}"] > 0.99, name


@pytest.fixture(scope="module")
def below_avx512(numbered_dataset, tmp_path_factory) -> tuple[dict[str, str | float], str]:
    """What was found as on a processor with AVX2 only, and all that was printed before it."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("VAREC_PRECISION", None)
    command = [sys.executable, __file__, str(numbered_dataset), str(tmp_path_factory.mktemp("formats"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *shown, found = done.stdout.splitlines()
    return json.loads(found), "\n".join(shown)


def test_these_are_all_models_of_the_library(below_avx512):
    assert below_avx512[0]["models"] == OWN


def test_every_model_computes_in_every_format_here():
    check(tried())


def test_every_model_computes_in_every_format_below_avx512(below_avx512):
    check(below_avx512[0])


def test_a_training_on_stored_features_below_avx512(below_avx512):
    """An LSTM that gets float32 under bf16 autocast stopped it with a traceback of oneDNN's."""
    found, shown = below_avx512
    assert found["status"] == 0
    assert shown.count("imitates") == 1 and shown.index("imitates") < shown.index("epoch")


def test_training_and_its_measurement_obey_the_variable(tiny_config, monkeypatch, without_pictures):
    monkeypatch.setenv("VAREC_PRECISION", "fp32")
    results = train(tiny_config(precision="auto", epochs=1), progress=False).results
    figures = bench(tiny_config(precision="auto"), steps=1, rounds=1)
    for about in (results, figures):
        assert about["precision"] == "fp32"
        assert about["processor"] == processor(CPU)


if __name__ == "__main__":
    with redirect_stdout(io.StringIO()):
        outcome: dict = tried()
    status = train_on_features(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(outcome | {"status": status, "models": model_names()}))
