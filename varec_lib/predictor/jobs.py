"""Videos that wait for an answer, and the thread that gives it: one after the other, each in its own sandbox."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from traitlets.log import get_logger

from varec_lib.errors import VarecError, VideoError
from varec_lib.evaluation.metrics import wilson_interval
from varec_lib.predictor.along import Prediction
from varec_lib.predictor.choices import Choice
from varec_lib.predictor.job import Job
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.sandbox import Cancelled, GuardedVideo, Limits, preview
from varec_lib.predictor.upload import Upload

ENDED = ("done", "failed", "cancelled")  # states of videos that have their answer
STEP_S = 1.0  # from one window to the next, at least: short ones side by side would take longer than they tell
MOST_WINDOWS = 30  # of a video: longer ones have theirs further apart
KEPT_JOBS, KEPT_PICTURES = 100, 20  # answers that are remembered, and those whose pictures are: about 2 MB each
STALLED_S = 60.0  # without a piece of a video that is on its way
MOST_WAITING = 8  # videos that are not answered yet
FAILED_INSIDE = "something went wrong inside the predictor; the server's log says what."
TOO_MANY = "too many videos are waiting already; send it again later."
# A file with its folders, whose names may have spaces; neither an address nor "a/b".
PATH = re.compile(r"(?<![\w.:/])(?:~|\.{0,2})/(?:[^\s/:]+(?: [^\s/:(),]*[^\s/:(),.])*/)*([^\s/:]+)")


class Jobs:
    """All videos of one page. `changed` is called when a row changes, `progress` with a job and the share done."""

    def __init__(self, limits: Limits, changed: Callable[[], None], progress: Callable[[Job, float], None]) -> None:
        self.limits, self.changed, self.progress = limits, changed, progress
        self.all: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()
        self.working = False
        self.lock = threading.Lock()

    def begin(self, key: str, name: str, size: int) -> None:
        """A video that will arrive in pieces. One that cannot be taken gets a sentence at once."""
        self._give_up_stalled()
        job = self._listed(Job(key, name, "uploading"))
        try:
            if self._full():
                raise VideoError(TOO_MANY)
            job.upload = Upload(size, self.limits)
        except VideoError as error:
            self._end(job, "failed", str(error))
        self.changed()

    def _give_up_stalled(self) -> None:
        """Uploads whose page has gone: reloaded, or closed while the kernel lives on."""
        for job in list(self.all.values()):
            upload = job.upload
            if job.state == "uploading" and upload and time.monotonic() - upload.latest > STALLED_S:
                self._end(job, "failed", "it stopped coming midway; send it again.")

    def piece(self, key: str, offset: int, data: memoryview) -> int | None:
        """The next piece of it; returns the bytes that are here, None where it is not wanted any more."""
        job = self.all.get(key)
        if not job or not job.upload or job.state != "uploading":
            return None
        try:
            return job.upload.add(offset, data)
        except VideoError as error:
            self._end(job, "failed", str(error))
            self.changed()
            return None

    def fail(self, key: str, sentence: str) -> None:
        """Ends an upload with a sentence."""
        job = self.all.get(key)
        if job and job.state == "uploading":
            self._end(job, "failed", sentence)
            self.changed()

    def uploaded(self, key: str, choice: Choice, *, wants_preview: bool) -> None:
        """All pieces were sent: it waits for its answer now."""
        job = self.all.get(key)
        if not job or not job.upload or job.state != "uploading":
            return
        try:
            job.upload.complete()
        except VideoError as error:
            self._end(job, "failed", str(error))
            self.changed()
            return
        job.choice, job.wants_preview, job.file = choice, wants_preview, job.upload.file
        self._enqueue(job)

    def add(self, key: str, name: str, file: BinaryIO, choice: Choice) -> Job:
        """A file that is here already, and open; it is closed when it was answered."""
        job = self._listed(Job(key, name, "waiting", choice=choice, wants_preview=True))
        if self._full():
            file.close()
            self._end(job, "failed", TOO_MANY)
            self.changed()
            return job
        job.file = file
        self._enqueue(job)
        return job

    def refuse(self, key: str, name: str, sentence: str) -> None:
        """A video that there is no file for."""
        self._end(self._listed(Job(key, name, "waiting")), "failed", sentence)
        self.changed()

    def cancel(self, key: str) -> None:
        """Ends a job that has not ended yet; one that is being answered ends soon after."""
        job = self.all.get(key)
        if not job:
            return
        job.cancelled.set()
        with self.lock:
            if job.state in ("uploading", "waiting", "loading"):  # a model goes on loading, for the next
                if job in self.waiting:
                    self.waiting.remove(job)
                self._end(job, "cancelled")
        self.changed()

    def clear(self) -> None:
        """Forgets all videos; those on their way are cancelled."""
        for key in list(self.all):
            self.cancel(key)
            self.all.pop(key, None)
        self.changed()

    def _full(self) -> bool:
        return sum(bool(job.upload or job.file) for job in list(self.all.values())) >= MOST_WAITING

    def _listed(self, job: Job) -> Job:
        if job.key in self.all:
            raise VideoError("it is here already.")
        self.all[job.key] = job
        ended = [other for other in self.all.values() if other.ended.is_set()]
        for old in ended[: max(len(self.all) - KEPT_JOBS, 0)]:
            del self.all[old.key]
        for old in ended[:-KEPT_PICTURES]:
            old.pictures, old.preview = [], b""
        return job

    def _enqueue(self, job: Job) -> None:
        with self.lock:
            job.state = "waiting"
            self.waiting.append(job)
            start, self.working = not self.working, True
        if start:
            threading.Thread(target=self._work, name="predictor", daemon=True).start()
        self.changed()

    def _work(self) -> None:
        while True:
            with self.lock:
                if not self.waiting:
                    self.working = False
                    return
                job = self.waiting.popleft()
                job.state = "loading"
            self._tell(self.changed)
            self._answer(job)
            self._tell(self.changed)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        """Tells the page from the thread, which must not end when that fails."""
        try:
            what(*arguments)
        except Exception:
            get_logger().exception("The page could not be told.")

    def _answer(self, job: Job) -> None:
        try:
            predictor = job.choice.load()
            with self.lock:
                if job.cancelled.is_set():
                    return
                job.state = "predicting"
            self._tell(self.changed)
            self._predict(job, predictor)
            if job.wants_preview:
                job.state = "done"  # the answer does not wait for it
                self._tell(self.changed)
                job.preview = self._preview(job.file)
            self._end(job, "done", job.sentence)
        except Cancelled:
            self._end(job, "cancelled")
        except VarecError as error:
            self._end(job, "failed", str(error))
        except Exception:  # whatever it is, the page lives on and the next video gets its answer
            get_logger().exception("A prediction failed.")  # in a kernel: the server's log, never the page
            self._end(job, "failed", FAILED_INSIDE)

    def _preview(self, file: BinaryIO) -> bytes:
        try:
            return preview(file, self.limits)
        except Exception:  # no room, no ffmpeg, ...: an answer is worth more than its preview
            get_logger().exception("A preview could not be made.")
            return b""

    def _predict(self, job: Job, predictor: Predictor) -> None:
        clips, start = predictor.model.clip_spec, time.perf_counter()
        with GuardedVideo(
            job.file, short_side=clips.short_side, rate=clips.fps, limits=self.limits, cancelled=job.cancelled
        ) as video:
            along = predictor.along(video.fps, hop=0.5, apart_s=STEP_S, seen=job.see)
            expected = video.frames * min(along.rate / video.fps, 1) if video.fps else video.frames
            along.spread(round(expected), MOST_WINDOWS)
            told = start
            for count, frame in enumerate(video, start=1):
                # Whole pictures can be large: those of a model that wants them whole are made small as they come.
                along.add(frame if clips.short_side else _cropped(frame, predictor), video.reached_s)
                if time.perf_counter() - told > 0.25:
                    told = time.perf_counter()
                    if expected:
                        self._tell(self.progress, job, min(count / expected, 1.0))
            top, segments = along.finish()
        job.seconds, job.pictures = time.perf_counter() - start, along.shown
        metrics = predictor.model.checkpoint.metrics
        sure_above, right, videos = (metrics.get(name) for name in ("sure_above", "sure_right", "sure_videos"))
        job.sure_above = sure_above if isinstance(sure_above, int | float) else None
        if isinstance(right, int) and isinstance(videos, int) and 0 < videos >= right >= 0:
            low, high = wilson_interval(right, videos)
            job.sure_rests_on = {"right": right, "videos": videos, "low": float(low), "high": float(high)}
        job.sentence = _left_out(video, segments[-1].end_s)
        job.prediction = Prediction(Path(job.name), top, segments)

    def _end(self, job: Job, state: str, sentence: str = "") -> None:
        """The page gets a sentence without the folders of this computer. What has ended stays as it is."""
        if job.ended.is_set():
            return
        job.release()
        if state != "done":
            job.prediction, job.pictures = None, []
        job.state, job.sentence = state, PATH.sub(r"\1", sentence)
        job.ended.set()


def _left_out(video: GuardedVideo, seconds: float) -> str:
    """What is to be known of an answer that covers the first `seconds`; empty where that is all."""
    if video.cut:
        return f"Only its first {seconds:.0f} seconds were looked at."
    tolerated_s = max(1.0, 0.1 * video.promised_s)  # headers are not exact, and the last frame may have been left out
    if 0 < video.reached_s < video.promised_s - tolerated_s:
        reached, promised = f"{video.reached_s:.1f}", f"{video.promised_s:.1f}"
        return f"Its pictures end after {reached} of the {promised} seconds that it should have; it may be cut short."
    return ""


def _cropped(frame: np.ndarray, predictor: Predictor) -> np.ndarray:
    clip = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
    return predictor.model.clip_spec.crop(clip).permute(1, 2, 0).numpy()
