"""The page's side of a `VideoPredictor`, without a browser: it sends what the page sends and keeps what it is sent."""

import os
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from varec_lib.config import TrainConfig
from varec_lib.data.preview import Preview
from varec_lib.predictor.page.widget import VideoPredictor
from varec_lib.predictor.sandbox import GuardedVideo, Limits
from varec_lib.training.experiment import Experiment

SANDBOX = re.compile(r"varec_lib\.predictor\.decoder|ffmpeg")
FOLDER = re.compile(r"(?<![\w:/])[~.]*/\w")  # the beginning of a path, but not of an address or of "and/or"


class Page:
    """A widget, and what it sent."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.widget = VideoPredictor(*arguments, **options)
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self.widget._preparing.join(60)
        self.widget.send = lambda content, buffers=None: self.sent.append((content, buffers or []))
        self.numbers = count(1)

    def tell(self, do: Any, buffers: Iterable[bytes] = (), **content: Any) -> None:
        self.widget._receive({"do": do, **content}, [memoryview(data) for data in buffers])

    def upload(
        self,
        content: bytes,
        name: Any = "video.mp4",
        *,
        preview: bool = False,
        piece: int = 512 * 1024,
        end: bool = True,
    ) -> str:
        """Sends a file as the page does it; returns its key."""
        key = f"page-{next(self.numbers)}"
        self.tell("begin", key=key, name=name, size=len(content))
        for offset in range(0, len(content), piece):
            self.tell("piece", [content[offset : offset + piece]], key=key, offset=offset)
        if end:
            self.tell("end", key=key, preview=preview)
        return key

    def row(self, key: str | None = None) -> dict[str, Any]:
        """Of that key, or the last one, as the page sees it."""
        return next(row for row in reversed(self.widget.rows) if key in (None, row["key"]))

    def answered(self, key: str | None = None, *, within_s: float = 60) -> dict[str, Any]:
        """The row of a video when it has its answer."""
        job = self.widget._queue.all[key or self.row()["key"]]
        assert job.ended.wait(within_s), f"{job.name}: no answer within {within_s} seconds, but {job.state}"
        self.settle()
        return self.row(job.key)

    def settle(self) -> None:
        """Until the thread that answers has nothing to do."""
        queue = self.widget._queue
        for job in list(queue.all.values()):
            assert job.state == "uploading" or job.ended.wait(60), job
        while queue.working:
            time.sleep(0.005)

    def said(self, kind: str) -> list[tuple[dict[str, Any], list[bytes]]]:
        """Messages of a kind."""
        return [(content, buffers) for content, buffers in self.sent if content["kind"] == kind]


def preview_of(path: Path, **limits: Any) -> bytes:
    """The preview of a file, from the frames of a sandbox."""
    with path.open("rb") as file, Preview() as preview:
        with GuardedVideo(file, short_side=32, rate=0, limits=Limits(**limits), preview=True) as video:
            for _ in video:
                if video.larger is not None:
                    preview.add(video.larger, video.time_s)
        return preview.finish()


def until_sandboxed(within_s: float = 60) -> None:
    """Until something decodes for this process."""
    deadline = time.monotonic() + within_s
    while not sandboxes():
        assert time.monotonic() < deadline, "nothing is being decoded"
        time.sleep(0.005)


def sandboxes() -> list[psutil.Process]:
    """What decodes for this process right now; it may have other children, such as the browser of other tests."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.status() == psutil.STATUS_ZOMBIE or SANDBOX.search(" ".join(child.cmdline())):
                found.append(child)
    return found


def assert_sentence(text: str) -> None:
    """What a visitor may be shown: a sentence or two, without folders of the server, and no traceback."""
    assert text.endswith((".", "?")), text
    assert "\n" not in text and "Traceback" not in text and not re.search(r"\wError\b", text), text
    assert len(text) < 300 and not FOLDER.search(text), text


def make_experiment(folder: Path, checkpoint: Path, name: str = "tiny", *, age_s: float = 0) -> Path:
    """A finished experiment in `folder` with that model."""
    experiment = Experiment.create(TrainConfig(experiments_dir=folder, experiment_name=name, model="cnnlstm"))
    shutil.copy(checkpoint, experiment.best_checkpoint)
    experiment.write_results({"stopped": "all epochs"})
    for file in (experiment.folder / "results.json", experiment.best_checkpoint):
        when = file.stat().st_mtime - age_s
        os.utime(file, (when, when))
    return experiment.folder
