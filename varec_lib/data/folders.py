"""Where the videos of a list lie below a dataset's folder: lists come from other machines, and folders get moved."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pandas as pd

from varec_lib.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
PlacesOf = Callable[[Path], dict[str, list[str]]]  # `places_by_name`, remembered


def walk(root: Path | str) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, in the order of the folders' names, without what is hidden, such as macOS's `._clip.avi`.

    Links to folders are followed, but each folder comes once, because links may lead round in circles.
    """
    seen = set()
    for place, folders, files in os.walk(root, followlinks=True):
        stat = os.stat(place)
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield place, folders, [name for name in files if name[0] != "."]


def places_by_name(root: Path) -> dict[str, list[str]]:
    """For every name of a folder, or of a file that is no picture, the folders that hold it; these end in a separator.

    A folder of pictures is one video, and they all are called the same.
    """
    places: dict[str, list[str]] = {}
    for place, folders, files in walk(root):
        here = [os.path.join(place, "")]
        names = [*folders, *(name for name in files if not name.lower().endswith(PICTURES))]
        again = {name: places[name] + here for name in places.keys() & names}
        places |= dict.fromkeys(names, here) | again
    return places


def locate(root: Path, file: Path, names: pd.Series, places_of: PlacesOf) -> list[str]:
    """Absolute paths of the names in a list, which are relative to videos/; a bare name may lie in any sub-folder.

    Raises `DataError` with file and row where it is in several of them.
    """
    videos = root / "videos" if (root / "videos").is_dir() else root
    paths = _below(videos, [name.replace("\\", "/") for name in names.tolist()])
    if names.str.contains("/", regex=False).all():
        return list(map(_in_other_form, paths))
    here = {*os.listdir(videos)}
    bare = [n for n, name in enumerate(names.tolist()) if "/" not in name and ("\\" in name or name not in here)]
    places = places_of(videos) if bare else {}
    for number, name in ((number, names.iat[number]) for number in bare):
        found = places.get(name)
        if not found or ("\\" in name and os.path.lexists(paths[number])):
            continue  # a name that is nowhere stays in the table: `check_videos` reports it
        if len(found) > 1:
            shown = ", ".join(os.path.relpath(folder + name, root) for folder in found[:3])
            raise DataError(
                f"{file}, row {names.index[number]}: {name} exists in several folders ({shown}). Write the folder too."
            )
        paths[number] = found[0] + name
    return list(map(_in_other_form, paths))


def by_their_tails(root: Path, names: pd.Series) -> pd.Series:
    """Paths as the author of a list had them become those of here: by the longest tail of their folder that is here.

    The whole path where there is such a folder, else the bare name.
    """

    folders = [root, root / "archive", *([root.parent] if root.name == "archive" else [])]

    @cache  # most of 13,320 clips share 101 folders
    def folder(there: str) -> str:
        parts = there.strip("/").split("/")
        tails = ("/".join(parts[number:]) for number in range(len(parts)))
        bases = [os.path.join(base, tail) for tail in tails if tail for base in folders]
        found = next((place for place in [*bases, there] if there and os.path.isdir(place)), "")
        return os.path.join(found, "") if found else ""

    split = (name.replace("\\", "/").rpartition("/") for name in names.tolist())
    return pd.Series([folder(there) + name for there, _, name in split], names.index)


def _in_other_form(path: str) -> str:
    """The path, or one that is there and differs in the form of its letters alone: é may be one character or two."""
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    folder, wanted = _in_other_form(folder), unicodedata.normalize("NFC", name)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return os.path.join(folder, next((n for n in names if unicodedata.normalize("NFC", n) == wanted), name))


def _below(folder: Path, names: list[str]) -> list[str]:
    """`folder / name` of every name, without `..` and doubled slashes; absolute names stay as they are."""
    start = os.path.join(folder, "")  # `join` would take ten times as long; only absolute names need it
    joined = (os.path.join(folder, n) if n.startswith("/") or ":" in n else start + n for n in names)
    return [os.path.normpath(path) for path in joined]
