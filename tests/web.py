"""A server on this machine that answers as badly as a test wants."""

import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server(ThreadingHTTPServer):
    """Serves a folder on this machine, and other answers where a test wants them; remembers what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.ranges: list[str] = []  # what was asked to be gone on with
        self.goes_on = True  # whether it sends parts of files, as most servers do
        self.answers: dict[str, bytes | Callable] = {}  # by path: raw bytes, or a function that writes them
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, *_: object) -> None:
        """Keeps the test output quiet: clients that are killed hang up."""

    def in_two_parts(self, path: str) -> None:
        """From now on this file is sent in two halves, the second one when `go_on` is set."""
        content = (self.folder / path.lstrip("/")).read_bytes()

        def write(stream: Any) -> None:
            stream.write(answer(content[: len(content) // 2], promised=len(content)))
            self.half_sent.set()
            self.go_on.wait(300)
            stream.write(content[len(content) // 2 :])

        self.answers[path] = write


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        answer = self.server.answers.get(self.path)
        wanted = self.headers.get("Range")
        if wanted:
            self.server.ranges.append(wanted)
        if answer is not None:
            answer(self.wfile) if callable(answer) else self.wfile.write(answer)
        elif wanted and self.server.goes_on:
            self.send_rest(int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]))
        else:
            super().do_GET()

    def send_rest(self, start: int) -> None:
        content = (self.server.folder / self.path.lstrip("/")).read_bytes()
        if start >= len(content):
            self.wfile.write(answer(b"", status="416 Range Not Satisfiable"))
        else:
            extent = f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}\r\n"
            self.wfile.write(answer(content[start:], status="206 Partial Content", more=extent))

    def log_message(self, *_: object) -> None:
        """Keeps the test output quiet."""


def answer(content: bytes, promised: int | str | None = None, status: str = "200 OK", more: str = "") -> bytes:
    """A raw HTTP answer."""
    length = len(content) if promised is None else promised
    return f"HTTP/1.0 {status}\r\n{more}Content-Length: {length}\r\n\r\n".encode() + content
