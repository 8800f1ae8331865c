"""Which number format the arithmetic uses, and where it runs."""

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
    """`auto` becomes bf16 where the device computes in it natively, else fp32; fp16 needs a GPU."""
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
