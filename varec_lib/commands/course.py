"""`varec course`: runs the notebooks."""

from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic.dataclasses import dataclass
from tyro.conf import Positional, UseAppendAction, arg

from varec_lib.config import Settings, UserPath


@dataclass
class Options(Settings):
    """Run the notebooks with papermill; executed copies, figures and a closing table are left behind."""

    notebooks: Positional[tuple[str, ...]] = ()
    """Numbers or names (02, 05_evaluation); all if none is given."""
    parameter: Annotated[UseAppendAction[list[tuple[str, str]]], arg(aliases=["-p"])] = field(default_factory=list)
    """A parameter of the notebooks and its value; may be repeated."""
    out: UserPath = Path("runs/course")
    """Folder of the executed notebooks."""
    refresh: bool = False
    """Run notebooks and solutions with their own parameters and save the outputs into notebooks/ itself."""


def run(options: Options) -> int:
    """Runs notebooks; 1 where one failed."""
    from varec_lib import course
    from varec_lib.models.device import default_device
    from varec_lib.models.precision import processor, resolve_precision

    notebooks = course.find_notebooks(list(options.notebooks))
    if options.refresh:
        for notebook in notebooks + course.solutions_of(notebooks):
            course.refresh(notebook)
        return 0
    device = default_device()
    precision = resolve_precision("auto", device)  # now, not after all notebooks have failed at it
    runs = course.run_course(course.parse_parameters(options.parameter, notebooks), options.out)
    print(f"\n{course.closing_table(runs)}\nSeconds on {processor(device)}, computing in {precision}.")
    return 0 if all(run.status == "ok" for run in runs) else 1
