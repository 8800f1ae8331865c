"""environment.yml, pyproject.toml and constraints.txt say the same."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from varec_lib import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Version per package of constraints.txt; every line must be an exact pin."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line := line.split("#")[0].strip():
            name, version = re.fullmatch(r"([\w.-]+)==(\S+)", line.split(";")[0].strip()).groups()
            assert canonicalize_name(name) not in found, f"{name} is pinned twice"
            found[canonicalize_name(name)] = version
    return found


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_has_a_pin_that_fits(requirement, pins):
    name = canonicalize_name(requirement.name)
    assert name in pins, f"{name} is not in constraints.txt"
    assert requirement.specifier, f"{name} has no lower bound"
    assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} does not fit {requirement}"


def test_dependencies_have_lower_bounds_only():
    assert {specifier.operator for requirement in REQUIREMENTS for specifier in requirement.specifier} == {">="}


def test_conda_environment_installs_the_package_with_the_pins(environment):
    assert environment["name"] == "varec"
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert "pip" in plain
    assert "-c constraints.txt" in pip
    assert "-e .[dev]" in pip
    assert {name.split("=")[0] for name in plain} == {"python", "pip"}  # all else comes from pyproject.toml


def test_python_of_the_conda_environment_is_supported(environment):
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    supported = SpecifierSet(PROJECT["requires-python"])
    assert supported.contains(f"{python.removeprefix('python=')}.0")
    assert supported.contains(".".join(map(str, sys.version_info[:3])))


def test_version_is_stated_once_and_the_same():
    assert PROJECT["version"] == __version__


def test_command_points_to_the_cli():
    assert PROJECT["scripts"] == {"varec": "varec_lib.cli:main"}
