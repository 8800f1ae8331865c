"""Many uploads, several users, and kernels that are killed: nothing grows, nothing is mixed up, nothing is left."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client import KernelManager
from page import Page, make_experiment, sandboxes

from varec_lib.predictor.page.queue import FAILED_INSIDE
from varec_lib.predictor.predict import Predictor
from varec_lib.predictor.sandbox import Limits

pytestmark = pytest.mark.slow

UPLOADS, WARM_UP = 100, 25
MOST_GROWTH_MB = 20  # less than 1 was measured
USERS, ROUNDS = 4, 6


@pytest.fixture(scope="module")
def experiments(tmp_path_factory, tiny_checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("experiments")
    make_experiment(folder, tiny_checkpoint)
    return folder


def used() -> tuple[float, int, int, int]:
    """Megabytes, open files, threads and children of this process, while nothing is answered."""
    for thread in threading.enumerate():
        if thread.name == "predictor":
            thread.join(30)
    this = psutil.Process()
    return this.memory_info().rss / 1e6, this.num_fds(), this.num_threads(), len(sandboxes())


def test_a_hundred_uploads_in_a_row_use_no_more_than_the_first_ones(experiments, write_video, tmp_path, monkeypatch):
    """Of all sorts: answered, refused, damaged, cancelled; 2 MB each, so that keeping them would show."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = write_video(tmp_path / "v.avi", [n % 256 for n in range(60)], size=(120, 160))
    video = path.read_bytes()
    video += bytes(2_000_000 - len(video))
    page = Page(experiments, limits=Limits(megabytes=3))
    before = None
    for number in range(WARM_UP + UPLOADS):
        if number == WARM_UP:
            page.settle()
            before = used()
        kind = number % 5
        if kind == 2:
            page.tell("cancel", key=page.upload(video, end=False))
        elif kind == 3:
            assert page.answered(page.upload(bytes(2_000_000)))["state"] == "failed"
        else:
            key = page.upload(video, preview=kind == 1)
            assert page.answered(key)["state"] == "done"
            page.tell("details", key=key)
            page.tell("pictures", key=key, segment=0)
            page.tell("preview", key=key)
        page.sent.clear()
    page.settle()
    after = used()
    print(f"\nbefore and after {UPLOADS} uploads (MB, files, threads, children): {before} {after}")
    assert after[0] - before[0] < MOST_GROWTH_MB
    assert after[1] <= before[1] and after[2] <= before[2] + 1 and after[3] == before[3]
    assert [*(tmp_path / "temporary").iterdir()] == []
    assert len(page.widget.rows) == 100


KERNEL = """
import psutil, sys, time
sys.path.insert(0, sys.argv[1])
from page import Page
content = open(sys.argv[3], "rb").read()
page = Page(sys.argv[2])
"""


@pytest.fixture
def kernel(experiments, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """`kernel(code, *arguments)`: a process as a page's kernel is, with a `page`; its temporary files in a folder."""
    started: list[subprocess.Popen] = []
    (tmp_path / "temporary").mkdir()

    def start(code: str, video: Path, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-c", KERNEL + code, Path(__file__).parent, experiments, video, *arguments]
        environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path,
        ))  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


UPLOADING = """
page.upload(content, end=False)
page.upload(content, piece=1000, end=False)
print("now", flush=True)
time.sleep(60)
"""
PREDICTING = """
page.upload(content, end=False)
keys = [page.upload(content, preview=True) for _ in range(3)]
while page.row(keys[0])["state"] != "predicting":
    time.sleep(0.001)
time.sleep(float(sys.argv[4]))
while not psutil.Process().children():
    time.sleep(0.001)
print("now", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def long_video(tmp_path_factory, write_video) -> Path:
    """One that takes a while to be decoded."""
    return write_video(tmp_path_factory.mktemp("long") / "v.avi", [n % 256 for n in range(1500)], size=(480, 640))


@pytest.mark.parametrize("wait_s", [None, 0.0, 0.15, 0.5])
def test_a_kernel_that_is_killed_leaves_nothing(kernel, long_video, tmp_path, wait_s):
    process = kernel(UPLOADING, long_video) if wait_s is None else kernel(PREDICTING, long_video, wait_s)
    assert process.stdout.readline() == "now\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) in ([0] if wait_s is None else [1, 2])  # what decodes, and what makes the preview
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert [*(tmp_path / "temporary").iterdir()] == []


ANSWERING = """
for _ in range(int(sys.argv[4])):
    key = page.upload(content, "mine.avi", piece=3000)
    print(page.answered(key)["state"], *page.widget._queue.all[key].prediction.top[0], flush=True)
"""


@pytest.mark.alone
def test_four_users_at_once_each_get_their_own_answer(kernel, tiny_checkpoint, write_video, tmp_path):
    """Every page has a kernel, so four processes; the answer to each video is that which it has alone."""
    predictor = Predictor.load(tiny_checkpoint)
    paths = [write_video(tmp_path / f"{user}.avi", [60 * user + n for n in range(40)]) for user in range(USERS)]
    alone = [predictor.predict_along(path).top[0] for path in paths]
    assert len({share for _, share in alone}) == USERS  # they can be told apart
    users = [kernel(ANSWERING, path, ROUNDS) for path in paths]
    answers = [user.communicate(timeout=120)[0].splitlines() for user in users]
    for said, (label, share) in zip(answers, alone, strict=True):
        assert len(said) == ROUNDS
        for line in said:
            state, found, probability = line.split()
            assert (state, found) == ("done", label) and float(probability) == pytest.approx(share, rel=1e-4)
    assert [*(tmp_path / "temporary").iterdir()] == []


BROKEN = """
import sys
sys.path.insert(0, {folder!r})
from page import Page
from varec_lib.predictor.page.choices import Choice
page = Page({experiments!r})
del page.widget.send
def broken():
    raise RuntimeError("boom")
page.widget._choices = [Choice(page.widget.model, "broken", broken)]
print(page.answered(page.upload(b"abc"))["sentence"])
page.widget._do_details = lambda *_: (_ for _ in ()).throw(RuntimeError("boom again"))
page.tell("details", key="k")
"""


def test_in_a_kernel_tracebacks_go_to_the_log_of_the_server(experiments, tmp_path):
    """A plain logger's would go to the page: what a kernel prints is shown there."""
    with (tmp_path / "log.txt").open("w") as log:
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(stdout=log, stderr=log)
        client = manager.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=60)
            shown: list[dict] = []
            code = BROKEN.format(folder=str(Path(__file__).parent), experiments=str(experiments))
            client.execute_interactive(code, timeout=60, output_hook=shown.append)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    assert FAILED_INSIDE in str(shown)  # as the sentence of the row, and printed
    assert not any(message["msg_type"] == "error" for message in shown) and not any(
        "boom" in str(message["content"]) for message in shown if message["msg_type"] != "execute_input"
    )
    logged = (tmp_path / "log.txt").read_text()
    assert logged.count("Traceback") == 2 and "boom again" in logged
