"""One file from an address: gone on with where it stopped, tried again, checked, and there in one step.

For weights and data sets. From the standard library alone, because what is kept elsewhere begins anew where a
connection breaks off: pooch 1.9 never asks for the rest of a file, and urllib3's Retry ends where the content begins.
"""

import errno
import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from tqdm.auto import tqdm

from varec_lib.files import gigabytes, write_text

SILENT_S = 60.0  # a server that sends nothing for so long is given up, and tried again
TRIES = 5  # one after the other that bring nothing new
PAUSE_S = 1.0  # before the second try; each further one is twice as long
PATIENCE_S = 600.0  # a server that asks for a longer one is given up
PASSING = (408, 429, 500, 502, 503, 504)  # answers that may soon be others


def download(url: str, file: Path, sha256: str = "", size: int | None = None, copies: int = 1) -> str:
    """Fetches `file` and returns its SHA-256; what a broken-off call leaves in a `.part` is gone on with.

    It must have `size` bytes, and a SHA-256 that begins with `sha256`, where these are known; the disk must have room
    for it `copies` times. Raises `OSError`, `ValueError` or `HTTPException`; another file is not kept.
    """
    part = part_of(file)
    while True:
        fresh = not part.exists()
        found = file_hash(part) if sha256 and not fresh and size in (None, _length(part)) else None
        if found is None or not found.startswith(sha256):
            _fetch(url, part, sha256, size, copies)
            found = file_hash(part)
        if found.startswith(sha256):
            break
        part.unlink()
        if fresh:  # else the part was the beginning of another file
            raise ValueError("its SHA-256 differs")
    os.replace(part, file)
    _version_of(part).unlink(missing_ok=True)
    return found


def part_of(file: Path) -> Path:
    """Where that lies which has come of a download so far."""
    return file.with_name(f"{file.name}.part")


def _fetch(url: str, part: Path, sha256: str, size: int | None, copies: int) -> None:
    """Goes on until all of it is there, or `TRIES` tries have brought nothing new."""
    begun, most, tries = False, _length(part), 0
    while True:
        try:
            return _go_on(url, part, size, copies, keep_version=not sha256)
        except (OSError, http.client.IncompleteRead) as error:
            have = _length(part)
            tries = 1 if have > most else tries + 1
            begun, most = begun or have > most, max(have, most)
            pause = max(PAUSE_S * 2 ** (tries - 1), _asked_pause(error))
            if tries == TRIES or pause > PATIENCE_S or not _may_pass(error, begun):
                raise
            print(f"{part.stem}: {reason(error)}; trying again in {pause:.0f} s", flush=True)
            time.sleep(pause)


def _may_pass(error: Exception, begun: bool) -> bool:
    """Whether to try again: not what the disk says, nor a certificate, nor an address that has not answered yet."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in PASSING
    if isinstance(error, urllib.error.URLError):  # no connection
        return begun and not isinstance(error.reason, ssl.SSLCertVerificationError)
    network = (ConnectionError, TimeoutError, ssl.SSLError, http.client.IncompleteRead)
    return isinstance(error, network) and not isinstance(error, BrokenPipeError)  # nobody reads what is printed


def _asked_pause(error: Exception) -> float:
    """Seconds for which a server asks to be left alone (Retry-After, a number or a date), else 0."""
    asked = (getattr(error, "headers", None) or {}).get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    with suppress(ValueError, TypeError):  # no date, or one without a time zone
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    return 0.0


def _go_on(url: str, part: Path, size: int | None, copies: int, keep_version: bool) -> None:
    answer = _ask(url, part)
    if answer is None:
        return
    with answer:
        start, whole = _extent(answer)
        whole = size if whole is None else whole
        if size is not None and whole != size:
            raise ValueError(f"it has {whole} bytes there instead of {size}")
        need, free = copies * (whole or 0) - start, shutil.disk_usage(part.parent).free
        if need > free:
            room = f"{gigabytes(need)} are needed, {gigabytes(free)} are free"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {room}")
        if keep_version and not start:
            tag = answer.headers.get("ETag", "")  # a weak one is no promise that the bytes are the same
            write_text(_version_of(part), tag if tag[:1] == '"' else answer.headers.get("Last-Modified", ""))
        bar = tqdm(total=whole, initial=start, unit="B", unit_scale=True, desc=part.stem, leave=False, disable=None)
        with part.open("ab" if start else "wb") as stream, bar:
            while (piece := answer.read1(1 << 20)) and (size is None or stream.tell() <= size):
                stream.write(piece)
                bar.update(len(piece))
    have = _length(part)
    if whole is not None and have < whole:
        raise ConnectionError(f"the connection ended after {have} of {whole} bytes, which are kept")
    if size is not None and have > size:  # which the server did not tell before
        part.unlink()
        raise ValueError(f"it has more than {size} bytes")


def _ask(url: str, part: Path) -> http.client.HTTPResponse | None:
    """An answer that goes on with the part, or begins it anew where that cannot be; None if all of it is there."""
    have, version = _length(part), _version_of(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and version.exists() and (tag := version.read_text(encoding="utf-8")):
        headers["If-Range"] = tag  # of another version it sends all
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENT_S)
        if _extent(answer)[0] in (0, have):
            return answer
        answer.close()
        if not have:
            raise ValueError("the server sends a part that nobody asked for")
    except urllib.error.HTTPError as error:
        if not have or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return None
    part.unlink()
    return _ask(url, part)


def _extent(answer: http.client.HTTPResponse) -> tuple[int, int | None]:
    """The first byte that comes, -1 where the answer does not say, and how many the whole file has."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0, answer.length
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2])) if match else (-1, None)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version_of(part: Path) -> Path:
    """Where it is written which version of the file (ETag or date) a part belongs to, if no hash tells."""
    return part.with_name(f"{part.name}.version")


def file_hash(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def reason(error: BaseException) -> str:
    """Why something failed, without the names of functions and files that Python puts around it."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified: {one_line(cause.verify_message)}"
    return one_line(getattr(cause, "strerror", "") or cause)


def one_line(error: object) -> str:
    """What an error says, short and in one line, because some quote all that a server sent."""
    return re.sub(r"[\0-\x20\x7f-\xa0]+", " ", str(error)).strip()[:200] or type(error).__name__
