"""`varec app`: serves the predictor as a web page."""

import os
import sys
from dataclasses import field
from pathlib import Path

from pydantic.dataclasses import dataclass
from tyro.conf import FlagCreatePairsOff

from varec_lib.config import OptionalPath, Settings, UserPath


def _someone_watches() -> bool:
    """Whether a browser would open before the eyes of whoever typed the command."""
    if "SSH_CONNECTION" in os.environ or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


@dataclass
class Options(Settings):
    """Serve the video predictor (notebook 06) as a web page until Ctrl-C; each open page has a process of its own."""

    port: int = 8866
    """Port of the page; 0 takes any that is free."""
    base_url: str = "/"
    """Path of the page, where a reverse proxy or a JupyterHub does not show it at the top of its address."""
    ip: str = "127.0.0.1"
    """Who reaches the page: 127.0.0.1 only this computer, 0.0.0.0 everybody who reaches this computer."""
    token: str | None = None
    """What visitors need once, in the address; auto draws one, which also happens where others reach --ip."""
    password: str | None = None
    """Ask visitors for a password instead; others on this computer can read it here, but not its argon2:... hash."""
    no_token: FlagCreatePairsOff[bool] = False
    """Let in everybody who reaches --ip, by whatever name."""
    experiments_dir: UserPath = Path("experiments")
    """Folder of the trained models that visitors choose from."""
    data: UserPath = Path("data/stick_actions")
    """Dataset folder; some of its test clips are offered as examples."""
    files: OptionalPath = None
    """Folder on this computer whose videos visitors may name; data/ of the course if the page is for you alone."""
    max_kernels: int = 8
    """Pages that may be open at once, at 0.2 GB of memory each (0.5 not preloaded); the next must come back later."""
    idle_minutes: float = 10.0
    """End the process of a page that was not used for so long; a click starts another."""
    preloaded: bool = True
    """Fork the pages' processes from one that has imported everything; on Linux only."""
    open: bool = field(default_factory=_someone_watches)
    """Open the page in a browser, where it is on this computer."""
    notebook: OptionalPath = None
    """Another notebook to serve: its cells tagged app."""


def run(options: Options) -> int:
    """Serves the predictor as a web page."""
    from varec_lib import course
    from varec_lib.predictor.page.app import serve

    data_dir = course.dataset_folder(options.data.resolve())
    names = ("ip", "port", "base_url", "token", "password", "no_token", "max_kernels", "idle_minutes", "preloaded")
    serve(
        options.notebook or course.NOTEBOOKS / "06_video_predictor.ipynb",
        experiments_dir=options.experiments_dir,
        data_dir=data_dir,
        files=options.files,
        open_browser=options.open,
        **{name: getattr(options, name) for name in names},
    )
    return 0
