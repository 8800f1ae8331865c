"""The kernels behind the page: one for each open page, so many and no more, forked from a process that is ready."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextvars import ContextVar
from multiprocessing.process import BaseProcess
from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from tornado import web
from traitlets import Float, Integer

PRELOADED = ["ipykernel.kernelapp", "varec_lib.course", "varec_lib.predictor.page.widget"]  # what takes seconds
GOING_AWAY, DIED = 1001, 4001  # codes that close a connection; page.js knows the second
current_page: ContextVar[Any] = ContextVar("current_page", default=None)  # the handler that answers a visitor
forks = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def preload() -> None:
    """Starts the process that kernels are forked from, and waits until it has imported everything.

    Forking costs nothing and shares its memory. It is safe because that process only imports: it has no threads of its
    own and has computed nothing yet. Elsewhere than on Linux, where imports start threads, kernels start one by one.
    """
    if sys.platform == "linux":
        forks.set_forkserver_preload(PRELOADED)
        first = forks.Process(target=os.getpid, daemon=True)
        first.start()
        first.join()


def run_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """What a forked process becomes: an IPython kernel in a session of its own."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["ipykernel", *arguments]
    threading.Thread(target=_end_with_server, daemon=True).start()
    IPKernelApp.launch_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])


def _end_with_server() -> None:
    """However the server ends: the process forked from would live on as long as one of its forks does."""
    multiprocessing.parent_process().join()
    os._exit(1)


class Fork:
    """A forked process as its provisioner treats it: like a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess) -> None:
        self.process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.process.exitcode

    def wait(self) -> int | None:
        """The exit code, in the end."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """To this process, if it is still there."""
        if self.process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()

    def terminate(self) -> None:
        """Asks it to end."""
        self.process.terminate()


class ForkedKernel(LocalProvisioner):
    """Starts a kernel by forking."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Starts the kernel of a command `python -m ipykernel_launcher -f FILE`."""
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        folder = kwargs.get("cwd") or os.getcwd()
        process = forks.Process(target=run_kernel, args=(arguments, kwargs["env"], folder), daemon=True)
        await asyncio.to_thread(process.start)
        self.process = Fork(process)
        self.pid = self.pgid = process.pid  # of a session of its own
        return self.connection_info


class ForkedKernelManager(ServerKernelManager):
    """One kernel, started by forking; `app` names this class."""

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None:
            named = kwargs.get("kernel_id") or self.kernel_id
            self.provisioner = ForkedKernel(kernel_id=named, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**kwargs)


class KernelPool(AsyncMappingKernelManager):
    """One kernel for each open page. One too many is refused with 503; a page hears when its kernel ends."""

    pages = Integer(8, config=True, help="How many pages there may be.")
    patience_s = Float(3.0, config=True, help="How long to wait for one: a page that is loaded anew leaves its own.")
    unwatched_s = Float(45.0, config=True, help="How long a kernel may be without the connection of its page.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unwatched_since: dict[str, float] = {}

    async def start_kernel(self, **kwargs: Any) -> str:
        """A kernel for a page, where one is free. Ends it where the visitor is gone by then."""
        await self._wait_for_free_slot()
        kernel_id = await super().start_kernel(**kwargs)
        if page := current_page.get():
            page.kernel_id = kernel_id
            if page.left:
                await self.end_kernel(kernel_id, now=True)
        return kernel_id

    async def _wait_for_free_slot(self) -> None:
        deadline = time.monotonic() + self.patience_s
        while len({*self._kernels, *self._pending_kernels}) >= self.pages:
            if time.monotonic() > deadline:
                raise web.HTTPError(503, "All places are taken.")
            await asyncio.sleep(0.1)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Ends the kernel of a page that is not used, or whose browser has gone without a word."""
        if self._kernel_connections.get(kernel_id):
            self.unwatched_since.pop(kernel_id, None)
        elif time.monotonic() - self.unwatched_since.setdefault(kernel_id, time.monotonic()) > self.unwatched_s:
            await self.end_kernel(kernel_id)
            return
        await super().cull_kernel_if_idle(kernel_id)

    async def end_kernel(self, kernel_id: str | None, now: bool = False) -> None:
        """Ends a kernel, unless that is under way; `now` does not ask it to."""
        if kernel_id in self and kernel_id not in self._pending_kernels:
            await self.shutdown_kernel(kernel_id, now=now)

    async def shutdown_all(self, now: bool = False) -> None:
        """Kills all kernels: interrupted, as Jupyter does first, those that start write tracebacks into the log."""
        for manager in list(self._kernels.values()):
            if manager.has_kernel:
                await manager.signal_kernel(signal.SIGKILL)
        await super().shutdown_all(now=True)

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forgets an ended kernel, and closes the connections of its page, which look there then."""
        code = GOING_AWAY if self.get_kernel(kernel_id).shutting_down else DIED
        for connection in list(ZMQChannelsWebsocketConnection._open_sockets):
            if connection.kernel_id == kernel_id:
                connection.websocket_handler.close(code)
        self.unwatched_since.pop(kernel_id, None)
        return super().remove_kernel(kernel_id)
