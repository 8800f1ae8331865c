"""How nbval runs the notebooks: two at a time, and in one process those that take models from one another."""

import pytest

TOGETHER = ("01", "02", "05", "06")  # chapters; the solutions of 2, 5 and 6 load what chapter 2 trained


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Names the group of every cell for `pytest -n 2 --dist loadgroup`; within a group, cells keep their order."""
    for item in items:
        chapter, solutions = item.path.name[:2], item.path.parent.name == "solutions"
        first = chapter in TOGETHER and not (solutions and chapter == "01")
        item.add_marker(pytest.mark.xdist_group("chapter 2 and what loads its models" if first else "the others"))
