"""What the tests of the predictor share: a trained model, a browser, and the two places where the page is shown."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from page import make_experiment

from varec_lib.config import TrainConfig
from varec_lib.course import NOTEBOOKS
from varec_lib.models.checkpoint import load_checkpoint, save_checkpoint
from varec_lib.training.experiment import latest_experiment
from varec_lib.training.loop import train

START_S = 120
WAIT_MS = 60_000


@pytest.fixture
def experiments(tmp_path, tiny_checkpoint) -> Path:
    """A folder, with a space in its name, that holds one experiment of a minute ago: `tiny_checkpoint`."""
    make_experiment(tmp_path / "my experiments", tiny_checkpoint, "first", age_s=60)
    return tmp_path / "my experiments"


@pytest.fixture(scope="session")
def tiny_experiments(tiny_stick_actions, tmp_path_factory) -> Path:
    """Experiments: a frame average and a newer CNN+LSTM, trained for an epoch on `tiny_stick_actions`, 4x32x32.

    They know nothing yet, but their checkpoints say that they did well on validation: else they would stand last.
    """
    folder = tmp_path_factory.mktemp("trained")
    for model, top1 in (("frame_average", 0.8), ("cnnlstm", 0.9)):
        train(TrainConfig(
            data_dir=tiny_stick_actions, experiments_dir=folder / "experiments", store_dir=folder / "store",
            model=model, backbone="squeezenet1_1", num_frames=4, frame_size=(32, 32), epochs=1, batch_size=4,
            num_workers=0,
        ))  # fmt: skip
        best = latest_experiment(folder / "experiments", model=model).best_checkpoint
        network, checkpoint, _ = load_checkpoint(best)
        metrics = checkpoint.metrics | {"val_top1": top1, "val_videos": 40}
        save_checkpoint(best, network, replace(checkpoint, metrics=metrics))
    return folder / "experiments"


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


class Desk:
    """A page with the predictor on it, and what a visitor does there."""

    def __init__(self, page, host: str) -> None:
        self.page, self.host = page, host

    def choose(self, *files: Path) -> None:
        """By a click on the zone and the browser's dialog."""
        with self.page.expect_file_chooser() as dialog:
            self.page.locator(".vp-zone").click()
        dialog.value.set_files([str(file) for file in files])

    def drop(self, *files: Path, onto: str = ".vp-zone", then_click: str = "") -> None:
        """Real files, as events of a mouse that drops them; `then_click` is clicked before anything is answered."""
        self.page.evaluate(
            "() => document.body.append(Object.assign(document.createElement('input'),"
            " {type: 'file', multiple: true, id: 'dropped'}))"
        )
        self.page.set_input_files("#dropped", [str(file) for file in files])
        self.page.evaluate(
            """([onto, thenClick]) => {
              const input = document.getElementById("dropped"), dataTransfer = new DataTransfer();
              for (const file of input.files) dataTransfer.items.add(file);
              input.remove();
              const options = { bubbles: true, cancelable: true, dataTransfer };
              for (const type of ["dragenter", "dragover", "drop"])
                document.querySelector(onto).dispatchEvent(new DragEvent(type, options));
              if (thenClick) [...document.querySelectorAll(thenClick)].at(-1).click();
            }""",
            [onto, then_click],
        )

    def answer(self, name: str) -> str:
        """The text of the answer's side, once the video of that name has one."""
        ended = ".vp-took, .vp-problem, .vp-cancelled"
        self.page.locator(".vp-result").filter(has=self.page.locator(f'.vp-name:text-is("{name}")')).locator(
            ended
        ).first.wait_for(timeout=WAIT_MS)
        return self.page.locator(".vp-result").inner_text()

    def run_all(self) -> None:
        """All cells of the notebook, and goes to the one with the page."""
        self.page.evaluate(
            """async () => {
              window.jupyterapp.commands.execute("notebook:run-all-cells");
              const book = window.jupyterapp.shell.currentWidget.content;
              const isPage = (cell) => cell.model.sharedModel.source.includes("= VideoPredictor(");
              await book.scrollToItem(book.widgets.findIndex(isPage), "start");
            }"""
        )

    def plays(self) -> dict:
        """The preview, once it shows something and time passes in it."""
        video = self.page.locator(".vp-slot-video video")
        video.wait_for(timeout=WAIT_MS)
        video.evaluate("video => video.play()")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            state = video.evaluate("video => ({width: video.videoWidth, time: video.currentTime, src: video.src})")
            if state["width"] > 0 and state["time"] > 0:
                return state
            time.sleep(0.1)
        pytest.fail(f"the preview does not play: {state}")


def open_desk(browser, host: str, url: str, **options) -> Desk:
    """A new page with the predictor ready for use."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True, **options)
    page = context.new_page()
    page.on("filechooser", lambda _: None)  # else dialogs are caught only some time after one is awaited
    page.goto(url)
    if host == "lab":
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=WAIT_MS)
        page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
        page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        Desk(page, host).run_all()
    page.locator(".vp-zone").wait_for(timeout=3 * WAIT_MS)
    return Desk(page, host)


@pytest.fixture(scope="session")
def opened() -> Callable[..., Desk]:
    """`opened(browser, host, url)`: a new page with the predictor, ready for use; `host` is app or lab."""
    return open_desk


@pytest.fixture(scope="session")
def serve_app(tmp_path_factory) -> Iterator[Callable[..., str]]:
    """`serve(experiments_dir, data_dir, *flags)`: the address of a running `varec app` with these."""
    servers = []

    def serve(experiments_dir: Path, data_dir: Path, *flags: str) -> str:
        port, log = free_port(), tmp_path_factory.mktemp("app") / "log.txt"
        command = [
            sys.executable, "-m", "varec_lib.cli", "app", "--port", str(port), "--no-open",
            "--experiments_dir", str(experiments_dir), "--data", str(data_dir), "--files", str(data_dir),
            *flags,
        ]  # fmt: skip
        with log.open("w") as out:
            servers.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))
        url = f"http://127.0.0.1:{port}/"
        wait_for(url + "voila/static/none", servers[-1])
        return url

    yield serve
    for server in servers:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="session")
def app_url(serve_app, tiny_experiments, tiny_stick_actions) -> str:
    """The address of a running `varec app` with that experiment."""
    return serve_app(tiny_experiments, tiny_stick_actions)


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
