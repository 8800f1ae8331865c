"""Which number format the arithmetic uses, and where it runs."""

import contextlib
import ctypes
from contextlib import AbstractContextManager

import torch

from varec_lib.errors import ConfigError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def default_device() -> torch.device:
    """A GPU if there is one, Apple's if that, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the device computes in it natively, else fp32; fp16 needs a GPU.

    Of processors those with AVX-512 or AMX count; others that have bf16 (ARM) were not tried, and stay with fp32.
    """
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; on a processor use bf16, fp32 or auto.")
    return precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Context in which convolutions and matrix products run in bf16 or fp16; does nothing for fp32."""
    return torch.autocast(device.type, _DTYPES.get(precision, torch.bfloat16), enabled=precision in _DTYPES)


def use_tensor_cores(device: torch.device) -> None:
    """Lets a GPU's tensor cores compute what is left in fp32 (as TF32), and pick the fastest convolutions by trial."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def keep_freed_memory() -> None:
    """Lets the C library keep large freed blocks for the next batch instead of giving them back to the system.

    On a processor every activation is a fresh block, and clearing its pages anew in each step cost 12 % of an R3D-18
    step at 16x112x112 and 25 % of a CNN+LSTM step at 8x64x64. Does nothing outside Linux with glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and the heap does not shrink
