"""The predictor as a widget: drop videos on it, record one, or choose a sample; it says what is in them (notebook 06).

The page (widget.js) shows rows and asks for details; this side takes pieces of files, has them answered, and replies.
Rows travel as a trait, so that a page that is opened again finds them; everything else in messages.
"""

import re
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import anywidget
import traitlets
from traitlets.log import get_logger

from varec_lib.errors import ConfigError, VarecError, VideoError
from varec_lib.predictor.choices import chosen, model_choices
from varec_lib.predictor.job import Job
from varec_lib.predictor.jobs import ENDED, Jobs
from varec_lib.predictor.predict import Prediction, as_table
from varec_lib.predictor.samples import open_on_server, sample_clips
from varec_lib.predictor.sandbox import Limits

HERE = Path(__file__).parent
SCRIPTS = ("dropzone.js", "camera.js", "results.js", "widget.js")  # joined: a widget has one script


class VideoPredictor(anywidget.AnyWidget):
    """A page in which a model says what is in videos: dropped, recorded, samples, or files on the server.

    `experiments_dir` holds the trained models to choose from, the newest first; published ones come after them.
    `samples_dir` is a dataset folder whose test clips serve as examples. Videos inside `server_files` can be named on
    the page; none without it. `limits` bound what a video may cost. Videos wait in line and are answered one after the
    other, in a thread, so that the page stays alive; each is gone when it was answered.
    """

    _esm = "\n".join((HERE / script).read_text(encoding="utf-8") for script in SCRIPTS)
    _css = (HERE / "widget.css").read_text(encoding="utf-8")

    models = traitlets.List().tag(sync=True)  # of {"name", "label"}
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
        self._jobs = Jobs(limits, self._show, self._progress)
        self._experiments = Path(experiments_dir)
        self._server_files = Path(server_files).resolve() if server_files else None
        self._samples = sample_clips(samples_dir) if samples_dir else []
        self._choices = model_choices(self._experiments)
        super().__init__(
            models=self._offered(),
            model=self._choices[0].name,
            samples=[{"label": sample.label, "picture": sample.picture} for sample in self._samples],
            limits={"megabytes": limits.megabytes, "seconds": limits.seconds},
            server_folder=self._server_files.name if self._server_files else "",
        )
        self.on_msg(lambda _, content, buffers: self._receive(content, buffers))

    def predict(self, video: Path | str) -> Prediction:
        """Answers for a video file as if it had been dropped on the page, and waits. Raises `VarecError`."""
        path = Path(video)
        try:
            file = path.open("rb")
        except OSError as error:
            raise VideoError(f"{path}: cannot be opened ({error.strerror}).") from error
        job = self._jobs.add(self._key(), path.name, file, chosen(self._choices, self.model))
        job.ended.wait()
        if job.prediction is None:
            raise VideoError(f"{path.name}: {job.sentence or 'cancelled.'}")
        return job.prediction

    def close(self) -> None:
        """Cancels what is on its way, and takes the widget off the page."""
        if not sys.is_finalizing():  # ipywidgets closes widgets then, too
            self._jobs.clear()
        super().close()

    def _key(self) -> str:
        return f"server-{next(self._numbers)}"

    def _offered(self) -> list[dict[str, str]]:
        lines = [" · ".join(filter(None, (choice.label, choice.note))) for choice in self._choices]
        return [{"name": choice.name, "label": line} for choice, line in zip(self._choices, lines, strict=True)]

    def _show(self) -> None:
        with self._showing:  # else what another thread saw before could be shown after
            self.rows = [job.row() for job in list(self._jobs.all.values())]

    def _progress(self, job: Job, share: float) -> None:
        self.send({"about": "progress", "key": job.key, "share": share})

    def _receive(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        """A message of the page: `{"do": what, ...}`. One that makes no sense is left unanswered."""
        what = {
            "begin": self._begin, "piece": self._piece, "end": self._uploaded, "cancel": self._cancel,
            "sample": self._sample, "path": self._path, "details": self._details, "pictures": self._pictures,
            "preview": self._preview, "models": self._refresh, "table": self._table, "clear": self._clear,
        }  # fmt: skip
        try:
            what[content["do"]](content, buffers)
        except (VarecError, KeyError, TypeError, ValueError, IndexError, OverflowError):
            get_logger().debug("A message of the page made no sense.", exc_info=True)
        except Exception:  # of which Jupyter would show a traceback on the page
            get_logger().exception("A message of the page could not be answered.")

    def _reply(self, content: dict[str, Any], about: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Answers the view that asked; others of the same widget hear it, too."""
        self.send(about | {"view": content.get("view")}, buffers=list(buffers))

    def _begin(self, content: dict[str, Any], _: list[memoryview]) -> None:
        self._jobs.begin(str(content["key"])[:64], _shown_name(content["name"]), int(content["size"]))

    def _piece(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        here = self._jobs.piece(content["key"], int(content["offset"]), buffers[0])
        if here is not None:
            self.send({"about": "received", "key": content["key"], "bytes": here})

    def _uploaded(self, content: dict[str, Any], _: list[memoryview]) -> None:
        wants_preview = bool(content["preview"])
        try:
            self._jobs.uploaded(content["key"], chosen(self._choices, self.model), wants_preview=wants_preview)
        except ConfigError as error:
            self._jobs.fail(content["key"], str(error))

    def _cancel(self, content: dict[str, Any], _: list[memoryview]) -> None:
        self._jobs.cancel(content["key"])

    def _sample(self, content: dict[str, Any], _: list[memoryview]) -> None:
        sample = self._samples[int(content["number"])]
        self._add(sample.label, sample.open)

    def _path(self, content: dict[str, Any], _: list[memoryview]) -> None:
        name = str(content["path"])
        self._add(_shown_name(name), lambda: open_on_server(self._server_files, name))

    def _add(self, name: str, opened: Callable[[], BinaryIO]) -> None:
        """A video that is on the server already."""
        try:
            choice = chosen(self._choices, self.model)
            self._jobs.add(self._key(), name, opened(), choice)
        except VarecError as error:
            self._jobs.refuse(self._key(), name, str(error))

    def _details(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """What the page shows of an answer beside its row."""
        job = self._jobs.all[content["key"]]
        if job.prediction:
            segments = [{"start": s.start_s, "end": s.end_s, "top": s.top} for s in job.prediction.segments]
            about = {"top": job.prediction.top, "segments": segments, "frames": job.clip_frames}
            sure = {"sure_above": job.sure_above, "rests_on": job.sure_rests_on, "published": job.choice.published}
            self._reply(content, {"about": "details", "key": job.key, **about, **sure})

    def _pictures(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """The frames of a window that the model saw; none where they are not kept any more."""
        job, number = self._jobs.all[content["key"]], int(content["segment"])
        found = job.pictures[number] if 0 <= number < len(job.pictures) else []
        self._reply(content, {"about": "pictures", "key": job.key, "segment": number}, found)

    def _preview(self, content: dict[str, Any], _: list[memoryview]) -> None:
        job = self._jobs.all[content["key"]]
        self._reply(content, {"about": "preview", "key": job.key}, [job.preview] if job.preview else [])

    def _refresh(self, *_: Any) -> None:
        """Looks for experiments that have been trained meanwhile."""
        self._choices = model_choices(self._experiments)
        self.models = self._offered()
        if self.model not in {choice.name for choice in self._choices}:
            self.model = self._choices[0].name

    def _table(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """The results as CSV."""
        jobs = [job for job in list(self._jobs.all.values()) if job.state in ENDED]
        found = [job.prediction or Prediction(Path(job.name), [], error=job.sentence or "cancelled") for job in jobs]
        if found:
            table = as_table(found).assign(
                video=[_as_cell(job.name) for job in jobs],
                sure=["" if job.sure is None else ("yes" if job.sure else "no") for job in jobs],
                model=[job.choice.name if job.choice else "" for job in jobs],
            )
            self._reply(content, {"about": "table", "csv": table.to_csv(index=False)})

    def _clear(self, *_: Any) -> None:
        self._jobs.clear()


def _shown_name(name: Any) -> str:
    """A visitor's file name, for showing only: its last part, without control characters, not too long."""
    printable = "".join(c for c in re.split(r"[\\/]", str(name))[-1] if c.isprintable())
    return printable[:120] or "video"


def _as_cell(text: str) -> str:
    """Text that a spreadsheet shows instead of computing it."""
    return f"'{text}" if text[:1] in "=+-@" else text
