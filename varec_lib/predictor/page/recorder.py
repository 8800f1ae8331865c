"""A recorder as a widget: three seconds of an action at a time, into a dataset folder of one's own (notebook 07)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import traitlets

from varec_lib.data.recordings import Recordings
from varec_lib.errors import DataError, VarecError, VideoError
from varec_lib.predictor.page.messages import MessageWidget, joined
from varec_lib.predictor.page.queue import MOST_WAITING, TOO_MANY
from varec_lib.predictor.page.upload import Upload
from varec_lib.predictor.sandbox import Limits

SHOWN = 12  # of the newest clips
PLAYABLE = {".webm": "video/webm", ".mp4": "video/mp4"}  # by browsers, everywhere


class Recorder(MessageWidget):
    """Records clips with the camera of whoever looks at it, or takes files dropped on a label, into a dataset folder.

    `labels` are offered beside those that have clips already. All clips of a `session` become one group, so it is to
    be another one for another person, place or day; without a name it is called after the time. `recordings` is what
    has been kept. Raises `DataError` where the folder cannot be used.
    """

    _esm = joined("elements dropzone camera recorder")

    labels = traitlets.List().tag(sync=True)  # of {"name", "here": clips in this session, "all"}
    session = traitlets.Unicode().tag(sync=True)
    clips = traitlets.List().tag(sync=True)  # the newest of this session, of {"name", "label"}
    advice = traitlets.List().tag(sync=True)  # sentences: what is missing before a training

    def __init__(
        self, folder: Path | str, labels: Sequence[str] = (), *, session: str = "", limits: Limits | None = None
    ) -> None:
        self.recordings, self._limits = Recordings(folder), limits or Limits()
        self._names, self._uploads = [*labels], {}
        super().__init__(session=session or time.strftime("%Y-%m-%d %H.%M"))
        self._show()

    def _show(self) -> None:
        """Everything that the page is to know."""
        table, counts = self.recordings.table(), self.recordings.counts()
        self._names = list(dict.fromkeys([*self._names, *counts.index]))
        here = table[table["group"] == self.session]
        newest = sorted(here["path"], key=lambda name: (self.recordings.videos / name).stat().st_mtime_ns, reverse=True)
        self.labels = [
            {"name": name, "here": int((here["label"] == name).sum()), "all": int((table["label"] == name).sum())}
            for name in self._names
        ]
        self.clips = [{"name": name, "label": name.partition("/")[0]} for name in newest[:SHOWN]]
        self.advice = self.recordings.lacks()

    def _refuse(self, content: dict[str, Any], error: Exception) -> None:
        if not isinstance(error, VarecError):
            return super()._refuse(content, error)
        self._forget(content.get("key"))
        self.send({"kind": "problem", "key": content.get("key"), "sentence": str(error)})

    def _do_session(self, content: dict[str, Any], _: list[memoryview]) -> None:
        self.recordings.check_name("session", str(content["name"]))
        self.session = str(content["name"])
        self._show()

    def _do_label(self, content: dict[str, Any], _: list[memoryview]) -> None:
        self.recordings.check_name("label", str(content["name"]))
        self._names.append(str(content["name"]))
        self._show()

    def _do_begin(self, content: dict[str, Any], _: list[memoryview]) -> None:
        for key in [key for key, (upload, *_) in self._uploads.items() if upload.stalled]:
            self._forget(key)
        if len(self._uploads) >= MOST_WAITING:
            raise VideoError(TOO_MANY)
        upload, ending = Upload(int(content["size"]), self._limits), Path(str(content["name"])).suffix or ".webm"
        session = str(content.get("session") or self.session)  # that of the moment when it was dropped or recorded
        self._uploads[str(content["key"])] = (upload, str(content["label"]), session, ending)
        self.send({"kind": "received", "key": content["key"], "bytes": 0, "ended": False})

    def _do_piece(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        upload, label, session, ending = self._uploads[content["key"]]
        here = upload.add(int(content["offset"]), buffers[0])
        if here < upload.size:
            self.send({"kind": "received", "key": content["key"], "bytes": here, "ended": False})
            return
        upload.file.seek(0)
        name = self.recordings.add(label, session, upload.file.read(), ending)
        self._forget(content["key"])
        self._show()
        self.send({"kind": "received", "key": content["key"], "ended": True})
        self.send({"kind": "kept", "name": name})

    def _forget(self, key: Any) -> None:
        if key in self._uploads:
            self._uploads.pop(key)[0].close()

    def _do_remove(self, content: dict[str, Any], _: list[memoryview]) -> None:
        self.recordings.remove(str(content["name"]))
        self._show()

    def _do_show(self, content: dict[str, Any], _: list[memoryview]) -> None:
        """A clip for the page to play, where browsers can."""
        name = str(content["name"])
        kind = PLAYABLE.get(Path(name).suffix)
        if name not in {clip["name"] for clip in self.clips}:
            raise DataError(f"There is no clip {name!r}.")
        if kind:
            self.send(
                {"kind": "clip", "name": name, "type": kind}, buffers=[(self.recordings.videos / name).read_bytes()]
            )
