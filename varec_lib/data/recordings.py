"""A dataset of one's own that grows clip by clip, as the recorder of notebook 07 fills it."""

import re
from pathlib import Path

import pandas as pd

from varec_lib.data.manifest import write_lists
from varec_lib.data.video import probe
from varec_lib.errors import DataError
from varec_lib.files import locked, replacing

ENOUGH = 5  # training clips of a label; fewer teach little
NAME = re.compile(r"\w(?:[\w .-]{0,58}\w)?")  # of a label or a session: both become names of files
ENDING = re.compile(r"\.\w{1,5}")
OURS = re.compile(r"\w.*_\d{3,}\.\w{1,5}")  # a clip's file


class Recordings:
    """The clips in `folder/videos/<label>/<session>_<number>.<ending>`, and their lists beside it.

    The folder is an ordinary dataset (the data contract): its lists are written anew at every change, with the session
    as the group. Of three sessions or more, in the order of their names, the last one is for the test and the one
    before for validation; of two, the last one is for the test.
    """

    def __init__(self, folder: Path | str) -> None:
        """Raises `DataError` where the folder cannot be made, or holds another dataset."""
        self.folder = Path(folder).expanduser()
        self.videos = self.folder / "videos"
        try:
            self.videos.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be used as a folder of recordings ({error.strerror}).") from error
        files = (path for path in self.videos.rglob("*") if path.is_file() and path.suffix != ".partial")
        strange = next((path for path in files if not path.name.startswith(".") and not self._is_ours(path)), None)
        if strange:
            raise DataError(
                f"{self.folder}: holds {strange.name}, which no recorder put there. Choose a folder of its own."
            )

    def _is_ours(self, path: Path) -> bool:
        return path.parent.parent == self.videos and bool(OURS.fullmatch(path.name))

    def add(self, label: str, session: str, content: bytes, ending: str = ".webm") -> str:
        """Keeps a video; returns its name below `videos/`.

        Raises `DataError` for a label or session that cannot be a file's name, or without room on the disk;
        `VideoError` for what is no video.
        """
        self.check_name("label", label)
        self.check_name("session", session)
        if not ENDING.fullmatch(ending):
            raise DataError(f"{ending!r} is not the ending of a video's name.")
        try:
            with locked(self.folder / ".lock"):  # the page may be open twice
                there = [path for path in self.videos.glob(f"{label}/*") if self._is_ours(path)]
                taken = [int(path.stem.rpartition("_")[2]) for path in there if _session(path) == session]
                file = self.videos / label / f"{session}_{max(taken, default=0) + 1:03d}{ending.lower()}"
                file.parent.mkdir(exist_ok=True)
                with replacing(file) as partial:
                    partial.write_bytes(content)
                    probe(partial)
                self._write_lists()
        except OSError as error:
            raise DataError(f"{self.folder}: a clip cannot be kept there ({error.strerror}).") from error
        return f"{label}/{file.name}"

    @staticmethod
    def check_name(what: str, name: str) -> None:
        """Raises `DataError` for a label or a session (`what`) that cannot be a part of a file's name."""
        if not NAME.fullmatch(name):
            raise DataError(f"The {what} {name!r} will not do: use letters, digits, spaces, . - and _ (60 at most).")

    def remove(self, name: str) -> None:
        """Deletes a clip, and its label's folder with the last one. Raises `DataError` for a name that is none."""
        if name not in set(self.table()["path"]):
            raise DataError(f"There is no clip {name!r}.")
        file = self.videos / name
        with locked(self.folder / ".lock"):
            file.unlink(missing_ok=True)  # another page may have been faster
            if not any(file.parent.iterdir()):
                file.parent.rmdir()
            self._write_lists()

    def table(self) -> pd.DataFrame:
        """One row per clip, `path` (below `videos/`), `label, group, split`, the oldest of a session first."""
        files = sorted(path for path in self.videos.glob("*/*") if self._is_ours(path))
        rows = [(path.relative_to(self.videos).as_posix(), path.parent.name, _session(path)) for path in files]
        table = pd.DataFrame(rows, columns=["path", "label", "group"], dtype=str)
        return table.assign(split=table["group"].map(_splits(table["group"])))

    def counts(self) -> pd.DataFrame:
        """Clips of each label (rows) in each session (columns)."""
        table = self.table()
        return pd.crosstab(table["label"], table["group"])

    def lacks(self) -> list[str]:
        """What is missing before a training is worth it, and its test honest: a sentence each."""
        table, counts, said = self.table(), self.counts(), []
        if len(counts) < 2:
            said.append("Two labels at least are needed, and one of them may be for clips in which nothing happens.")
        sessions = len(counts.columns)
        if sessions < 3:
            said.append(
                f"{sessions} of 3 sessions: one is to learn from, one to choose by, one to test on. A new session is "
                "another person, place or day: clips of the same one are too much alike to test on."
            )
        few = table[table["split"] == "train"]["label"].value_counts().reindex(counts.index, fill_value=0)
        for label, count in few[few < ENOUGH].items():
            said.append(f"{label}: {count} of at least {ENOUGH} clips to learn from.")
        for label, row in counts.iterrows():
            if absent := row.index[row == 0].tolist():
                said.append(f"{label}: none in {', '.join(absent)}; then it could be told by the session alone.")
        return said

    def _write_lists(self) -> None:
        write_lists(self.table(), self.folder)


def _session(path: Path) -> str:
    return path.stem.rpartition("_")[0]


def _splits(sessions: pd.Series) -> dict[str, str]:
    names = sorted(set(sessions))
    later = {2: ["test"]}.get(len(names), ["val", "test"] if len(names) > 2 else [])
    return dict.fromkeys(names, "train") | dict(zip(names[len(names) - len(later) :], later, strict=True))
