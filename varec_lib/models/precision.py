"""Which number format the arithmetic uses, and where it runs."""

import os
import platform
from contextlib import AbstractContextManager

import torch

from varec_lib.errors import ConfigError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
VARIABLE = "VAREC_PRECISION"  # what `auto` means, for a whole shell: fp32 makes any machine compute as most laptops do
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def formats(device: torch.device) -> tuple[str, ...]:
    """The number formats that a device computes in natively, as far as `auto` relies on it; fp32 is the first.

    Of processors those with AVX-512 or AMX have bf16, unless the variable ONEDNN_MAX_CPU_ISA keeps torch's kernels from
    it. Others that may have it (ARM, Apple's GPUs) were not tried, and stay with fp32.
    """
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("fp32", "bf16", "fp16") if bf16 else ("fp32", "fp16")
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    bf16 = has.get("avx512_bf16") or has.get("amx_bf16")
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BF16
    return ("fp32", "bf16") if bf16 and not limited else ("fp32",)


def resolve_precision(precision: str, device: torch.device) -> str:
    """The number format that is computed in: `fp32`, `bf16` or `fp16`.

    `auto` is what the variable VAREC_PRECISION says; where it is not set, bf16 if the device has that, else fp16 on a
    GPU and fp32 on a processor. Raises `ConfigError` for any other word, and for fp16 on a processor.
    """
    asked = f"precision {precision}"
    if precision == "auto":
        precision = os.environ.get(VARIABLE) or "auto"
        asked = f"{VARIABLE}={precision}"
    if precision not in PRECISIONS:
        raise ConfigError(f"{asked} is unknown: it must be one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        return next(known for known in ("bf16", "fp16", "fp32") if known in formats(device))
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError(f"{asked} needs a GPU; on a processor use bf16, fp32 or auto.")
    return precision


def is_imitated(precision: str, device: torch.device) -> bool:
    """Whether a processor computes in this format in software only; not known of ARM's, of which it is not claimed."""
    if precision != "bf16" or device.type != "cpu" or "bf16" in formats(device):
        return False
    return not torch.cpu.get_capabilities().get("bf16")


def warn_if_imitated(precision: str, device: torch.device) -> None:
    """Says in one line, before anything is computed, that it will be slow.

    Clips per second of training steps at 8x64x64, fp32 and bf16, with oneDNN held to AVX2: on one core CNN+LSTM 7.8 and
    0.93, I3D 9.0 and 0.39, R3D-18 1.8 and 0.04; on two cores R3D-18 4.3 and 0.03. Held to AVX-512 without bf16, on one
    core: 8.8 and 4.8, 9.0 and 5.5, 1.8 and 1.0.
    """
    if is_imitated(precision, device):
        print(
            "Note: this processor does not compute in bf16 and only imitates it. That was measured to be 8 (CNN+LSTM) "
            "to 100 times (R3D-18) slower than fp32, 2 times with AVX-512: choose --precision fp32.",
            flush=True,
        )


def processor(device: torch.device) -> str:
    """What kind of processor times were measured on: its name and formats, as `AMD EPYC, 2 threads (fp32, bf16)`."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        chip = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
        threads = torch.get_num_threads()
        name = f"{chip}, {threads} thread{'s' * (threads != 1)}" if device.type == "cpu" else f"{chip}'s GPU"
    return f"{name} ({', '.join(formats(device))})"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Context in which convolutions and matrix products run in bf16 or fp16; does nothing for fp32."""
    return torch.autocast(device.type, _DTYPES.get(precision, torch.bfloat16), enabled=precision in _DTYPES)
