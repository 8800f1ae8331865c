"""`varec app`: real servers, real requests, a real browser; the notebook is a small one without torch."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from varec_lib.config import PROJECT_ROOT
from varec_lib.errors import ConfigError
from varec_lib.predictor.page.app import _key, app_cells, serve
from varec_lib.predictor.page.server import is_local

VAREC = Path(sys.executable).with_name("varec")
WAIT_S = 120  # for what takes seconds where nobody else is at work
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
TEMPORARY_OF_NGINX = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
KERNEL = '"kernelId": "'  # what names it in a page
SECRET = "not for visitors"
PARAMETERS = """experiments_dir = "experiments"
data_dir = "data"
server_files = "data"
"""
WIDGET = '''import anywidget, sys, traitlets

class Predictor(anywidget.AnyWidget):
    _esm = """export default { render({ model, el }) {
      el.innerHTML = `<div class="stub"><p></p><button>More</button><output></output></div>`;
      el.querySelector("p").textContent = model.get("about");
      el.querySelector("button").onclick = () => { model.set("asked", model.get("asked") + 1); model.save_changes(); };
      model.on("change:answer", () => (el.querySelector("output").value = model.get("answer")));
    } }"""
    about = traitlets.Unicode().tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    answer = traitlets.Int(0).tag(sync=True)

    @traitlets.observe("asked")
    def _more(self, change):
        self.answer += change.new

Predictor(about=f"{experiments_dir} {data_dir} {server_files} {'torch' in sys.modules}")
'''


def write_notebook(path: Path, app: str = WIDGET) -> Path:
    """A notebook of explanations, and of two cells that make the page."""
    cells = [
        new_markdown_cell(f"# {SECRET}"),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters", "app"]}),
        new_code_cell(f"print({SECRET!r})\nraise SystemExit"),
        new_code_cell(app, metadata={"tags": ["app"]}),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@dataclass
class Running:
    """A `varec app`."""

    process: subprocess.Popen
    url: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def kernels(self) -> set[int]:
        """The processes of its pages: started by itself, or forked from one that it started."""
        found = set()
        for child in psutil.Process(self.process.pid).children():
            try:
                words = " ".join(child.cmdline())
                found |= {child.pid} if "ipykernel_launcher" in words else set()
                found |= {fork.pid for fork in child.children()} if "multiprocessing.forkserver" in words else set()
            except psutil.Error:  # it has just ended
                continue
        return found

    def end(self, by: int = signal.SIGINT) -> int:
        """Ends it; its exit status."""
        self.process.send_signal(by)
        return self.process.wait(timeout=WAIT_S)


@contextmanager
def varec_app(notebook: Path, *options: str) -> Iterator[Running]:
    """Starts one in the notebook's folder, until it says where it is."""
    command = [VAREC, "app", "--notebook", notebook, "--port", "0", "--no-open", *options]
    if "--preloaded" not in options:
        command.append("--no-preloaded")
    process = subprocess.Popen(
        list(map(str, command)), cwd=notebook.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    running = Running(process)
    reader = threading.Thread(target=lambda: running.lines.extend(iter(process.stdout.readline, "")), daemon=True)
    reader.start()
    try:
        until(lambda: "The page is at" in "".join(running.lines) or process.poll() is not None)
        running.url = re.search(r"http://\S+", "".join(running.lines))[0]
        yield running
    finally:
        if process.poll() is None:
            running.end()


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[Running]:
    """One for all tests that leave it as they find it."""
    with varec_app(write_notebook(tmp_path_factory.mktemp("app") / "page.ipynb")) as running:
        yield running


def until(true: Callable[[], object], seconds: float = WAIT_S) -> object:
    """Waits for something."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return value


class Visitor:
    """Somebody who sends requests and keeps cookies."""

    def __init__(self) -> None:
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def ask(self, url: str, data: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def open(self, url: str) -> str:
        """Opens the page without a browser; the name of its kernel."""
        status, text = self.ask(url)
        assert status == 200
        return re.search(r'"kernelId": "([\w-]+)"', text)[1]


@contextmanager
def visit(browser, url: str, ready: str = ".stub", **context: object) -> Iterator[object]:
    """A page, once it shows `ready`; it is left at the end."""
    window = browser.new_context(**context)
    window.set_default_timeout(1000 * WAIT_S)
    page = window.new_page()
    try:
        page.goto(url, wait_until="commit")
        page.wait_for_selector(ready)
        yield page
        if not page.is_closed():
            page.goto("about:blank")
    finally:
        window.close()


def leave(app: Running, *kernels: str) -> None:
    """What a page does as it closes."""
    for kernel in kernels:
        Visitor().ask(f"{app.url}voila/api/shutdown/{kernel}", b"")
    until(lambda: not app.kernels)


# What is served


def test_only_cells_for_the_page_remain_and_parameters_follow_theirs(tmp_path):
    notebook = nbformat.read(write_notebook(tmp_path / "page.ipynb"), as_version=4)
    kept = app_cells(notebook, {"data_dir": "/elsewhere", "server_files": None})
    assert [cell.metadata.tags for cell in kept.cells] == [["parameters", "app"], ["injected-parameters"], ["app"]]
    values = {}
    exec("\n".join(cell.source for cell in kept.cells[:2]), values)
    assert (values["experiments_dir"], values["data_dir"], values["server_files"]) == (
        "experiments",
        "/elsewhere",
        None,
    )
    assert len(notebook.cells) == 4  # as it was


def test_a_notebook_without_cells_for_the_page_is_refused():
    with pytest.raises(ConfigError, match="no code cells tagged `app`"):
        app_cells(new_notebook(cells=[new_code_cell("1"), new_markdown_cell("x", metadata={"tags": ["app"]})]), {})


def test_the_page_has_neither_code_nor_explanations(app):
    visitor = Visitor()
    status, text = visitor.ask(app.url)
    assert status == 200
    assert "application/vnd.jupyter.widget-view+json" in text
    assert not re.search(rf"{SECRET}|anywidget\.AnyWidget|experiments_dir", text)
    leave(app, re.search(r'"kernelId": "([\w-]+)"', text)[1])


def test_a_page_starts_before_its_kernel_has_anything_to_say(app):
    arrived = {}
    with urllib.request.urlopen(app.url) as answer:
        for line in answer:
            arrived |= {word: time.monotonic() for word in ("Starting …", "</footer>", KERNEL) if word in line.decode()}
            if KERNEL in arrived:
                break
    assert list(arrived) == ["Starting …", "</footer>", KERNEL]
    assert arrived[KERNEL] - arrived["</footer>"] > 0.1
    until(lambda: not app.kernels)


# Who may come in


@pytest.mark.parametrize(
    ("local", "options", "key"),
    [
        (True, {}, ""), (False, {}, "auto"), (True, {"token": "auto"}, "auto"), (False, {"token": "mine"}, "mine"),
        (False, {"no_token": True}, ""), (False, {"password": "p"}, ""), (True, {"token": "t", "password": "p"}, "t"),
    ],
)  # fmt: skip
def test_a_token_is_drawn_where_others_reach_the_page(local, options, key):
    assert _key(local, **{"token": None, "password": None, "no_token": False} | options) == key


@pytest.mark.parametrize("options", [{"token": ""}, {"password": ""}, {"token": "t", "no_token": True}])
def test_options_that_open_the_page_by_mistake_are_refused(options):
    with pytest.raises(ConfigError, match="everybody in"):
        _key(False, **{"token": None, "password": None, "no_token": False} | options)


@pytest.mark.parametrize(
    ("ip", "local"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)],
)
def test_only_loopback_is_local(ip, local):
    assert is_local(ip) is local


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Running]:
    """One that others could reach, with a token that was drawn and a password."""
    notebook = write_notebook(tmp_path_factory.mktemp("guarded") / "page.ipynb")
    with varec_app(notebook, "--ip", "0.0.0.0") as running:
        running.url = running.url.replace(socket.gethostname(), "127.0.0.1")
        yield running


def test_without_the_token_there_is_the_way_in_and_nothing_else(guarded):
    home, token = guarded.url.split("?token=")
    assert re.fullmatch(r"[0-9a-f]{48}", token)
    for address in (home, home + "?token=wrong", home + "nothing"):
        status, text = Visitor().ask(address)
        assert status == 200 and "Token or password" in text and "kernelId" not in text
    for address in ("api/kernels/a-a-a-a-a", "api/kernels/a-a-a-a-a/channels", "voila/api/shutdown/a-a-a-a-a"):
        assert Visitor().ask(home + address, b"" if "shutdown" in address else None)[0] == 403
    assert not guarded.kernels


def test_a_token_opens_the_page_once_and_for_all(guarded):
    home = guarded.url.split("?")[0]
    visitor = Visitor()
    kernels = [visitor.open(guarded.url), visitor.open(home)]
    assert visitor.ask(f"{home}api/kernels/{kernels[0]}")[0] == 200
    assert Visitor().ask(f"{home}api/kernels/{kernels[0]}")[0] == 403
    for kernel in kernels:
        visitor.ask(f"{home}voila/api/shutdown/{kernel}", b"")
    until(lambda: not guarded.kernels)


@pytest.mark.slow
def test_a_password_opens_the_page_and_is_kept_hashed(tmp_path, browser):
    with (
        varec_app(write_notebook(tmp_path / "page.ipynb"), "--password", "open sesame") as running,
        visit(browser, running.url, "#password") as page,
    ):
        page.fill("#password", "open barley")
        page.click("button")
        assert "That was not it" in page.inner_text("[role=alert]")
        assert not running.kernels
        page.fill("#password", "open sesame")
        page.click("button")
        page.wait_for_selector(".stub")


def test_another_name_for_this_computer_leads_nowhere(app, tmp_path):
    status, text = Visitor().ask(app.url, Host="evil.example")
    assert status == 403 and "does not open" in text
    assert not app.kernels
    with varec_app(write_notebook(tmp_path / "page.ipynb"), "--no_token") as running:
        assert Visitor().ask(running.url + "x", Host="behind.a.proxy")[0] == 404


# What visitors can do


NOTHING = [
    "page.ipynb", "voila/files/page.ipynb", "voila/files/", "voila/render/page.ipynb", "files/page.ipynb", "tree",
    "api/kernels", "api/contents", "api/contents/page.ipynb", "api/sessions", "api/terminals", "api/config/x", "lab",
    "voila/static/../../../../../../../../etc/passwd", "voila/static/%2e%2e/%2e%2e/app.py", "?template=lab/../..",
    "voila/templates/varec/static/page.css", "voila/templates/../static/voila.js", "voila/api/themes/../../etc/passwd",
    "voila/labextensions/../../../../../../etc/passwd", "voila/labextensions/%2e%2e/kernels/python3/kernel.json",
]  # fmt: skip


@pytest.mark.parametrize("path", [path for path in NOTHING if not path.startswith("?")])
def test_no_file_and_no_list_can_be_had(app, path):
    host, port = app.url.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port))) as raw:  # a client that leaves the path as it is
        raw.sendall(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b"")).decode()
    assert re.match(r"HTTP/1\.[01] (403|404)", answer), answer[:200]
    assert SECRET not in answer and "root:" not in answer and "argv" not in answer


def test_another_template_cannot_be_asked_for(app):
    visitor = Visitor()
    status, text = visitor.ask(app.url + "?template=lab&theme=dark")
    assert status == 200 and "jsdelivr" not in text and 'class="varec-page"' in text
    leave(app, re.search(r'"kernelId": "([\w-]+)"', text)[1])


def message(kind: str, **content: object) -> str:
    """One that a browser could send to a kernel."""
    header = {"msg_id": kind, "msg_type": kind, "username": "", "session": "s", "version": "5.4", "date": ""}
    return json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})


def test_visitors_cannot_run_code(app, tmp_path):
    connect = pytest.importorskip("websockets.sync.client").connect
    visitor = Visitor()
    kernel = visitor.open(app.url)
    code = f"open({str(tmp_path / 'trace')!r}, 'w')"
    with connect(f"{app.url.replace('http', 'ws')}api/kernels/{kernel}/channels?session_id=s", max_size=None) as line:
        for channel in ("shell", "control"):
            line.send(message("execute_request", code=code, silent=False).replace('"shell"', f'"{channel}"'))
            line.send(message("inspect_request", code="open", cursor_pos=4).replace('"shell"', f'"{channel}"'))
        line.send(message("kernel_info_request"))
        seen = set()
        while "kernel_info_reply" not in seen:
            answer = json.loads(line.recv(timeout=WAIT_S))
            seen.add(answer["msg_type"])
    assert not seen & {"execute_reply", "execute_input", "inspect_reply"}
    assert not (tmp_path / "trace").exists()
    leave(app, kernel)


def test_a_page_of_another_site_cannot_speak_to_a_kernel(app):
    websockets = pytest.importorskip("websockets.sync.client")
    kernel = Visitor().open(app.url)
    with pytest.raises(Exception, match="403"):
        websockets.connect(
            f"{app.url.replace('http', 'ws')}api/kernels/{kernel}/channels?session_id=s", origin="http://evil.example"
        )
    leave(app, kernel)


@pytest.mark.parametrize(
    ("wanted", "asking", "status"),
    [
        ("image", "cross-site", 403),  # <img src="http://127.0.0.1:8866/">
        ("empty", "cross-site", 403),
        ("iframe", "cross-site", 403),
        ("document", "cross-site", 200),  # a link
        ("iframe", "same-origin", 200),  # behind a proxy
    ],
)
def test_other_sites_cannot_start_kernels(app, wanted, asking, status):
    headers = {"Sec-Fetch-Dest": wanted, "Sec-Fetch-Site": asking}
    answered, text = Visitor().ask(app.url, **headers)
    assert answered == status and (KERNEL in text) == (status == 200)
    if status == 200:
        leave(app, re.search(r'"kernelId": "([\w-]+)"', text)[1])
    assert not app.kernels


# How many, how long


@pytest.mark.slow
def test_one_page_too_many_is_asked_to_come_back(tmp_path):
    with varec_app(write_notebook(tmp_path / "page.ipynb"), "--max_kernels", "1") as running:
        kernel = Visitor().open(running.url)
        before = running.kernels
        status, text = Visitor().ask(running.url)
        assert status == 503 and "All places are taken." in text and "try again" in text
        assert running.kernels == before and len(before) == 1
        leave(running, kernel)
        kernel = Visitor().open(running.url)
        leave(running, kernel)


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory) -> Iterator[Running]:
    """One whose pages are forked from a process that is ready."""
    with varec_app(write_notebook(tmp_path_factory.mktemp("app") / "page.ipynb"), "--preloaded") as running:
        yield running


@pytest.mark.skipif(sys.platform != "linux", reason="imports start threads there, and with threads nothing is forked")
@pytest.mark.slow
class TestForked:
    def test_a_page_finds_everything_imported_and_shares_no_state(self, preloaded, browser):
        with visit(browser, preloaded.url) as one, visit(browser, preloaded.url) as other:
            assert one.inner_text(".stub p").endswith("True") and other.inner_text(".stub p").endswith("True")
            one.click(".stub button")
            one.wait_for_function("document.querySelector('.stub output').value == '1'")
            assert other.inner_text(".stub output") == "" and len(preloaded.kernels) == 2
            memory = [psutil.Process(kernel).memory_full_info() for kernel in preloaded.kernels]
            assert all(found.uss < 0.7 * found.rss for found in memory)  # most of it is shared
        until(lambda: not preloaded.kernels)

    def test_its_death_is_noticed(self, preloaded, browser):
        with visit(browser, preloaded.url) as page:
            os.kill(*preloaded.kernels, signal.SIGKILL)
            page.wait_for_selector("#notice")
            assert "The predictor has stopped." in page.inner_text("#notice")
        until(lambda: not preloaded.kernels)

    def test_nothing_is_left_of_a_server_that_was_killed(self, tmp_path, browser):
        with varec_app(write_notebook(tmp_path / "page.ipynb"), "--preloaded") as running:
            with visit(browser, running.url):
                children = psutil.Process(running.process.pid).children(recursive=True)
                assert running.kernels <= {child.pid for child in children}
                running.end(signal.SIGKILL)
                assert psutil.wait_procs(children, timeout=WAIT_S)[1] == []
        assert not any("NOTE" in line or "Traceback" in line for line in running.lines)


@pytest.mark.slow
def test_a_browser_that_dies_takes_its_kernel_along(tmp_path, launch):
    """Without a word: its process is killed. The kernel ends within a minute."""
    with varec_app(write_notebook(tmp_path / "page.ipynb")) as running:
        before = set(psutil.Process().children(recursive=True))
        browser = launch("--disable-extensions")
        page = browser.new_page()
        page.goto(running.url)
        page.wait_for_selector(".stub")
        assert len(running.kernels) == 1
        for process in set(psutil.Process().children(recursive=True)) - before:
            with suppress(psutil.Error):
                if "chrom" in process.name():
                    process.kill()
        until(lambda: not running.kernels, seconds=180)  # long before the ten minutes without use
    assert not any("Traceback" in line for line in running.lines)


@pytest.mark.slow
def test_a_server_that_was_started_again_is_named_as_the_reason(tmp_path, browser):
    notebook = write_notebook(tmp_path / "page.ipynb")
    with varec_app(notebook) as running:
        port = running.url.rsplit(":", 1)[1].strip("/")
        with visit(browser, running.url) as page:
            page.wait_for_load_state("networkidle")
            running.end()
            with varec_app(notebook, "--port", port):
                page.wait_for_selector("#notice button")
                assert page.inner_text("#notice").startswith("The server was started again.")
                assert "answers are kept" in page.inner_text("#notice")


@pytest.mark.slow
def test_a_page_that_is_not_used_falls_asleep_and_says_so(tmp_path, browser):
    with (
        varec_app(write_notebook(tmp_path / "page.ipynb"), "--idle_minutes", "0.15") as running,
        visit(browser, running.url) as page,
    ):
        for _ in range(6):  # use keeps it awake, for longer than 9 s and the 2 s between two looks of the server
            page.click(".stub button")
            page.wait_for_timeout(2000)
        assert running.kernels and page.locator("#notice").is_hidden()
        page.wait_for_selector("#notice")
        assert page.inner_text("#notice").startswith("This page has been asleep.")
        assert page.evaluate("document.getElementById('predictor').inert")
        until(lambda: not running.kernels)
        page.click("text=Reload the page")
        page.wait_for_selector(".stub")
        assert page.locator("#notice").is_hidden()


def test_a_page_notices_that_its_kernel_died(app, browser):
    with visit(browser, app.url) as page:
        os.kill(*app.kernels, signal.SIGKILL)
        page.wait_for_selector("#notice")
        assert "The predictor has stopped." in page.inner_text("#notice")
    until(lambda: not app.kernels)


def test_closing_a_page_ends_its_kernel_at_any_moment(app, browser):
    with visit(browser, app.url, "#status") as page:
        until(lambda: app.kernels)
    until(lambda: not app.kernels)
    with visit(browser, app.url) as page:
        (first,) = app.kernels
        page.reload(wait_until="commit")  # twice in a row; Chromium may refuse a second reload in the midst of one
        page.goto(app.url)
        page.wait_for_selector(".stub")
        until(lambda: len(app.kernels) == 1)
        assert first not in app.kernels
        with page.expect_event("close"):
            page.close(run_before_unload=True)  # the window, not its address
        until(lambda: not app.kernels)


def test_visitors_have_kernels_of_their_own(app, browser):
    with visit(browser, app.url) as one, visit(browser, app.url) as other:
        one.click(".stub button")
        one.wait_for_function("document.querySelector('.stub output').value == '1'")
        assert other.inner_text(".stub output") == ""
        assert len(app.kernels) == 2
    until(lambda: not app.kernels)


def test_a_server_that_was_out_of_reach_for_a_moment(app, browser):
    """While the connection to the kernel lived on, as it may when a computer wakes up."""
    with visit(browser, app.url) as page:
        page.route("**/api/kernels/*", lambda route: route.abort())
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_selector("#notice")
        assert "The connection is lost." in page.inner_text("#notice")
        page.unroute("**/api/kernels/*")
        page.wait_for_selector("#notice", state="hidden")
        page.click(".stub button")
        page.wait_for_function("document.querySelector('.stub output').value == '1'")
    until(lambda: not app.kernels)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_end_of_the_server_ends_all_kernels(tmp_path, by):
    with varec_app(write_notebook(tmp_path / "page.ipynb")) as running:
        Visitor().open(running.url)
        Visitor().open(running.url)
        kernels = running.kernels
        assert len(kernels) == 2
        status = running.end(by)
        assert status == (-by if by == signal.SIGKILL else 0)
        until(lambda: not any(map(psutil.pid_exists, kernels)))
    assert by == signal.SIGKILL or running.lines[-1] == "The page is closed.\n"
    assert "Traceback" not in "".join(running.lines), "".join(running.lines)


@pytest.mark.slow
def test_a_page_says_that_the_server_is_gone(tmp_path, browser):
    with varec_app(write_notebook(tmp_path / "page.ipynb")) as running, visit(browser, running.url) as page:
        running.end()
        page.wait_for_selector("#notice")
        assert "The connection is lost." in page.inner_text("#notice")


# What goes wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", ["raise ValueError('secret reason')", "import os; os._exit(1)", "'no widget' and None"]
)
def test_a_cell_that_fails_leaves_a_sentence_and_no_traceback(tmp_path, browser, cell):
    with varec_app(write_notebook(tmp_path / "page.ipynb", cell)) as running:
        with visit(browser, running.url, "#notice") as page:
            assert "The predictor could not start." in page.inner_text("#notice")
            assert not re.search(r"secret reason|Traceback|voila --|show_tracebacks", page.content())
            until(lambda: not running.kernels)
    assert ("secret reason" in "".join(running.lines)) == ("secret reason" in cell)  # for whoever runs it


def refused(*arguments: object) -> str:
    """What a `varec app` says that cannot start."""
    done = subprocess.run([VAREC, "app", *map(str, arguments)], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    return done.stderr


def test_a_port_in_use_is_a_sentence(app):
    notebook = next(Path(app.process.args[3]).parent.glob("*.ipynb"))
    said = refused("--notebook", notebook, "--port", app.url.strip("/").rsplit(":", 1)[1])
    assert re.fullmatch(r"varec: Port \d+ is in use already: end what uses it, or name another with --port\.\n", said)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_kernels": 0}, "--max_kernels must be 1 or more"),
        ({"idle_minutes": 0}, "--idle_minutes more than 0"),
        ({"files": Path("absent")}, "absent: there is no such folder"),
        ({"token": ""}, "say --no_token"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, sentence):
    notebook = write_notebook(tmp_path / "page.ipynb")
    with pytest.raises(ConfigError, match=sentence):
        serve(notebook, experiments_dir=tmp_path, data_dir=tmp_path, port=0, **options)


def test_what_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no such notebook"):
        serve(tmp_path / "absent.ipynb", experiments_dir=tmp_path, data_dir=tmp_path)
    (tmp_path / "text.ipynb").write_text("no notebook")
    with pytest.raises(ConfigError, match="is no notebook"):
        serve(tmp_path / "text.ipynb", experiments_dir=tmp_path, data_dir=tmp_path)
    assert "is no notebook" in refused("--notebook", tmp_path / "text.ipynb")


def test_an_address_that_is_not_here_is_refused(tmp_path):
    notebook = write_notebook(tmp_path / "page.ipynb")
    assert re.search(r"192\.0\.2\.1.*8866", refused("--notebook", notebook, "--ip", "192.0.2.1"))


# How it looks


def test_no_folder_of_the_server_is_offered_where_others_reach_it(guarded, browser):
    with visit(browser, guarded.url) as page:
        assert page.inner_text(".stub p").split()[2] == "None"
        assert "token" not in page.url  # nothing to read over a shoulder
        page.reload()
        page.wait_for_selector(".stub")
    until(lambda: not guarded.kernels)


def test_nothing_comes_from_elsewhere_and_nothing_goes_there(app, browser):
    asked, said = [], []
    with visit(browser, app.url + "nothing", "h1") as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
        page.goto(app.url)
        page.wait_for_selector(".stub")
        page.wait_for_timeout(1000)
        assert len(asked) > 10
        assert not [url for url in asked if not url.startswith((app.url, f"blob:{app.url}", "data:"))]
        assert not said
        blocked = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', error => String(error))")
        assert "Failed to fetch" in blocked and any("Content Security Policy" in line for line in said)
    until(lambda: not app.kernels)


def test_until_the_predictor_is_there_the_page_shows_where_it_will_be(app, browser):
    phone = {"width": 320, "height": 640}
    with visit(browser, app.url, "#status", viewport=phone, reduced_motion="reduce") as page:
        status = page.get_by_role("status")
        assert status.inner_text() == "Starting …" and status.get_attribute("aria-live") == "polite"
        assert page.get_by_role("contentinfo").is_visible()
        assert page.evaluate("getComputedStyle(document.querySelector('.page-spinner')).animationName") == "none"
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        page.wait_for_selector(".stub")
        assert page.locator("#loading").is_hidden()
    until(lambda: not app.kernels)


CONTRAST = """(selector) => {
  const light = (color) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = color.match(/[\\d.]+/g).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const element = document.querySelector(selector);
  let behind = element;
  while (/, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const pair = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
  return Math.max(...pair) / Math.min(...pair);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_by_day_and_by_night(app, browser, scheme):
    parts = ["h1", ".page-title p", ".page-header p", ".page-brand", ".page-footer p", "#status", "#notice p"]
    with visit(browser, app.url, color_scheme=scheme) as page:
        page.evaluate("document.getElementById('loading').hidden = false; varec.failed()")
        bright = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[1]")
        assert bright > 200 if scheme == "light" else bright < 60
        assert not {
            part: ratio for part in [*parts, "#notice button"] if (ratio := page.evaluate(CONTRAST, part)) < 4.5
        }
        page.goto(app.url + "nothing")
        assert page.inner_text("h1") == "There is nothing here."
        parts = ["h1", ".page-card p", ".page-button"]
        assert not {part: ratio for part in parts if (ratio := page.evaluate(CONTRAST, part)) < 4.5}
    until(lambda: not app.kernels)


@pytest.fixture(scope="module")
def page(app, browser):
    """The page, ready, for what follows."""
    with visit(browser, app.url, viewport={"width": 1280, "height": 800}) as opened:
        yield opened


def test_folders_arrive_in_the_notebook(app, page):
    folder = Path(app.process.args[3]).parent
    shown = page.inner_text(".stub p").split()
    assert shown[:2] == [str(folder / "experiments"), str(folder / "data/stick_actions")]
    assert shown[2] == (str(PROJECT_ROOT / "data") if (PROJECT_ROOT / "data").is_dir() else "None")


def test_the_page_can_be_read_by_machines_that_read_aloud(page):
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title() == "varec: what is happening in this video?"
    assert "width=device-width" in page.get_attribute("meta[name=viewport]", "content")
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).filter(visible=True).count() == 1
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["What is happening in this video?"]
    assert "deleted there after the answer" in page.get_by_role("contentinfo").filter(visible=True).inner_text()
    assert page.get_attribute("body", "class") == "varec-page"
    assert page.get_attribute("body", "data-jp-theme-light") is None


@pytest.mark.parametrize("width", [320, 768, 1280, 1920])
def test_the_page_fits_any_width(page, width):
    page.set_viewport_size({"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".stub").bounding_box()["width"] <= 1100


def test_a_page_lives_below_another_path_where_a_proxy_shows_it_there(tmp_path, browser):
    with varec_app(write_notebook(tmp_path / "page.ipynb"), "--base_url", "varec/page") as running:
        assert running.url.endswith("/varec/page/")
        top = running.url.removesuffix("varec/page/")
        assert Visitor().ask(top)[0] == 404
        asked = []
        with visit(browser, running.url) as page:
            page.on("request", lambda request: asked.append(request.url))
            page.click(".stub button")
            page.wait_for_function("document.querySelector('.stub output').value == '1'")
            page.reload()
            page.wait_for_selector(".stub")
        until(lambda: not running.kernels)
        assert asked and all(url.startswith((running.url, "data:", "blob:", "about:")) for url in asked)


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(not NGINX, reason="there is no nginx here")
def test_it_works_behind_nginx_as_the_documentation_sets_it_up(tmp_path, browser):
    guide = (PROJECT_ROOT / "docs" / "how_do_i.md").read_text(encoding="utf-8")
    location = re.search(r"```nginx\n(.*?)```", guide, re.DOTALL)[1]
    with varec_app(write_notebook(tmp_path / "page.ipynb"), "--base_url", "/varec/", "--token", "abc") as running:
        with socket.create_server(("127.0.0.1", 0)) as free:
            front = free.getsockname()[1]
        port = urllib.parse.urlsplit(running.url).port
        server = f"server {{ listen 127.0.0.1:{front}; {location.replace('8866', str(port))} }}"
        temporary = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in TEMPORARY_OF_NGINX)
        settings = f"pid {tmp_path}/pid; daemon off; events {{}} http {{ access_log off; {temporary} {server} }}"
        (tmp_path / "nginx.conf").write_text(settings)
        command = [NGINX, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors", "-p", tmp_path]
        proxy = subprocess.Popen(list(map(str, command)))
        try:
            until(lambda: proxy.poll() is not None or answers(front))
            assert Visitor().ask(f"http://127.0.0.1:{front}/varec/")[0] == 302  # to where it asks for the token
            with visit(browser, f"http://127.0.0.1:{front}/varec/?token=abc") as page:
                page.click(".stub button")  # the answer comes through a websocket
                page.wait_for_function("document.querySelector('.stub output').value == '1'")
        finally:
            proxy.terminate()
            proxy.wait(timeout=WAIT_S)
    assert not (tmp_path / "errors").read_text()
