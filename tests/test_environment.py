"""`varec env`: what it says of this machine, and that it says something on machines where little works."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from varec_lib import cli, environment

VAREC = Path(sys.executable).with_name("varec")
OF_TORCH = {"processor", "torch_build", "opencv", "gpu", "precision", "threads", "weights"}
PLAIN = {"varec", "python", "system", "versions", "processors", "memory_gb", "free_memory_gb", "variables", "ffmpeg"}


@pytest.fixture
def without_child(monkeypatch):
    """Leaves out the lines that need torch, and hides the variables of whoever runs the tests."""
    monkeypatch.setattr(environment, "_from_child", lambda _: {})
    for name in environment.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def limit_memory(monkeypatch, tmp_path):
    """`limit(text)`: as in a container whose limit of memory is this."""

    def limit(text: str) -> None:
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(environment, "CGROUPS", ("/nonexistent", tmp_path / "memory.max"))

    return limit


def env(broken: dict[str, str], folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess:
    """`varec env` where the modules in `broken` are these."""
    for name, source in broken.items():
        (folder / f"{name}.py").write_text(source)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = os.environ | {"PYTHONPATH": path} | variables
    return subprocess.run([VAREC, "env", *flags], env=words, capture_output=True, text=True, check=False)


def test_a_sound_machine(capsys, monkeypatch):
    for name in environment.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["env", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert set(about) == PLAIN | OF_TORCH | {"warnings"}
    assert all(about[name] is not None for name in set(about) - {"free_memory_gb"})
    assert about["versions"]["torch"] == metadata.version("torch")
    assert "pytest" not in about["versions"]
    assert about["precision"] in about["processor"] or about["gpu"]
    shown = environment.as_text(about).splitlines()
    assert len(shown) == len(about) - 1 + len(about["warnings"])
    assert not any(str(Path.home()) in line for line in shown)


def test_variables_that_change_what_is_computed(tmp_path):
    """As on a processor without bf16, whose owner asks for it; the only other run that imports torch."""
    variables = {"VAREC_PRECISION": "bf16", "ONEDNN_MAX_CPU_ISA": "AVX2", "CUDA_VISIBLE_DEVICES": ""}
    done = env({}, tmp_path, "--json", **variables)
    about = json.loads(done.stdout)
    assert done.returncode == 0
    assert about["variables"].items() >= variables.items()
    assert about["precision"] == "bf16" and about["processor"].endswith("(fp32)")
    assert any("imitated" in warning for warning in about["warnings"])
    assert any("VAREC_PRECISION" in warning for warning in about["warnings"])


def test_where_nothing_can_be_imported(tmp_path):
    broken = {name: "raise OSError('libfoo.so.1 is missing')" for name in ("torch", "imageio_ffmpeg", "packaging")}
    done = env(broken, tmp_path, PATH="/nonexistent")
    assert done.returncode == 0 and not done.stderr
    values = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if not line.startswith("Warning"))
    assert values["ffmpeg"] == values["versions"] == "?"
    assert values["python"].startswith("3.")
    assert "processor" not in values
    warnings = [line for line in done.stdout.splitlines() if line.startswith("Warning: ") and "libfoo" in line]
    assert len(warnings) == 3


def test_torch_that_ends_python(tmp_path):
    """As a build for another processor does."""
    done = env({"torch": "import os, signal\nos.kill(os.getpid(), signal.SIGILL)"}, tmp_path, "--json")
    about = json.loads(done.stdout)
    assert done.returncode == 0
    assert any("SIGILL" in warning for warning in about["warnings"])
    assert about["versions"]["torch"]


@pytest.mark.parametrize("file", ["/nonexistent/ffmpeg", __file__])
def test_no_ffmpeg_that_works(file, without_child, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", file)
    about = environment.environment()
    assert about["ffmpeg"] is None
    assert any("ffmpeg" in warning for warning in about["warnings"])
    assert about["variables"] == {"IMAGEIO_FFMPEG_EXE": Path(file).name}


def test_packages_that_are_missing_or_too_old(without_child, monkeypatch):
    known = metadata.version

    def version(name):
        if name == "torchvision":
            raise metadata.PackageNotFoundError(name)
        return "2.13.9+cpu" if name == "torch" else known(name)

    monkeypatch.setattr(metadata, "version", version)
    about = environment.environment()
    assert (about["versions"]["torch"], about["versions"]["torchvision"]) == ("2.13.9+cpu", None)
    assert [warning.split()[0] for warning in about["warnings"]] == ["torch", "torchvision"]


def test_little_memory_and_one_thread(without_child, limit_memory, monkeypatch):
    limit_memory("2000000000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    about = environment.environment()
    assert about["memory_gb"] == 2.0
    assert len(about["warnings"]) == 2


def test_a_container_without_a_limit(without_child, limit_memory):
    limit_memory("max\n")
    assert environment.environment()["memory_gb"] > 0


def test_a_system_that_tells_nothing(without_child, monkeypatch):
    def nothing(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", nothing)
    monkeypatch.setattr(os, "sysconf", nothing)
    monkeypatch.setattr(os, "sched_getaffinity", nothing, raising=False)
    about = environment.environment()
    assert about["memory_gb"] is about["free_memory_gb"] is about["processors"] is None
    assert any(warning.startswith("memory_gb") for warning in about["warnings"])
    assert "?" in environment.as_text(about)


def test_weights_are_named_once_they_are_here(monkeypatch, tmp_path):
    from varec_lib.models.weights import cached_file, named_weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "absent"))
    assert environment._weights_here() == []
    file = cached_file(named_weights("i3d_kinetics400"))
    file.parent.mkdir(parents=True)
    file.touch()
    assert environment._weights_here() == ["i3d_kinetics400"]
