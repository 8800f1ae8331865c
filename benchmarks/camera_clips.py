"""Chapter 7 with clips that a camera has recorded: a real browser, whose camera plays other people's videos.

    python benchmarks/camera_clips.py [--data data/stick_actions] [--people 5] [--takes 2] [--actions punch jump]

For each person and action a browser is started whose camera shows that person's videos, and *Record* is pressed for
each take; then chapter 7 runs on what has arrived. Prints its headline, and whether the training took less than a
minute. Needs Playwright and a Chromium (`make chromium`).
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import papermill
from live import camera_film, page_of
from playwright.sync_api import Playwright, sync_playwright

from varec_lib.course import NOTEBOOKS
from varec_lib.data.manifest import load_manifest
from varec_lib.data.recordings import Recordings

CELL = "from varec_lib.predictor.page.recorder import Recorder\nRecorder({folder!r}, {actions!r})"


def record(driver: Playwright, url: str, film: Path, folder: Path, takes: int) -> None:
    """Presses *Record* so many times in front of a film; the clips arrive at `folder/<label>/<session>_...`."""
    label, session = folder.parts[-1], film.stem
    browser = driver.chromium.launch(
        executable_path=shutil.which("chromium"),
        args=[
            "--no-sandbox", "--disable-quic", "--disable-background-networking", "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={film}",
        ],
    )  # fmt: skip
    page = browser.new_page()
    page.goto(url)
    page.get_by_label("Session").fill(session, timeout=120_000)
    page.get_by_role("button", name="Begin").click()
    for take in range(1, takes + 1):
        page.get_by_role("button", name=f"Record {label.replace('_', ' ')}").click()
        while len(list(folder.glob(f"{session}_*.webm"))) < take:
            page.wait_for_timeout(200)
    browser.close()


def main() -> None:
    """Records, runs the chapter, and prints its headline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/stick_actions"))
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--takes", type=int, default=2)
    parser.add_argument("--actions", nargs="+", default=["punch", "jump", "sit_down"])
    options = parser.parse_args()
    table = load_manifest(options.data)
    with tempfile.TemporaryDirectory() as name:
        work, mine = Path(name), Path(name) / "mine"
        server, url = page_of(CELL.format(folder=str(mine), actions=options.actions), work)
        try:
            with sync_playwright() as driver:
                for person in sorted(table["group"].unique())[: options.people]:
                    for action in options.actions:
                        rows = table[(table["group"] == person) & (table["label"] == action)]
                        camera_film(rows["path"].tolist()[: options.takes], work / f"{person}.mjpeg")
                        record(driver, url, work / f"{person}.mjpeg", mine / "videos" / action, options.takes)
        finally:
            server.terminate()
            server.wait(timeout=30)
        print(Recordings(mine).counts().to_string())
        values = {key: str(work / key) for key in ("experiments_dir", "store_dir", "figures_dir")}
        values |= {"recordings_dir": str(mine), "data_dir": str(options.data.resolve()), "actions": options.actions}
        chapter = NOTEBOOKS / "07_your_own_actions.ipynb"
        executed = papermill.execute_notebook(chapter, work / "07.ipynb", values, cwd=work, progress_bar=False)
        for cell in executed.cells:
            said = "".join(output.get("text", "") for output in cell.get("outputs", []))
            if "headline" in cell.metadata.get("tags", []) or "under a minute" in said:
                print(said.strip())


if __name__ == "__main__":
    main()
