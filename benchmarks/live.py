"""How many live answers a second, and how far behind the camera: in a real browser whose camera plays a film.

    python benchmarks/live.py experiments/cnnlstm_<date> film.mp4 [--seconds 60]

Needs Playwright and a Chromium (`make chromium`). Prints JSON: medians over the time, and the memory of the page's
process at the beginning and at the end.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import nbformat
import psutil
from playwright.sync_api import sync_playwright

from varec_lib.data.video import open_video

CAMERA_FPS = 30  # of Chromium's fake camera
CELL = "from varec_lib.predictor.page.live import LivePredictor\nLivePredictor({checkpoint!r}, threshold=0)"


def camera_film(videos: list[Path], film: Path) -> None:
    """Writes videos one after the other, at their own speed, as the JPEGs that Chromium's fake camera plays."""
    with film.open("wb") as stream:
        for path in videos:
            with open_video(path) as video:
                for frame in video.thinned(CAMERA_FPS / 2):
                    picture = cv2.cvtColor(cv2.resize(frame.picture(), (640, 480)), cv2.COLOR_RGB2BGR)
                    stream.write(2 * cv2.imencode(".jpg", picture)[1].tobytes())


def page_of(code: str, folder: Path) -> tuple[subprocess.Popen, str]:
    """A running `varec app` that shows what this code makes, and its address."""
    cell = nbformat.v4.new_code_cell(code, metadata={"tags": ["app"]})
    parameters = nbformat.v4.new_code_cell("data_dir = ''", metadata={"tags": ["parameters", "app"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, cell])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "live.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "varec_lib.cli", "app", "--no-open", "--port", str(port)]
    server = subprocess.Popen([*command, "--notebook", str(folder / "live.ipynb")], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    while server.poll() is None:
        try:
            urllib.request.urlopen(url + "voila/static/none", timeout=2)
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.2)
    return server, url


def memory_mb(server: subprocess.Popen) -> float:
    """Of the process behind the page: of the server's children the newest that has computed for a second."""
    children = psutil.Process(server.pid).children(recursive=True)
    at_work = [child for child in children if sum(child.cpu_times()[:2]) > 1]
    return max(at_work, key=lambda child: child.create_time()).memory_info().rss / 1e6


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        film = Path(folder) / "film.mjpeg"
        camera_film([options.video], film)
        server, url = page_of(CELL.format(checkpoint=str(options.checkpoint.resolve())), Path(folder))
        try:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=[
                    "--no-sandbox", "--disable-quic", "--disable-background-networking",
                    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                    f"--use-file-for-fake-video-capture={film}",
                ],
            )  # fmt: skip
            page = browser.new_page()
            page.goto(url)
            page.get_by_role("button", name="Start").click(timeout=120_000)
            page.wait_for_selector(".varec[data-rate]", timeout=120_000)
            time.sleep(5)  # answers are counted over three seconds
            rates, delays, before = [], [], memory_mb(server)
            ends = time.monotonic() + options.seconds
            while time.monotonic() < ends:
                data = page.locator(".varec").evaluate("element => ({...element.dataset})")
                rates.append(float(data["rate"]))
                delays.append(float(data["delay"]))
                time.sleep(0.5)
            found = {
                "answers a second": statistics.median(rates), "least": min(rates),
                "ms behind the camera": statistics.median(delays), "most": max(delays),
                "memory MB": [round(before), round(memory_mb(server))],
            }  # fmt: skip
            print(json.dumps(found))
        finally:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    main()
