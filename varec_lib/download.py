"""One file from an address: gone on with where it stopped, checked by its hash, and there in one step."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

SILENT_S = 60.0  # a server that sends nothing for so long is given up


def download(url: str, file: Path, sha256: str) -> None:
    """Fetches `file`, whose SHA-256 begins with `sha256`; what a broken-off call leaves in a `.part` is gone on with.

    Raises `OSError`, `ValueError` or `HTTPException`; a whole file with another hash is not kept.
    """
    part = file.with_name(f"{file.name}.part")
    while True:
        fresh = not part.exists()
        if fresh or not file_hash(part).startswith(sha256):
            _fetch(url, part)
        if file_hash(part).startswith(sha256):
            break
        part.unlink()
        if fresh:  # else the part was the beginning of another file
            raise ValueError("its SHA-256 differs")
    os.replace(part, file)


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=SILENT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # there is no more, so it is another file
            return
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:  # the server sends it from its beginning
            have = 0
        whole = None if answer.length is None else have + answer.length
        bar = tqdm(total=whole, initial=have, unit="B", unit_scale=True, desc=part.stem, leave=False, disable=None)
        with part.open("ab" if have else "wb") as stream, bar:
            while piece := answer.read1(1 << 20):
                stream.write(piece)
                bar.update(len(piece))
    if whole is not None and part.stat().st_size < whole:
        raise ValueError(
            f"the connection ended after {part.stat().st_size} of {whole} bytes; the next try goes on there"
        )


def file_hash(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def one_line(error: object) -> str:
    """What an error says, short and in one line, because some quote all that a server sent."""
    return re.sub(r"[\0-\x20\x7f-\xa0]+", " ", str(error)).strip()[:200] or type(error).__name__
