"""Does `pyproj2d3d reproduce` train what it says, go on where it was stopped, and report what came out?"""

import json
from dataclasses import replace

import pytest

pytest.importorskip("lightning", reason="the extra train is not installed")

from pyproj2d3d.cli import main
from pyproj2d3d.studies import ppkt as study

SMALLEST = replace(
    study.SIZES["tiny"], teacher_rooms=5, transfer_rooms=5, rooms=5, frames=2, image=(48, 64), classifier_steps=1,
    pretrain_steps=1, segment_steps=1, detect_steps=1, fractions=(0.15, 1.0), arms=("scratch", "shuffled", "ppkt"),
    detected=("scratch", "ppkt"), voxel_size=0.2, width=0.125, teacher_width=8,
)  # fmt: skip


@pytest.mark.parametrize("size", study.SIZES)
def test_every_training_comes_after_those_it_needs(size):
    jobs = study.jobs(study.SIZES[size], 3)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert all(set(job.needs) <= set(names[:i]) for i, job in enumerate(jobs))


def test_small_measures_what_every_claim_needs():
    names = {job.name for job in study.jobs(study.SIZES["small"], 3)}
    scores = {term[1:] for _, _, terms in study.CLAIMS for term in terms.removeprefix("= ").split()}
    for arm, of in (score.split("/") for score in scores):
        job = "detect" if of in study.IOUS else f"segment{of}"
        assert {f"{arm}.{seed}.{job}" for seed in range(3)} <= names


def made_up(size, seeds):
    """Scores by which PPKT gains 10 points wherever it is compared, the same in all seeds but for a little."""
    results = {}
    for i, job in enumerate(study.jobs(size, seeds)):
        arm, seed, *_ = (*job.name.split("."), "0")
        gain = (0.1 + 0.001 * int(seed)) * (arm.startswith("ppkt"))
        results[job.name] = {"seconds": 36.0}
        if job.name.endswith("detect"):
            results[job.name] |= {"val/map25": 0.3 + gain, "val/map50": 0.1 + gain}
        elif "segment" in job.name:
            results[job.name] |= {"val/miou": 0.4 + gain}
        elif job.does is study.train_teacher:
            results[job.name] |= {"val/accuracy": 0.5}
        else:
            results[job.name] |= {"val/retrieval": 0.01 * i}
    return results


@pytest.mark.parametrize("size", study.SIZES)
def test_the_report_says_what_the_scores_say(size, tmp_path):
    chosen = study.SIZES[size]
    path = study.report(tmp_path, size, chosen, 3, made_up(chosen, 3))
    text = path.read_text()
    assert (
        "| PPKT above scratch, 15 % of the labels | fig. 4, same domain: +2.2 | +10.1 | +9.9 to +10.3 | holds |" in text
    )
    assert "| that gain above the one with all | fig. 4, same domain | +0.0 | +0.0 to +0.0 | not significant |" in text
    assert "| the control like scratch |  | +0.0 | +0.0 to +0.0 | no difference seen |" in text
    assert "| from scratch | 40.0 ± 0.0 |" in text
    assert ("| Global KD |" in text) == (size == "small")
    assert (tmp_path / "labels.png").stat().st_size > 1000
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["jobs"] == made_up(chosen, 3)


def test_a_study_runs_and_is_not_done_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(study.SIZES, "smallest", SMALLEST)
    arguments = ["reproduce", "ppkt", "--size", "smallest", "--out", str(tmp_path)]
    assert main(arguments) == 0
    report = (tmp_path / "report.md").read_text()
    assert "| PPKT |" in report
    assert capsys.readouterr().out.startswith("# PPKT on synthetic rooms, size smallest")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "jobs").glob("*.json")}
    assert len(done) == len(study.jobs(SMALLEST, 3))
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "jobs").glob("*.json")} == done
    assert (tmp_path / "report.md").read_text() == report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["votenet"], "the paper must be one of ppkt, got votenet"),
        (["ppkt", "--size", "huge"], "size must be one of tiny, small, got 'huge'"),
        (["ppkt", "--seeds", "2"], "seeds must be at least 3, or nothing can be said of chance, got 2"),
        (["ppkt", "--processes", "-1"], "processes must be 0 or more, got -1"),
        (["ppkt", "--out", "file/in"], "file/in: cannot be written to"),
    ],
)
def test_what_cannot_be_reproduced_is_a_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["reproduce", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
