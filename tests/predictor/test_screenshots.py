"""Pictures of the page in its main states: into figures/ with `make screenshots`, else to be forgotten."""

import os
import re
from pathlib import Path

import cv2
import pytest

from varec_lib.config import PROJECT_ROOT
from varec_lib.data.manifest import load_manifest
from varec_lib.data.video import probe, read_frames
from varec_lib.training.experiment import latest_experiment

pytestmark = pytest.mark.slow
FILMS = {
    "walk.webm": ("walk", "walk", "walk", "jump"),
    "film.webm": ("sit_down", "walk", "jump", "pick_up", "run", "punch", "stand_up", "put_down"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the pictures go."""
    wanted = os.environ.get("VAREC_SCREENSHOTS")
    return Path(wanted).resolve() if wanted else tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def url(serve_app, app_url, tiny_experiments):
    """A page with the newest model of the course for figures/, with the tiny one else."""
    if not os.environ.get("VAREC_SCREENSHOTS"):
        return app_url
    assert latest_experiment(PROJECT_ROOT / "experiments", model="cnnlstm"), "train a model first: varec course 02"
    return serve_app(PROJECT_ROOT / "experiments", PROJECT_ROOT / "data" / "stick_actions")


@pytest.fixture(scope="module")
def films(tiny_stick_actions, tmp_path_factory) -> list[Path]:
    """Actions one after the other, each played twice: one that is mostly walking, and one of each."""
    folder = tmp_path_factory.mktemp("film")
    course = PROJECT_ROOT / "data" / "stick_actions"  # which the model of the figures was trained on
    dataset = course if os.environ.get("VAREC_SCREENSHOTS") else tiny_stick_actions
    table = load_manifest(dataset).query("split == 'test'").drop_duplicates("label").set_index("label")
    for name, labels in FILMS.items():
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter_fourcc(*"VP80"), 15, (128, 128))
        for label in labels:
            frames = read_frames(table.loc[label, "path"], range(probe(table.loc[label, "path"]).frames))
            for frame in frames.repeat(2, 1, 1, 1).permute(0, 2, 3, 1).numpy():
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
    return [folder / name for name in FILMS]


def test_the_page_in_its_main_states(opened, browser, url, films, folder, tmp_path):
    desk = opened(browser, "app", url)
    page = desk.page

    def shot(name: str) -> None:
        page.mouse.move(0, 0)
        page.evaluate("() => document.activeElement.blur()")
        page.wait_for_timeout(700)  # for pictures that still load
        path = folder / f"06_{name}.png"
        page.screenshot(path=path, full_page=True, animations="disabled")
        assert path.stat().st_size > 10_000

    shot("start")
    desk.choose(films[0])
    desk.answer("walk.webm")
    page.locator(".vp-frames img").nth(3).wait_for()
    state = desk.plays()
    assert state["width"] == 128
    page.locator(".vp-slot-video video").evaluate("video => { video.pause(); video.currentTime = 1; }")
    shot("predictor")
    desk.choose(films[1])
    assert re.search("Not sure|Unlike its training", desk.answer("film.webm"))  # eight actions, with a cut after each
    page.locator(".vp-frames img").nth(3).wait_for()
    shot("not_sure")

    (tmp_path / "holiday.mp4").write_text("This is no video.\n" * 100)
    desk.choose(tmp_path / "holiday.mp4")
    desk.answer("holiday.mp4")
    shot("error")

    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Record 3 seconds").wait_for()
    shot("camera")
    page.get_by_role("button", name="Record 3 seconds").click()
    desk.answer("camera.webm")
    page.locator(".vp-frames img").nth(3).wait_for()
    page.emulate_media(color_scheme="dark")
    shot("dark")

    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Clear all").click()
    desk.choose(films[0])
    desk.answer("walk.webm")
    desk.plays()
    shot("phone")
    page.context.close()
