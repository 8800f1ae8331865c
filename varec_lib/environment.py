"""What a report of a problem has to say of the machine: `varec env`. It works where the rest of the library does not.

Nothing beyond Python's own library is imported here but where a line needs it, and what does not work becomes a
warning. Lines that need torch come from a process of their own (this file, run as a module): a build of torch for
another processor does not raise, it ends Python.
"""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import varec_lib

LITTLE_MEMORY_GB = 4.0
VARIABLES = ("VAREC_PRECISION", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES", "IMAGEIO_FFMPEG_EXE")
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # a container's share
CHILD_S = 120.0  # importing torch from a slow disk takes long, too


class Lines:
    """Names and values, and warnings. A value that cannot be had is None, and a warning says why."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.warnings: list[str] = []

    def add(self, name: str, read: Callable[["Lines"], Any]) -> None:
        try:
            self.values[name] = read(self)
        except Exception as error:  # whatever it is, the other lines are wanted
            self.values[name] = None
            self.warnings.append(f"{name}: not known here ({_said(error)}).")


def environment() -> dict[str, Any]:
    """What `varec env --json` prints: values by name, None where one cannot be had, and `warnings`. Never raises."""
    lines = Lines()
    lines.add("varec", lambda _: varec_lib.__version__)
    lines.add("python", lambda _: platform.python_version())
    lines.add("system", lambda _: f"{platform.system()} {platform.release()} {platform.machine()}")
    lines.add("versions", _versions)
    lines.add("processors", lambda _: _usable_processors())
    lines.add("memory_gb", _memory)
    lines.add("free_memory_gb", lambda _: _free_memory())
    lines.add("variables", _variables)
    lines.add("ffmpeg", _ffmpeg)
    lines.add("torch", _from_child)
    found = lines.values.pop("torch")
    return {**lines.values, **(found or {}), "warnings": lines.warnings}


def as_text(found: dict[str, Any]) -> str:
    """The same, a line each, warnings last."""
    shown = []
    for name, value in found.items():
        if name == "versions" and value:
            value = [f"{package} {version or 'missing'}" for package, version in value.items()]
        elif isinstance(value, dict):
            value = [f"{key}={word}" for key, word in value.items()]
        if isinstance(value, list):
            value = ", ".join(value) or "none"
        if name != "warnings":
            shown.append(f"{name.replace('_gb', '').replace('_', ' '):12s} {_unit(name, value)}")
    return "\n".join([*shown, *(f"Warning: {warning}" for warning in found["warnings"])])


def _unit(name: str, value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:.1f} GB" if name.endswith("_gb") else str(value)


def _said(error: BaseException) -> str:
    """An error in one line, without folders of whoever sends this to others."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace(str(Path.home()), "~")
    return text if len(text) <= 200 else text[:197] + "..."


def _versions(lines: Lines) -> dict[str, str | None]:
    """Versions of what the library needs, None where it is missing; the lower bounds are those of its package."""
    from packaging.requirements import Requirement

    found: dict[str, str | None] = {}
    for requirement in map(Requirement, metadata.requires("varec") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted = requirement.name, requirement.specifier
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
            lines.warnings.append(f"{name} is not installed; varec needs {name}{wanted}.")
            continue
        if not wanted.contains(found[name], prereleases=True):
            lines.warnings.append(f"{name} is {found[name]}; varec needs {name}{wanted}.")
    return found


def _usable_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(lines: Lines) -> float:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in CGROUPS:
        with suppress(OSError, ValueError):  # not in a container, or without a limit: "max"
            total = min(total, int(Path(file).read_text(encoding="ascii")))
    gigabytes = round(total / 1e9, 1)
    if gigabytes < LITTLE_MEMORY_GB:
        lines.warnings.append(
            f"There are {gigabytes:.1f} GB of memory, which is little: keep clips and batches small, and use "
            "--num_workers 0."
        )
    return gigabytes


def _free_memory() -> float | None:
    """What programs can have without swapping; None where the system does not tell (only Linux does)."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return round(int(line.split()[1]) * 1024 / 1e9, 1)
    return None


def _variables(lines: Lines) -> dict[str, str]:
    """Those that change how the library computes, where they are set."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    processors = _usable_processors()
    if found.get("OMP_NUM_THREADS") == "1" and processors > 1:
        lines.warnings.append(f"OMP_NUM_THREADS=1 is set: training computes on one of {processors} processors.")
    return {name: Path(value).name if name.endswith("_EXE") else value for name, value in found.items()}


def _ffmpeg(lines: Lines) -> str | None:
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_version()
    except Exception as error:
        lines.warnings.append(f"There is no ffmpeg that works, so the page makes no previews ({_said(error)}).")
        return None


def _from_child(lines: Lines) -> dict[str, Any]:
    """The lines that need torch."""
    command = [sys.executable, "-m", "varec_lib.environment"]
    child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=CHILD_S, check=False)
    if child.returncode < 0:
        raise RuntimeError(f"importing it ends Python with {signal.Signals(-child.returncode).name}")
    if child.returncode:
        raise RuntimeError((child.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    values, warnings = json.loads(child.stdout)
    lines.warnings += warnings
    return values


def _of_torch() -> Lines:
    lines = Lines()
    lines.add("processor", lambda _: _processor("cpu"))
    lines.add("torch_build", lambda _: _torch_build())
    lines.add("opencv", lambda _: _opencv())
    lines.add("gpu", lambda _: _gpus())
    lines.add("precision", _precision)
    lines.add("threads", lambda _: __import__("torch").get_num_threads())
    lines.add("weights", lambda _: _weights_here())
    return lines


def _processor(device: str) -> str:
    import torch

    from varec_lib.models.precision import processor

    return processor(torch.device(device))


def _torch_build() -> str:
    """The installed version may not tell what it was built for."""
    import torch

    return f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"


def _opencv() -> str:
    """The version of what can be imported: several packages bring the same module."""
    import cv2

    return cv2.__version__


def _gpus() -> list[str]:
    import torch

    if torch.backends.mps.is_available():
        return [_processor("mps")]
    return [_processor(f"cuda:{number}") for number in range(torch.cuda.device_count())]


def _precision(lines: Lines) -> str | None:
    """What `--precision auto` means here."""
    from varec_lib.errors import ConfigError
    from varec_lib.models.device import default_device
    from varec_lib.models.precision import VARIABLE, is_imitated, resolve_precision

    device = default_device()
    if is_imitated("bf16", device):
        lines.warnings.append("bf16 is only imitated by this processor, many times slower than fp32.")
    if not os.environ.get(VARIABLE):
        return resolve_precision("auto", device)
    try:
        precision = resolve_precision("auto", device)
    except ConfigError as error:
        lines.warnings.append(str(error))
        return None
    lines.warnings.append(f"{VARIABLE}={os.environ[VARIABLE]} is set: --precision auto is {precision}.")
    return precision


def _weights_here() -> list[str]:
    """Names of the published weights that need no download."""
    from varec_lib.models.weights import cached_file, shown_weights

    return [row.name for row in shown_weights() if cached_file(row).is_file()]


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # what a library prints when it is imported
        import torch  # noqa: F401  (where it cannot be, one sentence says so)

        found = _of_torch()
    print(json.dumps([found.values, found.warnings]))
