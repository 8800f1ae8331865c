"""Videos in line for an answer: they arrive in pieces, wait, and are answered one after the other by one thread."""

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from traitlets.log import get_logger

from varec_lib.errors import VarecError, VideoError, WeightsError
from varec_lib.predictor.page.answer import Answer, Progress, answer
from varec_lib.predictor.page.choices import Choice
from varec_lib.predictor.page.upload import Upload
from varec_lib.predictor.sandbox import Cancelled, Limits
from varec_lib.predictor.windows import Prediction

State = Literal["uploading", "waiting", "loading", "predicting", "done", "failed", "cancelled"]  # the page's words, too
ENDED = ("done", "failed", "cancelled")
KEPT_JOBS, KEPT_PICTURES = 100, 20  # answers that are remembered, and those whose pictures are: about 2 MB each
MOST_WAITING = 8  # videos that are not answered yet
FAILED_INSIDE = "something went wrong inside the predictor; the server's log says what."
NO_WEIGHTS = "its weights are not here and could not be fetched; see where the page was started, or `varec weights`."
TOO_MANY = "too many videos are waiting already; send it again later."
# A file with its folders, whose names may have spaces; neither an address nor "a/b".
PATH = re.compile(r"(?<![\w.:/])(?:~|\.{0,2})/(?:[^\s/:]+(?: [^\s/:(),]*[^\s/:(),.])*/)*([^\s/:]+)")


@dataclass(eq=False)
class Job:
    """One question to a model about a video; `video` is the same for all questions about one."""

    key: str
    name: str  # as the page shows it, never a path
    state: State
    video: str = ""
    source: Callable[[], BinaryIO] | None = None  # opens it again, where it lies on the server
    upload: Upload | None = None
    file: BinaryIO | None = None
    choice: Choice | None = None
    wants_preview: bool = False
    sentence: str = ""  # why it failed, or what is to be known of the answer
    answer: Answer | None = None
    preview: bytes = b""
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def prediction(self) -> Prediction | None:
        """The answer under the video's name."""
        return self.answer and replace(self.answer.prediction, path=Path(self.name))

    def row(self) -> dict[str, Any]:
        """What a table shows of it."""
        found = self.answer
        label, share = found.prediction.top[0] if found else ("", 0.0)
        return {
            "key": self.key, "name": self.name, "state": self.state, "sentence": self.sentence,
            "video": self.video or self.key, "again": self.source is not None,
            "model": self.choice.label if self.choice else "", "choice": self.choice.name if self.choice else "",
            "label": label, "share": share, "sure": found and found.sure, "unlike": found and found.prediction.unlike,
            "seconds": found.seconds if found else 0.0, "preview": bool(self.preview),
        }  # fmt: skip


class Queue:
    """All videos of one page. `changed` is called when a row changes, `progress` with the job at work."""

    def __init__(self, limits: Limits, changed: Callable[[], None], progress: Callable[[Job, Progress], None]) -> None:
        self.limits, self.changed, self.progress = limits, changed, progress
        self.all: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()
        self.working = False
        self.lock = threading.Lock()

    def begin(self, key: str, name: str, size: int, video: str = "") -> None:
        """A video that will arrive in pieces. One that cannot be taken gets a sentence at once."""
        job = self._listed(Job(key, name, "uploading", video))
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
            if job.state == "uploading" and job.upload and job.upload.stalled:
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

    def add(self, key: str, name: str, source: Callable[[], BinaryIO], choice: Choice, video: str = "") -> Job:
        """A video that is on the server already; `source` opens it, and it is closed when it was answered."""
        job = self._listed(Job(key, name, "waiting", video, source, choice=choice, wants_preview=True))
        try:
            if self._full():
                raise VideoError(TOO_MANY)
            job.file = source()
        except VideoError as error:
            job.source = None
            self._end(job, "failed", str(error))
            self.changed()
            return job
        self._enqueue(job)
        return job

    def refuse(self, key: str, name: str, sentence: str) -> None:
        """A video that there is no model for."""
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
        self._give_up_stalled()
        return sum(bool(job.upload or job.file) for job in list(self.all.values())) >= MOST_WAITING

    def _listed(self, job: Job) -> Job:
        if job.key in self.all:
            raise VideoError("it is here already.")
        self.all[job.key] = job
        ended = [other for other in self.all.values() if other.ended.is_set()]
        for old in ended[: max(len(self.all) - KEPT_JOBS, 0)]:
            del self.all[old.key]
        for old in ended[:-KEPT_PICTURES]:
            old.preview = b""
            if old.answer:
                old.answer.pictures.clear()
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
            predictor = job.choice.loaded(lambda share: self._tell(self.progress, job, Progress(share, None, [], 0.0)))
            with self.lock:
                if job.cancelled.is_set():
                    return
                job.state = "predicting"
            self._tell(self.changed)
            job.answer, job.preview = answer(
                job.file,
                predictor,
                self.limits,
                lambda progress: self._tell(self.progress, job, progress),
                cancelled=job.cancelled,
                wants_preview=job.wants_preview,
            )
            self._end(job, "done", job.answer.sentence)
        except Cancelled:
            self._end(job, "cancelled")
        except WeightsError as error:  # names folders, and what to do in them: for whoever runs this
            get_logger().warning("%s", error)
            self._end(job, "failed", NO_WEIGHTS)
        except VarecError as error:
            self._end(job, "failed", str(error))
        except Exception:  # whatever it is, the page lives on and the next video gets its answer
            get_logger().exception("A prediction failed.")  # in a kernel: the server's log, never the page
            self._end(job, "failed", FAILED_INSIDE)

    def _end(self, job: Job, state: State, sentence: str = "") -> None:
        """The page gets a sentence without the folders of this computer. What has ended stays as it is."""
        if job.ended.is_set():
            return
        for file in (job.upload, job.file):
            if file:
                file.close()
        job.upload = job.file = None
        job.state, job.sentence = state, PATH.sub(r"\1", sentence)
        job.ended.set()
