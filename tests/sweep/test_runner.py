"""Jobs run side by side, each once: when they fail, when a worker is killed, on a Dask cluster."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest

from varec_lib.cli import main
from varec_lib.errors import ConfigError
from varec_lib.sweep.jobs import jobs_of
from varec_lib.sweep.runner import run_jobs

pytestmark = [pytest.mark.slow, pytest.mark.notebooks]


@pytest.fixture
def jobs(counting_notebook, tmp_path):
    """`jobs(values, ...)`: jobs of the counting notebook."""

    def make(*values):
        return jobs_of(
            counting_notebook, [{"log_dir": str(tmp_path), **given} for given in values], tmp_path / "out", 1
        )

    return make


def test_jobs_run_once_and_leave_notebook_result_and_experiments(jobs, runs_of):
    some = jobs({"number": 1}, {"number": 2}, {"number": 3})
    run_jobs(some[:2], workers=2, progress=False)
    run_jobs(some, workers=2, progress=False)
    assert runs_of() == {1: 1, 2: 1, 3: 1}
    for number, job in enumerate(some, start=1):
        assert job.result["status"] == "ok" and job.result["headline"] == "threads 1"
        assert job.result["trained"] == [
            {"model": "tiny", "val_top1": number / 10, "test_top1": number / 20, "train_seconds": 1.0}
        ]
        assert (job.folder / "notebook.ipynb").is_file() and (job.folder / "experiments").is_dir()


def test_a_single_worker_leaves_the_environment_as_it_was(jobs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    (job,) = jobs({"number": 1})
    run_jobs([job], workers=1, progress=False)
    assert job.result["headline"] == "threads 1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "OMP_WAIT_POLICY" not in os.environ


def test_a_changed_parameter_is_another_job(jobs):
    one, other, same = jobs({"number": 1}), jobs({"number": 2}), jobs({"number": 1})
    assert one[0].folder == same[0].folder != other[0].folder


def test_a_job_that_fails_is_tried_again_and_the_others_go_on(jobs, runs_of):
    lucky, unlucky, fine = some = jobs(
        {"number": 1, "trouble": "once"}, {"number": 2, "trouble": "always"}, {"number": 3}
    )
    run_jobs(some, workers=2, retries=2, progress=False)
    assert runs_of() == {1: 2, 2: 3, 3: 1}
    assert lucky.result["status"] == fine.result["status"] == "ok" and lucky.result["attempts"] == 2
    assert "ValueError: no luck" in unlucky.result["status"]


def test_a_kernel_that_dies_is_a_job_that_failed(jobs, runs_of):
    some = jobs({"number": 1, "trouble": "kernel dies"}, {"number": 2})
    run_jobs(some, workers=1, retries=0, progress=False)
    assert "kernel died" in some[0].result["status"] and some[1].result["status"] == "ok"
    run_jobs(some, workers=1, progress=False)
    assert some[0].result["status"] == "ok" and runs_of() == {1: 2, 2: 1}


def test_models_of_a_job_count_once_and_also_where_a_lesson_did_not_hold(jobs):
    twice, never = some = jobs({"number": 1, "trouble": "once, trained"}, {"number": 2, "trouble": "always, trained"})
    run_jobs(some, workers=1, progress=False)
    assert twice.result["status"] == "ok" and "lesson" in never.result["status"] and never.result["attempts"] == 2
    assert [row["val_top1"] for row in twice.result["trained"]] == [0.1]
    assert [row["val_top1"] for row in never.result["trained"]] == [0.2]


def test_a_sweep_runs_the_notebook_that_it_began_with_in_a_folder_of_any_name(counting_notebook, tmp_path, runs_of):
    mine = tmp_path / "mine.ipynb"
    mine.write_text(counting_notebook.read_text())
    (job,) = jobs_of(mine, [{"log_dir": str(tmp_path), "number": 4}], tmp_path / "a {name}", None)
    mine.write_text("edited meanwhile")
    run_jobs([job], workers=1, progress=False)
    assert job.result["status"] == "ok" and runs_of() == {4: 1}


def test_a_worker_that_is_killed_takes_only_its_own_job_along(jobs, runs_of):
    some = jobs({"number": 1, "trouble": "kills the worker"}, *({"number": number} for number in (2, 3, 4)))
    run_jobs(some, workers=2, progress=False)
    assert all(job.result["status"] == "ok" for job in some)
    assert runs_of()[1] == 2 and all(runs_of()[number] <= 2 for number in (2, 3, 4))


def test_the_command_goes_on_where_it_was_killed(counting_notebook, tmp_path, runs_of, capsys):
    grid = tmp_path / "numbers.yaml"
    grid.write_text(json.dumps({"common": {"log_dir": str(tmp_path)}, "grid": {"number": [1, 2, 3, 4], "lr": [0.1]}}))
    words = ["sweep", str(grid), "--notebook", str(counting_notebook), "--out", str(tmp_path / "out"), "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "varec_lib.cli", *words], stdout=subprocess.DEVNULL, start_new_session=True
    )
    while not list((tmp_path / "out").glob("jobs/*/result.json")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert table["number"].tolist() == [4, 3, 2, 1] and set(table["status"]) == {"ok"}
    assert runs_of()[1] == 1 and sum(runs_of().values()) <= 5  # the one that was at work is run again
    assert "leaderboard.html" in capsys.readouterr().out


def test_a_sweep_in_which_a_job_fails_says_so(counting_notebook, tmp_path, capsys):
    grid = tmp_path / "numbers.yaml"
    grid.write_text(json.dumps({"common": {"log_dir": str(tmp_path)}, "list": [{"trouble": "always"}, {"number": 2}]}))
    words = ["sweep", str(grid), "--notebook", str(counting_notebook), "--out", str(tmp_path / "out"), "--retries", "0"]
    assert main(words) == 1
    assert "ValueError: no luck" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out" / "leaderboard.csv")["status"].tolist()[0] == "ok"


@pytest.fixture
def cluster(tmp_path):
    """A real Dask scheduler with two worker processes: (address, processes of the workers)."""
    pytest.importorskip("distributed")
    address_file = tmp_path / "scheduler.json"
    base = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*base, "--host", "127.0.0.1", "--scheduler-file", str(address_file)], **quiet)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file)]
    worker += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)]
    workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]
    while not address_file.is_file() or not address_file.read_text().strip():
        assert scheduler.poll() is None
        time.sleep(0.05)
    yield json.loads(address_file.read_text())["address"], workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_on_a_dask_cluster_a_killed_worker_loses_nothing(jobs, cluster, runs_of):
    address, workers = cluster
    some = jobs(*({"number": number} for number in range(1, 13)))
    killed = []

    def kill_one():
        while sum(job.result is not None for job in some) < 4:
            time.sleep(0.05)
        family = [workers[0].pid, *(child.pid for child in psutil.Process(workers[0].pid).children(recursive=True))]
        workers[0].kill()
        with suppress(ProcessLookupError):
            for process in family[1:]:
                os.kill(process, signal.SIGKILL)
        killed.append(True)

    thread = threading.Thread(target=kill_one)
    thread.start()
    run_jobs(some, workers=0, dask=address, progress=False)
    thread.join()
    assert killed and all(job.result["status"] == "ok" for job in some)
    counts = runs_of()
    assert len(counts) == 12
    assert sorted(counts.values())[:11] == [1] * 11 and max(counts.values()) <= 2  # the one at work on it began anew


def test_a_scheduler_that_is_not_there_is_a_sentence(jobs, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("varec_lib.sweep.runner.CONNECT_S", 1)
    with pytest.raises(ConfigError, match="Dask"):
        run_jobs(jobs({"number": 1}), workers=0, dask="tcp://127.0.0.1:9", progress=False)
