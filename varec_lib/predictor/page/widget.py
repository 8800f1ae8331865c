"""The predictor as a widget: drop videos on it, record one, or choose a sample; it says what is in them (notebook 06).

The page (static/widget.js) shows rows and asks for details; this side takes pieces of files, has them answered, and
replies. Rows travel as a trait, so that a page that is opened again finds them; everything else in messages.
"""

import re
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import traitlets

from varec_lib.errors import ConfigError, VideoError
from varec_lib.predictor.page.answer import Progress
from varec_lib.predictor.page.choices import Choice, chosen, model_choices
from varec_lib.predictor.page.messages import MessageWidget, joined
from varec_lib.predictor.page.queue import ENDED, Job, Queue
from varec_lib.predictor.page.samples import Sample, open_on_server, sample_clips
from varec_lib.predictor.predict import as_table
from varec_lib.predictor.sandbox import Limits
from varec_lib.predictor.windows import Prediction


class VideoPredictor(MessageWidget):
    """A page in which a model says what is in videos: dropped, recorded, samples, or files on the server.

    `experiments_dir` holds the trained models to choose from; published ones come after them. `samples_dir` is a
    dataset folder whose test clips serve as examples; they are prepared in the background. Videos inside `server_files`
    can be named on the page; none without it. `limits` bound what a video may cost. Videos wait in line and are
    answered one after the other, in a thread, so that the page stays alive; each is gone when it was answered.
    """

    _esm = joined("elements transport dropzone camera models timeline answer table history widget")

    models = traitlets.List().tag(sync=True)  # as `Choice.card` gives them
    model = traitlets.Unicode().tag(sync=True)  # the name of the chosen one
    samples = traitlets.List().tag(sync=True)  # of {"label", "picture": JPEG}
    rows = traitlets.List().tag(sync=True)  # as `Job.row` gives them, the oldest first
    limits = traitlets.Dict().tag(sync=True)  # {"megabytes", "seconds"}
    server_folder = traitlets.Unicode().tag(sync=True)  # its name; empty where no videos on the server can be named

    def __init__(
        self,
        experiments_dir: Path | str = "experiments",
        samples_dir: Path | str | None = None,
        *,
        server_files: Path | str | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._showing, self._numbers = threading.RLock(), count(1)
        self._queue = Queue(limits, self._show, self._progress)
        self._experiments = Path(experiments_dir)
        self._server_files = Path(server_files).resolve() if server_files else None
        self._samples: list[Sample] = []
        self._choices = model_choices(self._experiments)
        super().__init__(
            models=[choice.card() for choice in self._choices],
            model=self._choices[0].name,
            limits={"megabytes": limits.megabytes, "seconds": limits.seconds},
            server_folder=self._server_files.name if self._server_files else "",
        )
        self._preparing = threading.Thread(target=self._prepare_samples, args=[samples_dir], daemon=True)
        self._preparing.start()

    def predict(self, video: Path | str) -> Prediction:
        """Answers for a video file as if it had been dropped on the page, and waits. Raises `VarecError`."""
        path = Path(video)

        def source() -> BinaryIO:
            try:
                return path.open("rb")
            except OSError as error:
                raise VideoError(f"{path}: cannot be opened ({error.strerror}).") from error

        source().close()
        job = self._queue.add(self._key(), path.name, source, chosen(self._choices, self.model))
        job.ended.wait()
        if job.answer is None:
            raise VideoError(f"{path.name}: {job.sentence or 'cancelled.'}")
        return job.prediction

    def close(self) -> None:
        """Cancels what is on its way, and takes the widget off the page."""
        if not sys.is_finalizing():  # ipywidgets closes widgets then, too
            self._queue.clear()
        super().close()

    def _prepare_samples(self, folder: Path | str | None) -> None:
        self._samples = sample_clips(folder) if folder else []
        self.samples = [{"label": sample.label, "picture": sample.picture} for sample in self._samples]

    def _key(self) -> str:
        return f"server-{next(self._numbers)}"

    def _show(self) -> None:
        with self._showing:  # else what another thread saw before could be shown after
            self.rows = [job.row() for job in list(self._queue.all.values())]

    def _progress(self, job: Job, progress: Progress) -> None:
        self.send({"kind": "progress", "key": job.key, **vars(progress)})

    def _reply(self, content: dict[str, Any], reply: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Answers the view that asked; others of the same widget hear it, too."""
        self.send(reply | {"view": content.get("view")}, buffers=list(buffers))

    def _asked(self, content: dict[str, Any]) -> Choice:
        """The model that a message asks, the chosen one where it names none."""
        return chosen(self._choices, str(content.get("model") or self.model))

    def _do_begin(self, content: dict[str, Any], _: list[memoryview]) -> None:
        video = str(content.get("video", ""))[:64]
        self._queue.begin(str(content["key"])[:64], _shown_name(content["name"]), int(content["size"]), video)

    def _do_piece(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        offset = int(content["offset"])
        here = self._queue.piece(content["key"], offset, buffers[0])
        if here is not None:
            self.send({"kind": "received", "key": content["key"], "bytes": here, "missing": here < offset})

    def _do_end(self, content: dict[str, Any], _: list[memoryview]) -> None:
        wants_preview = bool(content["preview"])
        try:
            self._queue.uploaded(content["key"], self._asked(content), wants_preview=wants_preview)
        except ConfigError as error:
            self._queue.fail(content["key"], str(error))

    def _do_cancel(self, content: dict[str, Any], _: list[memoryview]) -> None:
        self._queue.cancel(content["key"])

    def _do_sample(self, content: dict[str, Any], _: list[memoryview]) -> None:
        sample = self._samples[int(content["number"])]
        self._add(content, sample.label, sample.open)

    def _do_path(self, content: dict[str, Any], _: list[memoryview]) -> None:
        name = str(content["path"])
        self._add(content, _shown_name(name), lambda: open_on_server(self._server_files, name))

    def _do_again(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """Asks another model about a video that lies on the server."""
        job = self._queue.all[content["key"]]
        if job.source:
            self._add(content, job.name, job.source, job.video or job.key)

    def _add(self, content: dict[str, Any], name: str, source: Callable[[], BinaryIO], video: str = "") -> None:
        try:
            self._queue.add(self._key(), name, source, self._asked(content), video)
        except ConfigError as error:
            self._queue.refuse(self._key(), name, str(error))

    def _do_details(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """What the page shows of an answer beside its row."""
        job = self._queue.all[content["key"]]
        if answer := job.answer:
            segments = [{"start": s.start_s, "end": s.end_s, "top": s.top} for s in answer.prediction.segments]
            found = {"top": answer.prediction.top, "segments": segments, "frames": answer.clip_frames}
            sure = {"sure_above": answer.sure_above, "rests_on": answer.rests_on, "published": job.choice.published}
            self._reply(content, {"kind": "details", "key": job.key, **found, **sure})

    def _do_pictures(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """The frames of a window that the model saw; none where they are not kept any more."""
        job, number = self._queue.all[content["key"]], int(content["segment"])
        pictures = job.answer.pictures if job.answer else []
        found = pictures[number] if 0 <= number < len(pictures) else []
        self._reply(content, {"kind": "pictures", "key": job.key, "segment": number}, found)

    def _do_preview(self, content: dict[str, Any], _: list[memoryview]) -> None:
        job = self._queue.all[content["key"]]
        self._reply(content, {"kind": "preview", "key": job.key}, [job.preview] if job.preview else [])

    def _do_models(self, *_: Any) -> None:
        """Looks for experiments that have been trained meanwhile."""
        self._choices = model_choices(self._experiments)
        self.models = [choice.card() for choice in self._choices]
        if self.model not in {choice.name for choice in self._choices}:
            self.model = self._choices[0].name

    def _do_table(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """The results as CSV."""
        jobs = [job for job in list(self._queue.all.values()) if job.state in ENDED]
        if jobs:
            found = [job.prediction or Prediction(Path(), [], error=job.sentence or "cancelled") for job in jobs]
            words = {True: "yes", False: "no", None: ""}
            table = as_table(found).assign(
                video=[_as_cell(job.name) for job in jobs],
                sure=[words[job.row()["sure"]] for job in jobs],
                unlike=[words[job.row()["unlike"]] for job in jobs],
                model=[job.choice.name if job.choice else "" for job in jobs],
            )
            self._reply(content, {"kind": "table", "csv": table.to_csv(index=False)})

    def _do_clear(self, *_: Any) -> None:
        self._queue.clear()


def _shown_name(name: Any) -> str:
    """A visitor's file name, for showing only: its last part, without control characters, not too long."""
    printable = "".join(c for c in re.split(r"[\\/]", str(name))[-1] if c.isprintable())
    return printable[:120] or "video"


def _as_cell(text: str) -> str:
    """Text that a spreadsheet shows instead of computing it."""
    return f"'{text}" if text[:1] in "=+-@" else text
