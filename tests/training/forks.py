"""Real processes that run `varec`, forked from one that has imported it: importing takes each of them seconds.

Run as a program this is that process. It does nothing but import and fork, so that a fork finds no threads.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Forked:
    """As much of a `subprocess.Popen` as tests use; its parent is the server."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self.pid, self.returncode, self._server = pid, None, server

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask(ended=self.pid)
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode


class ForkServer:
    """A process that has imported what `varec train` needs; ends with this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # -P: as for `varec`, the folder of this file is no place to import from
        command = [sys.executable, "-P", "-u", __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self._line = ours.makefile("rw")

    def ask(self, **request: Any) -> Any:
        print(json.dumps(request), file=self._line, flush=True)
        return json.loads(self._line.readline())

    def start(self, words: list[str], *, shown: Path, cwd: Path, env: dict[str, str]) -> Forked:
        """Runs `varec` with these words in a session of its own; what it prints is added to the file `shown`."""
        return Forked(self, self.ask(words=words, shown=str(shown), cwd=str(cwd), env=env))

    def close(self) -> None:
        self._line.close()
        self._process.wait()


def status_of(pid: int) -> int | None:
    """As `Popen.poll` has it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def become(words: list[str], shown: str, cwd: str, env: dict[str, str]) -> list[str]:
    """Makes this fork a process like one that was started with these words, which it returns."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    file = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    return words


def serve(line: socket.socket) -> list[str] | None:
    """Forks as it is told to: returns the words of a fork in that fork, and None when nobody asks any more."""
    with line, line.makefile("rw") as told:
        while text := told.readline():
            request = json.loads(text)
            if "ended" in request:
                answer = status_of(request["ended"])
            else:
                ready, done = os.pipe()
                answer = os.fork()
                if not answer:
                    os.close(ready)
                    words = become(**request)
                    os.close(done)
                    return words
                os.close(done)
                os.read(ready, 1)  # until it has a session of its own
                os.close(ready)
            print(json.dumps(answer), file=told, flush=True)
    return None


if __name__ == "__main__":
    import varec_lib.cli
    import varec_lib.training.loop

    words = serve(socket.socket(fileno=int(sys.argv[1])))
    if words is not None:
        sys.argv = ["varec", *words]
        sys.exit(varec_lib.cli.main())
