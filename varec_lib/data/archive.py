"""Archives of videos (RAR, ZIP, TAR): all of one into a folder, and nothing of it anywhere else."""

import os
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISLNK

import rarfile

from varec_lib.download import one_line, reason
from varec_lib.errors import DataError
from varec_lib.files import check_room

SEVEN_ZIP = ("x", "-y", "-bd", "-o{folder}", "{archive}")
BSDTAR = ("-x", "-f", "{archive}", "-C", "{folder}")
RAR_TOOLS = {  # in the order in which they are tried
    "unrar": ("x", "-o+", "-y", "-p-", "-idq", "{archive}", "{folder}/"),
    "7zz": SEVEN_ZIP,
    "7z": SEVEN_ZIP,
    "unar": ("-quiet", "-force-overwrite", "-no-directory", "-output-directory", "{folder}", "{archive}"),
    "bsdtar": BSDTAR,
} | ({"tar": BSDTAR} if os.name == "nt" else {})  # Windows has bsdtar under this name
INSTALL = "`apt install libarchive-tools` (Debian, Ubuntu), `brew install libarchive` or `winget install 7zip.7zip`"
Member = tuple[str, int, bool, bool]  # name, bytes, whether it is a file, or a folder


def unpack(archive: Path, folder: Path, holds: Callable[[Path], object] = bool) -> None:
    """Unpacks an archive, told by its content, to `folder`, which appears in one step when all is there.

    A top folder that holds all the rest is left out. Raises `DataError`: before anything is written, where a name leads
    out of the folder, where there is more than files and folders, and where the disk has no room; later, if the archive
    is damaged, or if `holds` of what came out is false.
    """
    try:
        members, write = _opened(archive)
        sizes = {str(PurePosixPath(name)): size for name, size, is_file, _ in members if is_file}
        _refuse_others(archive, members)
        check_room(folder.parent, sum(sizes.values()), "a folder on another disk")
        for left in folder.parent.glob(f".{folder.name}.*.partial"):  # of processes that were killed
            shutil.rmtree(left, ignore_errors=True)
        work = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        work.mkdir()
        try:
            write(work)
            if _sizes(work) != sizes:
                raise ValueError("what came out is not what it lists")
            if not holds(work):
                raise DataError(f"{archive}: does not hold what belongs into {folder}.")
            inner = work
            while len(inside := list(inner.iterdir())) == 1 and inside[0].is_dir():
                inner = inside[0]
            os.replace(inner, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except DataError:
        raise
    except Exception as error:  # whatever the readers of four formats raise where one is damaged
        problem = f"cannot be unpacked ({reason(error)})"
        raise DataError(f"{archive}: {problem}. If it is damaged, fetch it again.") from error


def _opened(archive: Path) -> tuple[list[Member], Callable[[Path], None]]:
    """What an archive lists, and a function that writes all of it into a folder."""
    if rarfile.is_rarfile(archive):
        with rarfile.RarFile(archive, errors="strict") as rar:
            found = [(m.filename, m.file_size, m.is_file() and not m.file_redir, m.is_dir()) for m in rar.infolist()]
        return found, partial(_write_rar, archive)
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            found = [(m.name, m.size, m.isreg(), m.isdir()) for m in tar]
        return found, partial(_write_tar, archive)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            infos = [(m, S_ISLNK(m.external_attr >> 16)) for m in zipped.infolist()]
        found = [(m.filename, m.file_size, not link and not m.is_dir(), m.is_dir()) for m, link in infos]
        return found, partial(_write_zip, archive)
    with archive.open("rb") as stream:
        begins = stream.read(16)
    if begins[:4] in (b"PK\x03\x04", b"Rar!"):
        raise DataError(f"{archive}: is damaged, probably cut short. Fetch it again.")
    raise DataError(f"{archive}: neither a RAR, nor a ZIP, nor a TAR archive; it begins with {begins!r}. Delete it.")


def _refuse_others(archive: Path, members: list[Member]) -> None:
    """Raises `DataError` at a member that is no file or folder, or whose name leads out, on whatever system."""
    for name, _, is_file, is_folder in members:
        path = PureWindowsPath(name)  # which knows both separators
        if path.anchor or ".." in path.parts or not (is_file or is_folder):
            said = "leads out of the folder" if is_file or is_folder else "is neither a file nor a folder"
            raise DataError(f"{archive}: {name!r} {said}. Nothing was unpacked; fetch the archive from elsewhere.")


def _write_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)


def _write_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def rar_tools(archive: Path) -> list[str]:
    """What is here to unpack a RAR archive. Raises `DataError` that says what to install where nothing is."""
    tools = [tool for tool in RAR_TOOLS if shutil.which(tool)]
    if not tools:
        raise DataError(f"{archive}: nothing here unpacks RAR. Install one: {INSTALL}; then run the command again.")
    return tools


def _write_rar(archive: Path, folder: Path) -> None:
    """With the first of the tools that can. Raises `OSError` that says what each said."""
    said = []
    for tool in rar_tools(archive):
        words = [word.format(archive=archive.resolve(), folder=folder.resolve()) for word in RAR_TOOLS[tool]]
        how = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
        done = subprocess.run([tool, *words], check=False, **how)
        wrong = None if done.returncode else _damaged(archive, folder)
        if not done.returncode and not wrong:
            return
        lines = (done.stdout + done.stderr).strip().splitlines() or [f"status {done.returncode}"]
        said.append(f"{tool}: {one_line(f'{wrong} did not come out right' if wrong else lines[-1])}")
        shutil.rmtree(folder)
        folder.mkdir()
    raise OSError("; ".join(said))


def _damaged(archive: Path, folder: Path) -> str | None:
    """The first file that is not there, or not as the RAR archive sums it up: bsdtar 3.6 checks no stored files."""
    with rarfile.RarFile(archive) as rar:
        for member in rar.infolist():
            file = folder / member.filename
            if member.is_file() and not (file.is_file() and member.CRC in (None, zlib.crc32(file.read_bytes()))):
                return member.filename
    return None


def _sizes(folder: Path) -> dict[str, int]:
    """Sizes of the files below a folder, in bytes, by their paths with `/`; links are not followed."""
    found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    return {Path(file).relative_to(folder).as_posix(): os.lstat(file).st_size for file in found}
