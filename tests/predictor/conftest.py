"""What the tests of the predictor share: a trained model, a real browser, and the two places where the page is shown."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from varec_lib.config import TrainConfig
from varec_lib.course import NOTEBOOKS
from varec_lib.training.loop import train

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
START_S = 120


@pytest.fixture(scope="session")
def tiny_experiments(tiny_stick_actions, tmp_path_factory) -> Path:
    """A folder with one experiment: a CNN+LSTM trained for an epoch on `tiny_stick_actions`, 4 frames of 32x32."""
    folder = tmp_path_factory.mktemp("trained")
    train(TrainConfig(
        data_dir=tiny_stick_actions, experiments_dir=folder / "experiments", store_dir=folder / "store", model="cnnlstm",
        backbone="squeezenet1_1", num_frames=4, frame_size=(32, 32), epochs=1, batch_size=4, num_workers=0,
    ))  # fmt: skip
    return folder / "experiments"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program of a Chromium, where this machine has one."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: `apt install chromium` brings one, or any Chrome")


@pytest.fixture(scope="session")
def playwright():
    """Playwright, which drives the browser."""
    with pytest.importorskip("playwright.sync_api").sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def launch(playwright, chromium) -> Iterator[Callable]:
    """`launch(*flags)`: a real browser, by default with a camera that nobody needs to allow, showing a moving picture."""
    browsers = []

    def start(*flags: str):
        browsers.append(playwright.chromium.launch(executable_path=chromium, args=[*QUIET, *(flags or CAMERA)]))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="session")
def browser(launch):
    """One for all tests that need nothing special."""
    return launch()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen) -> None:
    """Until something answers there."""
    for _ in range(10 * START_S):
        assert process.poll() is None, "the server ended by itself"
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"nothing answers at {url}")


@pytest.fixture(scope="session")
def app_url(tiny_experiments, tiny_stick_actions, tmp_path_factory) -> Iterator[str]:
    """The address of a running `varec app` with that experiment."""
    port, log = free_port(), tmp_path_factory.mktemp("app") / "log.txt"
    command = [
        sys.executable, "-m", "varec_lib.cli", "app", "--port", str(port), "--experiments_dir", str(tiny_experiments),
        "--data", str(tiny_stick_actions), "--files", str(tiny_stick_actions), "--no-open",
    ]  # fmt: skip
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(url + "voila/static/none", server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="session")
def lab_url(tiny_experiments, tiny_stick_actions, tmp_path_factory) -> Iterator[str]:
    """The address of notebook 06 in a running JupyterLab, with that experiment as its parameters say."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(NOTEBOOKS / "06_video_predictor.ipynb", as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            given = {
                "data_dir": str(tiny_stick_actions), "experiments_dir": str(tiny_experiments), "num_workers": 0,
                "store_dir": str(folder / "store"), "figures_dir": str(folder / "figures"),
                "server_files": str(tiny_stick_actions),
            }  # fmt: skip
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in given.items())
    nbformat.write(notebook, folder / "predictor.ipynb")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    port = free_port()
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
        "--expose-app-in-browser",
    ]  # fmt: skip
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    environment = os.environ | own | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    with (folder / "log.txt").open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server)
        yield f"http://127.0.0.1:{port}/lab/tree/predictor.ipynb"
    finally:
        server.terminate()
        server.wait(timeout=30)
