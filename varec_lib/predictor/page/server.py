"""A locked-down Voilà: one kernel for each open page, no files, no other notebooks (`app` says what is served)."""

import asyncio
import errno
import ipaddress
import signal
import socket
import threading
import time
import webbrowser
from pathlib import Path
from urllib.parse import urlencode

import jinja2
from jupyterlab_server.themes_handler import ThemesHandler
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketClosedError
from traitlets import Bool
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import AllowListFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler

from varec_lib.errors import ConfigError
from varec_lib.predictor.page.kernels import current_page

TEMPLATES = Path(__file__).with_name("voila")
POLICY = {  # for browsers: nothing of the page comes from elsewhere, and nothing goes elsewhere
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",  # widgets arrive as text, and become scripts here
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{kind} {where}" for kind, where in POLICY.items()),
    "Referrer-Policy": "same-origin",
}


def is_local(ip: str) -> bool:
    """Whether only this computer reaches what is bound to `ip`."""
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return ip == "localhost"


class PageHandler(TornadoVoilaHandler):
    """The page. Whoever leaves while it starts takes the kernel along; any other address does not exist."""

    kernel_id: str | None = None
    left = False

    @web.authenticated
    async def get(self, path: str | None = None) -> None:
        """Sends the page piece by piece, with a sign of life every few seconds, until it is complete."""
        self._refuse_being_embedded()
        current_page.set(self)
        async for html in self.get_generator(path=path):
            if self.left:
                return
            if self.kernel_id and self.kernel_id not in self.kernel_manager:
                self.write("<script>varec.failed()</script>")
                return
            self.write(html)
            self.flush()

    def _refuse_being_embedded(self) -> None:
        """Another site's pictures and requests must not start kernels here; a browser says what it asks for."""
        headers = self.request.headers
        wanted, asking = headers.get("Sec-Fetch-Dest", "document"), headers.get("Sec-Fetch-Site", "none")
        if wanted != "document" and asking != "same-origin":
            raise web.HTTPError(403)

    def redirect_to_file(self, path: str) -> None:
        """There are no files to be had."""
        raise web.HTTPError(404)

    def on_connection_close(self) -> None:
        """The visitor left before the page was complete."""
        super().on_connection_close()
        self.left = True
        IOLoop.current().add_callback(self.kernel_manager.end_kernel, self.kernel_id, now=True)


class LeaveHandler(VoilaShutdownKernelHandler):
    """A page says that it closes; twice, if in doubt."""

    @web.authenticated
    async def post(self, kernel_id: str) -> None:
        """Ends its kernel."""
        await self.kernel_manager.end_kernel(kernel_id)
        self.set_status(204)

    def check_xsrf_cookie(self) -> None:
        """Is not needed: only the page knows the name of its kernel."""


class Server(Voila):
    """Voilà with this package's templates, and without what the page does not need."""

    guarded = Bool(False, help="Whether visitors need a token or a password.")
    open_to_all = Bool(False, help="Whether a name other than this computer's may lead here unguarded.")

    def setup_template_dirs(self) -> None:
        """Looks into this package first."""
        super().setup_template_dirs()
        self.template_paths.insert(0, str(TEMPLATES))

    def init_settings(self) -> dict:
        """Settings of the web server; its pages (log in, errors) look like the page itself."""
        settings = super().init_settings()
        loader = settings["jinja2_env"].loader
        settings["jinja2_env"].loader = jinja2.ChoiceLoader([jinja2.FileSystemLoader(TEMPLATES), loader])
        if is_local(self.ip) and not self.guarded and not self.open_to_all:
            settings["allow_remote_access"] = False  # another site's name for this computer leads nowhere
        return settings | {
            "headers": HEADERS | {"X-Varec-Started": str(time.time_ns())},
            "compress_response": True,
            "log_function": lambda handler: None,
        }

    def init_handlers(self) -> list:
        """Voilà's addresses but those of files, themes and templates."""
        without = (AllowListFileHandler, ThemesHandler, TemplateStaticFileHandler)
        instead = {TornadoVoilaHandler: PageHandler, VoilaShutdownKernelHandler: LeaveHandler}
        kept = [handler for handler in super().init_handlers() if handler[1] not in without]
        return [(address, instead.get(kind, kind), *rest) for address, kind, *rest in kept]

    def start(self) -> None:
        """Serves until Ctrl-C or a signal to end. Raises `ConfigError` where the port cannot be had."""
        try:
            self.sockets = bind_sockets(self.port, self.ip)
        except OSError as error:
            raise ConfigError(_why_not(self.ip, self.port, error)) from error
        self.port = self.sockets[0].getsockname()[1]
        super().start()

    def listen(self) -> None:
        """Called by `start`."""
        self.ioloop = IOLoop.current()
        self.ioloop.asyncio_loop.set_exception_handler(_report)
        server = HTTPServer(self.app)
        server.add_sockets(self.sockets)
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle_signal_stop)
        print(f"The page is at {self.address()} until Ctrl-C ends it.", flush=True)
        if self.open_browser:
            threading.Thread(target=webbrowser.open, args=(self.address(),), daemon=True).start()
        try:
            self.ioloop.start()
        finally:
            server.stop()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.stop()
            print("The page is closed.", flush=True)

    def address(self) -> str:
        """What to type into a browser, with the token."""
        host = socket.gethostname() if self.ip in ("", "0.0.0.0", "::") else self.ip
        host = f"[{host}]" if ":" in host else host
        token = self.identity_provider.token
        return f"http://{host}:{self.port}{self.base_url}" + (f"?{urlencode({'token': token})}" if token else "")


def _report(loop: asyncio.AbstractEventLoop, context: dict) -> None:
    """Says what went wrong unnoticed; visitors who leave in the middle of something are no news."""
    error = context.get("exception")
    if not isinstance(error, WebSocketClosedError) and "Kernel died" not in str(error):
        loop.default_exception_handler(context)


def _why_not(ip: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use already: end what uses it, or name another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used by this account: name one above 1023 with --port."
    return f"--ip {ip} and --port {port} cannot be served: {error.strerror or error}."
