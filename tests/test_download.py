"""A file arrives whole and checked however its server fails, or an error says why: a real server, real signals."""

import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from web import Server, answer

from varec_lib import download as downloading
from varec_lib.download import download, reason

WHOLE = bytes(range(256)) * 400
SHA256 = hashlib.sha256(WHOLE).hexdigest()
SIZE = len(WHOLE)


@pytest.fixture
def url(server: Server) -> str:
    (server.folder / "clips.zip").write_bytes(WHOLE)
    return server.url("clips.zip")


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "clips.zip"


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """How long the downloads of a test wanted to sleep; they do not."""
    slept: list[float] = []
    monkeypatch.setattr(downloading, "PAUSE_S", 1.0)
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def one_after_the_other(server: Server, *answers: bytes | Callable) -> None:
    """The answers of the server to the first requests; the last one is the answer to all further ones."""
    left = list(answers)

    def write(stream: Any) -> Any:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(stream) if callable(now) else stream.write(now)

    server.answers["/clips.zip"] = write


def part_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def rest(start: int, told: int | None = None, whole: int = SIZE) -> bytes:
    """The content from `start` on, as a server sends it that says it were from `told` on, of `whole` bytes."""
    extent = f"Content-Range: bytes {start if told is None else told}-{SIZE - 1}/{whole}\r\n"
    return answer(WHOLE[start:], status="206 Partial Content", more=extent)


def cut(after: int, start: int = 0) -> bytes:
    """An answer from `start` on whose connection ends after so many bytes of the file."""
    head = rest(start) if start else answer(WHOLE)
    return head[: len(head) - (SIZE - after)]


def test_the_hash_comes_back_and_nothing_else_stays(url, file):
    for known in ({"sha256": SHA256, "size": SIZE}, {"sha256": SHA256[:8]}, {"size": SIZE}, {}):
        assert download(url, file, **known) == SHA256
        assert file.read_bytes() == WHOLE and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"size": SIZE}, {}], ids=["hash", "size", "nothing"])
def test_connection_that_breaks_off_again_and_again_is_gone_on_with(server, url, file, pauses, known):
    steps = range(10_000, SIZE, 10_000)  # more often than it is tried without anything new
    one_after_the_other(server, *(cut(step, max(step - 10_000, 0)) for step in steps), rest(steps[-1]))
    assert download(url, file, **known) == SHA256
    assert server.ranges == [f"bytes={step}-" for step in steps]
    assert set(pauses) == {1.0}  # because each brought something


def test_server_that_sends_parts_of_parts(server, url, file):
    def write(stream: Any) -> None:
        start = int(server.ranges[-1].removeprefix("bytes=").strip("-")) if server.ranges else 0
        end = min(start + 40_000, SIZE)
        extent = f"Content-Range: bytes {start}-{end - 1}/{SIZE}\r\n"
        stream.write(answer(WHOLE[start:end], status="206 Partial Content", more=extent))

    server.answers["/clips.zip"] = write
    assert download(url, file) == SHA256


RANGES = {
    "ignored": answer(WHOLE),
    "from elsewhere": rest(50_000),
    "from elsewhere, and not said": answer(WHOLE[50_000:], status="206 Partial Content"),
    "said to be from elsewhere": rest(30_000, told=50_000),
    "nonsense": answer(WHOLE[30_000:], status="206 Partial Content", more="Content-Range: all\r\n"),
    "from the beginning": rest(0),
    "there is no more": answer(b"", status="416 Range Not Satisfiable"),
}


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {}], ids=["hash", "nothing"])
@pytest.mark.parametrize("sent", RANGES.values(), ids=RANGES)
def test_server_that_lies_about_ranges(server, url, file, sent, known):
    part_of(file).write_bytes(WHOLE[:30_000])
    one_after_the_other(server, sent, answer(WHOLE))
    assert download(url, file, **known) == SHA256 and file.read_bytes() == WHOLE


def test_part_that_was_complete_when_its_process_was_killed(server, url, file):
    part_of(file).write_bytes(WHOLE)
    assert download(url, file, SHA256) == SHA256
    assert server.requests == []
    part_of(file).write_bytes(WHOLE)
    server.answers["/clips.zip"] = answer(b"", status="416 Nothing", more=f"Content-Range: bytes */{SIZE}\r\n")
    assert download(url, file) == SHA256
    assert server.ranges == [f"bytes={SIZE}-"]


@pytest.mark.parametrize(
    ("header", "asked"),
    [('ETag: "one"', '"one"'), ("Last-Modified: Tue, 03 Feb 2026", "Tue, 03 Feb 2026"), ('ETag: W/"one"', None)],
)
def test_rest_of_another_version_is_not_asked_for_where_no_hash_would_tell(
    server, url, file, header, asked, monkeypatch
):
    seen = []
    urlopen = downloading.urllib.request.urlopen

    def watched(request: Any, **how: Any) -> Any:
        seen.append(request.get_header("If-range"))
        return urlopen(request, **how)

    monkeypatch.setattr(downloading.urllib.request, "urlopen", watched)
    head, _, _ = answer(b"", promised=SIZE, more=f"{header}\r\n").partition(b"\r\n\r\n")
    one_after_the_other(server, head + b"\r\n\r\n" + WHOLE[:30_000], answer(WHOLE[::-1]))
    assert download(url, file) == hashlib.sha256(WHOLE[::-1]).hexdigest()
    assert seen == [None, asked] and list(file.parent.iterdir()) == [file]


FAILURES = {
    "a wrong size": (answer(WHOLE), {"size": SIZE + 1}, f"{SIZE} bytes"),
    "a wrong size of a part": (rest(30_000, whole=SIZE + 5), {"size": SIZE}, f"{SIZE + 5} bytes"),
    "more than it has": (b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE + b"more", {"size": SIZE}, "more"),
    "other bytes": (answer(WHOLE[::-1]), {"sha256": SHA256, "size": SIZE}, "SHA-256"),
    "no such file": (answer(b"", status="404 Not Found"), {}, "Not Found"),
    "errors only": (answer(b"", status="500 Out Of Order"), {}, "Out Of Order"),
    "a part that nobody asked for": (rest(50_000), {"begin": 0}, "part"),
}


@pytest.mark.parametrize(("sent", "known", "said"), FAILURES.values(), ids=FAILURES)
def test_server_that_cannot_be_used(server, url, file, sent, known, said):
    known = dict(known)
    part_of(file).write_bytes(WHOLE[: known.pop("begin", 30_000)])
    server.answers["/clips.zip"] = sent
    with pytest.raises((OSError, ValueError)) as caught:
        download(url, file, **known)
    assert said in reason(caught.value) and not file.exists()


@pytest.mark.parametrize("status", ["500 Out Of Order", "503 Busy", "429 Too Many", "408 Too Slow"])
def test_server_that_fails_for_a_while(server, url, file, pauses, status):
    one_after_the_other(server, *[answer(b"", status=status)] * 3, answer(WHOLE))
    assert download(url, file) == SHA256
    assert pauses == [1, 2, 4]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_server_says_when_to_come_again(server, url, file, pauses, form):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    asked = {"seconds": "100", "date": date}[form]
    busy = answer(b"", status="503 Busy", more=f"Retry-After: {asked}\r\n")
    one_after_the_other(server, busy, answer(WHOLE))
    assert download(url, file) == SHA256
    assert len(pauses) == 1 and 50 < pauses[0] <= 100


def test_server_that_wants_to_be_left_alone_for_a_day_is_given_up(server, url, file, pauses):
    server.answers["/clips.zip"] = answer(b"", status="503 Closed", more="Retry-After: 86400\r\n")
    with pytest.raises(OSError, match="Closed"):
        download(url, file)
    assert pauses == [] and len(server.requests) == 1


def test_nonsense_for_a_pause_is_passed_over(server, url, file, pauses):
    busy = [answer(b"", status="503 Busy", more=f"Retry-After: {asked}\r\n") for asked in ("soon", "-5", "")]
    one_after_the_other(server, *busy, answer(WHOLE))
    assert download(url, file) == SHA256
    assert pauses == [1, 2, 4]


def test_server_that_falls_silent_is_tried_again(server, url, file, monkeypatch):
    monkeypatch.setattr(downloading, "SILENT_S", 0.2)

    def half(stream: Any) -> None:
        stream.write(answer(WHOLE[:30_000], promised=SIZE))
        server.go_on.wait(60)

    one_after_the_other(server, lambda _: server.go_on.wait(60), half, rest(30_000))
    assert download(url, file) == SHA256
    assert server.ranges == ["bytes=30000-"]


def test_address_that_never_answered_is_not_tried_again(server, url, file, pauses):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="refused"):
        download(url, file)
    assert pauses == []


@pytest.mark.parametrize("copies", [1, 2])
def test_room_on_the_disk_is_looked_at_before_anything_is_written(server, url, file, monkeypatch, copies):
    free = copies * SIZE - 30_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * SIZE, 10 * SIZE - free, free - 1))
    part_of(file).write_bytes(WHOLE[:30_000])
    with pytest.raises(OSError, match="No space left") as caught:
        download(url, file, copies=copies)
    assert "MB are free" in reason(caught.value) and part_of(file).read_bytes() == WHOLE[:30_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * SIZE, 0, free))
    assert download(url, file, copies=copies) == SHA256


def test_certificate_that_nobody_vouches_for(server, url, file, tmp_path, pauses):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there to make a certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(OSError) as caught:
        download(f"https://localhost:{server.server_port}/clips.zip", file)
    assert "certificate" in reason(caught.value) and "_ssl.c" not in reason(caught.value)
    assert pauses == [] and server.requests == [] and list(file.parent.iterdir()) == []


@pytest.fixture
def process(url, file) -> Iterator[subprocess.Popen]:
    """A process that downloads the file."""
    script = "import sys\nfrom pathlib import Path\nfrom varec_lib.download import download\n"
    script += "print(download(sys.argv[1], Path(sys.argv[2])))\n"
    with subprocess.Popen([sys.executable, "-c", script, url, str(file)], stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


def test_killed_download_goes_on_where_it_stopped(server, url, file, request):
    server.in_two_parts("/clips.zip")
    process = request.getfixturevalue("process")
    assert server.half_sent.wait(30)
    end = time.monotonic() + 30
    while not part_of(file).exists() or part_of(file).stat().st_size < SIZE // 2:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not file.exists()
    server.answers.clear()
    assert download(url, file) == SHA256 and file.read_bytes() == WHOLE
    assert server.ranges == [f"bytes={SIZE // 2}-"]
