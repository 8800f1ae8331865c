"""What only a GPU shows: half precision, pinned memory, tensor cores, real shortage of memory."""

import pytest
import torch
from torch import nn

from varec_lib.data.dataset import EpochBatches, make_loader
from varec_lib.models.registry import register_model
from varec_lib.training.loop import train
from varec_lib.training.state import LAST

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.usefixtures("without_pictures"),
]


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(
    "others", [{}, {"accumulate": 2, "clip_grad": 1.0, "ema": 0.9, "mixup": 0.4, "num_workers": 1}]
)
def test_training_on_a_gpu_in_every_precision(tiny_config, precision, others):
    experiment = train(tiny_config(precision=precision, **others), progress=False)
    results, history = experiment.results, experiment.history
    assert results["device"].startswith("cuda")
    assert results["precision"] == precision
    assert history["train_loss"].between(0, 10).all()
    state = torch.load(experiment.folder / LAST, weights_only=True, map_location="cpu")
    assert (state["scaler"] is not None) == (precision == "fp16")
    assert "cuda" in state["processes"][0]["random"]
    assert all(tensor.dtype == torch.float32 for name, tensor in state["model"].items() if name.endswith("weight"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_finished_epoch_is_taken_up_again_on_a_gpu(tiny_config, history_of, precision):
    whole = train(tiny_config(precision=precision, epochs=4), progress=False)
    first = train(tiny_config(precision=precision, epochs=2, patience=0), progress=False)
    again = train(first.config.replaced(resume=first.folder, epochs=4), progress=False)
    for name, column in history_of(whole).items():
        if not name.endswith("top1"):  # kernels of a GPU may add in another order
            assert history_of(again)[name].tolist() == pytest.approx(column.tolist(), abs=0.1), name


def test_stored_features_on_a_gpu(tiny_config, plugin, tmp_path, history_of):
    settings = {
        "model": "slow_tiny", "plugin": plugin, "freeze_backbone": True, "augment": False,
        "store_dir": tmp_path / "store",
    }  # fmt: skip
    train(tiny_config(**settings), progress=False)
    assert len(list(tmp_path.glob("store/*/features/*/*/*.bin"))) == 18 + 6


def test_tensor_cores_are_used_for_fp32(tiny_config):
    train(tiny_config(epochs=1), progress=False)
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.benchmark


def test_loaders_pin_their_memory():
    loader = make_loader(torch.utils.data.TensorDataset(torch.zeros(4, 2)), num_workers=0, batch_size=2)
    assert loader.pin_memory
    assert next(iter(loader))[0].is_pinned()
    assert make_loader(range(4), num_workers=0, batches=EpochBatches(4, 2, 0)).pin_memory


@register_model("large_activations")
class LargeActivations(nn.Module):
    """Every training clip needs 400 MB."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        scores = self.head(clips.mean(dim=(1, 3, 4)))
        if self.training:
            scores = scores + 0 * scores[:, :1, None].expand(-1, 1, 50_000_000).square().mean(dim=2)
        return scores


def test_shortage_of_memory_halves_the_pieces(tiny_config, capsys):
    """With 1.5 GB, two clips fit and four do not."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(1.5e9 / total)
        train(tiny_config(model="large_activations", precision="fp32", epochs=1), progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "Out of memory" in capsys.readouterr().out
