"""The predictor in a real browser, in JupyterLab and as the web page: the same tests for both."""

import csv
import io
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

pytestmark = pytest.mark.slow
WAIT_MS = 60_000
PATHS = re.compile(r"(?<![\w.:/])/(home|root|tmp|usr|work|var)/")


@pytest.fixture(scope="module", params=["app", "lab"])
def desk(request, opened, browser) -> Iterator:
    """The page in both places, one for all tests: it has to live on after each."""
    desk = opened(browser, request.param, request.getfixturevalue(f"{request.param}_url"))
    problems = []
    desk.page.on("pageerror", lambda error: problems.append(str(error)))
    yield desk
    desk.page.context.close()
    assert not problems


@pytest.fixture(scope="module")
def films(tmp_path_factory, write_video, ffmpeg) -> dict[str, Path]:
    """Videos to drop: one of 30 MB, XviD, 0.2 seconds, twelve seconds; and files that are none."""
    folder = tmp_path_factory.mktemp("films")
    noise = np.random.default_rng(0)
    large = folder / "large.avi"
    writer = cv2.VideoWriter(str(large), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 25, (640, 480))
    while not large.exists() or large.stat().st_size < 30e6:
        writer.write(noise.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    writer.release()
    found = {"large": large}
    source = write_video(folder / "source.mkv", 100, size=(96, 128), fps=25)
    ffmpeg("-i", source, "-c:v", "mpeg4", "-vtag", "XVID", folder / "xvid.avi")
    found["xvid"] = folder / "xvid.avi"
    found["short"] = write_video(folder / "short.mp4", 5, fps=25)
    found["long"] = write_video(folder / "long.mp4", 180, fps=15)
    for name in ("first.mp4", "second.mp4", "keyboard.mp4", "phone.mp4", "again.mp4", "dark.mp4"):
        found[name.removesuffix(".mp4")] = write_video(folder / name, 30)
    found["text"] = folder / "text.mp4"
    found["text"].write_text("This is no video.\n" * 100)
    found["empty"] = folder / "empty.mp4"
    found["empty"].touch()
    return found


def newest_fork() -> psutil.Process:
    """The process behind the page of `varec app` that was opened last."""
    forks = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                forks += process.children()
    return max(forks, key=lambda process: process.create_time())


def test_a_dropped_video_of_30_mb_arrives_whole(desk, films):
    assert films["large"].stat().st_size >= 30e6
    shares = []
    desk.page.expose_function(f"noted_{desk.host}", lambda text: shares.append(text))
    desk.page.evaluate(
        """(name) => {
          const look = () => {
            const text = document.querySelector(".vp-result .vp-progress .vp-soft")?.textContent ?? "";
            if (text.startsWith("Sending ")) window[name](text);
          };
          new MutationObserver(look).observe(document.querySelector(".vp-result"), { childList: true, subtree: true });
        }""",
        f"noted_{desk.host}",
    )
    desk.drop(films["large"])
    assert "%" in desk.answer("large.avi")
    numbers = [int(re.search(r"\d+", text)[0]) for text in shares]
    assert numbers == sorted(numbers) and len(set(numbers)) > 3  # a bar that moves, and never back


def test_a_piece_that_is_lost_or_overtaken_on_its_way_is_sent_again(desk, films):
    desk.page.evaluate(
        """() => {
          const send = WebSocket.prototype.send;
          const wire = (window.wire = { pieces: 0, lost: 0, late: 0, mend: () => (WebSocket.prototype.send = send) });
          WebSocket.prototype.send = function (data) {
            if ((data.byteLength ?? 0) < 400_000) return send.call(this, data);
            wire.pieces += 1;
            if (wire.pieces === 5) wire.lost += 1;
            else if (wire.pieces === 20) setTimeout(() => send.call(this, data), 200, (wire.late += 1));
            else send.call(this, data);
          };
        }"""
    )
    desk.drop(films["large"])
    assert "%" in desk.answer("large.avi")
    assert desk.page.evaluate("(wire.mend(), [wire.lost, wire.late])") == [1, 1]


def test_a_video_that_browsers_cannot_play_gets_a_preview_that_they_can(desk, films):
    desk.choose(films["xvid"])
    text = desk.answer("xvid.avi")
    assert re.search(r"\d+ %", text) and "Answered in" in text
    state = desk.plays()
    assert state["src"].startswith("blob:") and state["width"] == 128
    shape = desk.page.locator(".vp-slot-video video").evaluate("video => video.clientWidth / video.clientHeight")
    assert shape == pytest.approx(128 / 96, rel=0.02)  # its own, without bars
    desk.page.locator(".vp-frames img").nth(3).wait_for()
    assert desk.page.locator(".vp-frames img").count() == 4
    assert desk.page.locator(".vp-bars li").count() == 5


def test_sending_can_be_cancelled_midway(desk, films):
    desk.drop(films["large"])
    desk.page.locator(".vp-result").get_by_role("button", name="Cancel large.avi").click()
    assert "Cancelled." in desk.answer("large.avi")
    assert desk.page.evaluate("document.activeElement.textContent") == "large.avi"  # the focus stays nearby
    desk.choose(films["short"])  # and the page lives on
    assert "%" in desk.answer("short.mp4")
    desk.drop(films["short"], films["large"], then_click='tbody [aria-label="Cancel large.avi"]')
    assert "%" in desk.answer("short.mp4")  # not what is not wanted any more


@pytest.mark.parametrize(
    ("film", "sentence"), [("text", "not a video that can be decoded"), ("empty", "the file is empty")]
)
def test_what_is_no_video_gets_a_sentence(desk, films, film, sentence):
    desk.choose(films[film])
    text = desk.answer(f"{film}.mp4")
    assert sentence in text
    assert "Traceback" not in text and not PATHS.search(text)
    desk.choose(films["long"])  # and it is looked at while another gets its answer
    rows = desk.page.locator("tbody tr")
    rows.filter(has_text=f"{film}.mp4").last.get_by_role("button").click()
    assert sentence in desk.answer(f"{film}.mp4")
    rows.last.locator("td").nth(1).get_by_text("%").wait_for(timeout=WAIT_MS)


def test_a_video_of_a_fifth_of_a_second(desk, films):
    desk.choose(films["short"])
    assert "%" in desk.answer("short.mp4")
    assert desk.plays()["src"].startswith("blob:")


def test_a_longer_video_has_a_timeline(desk, films):
    desk.choose(films["long"])
    assert "Along the video" in desk.answer("long.mp4") or desk.page.get_by_text("Along the video").wait_for() is None
    windows = desk.page.locator(".vp-track button")
    assert windows.count() == 5  # 12 seconds in windows of 4 that share half
    assert windows.nth(1).get_attribute("aria-label").startswith("2.0 s to 6.0 s: ")
    windows.nth(2).click()
    assert windows.nth(2).get_attribute("aria-pressed") == "true"
    desk.page.get_by_text("saw, 4.0 s to 8.0 s").wait_for()
    desk.page.get_by_role("button", name="show the whole video").click()
    desk.page.get_by_text("saw, 0.0 s to 4.0 s").wait_for()


def test_the_answer_that_is_shown_can_be_chosen_again(desk, films):
    desk.drop(films["long"], films["short"])
    desk.answer("short.mp4")
    again = desk.page.locator("tbody tr").filter(has_text="long.mp4").last.get_by_role("button")
    for _ in range(2):
        again.click()
        desk.answer("long.mp4")
    desk.page.locator(".vp-track button").nth(2).click()
    desk.page.get_by_text("saw, 4.0 s to 8.0 s").wait_for()


def test_two_files_at_once_make_a_table_to_download(desk, films):
    desk.drop(films["first"], films["second"])
    desk.answer("second.mp4")
    rows = desk.page.locator("tbody tr")
    assert [text for text in rows.locator("th").all_inner_texts() if text in ("first.mp4", "second.mp4")] == [
        "first.mp4", "second.mp4",
    ]  # fmt: skip
    with desk.page.expect_download() as download:
        desk.page.get_by_role("button", name="Download as CSV").click()
    assert download.value.suggested_filename == "predictions.csv"
    table = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    mine = [row for row in table if row["video"] in ("first.mp4", "second.mp4")]
    assert len(mine) == 2 and all(row["top1"] and 0 < float(row["p1"]) <= 1 for row in mine)
    rows.filter(has_text="first.mp4").get_by_role("button").click()  # and each can be looked at again
    desk.answer("first.mp4")


def test_samples_and_files_on_the_server(desk, tiny_stick_actions):
    desk.page.locator(".vp-samples button").first.click()
    label = desk.page.locator(".vp-samples button").first.inner_text()
    assert "%" in desk.answer(label.replace(" ", "_"))
    desk.plays()
    path = next(iter(sorted((tiny_stick_actions / "videos").rglob("*.webm")))).relative_to(tiny_stick_actions)
    field = desk.page.get_by_label("Or a file on the server")
    field.fill(str(path))
    field.press("Enter")
    assert "%" in desk.answer(path.name)
    field.fill("../../etc/passwd")
    field.press("Enter")
    assert "there is no such video" in desk.answer("passwd")


def test_three_seconds_from_the_camera(desk):
    desk.page.get_by_role("button", name="Use the camera").click()
    desk.page.get_by_role("button", name="Record 3 seconds").click(timeout=WAIT_MS)
    assert "%" in desk.answer("camera.webm")
    assert desk.plays()["width"] == 640
    assert desk.page.locator(".vp-camera").is_hidden()
    desk.page.get_by_role("button", name="Use the camera").click()
    desk.page.get_by_role("button", name="Close camera").click()
    assert desk.page.evaluate("document.activeElement.textContent") == "Use the camera"  # the focus stays nearby


def test_a_camera_that_is_asked_for_twice_is_switched_off_twice_and_may_get_lost(desk):
    desk.page.evaluate(
        """() => {
          const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
          window.tracks = [];
          devices.getUserMedia = async (wanted) => {
            const stream = await ask(wanted);
            window.tracks.push(...stream.getTracks());
            return stream;
          };
          const button = [...document.querySelectorAll("button")].find((b) => b.textContent === "Use the camera");
          button.click();
          button.click();
        }"""
    )
    desk.page.wait_for_function("window.tracks.length === 2")
    desk.page.wait_for_function("window.tracks.filter((track) => track.readyState === 'live').length === 1")
    desk.page.locator(".vp-camera").wait_for()
    desk.page.evaluate("window.tracks.forEach((track) => track.dispatchEvent(new Event('ended')))")
    desk.page.get_by_text("The camera has gone").wait_for()
    assert desk.page.locator(".vp-camera").is_hidden()
    assert desk.page.evaluate("window.tracks.every((track) => track.readyState === 'ended')")


def test_another_model_can_be_chosen(desk, films):
    options = desk.page.get_by_label("Model", exact=True).locator("option").all_inner_texts()
    assert options[0].startswith("CNN+LSTM · stick_actions · ")
    assert [option.split(" · ")[0] for option in options[-2:]] == ["I3D", "R3D-18"]
    for number in (1, 0):
        desk.page.get_by_label("Model", exact=True).select_option(index=number)
        desk.choose(films["short"])
        desk.page.locator(".vp-took").get_by_text(f"by {options[number]}").wait_for()
    assert options[1].startswith("Frame average · ")


def test_a_model_has_a_card(desk):
    card = desk.page.locator(".vp-model")
    assert "Trained on" in card.inner_text() and "90 % of 40" in card.inner_text()
    card.get_by_text("The 8 actions it knows").click()
    assert card.locator("li:visible").count() == 8
    card.get_by_label("Search").fill("DOWN")
    assert card.locator("li:visible").all_inner_texts() == ["put down", "sit down"]
    card.get_by_label("Search").fill("swimming")
    card.get_by_text("It does not know such an action.").wait_for()
    card.get_by_label("Search").fill("")
    card.get_by_text("The 8 actions it knows").click()


def test_another_model_is_asked_about_the_answer_that_is_shown(desk, films):
    desk.choose(films["again"])
    desk.answer("again.mp4")
    ask = desk.page.get_by_label("Another model")
    ask.select_option(label=next(text for text in ask.locator("option").all_inner_texts() if "Frame average" in text))
    desk.page.get_by_role("button", name="Ask it").click()
    said = desk.page.locator(".vp-slot-others table")
    said.locator("tr").nth(1).wait_for(timeout=WAIT_MS)
    assert [text.split(" · ")[0] for text in said.locator("th").all_inner_texts()] == ["CNN+LSTM", "Frame average"]
    assert "by Frame average" in desk.page.locator(".vp-took").inner_text()
    said.get_by_role("button").first.click()
    desk.page.locator(".vp-took").get_by_text("by CNN+LSTM").wait_for()
    desk.page.locator(".vp-samples button").first.click()  # and of what lies on the server
    desk.answer(desk.page.locator(".vp-samples button").first.inner_text().replace(" ", "_"))
    desk.page.get_by_role("button", name="Ask it").click(trial=True)


def test_keys_walk_along_the_timeline(desk, films):
    desk.choose(films["long"])
    desk.answer("long.mp4")
    windows = desk.page.locator(".vp-track button")
    windows.nth(4).wait_for()
    widths = windows.evaluate_all("buttons => buttons.map((button) => button.clientWidth)")
    assert max(widths) - min(widths) <= 1  # windows of equal time
    assert windows.evaluate_all("buttons => buttons.map((button) => button.tabIndex)") == [0, -1, -1, -1, -1]
    windows.first.focus()
    for key, chosen in (("ArrowRight", 1), ("End", 4), ("ArrowRight", 4), ("ArrowLeft", 3), ("Home", 0)):
        desk.page.keyboard.press(key)
        assert (
            windows.evaluate_all("buttons => buttons.map((b) => b.getAttribute('aria-pressed'))").index("true")
            == chosen
        )
        assert desk.page.evaluate("() => document.activeElement.getAttribute('aria-pressed')") == "true"
    label = windows.first.get_attribute("aria-label")
    share = desk.page.locator(".vp-verdict .vp-share").inner_text()
    assert label.endswith(f", {share}") and desk.page.locator(".vp-bar-share").first.inner_text() == share
    desk.page.get_by_text("saw, 0.0 s to 4.0 s").wait_for()


def test_an_answer_survives_a_reload(opened, browser, app_url, films):
    desk = opened(browser, "app", app_url)
    desk.choose(films["long"])
    before = desk.answer("long.mp4")
    desk.page.locator(".vp-track").wait_for()
    best = desk.page.locator(".vp-best").inner_text()
    desk.page.reload()
    desk.page.locator(".vp-zone").wait_for(timeout=3 * WAIT_MS)
    after = desk.answer("long.mp4")
    assert best in before and best in after and "Kept in this browser" in after
    assert desk.page.locator(".vp-track button").count() == 5
    desk.page.locator(".vp-track button").nth(2).click()  # it can be walked along, without a kernel that knows it
    assert "4.0 s to 8.0 s" in desk.page.locator(".vp-result").inner_text()
    assert desk.page.locator(".vp-result video").count() == 0
    desk.choose(films["short"])
    assert "%" in desk.answer("short.mp4") and desk.page.locator("tbody tr").count() >= 2
    desk.page.get_by_role("button", name="Clear all").click()
    desk.page.reload()
    desk.page.locator(".vp-zone").wait_for(timeout=3 * WAIT_MS)
    assert "The answer appears here." in desk.page.locator(".vp-result").inner_text()
    desk.page.context.close()


def test_leaving_with_work_under_way_asks(opened, browser, app_url, films):
    desk, asked = opened(browser, "app", app_url), []
    desk.choose(films["short"])
    desk.answer("short.mp4")
    desk.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    kernel = newest_fork()
    kernel.suspend()
    try:
        desk.choose(films["long"])
        desk.page.locator(".vp-result").get_by_text("long.mp4").wait_for()
        desk.page.close(run_before_unload=True)
        deadline = time.monotonic() + 30
        while not asked and time.monotonic() < deadline:
            desk.page.wait_for_timeout(100)
    finally:
        kernel.resume()
    assert asked == ["beforeunload"]
    assert "%" in desk.answer("long.mp4")  # whoever stays gets the answer
    desk.page.context.close()


def test_the_console_of_the_browser_stays_empty(opened, browser, app_url, films):
    context, said = browser.new_context(), []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text) if message.type in ("warning", "error") else None)
    page.goto(app_url)
    page.locator(".vp-zone").wait_for(timeout=3 * WAIT_MS)
    page.wait_for_timeout(500)
    assert said == []
    context.close()


@pytest.mark.parametrize("desk", ["lab"], indirect=True)
def test_jupyterlab_saves_with_the_focus_in_the_widget(desk):
    """Plain keys are the widget's, those with Ctrl JupyterLab's."""
    desk.page.evaluate(
        "() => { window.saved = 0; window.jupyterapp.commands.commandExecuted.connect((_, { id }) =>"
        " { window.saved += id === 'docmanager:save'; }); }"
    )
    for focused in (desk.page.locator(".vp-zone"), desk.page.get_by_label("Or a file on the server")):
        before = desk.page.evaluate("window.saved")
        focused.focus()
        desk.page.keyboard.press("Control+s")
        desk.page.wait_for_function("before => window.saved > before", arg=before)


def test_what_is_typed_is_no_shortcut_of_jupyterlab(desk):
    field = desk.page.get_by_label("Or a file on the server")
    cells = desk.page.locator(".jp-Cell").count()
    field.fill("")
    field.press_sequentially("ddabx")
    assert field.input_value() == "ddabx"
    desk.page.locator(".vp-zone").focus()
    desk.page.keyboard.press("b")  # in a notebook: a new cell below
    desk.page.wait_for_timeout(500)
    assert desk.page.locator(".jp-Cell").count() == cells
    field.fill("")


def test_by_keyboard_alone(desk, films):
    page = desk.page
    page.get_by_label("Model", exact=True).focus()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"  # the actions that it knows
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "vp-zone"
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2  # the focus can be seen
    with page.expect_file_chooser() as dialog:
        page.keyboard.press("Enter")
    dialog.value.set_files([str(films["first"]), str(films["keyboard"])])
    desk.answer("keyboard.mp4")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("() => document.activeElement.textContent.trim() || document.activeElement.tagName")
        )
        if reached[-1] == "Download as CSV":
            break
    for wanted in ("Use the camera", "Look", "VIDEO", "keyboard.mp4", "Download as CSV"):
        assert wanted in reached, reached
    assert "keyboard.mp4: " in page.locator("[role=status].vp-live-region").inner_text()  # and heard


def test_on_a_phone(desk, films):
    page = desk.page
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        if desk.host == "app":
            assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        page.locator(".vp-zone").scroll_into_view_if_needed()
        desk.choose(films["phone"])
        desk.answer("phone.mp4")
        width = page.locator(".varec").evaluate("element => [element.scrollWidth, element.clientWidth]")
        assert width[0] <= width[1]  # nothing sticks out
        if desk.host == "app":
            page.wait_for_function(
                "() => document.querySelector('.vp-verdict').getBoundingClientRect().top < innerHeight"
            )  # the answer is in view
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    channels = np.array([float(number) for number in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def turn_dark(desk, dark: bool) -> None:
    """As the system's setting does for a page, and JupyterLab's theme for a notebook."""
    if desk.host == "app":
        desk.page.emulate_media(color_scheme="dark" if dark else "light")
    else:
        theme = "JupyterLab Dark" if dark else "JupyterLab Light"
        desk.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        desk.page.wait_for_selector(f'body[data-jp-theme-light="{str(not dark).lower()}"]', state="attached")


@pytest.mark.parametrize("dark", [True, False])
def test_dark_and_light(desk, films, dark):
    turn_dark(desk, dark)
    try:
        desk.choose(films["dark"])
        desk.answer("dark.mp4")
        colours = desk.page.locator(".vp-result").evaluate(
            "element => [getComputedStyle(element).backgroundColor, getComputedStyle(element).color]"
        )
        card, ink = map(luminance, colours)
        assert (card < ink) == dark
        assert (max(card, ink) + 0.05) / (min(card, ink) + 0.05) > 7
    finally:
        turn_dark(desk, False)


@pytest.mark.parametrize("dark", [True, False])
def test_accessibility(desk, films, dark):
    """axe-core finds nothing serious, with an answer, a timeline, a table and the camera on the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    turn_dark(desk, dark)
    try:
        desk.choose(films["text"], films["long"])
        desk.answer("long.mp4")
        desk.page.locator(".vp-track").wait_for()
        desk.page.get_by_role("button", name="Use the camera").click()
        desk.page.get_by_role("button", name="Record 3 seconds").wait_for(timeout=WAIT_MS)
        found = axe.run(desk.page, context=None if desk.host == "app" else ".varec").response["violations"]
        desk.page.get_by_role("button", name="Close camera").click()
    finally:
        turn_dark(desk, False)
    serious = [
        f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert not serious


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--use-fake-device-for-media-stream", "--deny-permission-prompts"], "The camera was refused"),
        (["--use-fake-ui-for-media-stream"], "No camera was found"),
    ],
    ids=["refused", "absent"],
)
def test_a_camera_that_cannot_be_used_is_said_plainly(opened, launch, app_url, flags, sentence):
    desk = opened(launch(*flags), "app", app_url)
    desk.page.get_by_role("button", name="Use the camera").click()
    alert = desk.page.get_by_role("alert")
    alert.wait_for()
    assert sentence in alert.inner_text()
    desk.page.context.close()


def test_files_dropped_beside_the_predictor_are_meant_for_it(opened, browser, app_url, films):
    desk = opened(browser, "app", app_url)
    desk.drop(films["short"], onto="h1")
    assert "%" in desk.answer("short.mp4")
    taken = """([name, kind, data]) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(data, kind);
      const event = new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer });
      return !document.querySelector("h1").dispatchEvent(event);
    }"""
    assert not desk.page.evaluate(taken, ["drop", "text/plain", "words"])  # those are the browser's
    assert desk.page.locator("tbody tr").count() == 1
    desk.page.context.close()


def test_a_kernel_that_does_not_answer_is_said(opened, browser, app_url, films):
    """A small file, which is sent as a whole before anybody could have answered; after a minute, also that this is all.

    So nothing waits for answers that were lost: the kernel itself knows whether it has everything.
    """
    desk, sent = opened(browser, "app", app_url), []
    desk.page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    desk.page.clock.install()
    desk.page.reload()
    desk.page.locator(".vp-zone").wait_for(timeout=WAIT_MS)
    kernel = newest_fork()

    def told_all() -> bool:
        return any(b'"do":"end"' in (frame if isinstance(frame, bytes) else frame.encode()) for frame in sent)

    kernel.suspend()
    try:
        desk.choose(films["short"])
        result = desk.page.locator(".vp-result")
        result.get_by_text("Sending").wait_for()
        desk.page.clock.fast_forward("00:21")
        result.get_by_text("The kernel does not answer.").wait_for(timeout=WAIT_MS)
        assert "short.mp4" in result.inner_text()
        desk.page.clock.fast_forward("00:30")
        desk.page.wait_for_timeout(2000)
        assert not told_all()
        desk.page.clock.fast_forward("00:15")
        deadline = time.monotonic() + 60
        while not told_all():
            assert time.monotonic() < deadline
            desk.page.wait_for_timeout(100)
    finally:
        kernel.resume()
    assert "%" in desk.answer("short.mp4")
    desk.page.context.close()


@pytest.mark.parametrize("desk", ["lab"], indirect=True)
def test_a_kernel_that_was_started_again_is_said(desk, films):
    page = desk.page
    desk.choose(films["first"], films["second"])
    desk.answer("second.mp4")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.get_by_text("The kernel of this page has stopped. Run the notebook's cell again.").wait_for()
    desk.choose(films["short"])
    assert "lost the connection" in desk.answer("short.mp4")
    page.locator(".vp-samples button").first.click()
    page.get_by_role("button", name="Clear all").click()
    page.get_by_text("The kernel of this page has stopped.").wait_for()
    desk.run_all()
    page.locator(".vp-alert[hidden]").wait_for(state="attached", timeout=3 * WAIT_MS)  # on the page that is new
    desk.choose(films["short"])
    assert "%" in desk.answer("short.mp4")


def test_four_visitors_at_once_see_only_their_own(opened, browser, app_url, films):
    names = ["first", "second", "long", "short"]
    desks = [opened(browser, "app", app_url) for _ in names]
    for desk, name in zip(desks, names, strict=True):
        desk.choose(films[name])
    for desk, name in zip(desks, names, strict=True):
        assert "%" in desk.answer(f"{name}.mp4")
        assert desk.page.locator("tbody tr").count() == 1
        shown = desk.page.locator("body").text_content()
        assert f"{name}.mp4" in shown
        assert not any(f"{other}.mp4" in shown for other in names if other != name)
    for desk in desks:
        desk.page.context.close()
