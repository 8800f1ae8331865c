"""Which number format is used where."""

import pytest
import torch

from varec_lib.errors import ConfigError
from varec_lib.models.precision import autocast, default_device, keep_freed_memory, resolve_precision, use_tensor_cores

CPU = torch.device("cpu")


def test_auto_uses_bf16_only_where_the_processor_has_it():
    has_bf16 = torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16")
    assert resolve_precision("auto", CPU) == ("bf16" if has_bf16 else "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stated_precision_is_kept(precision):
    assert resolve_precision(precision, CPU) == precision


def test_fp16_is_refused_on_a_processor():
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_decides_the_type_of_products(precision, dtype):
    a = torch.rand(4, 4)
    with autocast(precision, CPU):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_is_preferred_and_takes_half_precision():
    device = default_device()
    assert device.type == "cuda"
    assert resolve_precision("auto", device) in ("bf16", "fp16")
    a = torch.rand(4, 4, device=device)
    with autocast("fp16", device):
        assert (a @ a).dtype == torch.float16


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_processor_is_used():
    assert default_device() == CPU


def test_tensor_cores_are_for_gpus():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark
    use_tensor_cores(CPU)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_tensor_cores_compute_fp32_products_on_a_gpu():
    use_tensor_cores(torch.device("cuda"))
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.benchmark


def test_keeping_freed_memory_can_be_asked_for_again():
    for _ in range(2):
        keep_freed_memory()
        assert torch.zeros(5_000_000).sum() == 0


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_keeping_freed_memory_does_nothing_without_glibc(monkeypatch, error):
    def absent(name):
        raise error(name)

    monkeypatch.setattr("ctypes.CDLL", absent)
    keep_freed_memory()
