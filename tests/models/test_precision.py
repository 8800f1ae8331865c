"""Which number format is used where."""

import pytest
import torch

from varec_lib.errors import ConfigError
from varec_lib.models.device import default_device, keep_freed_memory, use_tensor_cores
from varec_lib.models.precision import autocast, formats, is_imitated, processor, resolve_precision, warn_if_imitated

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("VAREC_PRECISION", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def capabilities(monkeypatch):
    """`set(**has)`: a processor that says this of itself."""
    return lambda **has: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)


def test_auto_uses_bf16_only_where_the_processor_has_it():
    has_bf16 = torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16")
    assert resolve_precision("auto", CPU) == ("bf16" if has_bf16 else "fp32")


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, ("fp32",)),
        ({"avx512_bf16": True}, ("fp32", "bf16")),
        ({"amx_bf16": True}, ("fp32", "bf16")),
        ({"neon": True, "bf16": True}, ("fp32",)),
        ({}, ("fp32",)),
    ],
)
def test_formats_of_processors(capabilities, has, expected):
    capabilities(**has)
    assert formats(CPU) == expected
    assert resolve_precision("auto", CPU) == expected[-1]


@pytest.mark.parametrize(("limit", "has_bf16"), [("avx2", False), ("AVX512_CORE", False), ("AVX512_CORE_BF16", True)])
def test_kernels_kept_below_bf16_do_not_have_it(capabilities, monkeypatch, limit, has_bf16):
    capabilities(avx512_bf16=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert ("bf16" in formats(CPU)) == has_bf16
    assert is_imitated("bf16", CPU) != has_bf16


@pytest.mark.parametrize(("variable", "expected"), [("fp32", "fp32"), ("bf16", "bf16"), ("auto", "bf16"), ("", "bf16")])
def test_the_variable_decides_what_auto_means(capabilities, monkeypatch, variable, expected):
    capabilities(avx512_bf16=True)
    monkeypatch.setenv("VAREC_PRECISION", variable)
    assert resolve_precision("auto", CPU) == expected
    for stated in ("fp32", "bf16"):
        assert resolve_precision(stated, CPU) == stated


@pytest.mark.parametrize("variable", ["bf8", "FP32", "float32", "fp16"])
def test_a_variable_that_cannot_be_obeyed_is_named_with_the_choices(monkeypatch, variable):
    monkeypatch.setenv("VAREC_PRECISION", variable)
    with pytest.raises(ConfigError, match=rf"VAREC_PRECISION={variable}.*bf16"):
        resolve_precision("auto", CPU)
    assert resolve_precision("fp32", CPU) == "fp32"  # a stated one needs no variable


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="bf8"):
        resolve_precision("bf8", CPU)


def test_imitation_is_announced_in_one_line(capabilities, capsys):
    capabilities(avx2=True)
    warn_if_imitated("bf16", CPU)
    (line,) = capsys.readouterr().out.splitlines()
    assert "--precision fp32" in line


@pytest.mark.parametrize(
    ("has", "precision"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32"), ({"bf16": True}, "bf16")]
)
def test_nothing_is_announced_where_a_processor_computes_or_is_not_known(capabilities, capsys, has, precision):
    capabilities(**has)
    warn_if_imitated(precision, CPU)
    assert not capsys.readouterr().out


def test_a_processor_is_named_with_its_formats(capabilities):
    capabilities(cpu_name="Fast Chip 9", avx512_bf16=True)
    assert processor(CPU).startswith("Fast Chip 9, ")
    assert processor(CPU).endswith(" (fp32, bf16)")
    capabilities()  # a chip without a name
    assert processor(CPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stated_precision_is_kept(precision):
    assert resolve_precision(precision, CPU) == precision


def test_fp16_is_refused_on_a_processor():
    with pytest.raises(ConfigError, match=r"fp16.*GPU"):
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
