"""environment.yml, pyproject.toml and constraints.txt say the same."""

import json
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


def test_what_people_expect_of_a_repository_is_there_and_agrees():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and citation["license"] == PROJECT["license"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((\S+)\)$", changes, re.MULTILINE).groups()
    assert newest == (__version__, str(citation["date-released"]))
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml").read_text(encoding="utf-8"))
    asked = {part.get("id"): part.get("validations", {}).get("required") for part in form["body"]}
    assert asked["environment"] and "`varec env`" in str(form)
    json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def test_every_command_of_the_workflow_and_the_guide_is_a_target_of_make():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    called = [name for text in [*steps, guide] for name in re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)]
    assert {"lint", "test"} <= set(called) <= targets
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert lowest in workflow["jobs"]["pinned"]["strategy"]["matrix"]["python"]
