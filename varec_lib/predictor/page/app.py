"""The predictor as a web page of its own: the cells of a notebook tagged `app`, served by Voilà (notebook 06)."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import zmq
from jupyter_server.auth import passwd
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from varec_lib.config import PROJECT_ROOT
from varec_lib.errors import ConfigError
from varec_lib.predictor.page.kernels import KernelPool, preload
from varec_lib.predictor.page.server import Server, is_local

EXTENSIONS = ["anywidget", "@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8"]


def app_cells(notebook: nbformat.NotebookNode, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """A notebook of the code cells tagged `app` alone, with `parameters` set after the cell tagged `parameters`.

    Raises `ConfigError` where there are none.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "app" in cell.metadata.get("tags", [])]
    if not cells:
        raise ConfigError("The notebook has no code cells tagged `app`, which are what the page shows.")
    metadata = {"papermill": {}} | notebook.metadata
    kept = nbformat.from_dict({**notebook, "cells": cells, "metadata": metadata})
    return parameterize_notebook(kept, parameters, kernel_name="python3", language="python")


def serve(
    notebook: Path,
    *,
    experiments_dir: Path,
    data_dir: Path,
    files: Path | None = None,
    ip: str = "127.0.0.1",
    port: int = 8866,
    base_url: str = "/",
    token: str | None = None,
    password: str | None = None,
    no_token: bool = False,
    max_kernels: int = 8,
    idle_minutes: float = 10.0,
    preloaded: bool = True,
    open_browser: bool = False,
) -> None:
    """Serves the `app` cells of a notebook as a page until Ctrl-C.

    Its parameters `experiments_dir`, `data_dir` and `server_files` are set, the last to None where visitors may not
    name `files` of this computer; they may name those of `data/` where the page is for this computer alone.
    Each open page has a kernel of its own, which ends with it, or after `idle_minutes` without use; with `preloaded`
    they are forked from one process that has imported everything. `base_url` is the path under which a proxy shows the
    page. The `token` that visitors need is drawn ("auto"; also without one where others reach `ip`), unless `password`
    or `no_token` say otherwise. Raises `ConfigError` where notebook, port or options cannot be used.
    """
    if max_kernels < 1 or idle_minutes <= 0:
        raise ConfigError("--max_kernels must be 1 or more, and --idle_minutes more than 0.")
    local = is_local(ip)
    key = _key(local, token, password, no_token)
    if not (key or password or no_token):
        files = files or _course_data()
    parameters = _parameters(experiments_dir=experiments_dir, data_dir=data_dir, server_files=files)
    if app_cells(_read(notebook), parameters).metadata.get("varec", {}).get("local_only") and not local:
        raise ConfigError(f"{notebook}: writes what it records onto this computer, so it is served to this one alone.")
    config = _config(lambda _, notebook, cwd: app_cells(notebook, parameters), max_kernels, idle_minutes)
    if preloaded:
        print("Starting ...", flush=True)
        preload()
        config.MappingKernelManager.kernel_manager_class = "varec_lib.predictor.page.kernels.ForkedKernelManager"
    config.PasswordIdentityProvider.hashed_password = _hashed(password)
    logging.getLogger("tornado").setLevel(logging.ERROR)
    server = Server.instance(
        config=config, notebook_path=str(notebook.resolve()), ip=ip, port=port,
        base_url=f"/{base_url.strip('/')}/".replace("//", "/"), open_browser=open_browser and local,
        token=None if key == "auto" else key, auto_token=key == "auto", guarded=bool(key or password),
        open_to_all=no_token, config_file_paths=[], log_level=logging.ERROR,
    )  # fmt: skip
    server.initialize([])
    server.start()


def _read(notebook: Path) -> nbformat.NotebookNode:
    if not notebook.is_file():
        raise ConfigError(f"{notebook}: there is no such notebook; call this in the course's folder, or name one.")
    try:
        return load_notebook_node(str(notebook))
    except (nbformat.reader.NotJSONError, UnicodeDecodeError) as error:
        raise ConfigError(f"{notebook}: is no notebook.") from error


def _course_data() -> Path | None:
    folder = PROJECT_ROOT / "data"
    return folder if folder.is_dir() else None


def _parameters(**folders: Path | None) -> dict[str, str | None]:
    """Folders as a notebook that runs elsewhere finds them. Raises `ConfigError` where `server_files` is none."""
    found = {name: folder.expanduser().resolve() if folder else None for name, folder in folders.items()}
    if (files := found["server_files"]) and not files.is_dir():
        raise ConfigError(f"--files {files}: there is no such folder.")
    return {name: folder and str(folder) for name, folder in found.items()}


def _key(local: bool, token: str | None, password: str | None, no_token: bool) -> str:
    """The token: "" is none, "auto" one that is drawn. Raises `ConfigError` where the options contradict each other."""
    if no_token and (token or password):
        raise ConfigError("--no_token lets everybody in: leave it out, or --token and --password.")
    if "" in (token, password):
        raise ConfigError("An empty --token or --password would let everybody in; if that is meant, say --no_token.")
    if no_token or password:
        return token or ""
    return token or ("" if local else "auto")


def _hashed(password: str | None) -> str:
    """A password as Jupyter keeps it; what is hashed already stays as it is."""
    if not password or password.startswith("argon2:"):
        return password or ""
    return passwd(password)


def _config(prelaunch_hook: Callable[..., nbformat.NotebookNode], max_kernels: int, idle_minutes: float) -> Config:
    """What Voilà and Jupyter are told."""
    idle_s = round(60 * idle_minutes)
    return Config({
        "VoilaConfiguration": {
            "template": "varec",
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "file_allowlist": [],
            "show_tracebacks": False,
            "extension_allowlist": EXTENSIONS,
            "multi_kernel_manager_class": KernelPool,
            "prelaunch_hook": prelaunch_hook,
        },
        "KernelPool": {"pages": max_kernels},
        "MappingKernelManager": {
            "cull_idle_timeout": idle_s, "cull_interval": min(15, max(1, idle_s // 4)), "cull_connected": True,
            "transport_encryption": "auto" if zmq.has("curve") else "disabled",
        },
        "KernelRestarter": {"restart_limit": 0},  # a kernel that starts again knows nothing of its page
        "KernelSpecManager": {"kernel_dirs": []},  # leaves one: this Python
        "PasswordIdentityProvider": {"allow_password_change": False, "cookie_options": {"samesite": "Lax"}},
    })  # fmt: skip
