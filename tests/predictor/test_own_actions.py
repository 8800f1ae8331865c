"""The recorder and the live answers in a real browser, in front of a camera that plays a film."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest

from varec_lib import cli
from varec_lib.course import NOTEBOOKS
from varec_lib.data.recordings import Recordings
from varec_lib.data.video import probe, read_frames

pytestmark = pytest.mark.slow
WAIT_MS = 60_000
HALF = 80  # frames of the film, which Chromium shows at 30 a second: dark, then bright, and again
APP = """
import torch
from torch import nn
import ipywidgets
from varec_lib.data.clip_spec import IMAGENET, ClipSpec
from varec_lib.models.checkpoint import Checkpoint, LoadedModel
from varec_lib.predictor.page.live import LivePredictor
from varec_lib.predictor.page.recorder import Recorder

class Brightness(nn.Module):
    def forward(self, clips):
        bright = clips.mean(dim=(1, 2, 3, 4))
        return 20 * torch.stack([bright, -bright], dim=1)

spec = ClipSpec(4, (32, 32), *IMAGENET)
model = LoadedModel(Brightness(), Checkpoint("brightness", {}, ["bright_day", "dark_night"], spec), "fp32")
ipywidgets.VBox([Recorder(FOLDER, ["wave"], session="anna"), LivePredictor(model, seconds=1.0)])
"""


@pytest.fixture(scope="module")
def camera(launch, tmp_path_factory):
    """A browser whose camera shows a film again and again: dark grey and light grey in turn."""
    film = tmp_path_factory.mktemp("film") / "film.mjpeg"
    with film.open("wb") as stream:
        for grey in (40, 220):
            picture = np.full((240, 320, 3), grey, np.uint8)
            cv2.putText(picture, str(grey), (90, 140), cv2.FONT_HERSHEY_SIMPLEX, 2, (128, 128, 128), 4)
            stream.write(cv2.imencode(".jpg", picture)[1].tobytes() * HALF)
    allowed = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return launch(*allowed, f"--use-file-for-fake-video-capture={film}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("own") / "mine"


@pytest.fixture(scope="module")
def url(folder, serve_app, tiny_stick_actions, tmp_path_factory) -> str:
    """The address of a page with a recorder and live answers."""
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("data_dir = ''", metadata={"tags": ["parameters", "app"]}),
        nbformat.v4.new_code_cell(APP.replace("FOLDER", repr(str(folder))), metadata={"tags": ["app"]}),
    ])  # fmt: skip
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata.varec = {"title": "My <own> page", "subtitle": "Record.", "footer": "Kept here."}
    file = tmp_path_factory.mktemp("served") / "own.ipynb"
    nbformat.write(notebook, file)
    return serve_app(tiny_stick_actions, tiny_stick_actions, "--notebook", str(file), "--no-preloaded")


@pytest.fixture(scope="module")
def page(camera, url) -> Iterator:
    context = camera.new_context(viewport={"width": 1280, "height": 1000})
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    page.get_by_role("button", name="Record wave").wait_for(timeout=2 * WAIT_MS)
    yield page
    context.close()
    assert not problems


def brightness(path: Path) -> np.ndarray:
    """Of every frame of a video, 0 to 255."""
    return read_frames(path, range(probe(path).frames)).float().mean(dim=(1, 2, 3)).numpy()


def test_the_page_says_what_its_notebook_says(page):
    assert page.locator("h1").inner_text() == "My <own> page" and page.title() == "varec: My <own> page"
    assert page.get_by_text("Record.", exact=True).is_visible() and page.locator("footer").inner_text() == "Kept here."


def test_what_records_is_served_to_this_computer_alone(capsys):
    assert cli.main(["app", "--notebook", str(NOTEBOOKS / "07_your_own_actions.ipynb"), "--ip", "0.0.0.0"]) == 2
    assert "this one alone" in capsys.readouterr().err


def test_three_seconds_of_the_camera_arrive_under_their_label(page, folder):
    page.get_by_role("button", name="Record wave").click()
    page.get_by_text("1 in this session, 1 in all").wait_for(timeout=WAIT_MS)
    clip = folder / "videos" / "wave" / "anna_001.webm"
    info = probe(clip)
    assert 2.5 < info.times[-1] < 4 and info.frames > 20
    shown = brightness(clip)
    assert ((shown < 70) | (shown > 190)).mean() > 0.9  # what the film shows
    video = page.locator('[data-clip="wave/anna_001.webm"] video')
    video.wait_for()
    page.wait_for_function("v => v.readyState >= 2 && v.videoWidth > 0", arg=video.element_handle())
    assert page.get_by_text("Two labels at least").is_visible()


def test_labels_sessions_files_and_deleting(page, folder, write_video, tmp_path):
    page.get_by_label("New label").fill("stand up")
    page.get_by_label("New label").press("Enter")
    page.get_by_role("button", name="Record stand up").wait_for()
    page.get_by_label("Session").fill("ben")
    page.get_by_role("button", name="Begin").click()
    page.get_by_text("0 in this session, 1 in all").wait_for()
    files = [write_video(tmp_path / "a.webm", 12, fourcc="VP80"), write_video(tmp_path / "b.mp4", 12)]
    page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('input'),"
        " {type: 'file', multiple: true, id: 'own'}))"
    )
    page.set_input_files("#own", [str(file) for file in files])
    page.evaluate(
        """() => {
          const input = document.getElementById("own"), dataTransfer = new DataTransfer();
          for (const file of input.files) dataTransfer.items.add(file);
          input.remove();
          for (const type of ["dragenter", "dragover", "drop"])
            document.querySelector('[data-label="stand up"]').dispatchEvent(
              new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
        }"""
    )
    page.get_by_text("2 in this session, 2 in all").wait_for(timeout=WAIT_MS)
    table = Recordings(folder).table()
    assert set(table["path"]) == {"wave/anna_001.webm", "stand up/ben_001.webm", "stand up/ben_002.mp4"}
    page.get_by_role("button", name="Delete: stand up/ben_002.mp4").click()
    page.get_by_text("1 in this session, 1 in all").wait_for()
    assert not (folder / "videos" / "stand up" / "ben_002.mp4").exists()
    page.get_by_label("Session").fill("../etc")
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("alert").filter(has_text="will not do").wait_for()


def test_the_label_follows_the_film_within_a_second(page):
    """What the camera shows is looked at in the browser, too; clips are a second long."""
    page.get_by_role("button", name="Start").click()
    page.evaluate(
        """() => {
          const video = document.querySelectorAll(".vp-live")[1], label = document.querySelector(".lp-label");
          const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
          window.noted = { shown: [], said: [] };
          const note = (list, name) => list.at(-1)?.[1] === name || list.push([performance.now() / 1000, name]);
          setInterval(() => {
            canvas.drawImage(video, 0, 0, 8, 8, 0, 0, 1, 1); // a corner
            note(window.noted.shown, canvas.getImageData(0, 0, 1, 1).data[0] > 128 ? "bright day" : "dark night");
            if (label.textContent !== "…") note(window.noted.said, label.textContent);
          }, 20);
        }"""
    )
    page.wait_for_function("() => window.noted.said.length >= 6", timeout=WAIT_MS)
    noted = page.evaluate("window.noted")
    for at, name in noted["said"][1:]:  # the first one is not a change
        assert any(0 <= at - changed < 1 for changed, shown in noted["shown"] if shown == name), noted
    status = page.get_by_text("answers a second").inner_text()
    assert re.fullmatch(r"\d+ answers a second, \d+ ms behind the camera", status)
    assert page.locator(".lp-bars li").all_inner_texts()[0].startswith("bright day")


def test_below_the_threshold_it_says_nothing_and_it_can_be_stopped(page):
    page.locator(".vp-field input[type=range]").evaluate(
        "slider => { slider.value = 100; slider.dispatchEvent(new Event('input')); }"
    )
    page.get_by_text("Says nothing below 100 %").wait_for()
    page.wait_for_function("() => document.querySelector('.lp-label').textContent === '…'", timeout=WAIT_MS)
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("document.querySelectorAll('.vp-live')[1].srcObject") is None
    time.sleep(0.5)
    before = page.evaluate("document.querySelector('.varec[data-delay]').dataset.delay")
    time.sleep(0.5)
    assert page.evaluate("document.querySelector('.varec[data-delay]').dataset.delay") == before


def test_nothing_of_it_is_hard_to_reach(page):
    """axe-core finds nothing serious on the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, context=".varec").response["violations"]
    serious = [item["id"] for item in found if item["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(found)[:2000]
