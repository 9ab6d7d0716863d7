"""Are the trainings of a study each done once, in their order, and never half?"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_jobs

from pyproj2d3d.jobs import Job, run_jobs

A, B = (Job(name, small_jobs.count, {"name": name}) for name in "ab")
BOTH = Job("both", small_jobs.added, {"names": "ab"}, needs=("a", "b"))


def times(out, name):
    return int((out / f"{name}.txt").read_text())


def test_a_job_comes_after_those_it_needs_and_is_done_once(tmp_path):
    results = run_jobs([A, B, BOTH], tmp_path, 2)
    assert results["both"]["sum"] == 2
    assert results["a"]["seconds"] > 0
    assert run_jobs([A, B, BOTH], tmp_path, 1) == results
    assert times(tmp_path, "a") == times(tmp_path, "b") == 1


def test_a_job_with_other_arguments_is_done_again_and_so_is_what_needs_it(tmp_path):
    run_jobs([A, B, BOTH], tmp_path, 1)
    changed = Job("a", small_jobs.count, {"name": "a", "add": 1})
    results = run_jobs([changed, B, BOTH], tmp_path, 1)
    assert (times(tmp_path, "a"), times(tmp_path, "b")) == (2, 1)
    assert results["both"]["sum"] == 3
    assert results["a"]["sum"] == 1


def test_what_was_cut_off_while_it_was_written_is_done_again(tmp_path):
    run_jobs([A], tmp_path, 1)
    path = tmp_path / "jobs" / "a.json"
    path.rename(path.with_suffix(".partial"))
    run_jobs([A], tmp_path, 1)
    assert times(tmp_path, "a") == 2
    assert set(json.loads(path.read_text())) == {"job", "scores"}


def test_a_damaged_file_of_scores_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "jobs" / "a.json"
    path.parent.mkdir()
    for damaged in ("", "{", "[]", "\x00"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"a\.json: must hold the scores of a job"):
            run_jobs([A], tmp_path, 1)


@pytest.mark.parametrize(
    ("does", "message"),
    [(small_jobs.fails, "job bad: RuntimeError: no luck"), (small_jobs.dies, "job bad: .*process")],
)
def test_a_job_that_fails_is_named_and_what_was_done_before_stays(tmp_path, does, message):
    bad = Job("bad", does, needs=("a",))
    with pytest.raises(ValueError, match=message):
        run_jobs([A, bad], tmp_path, 1)
    assert (tmp_path / "jobs" / "a.json").exists()


def test_a_job_that_needs_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="job both needs b, which is not among the jobs before it"):
        run_jobs([A, BOTH], tmp_path, 1)


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_ended_leaves_no_process_behind(tmp_path, ended):
    script = tmp_path / "study.py"
    script.write_text(
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import small_jobs; from pyproj2d3d.jobs import Job, run_jobs\n"
        "if __name__ == '__main__':\n"
        "    run_jobs([Job('long', small_jobs.waits, {'seconds': 60})], Path(sys.argv[2]), 1)\n"
    )
    study = subprocess.Popen(
        [sys.executable, script, Path(__file__).parent, tmp_path], cwd=tmp_path, start_new_session=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    study.send_signal(ended)
    assert study.wait(30) != 0
    deadline = time.monotonic() + 30  # a job would wait for longer
    while is_there(study.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(study.pid)


def is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
