"""environment.yml, pyproject.toml, constraints.txt and requirements.lock say the same."""

import json
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from varec_lib import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = {canonicalize_name(found.name): found for found in distributions()}
REQUIREMENTS = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
]


def pinned(name: str) -> dict[str, list[Requirement]]:
    """The exact pins of each package in a file of them; markers tell systems and Pythons apart."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.removesuffix("\\"))
            assert {specifier.operator for specifier in pin.specifier} == {"=="}, line
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


@pytest.fixture(scope="module")
def pins() -> dict[str, list[Requirement]]:
    return pinned("constraints.txt")


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_has_a_pin_that_fits(requirement, pins):
    name = canonicalize_name(requirement.name)
    assert name in pins, f"{name} is not in constraints.txt"
    assert requirement.specifier, f"{name} has no lower bound"
    for pin in pins[name]:
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version), f"{pin} does not fit {requirement}"


def test_no_package_has_two_pins_for_one_python(pins):
    for name, several in pins.items():
        here = [pin for pin in several if pin.marker is None or pin.marker.evaluate()]
        assert len(here) <= 1, f"{name} has two pins here"


def test_the_pins_can_be_installed_with_the_lowest_python_that_is_promised(pins):
    lowest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    for name, several in pins.items():
        for pin in several:
            wanted = INSTALLED[name].metadata["Requires-Python"] if name in INSTALLED else None
            meant = pin.marker is None or pin.marker.evaluate({"python_full_version": lowest})
            same = name in INSTALLED and pin.specifier.contains(INSTALLED[name].version)
            assert not (wanted and meant and same) or SpecifierSet(wanted).contains(lowest), f"{pin} wants {wanted}"


def test_the_lock_is_the_same_set_with_hashes(pins):
    assert {str(pin) for several in pinned("requirements.lock").values() for pin in several} == {
        str(pin) for several in pins.values() for pin in several
    }
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", package) for package in packages)
    assert "://" not in text  # whose index the packages come from is the reader's choice


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
