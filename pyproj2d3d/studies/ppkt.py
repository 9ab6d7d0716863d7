"""Do PPKT's orderings hold on a small scale? What ``pyproj2d3d reproduce ppkt`` trains and compares.

The main orderings of tables 1, 2, 4, 5 and 6 and of figure 4 of Liu et al. (2021, arXiv:2104.04687), on synthetic rooms
and with short trainings:

* For ImageNet and ADE20K stand pictures of rooms that nothing else sees. One ResNet-18 learns there which object a crop
  shows, another, by MoCo, which crops show the same without being told what, and an FCN the class of every pixel.
* For ScanNet's frames stand those of other rooms of the same style, without labels: SR-UNets learn from their pixels.
* For S3DIS and SUN RGB-D stand rooms of another style (palette, textures, light), of which some have labels: there
  every SR-UNet is trained on, for segmentation and for detection.

All that is compared takes as many steps, and students of single frames the same frames in the same order. A seed
chooses which rooms have labels and all that is random in pretraining and after it: differences are taken seed by seed.
What else is to be known stands in NOTES, and in every report.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from ..data.synth.generate import GENERATION, rooms_at
from ..data.synth.options import RoomOptions
from ..jobs import Job, Scores, device_name
from ..papers.ppkt import PPKT, PPKTData
from ..papers.ppkt_baselines import PPKD, GlobalDistillation, PointContrast, PointContrastData
from ..papers.segment3d import Segment3D, Segment3DData
from ..papers.teachers import ClassifierTeacher, MoCoTeacher, SegmentationTeacher, TeacherData
from ..papers.votenet import VoteNetData, VoteNetDetector
from ..report_study import Claim, claim_table, draw_by_labels, score_table


@dataclass(frozen=True)
class Size:
    """How much is trained. Steps are of the optimiser; a batch is of frames, or of rooms."""

    teacher_rooms: int
    transfer_rooms: int
    rooms: int  # with labels; every fifth is for scores
    frames: int  # of a room of the first two
    classifier_steps: int
    moco_steps: int
    segmentation_steps: int
    pretrain_steps: int
    segment_steps: int
    detect_steps: int
    fractions: tuple[float, ...]  # of the labelled rooms, the smallest first
    arms: tuple[str, ...]  # what is compared for segmentation with the smallest fraction
    detected: tuple[str, ...]  # and for detection
    deep: bool  # whether SR-UNet34 is compared too
    image: tuple[int, int] = (240, 320)
    frame_batch: int = 4
    room_batch: int = 2
    voxel_size: float = 0.15
    width: float = 0.5
    teacher_width: int = 32


ARMS = {
    "scratch": "from scratch",
    "global_kd": "Global KD",
    "gupta": "Gupta et al.",
    "crd": "CRD",
    "pointcontrast": "PointContrast-style",
    "ppkd": "PPKD, teacher of segmentation",
    "ppkt_fcn": "PPKT, teacher of segmentation",
    "ppkt_moco": "PPKT, self-supervised teacher",
    "shuffled": "PPKT, pairs shuffled (control)",
    "ppkt": "PPKT",
    "scratch_34": "SR-UNet34 from scratch",
    "ppkt_34": "SR-UNet34, PPKT",
}
TEACHERS = {"ppkt_fcn": "segmentation", "ppkd": "segmentation", "ppkt_moco": "moco"}  # the others': classifier
BN_MOMENTUM = 0.1  # in so few steps smaller ones leave the norms what they were before training
# Of pretraining. The paper's 0.5 makes weights so large that a short training after it hardly turns them.
PRETRAIN_LR = {"ppkd": 0.1, "pointcontrast": 0.1}  # others: 0.01
LEARNED = 0.02  # a score below which nothing has been learned, and nothing can be compared
IOUS = {"map25": "mAP@.25", "map50": "mAP@.5"}
# The paper's orderings, and those of the control: what is said, where the paper has it, and of which scores it says
# that their sum is positive or, with "=", zero. A score is an arm's: with so many percent of the labels, or at an IoU.
CLAIMS = (
    ("PPKT above scratch, 15 % of the labels", "fig. 4, same domain: +2.2", "+ppkt/15 -scratch/15"),
    ("that gain above the one with 50 %", "fig. 4, same domain", "+ppkt/15 -scratch/15 -ppkt/50 +scratch/50"),
    ("that gain above the one with all", "fig. 4, same domain", "+ppkt/15 -scratch/15 -ppkt/100 +scratch/100"),
    ("PPKT above scratch, all labels", "table 1: +3.1 (table 3, same domain: +0.1)", "+ppkt/100 -scratch/100"),
    ("PPKT above Global KD", "table 1, all labels: +1.7", "+ppkt/15 -global_kd/15"),
    ("PPKT above Gupta et al.", "table 1, all labels: +3.9", "+ppkt/15 -gupta/15"),
    ("PPKT above CRD", "table 1, all labels: +2.6", "+ppkt/15 -crd/15"),
    ("PPKT above PointContrast", "table 1, all labels: +1.4", "+ppkt/15 -pointcontrast/15"),
    ("PointContrast above scratch", "table 1, all labels: +1.7", "+pointcontrast/15 -scratch/15"),
    ("Global KD like scratch", "table 1, all labels: +1.4, called similar", "= +global_kd/15 -scratch/15"),
    ("Gupta et al. like scratch", "table 1, all labels: -0.8", "= +gupta/15 -scratch/15"),
    ("CRD like scratch", "table 1, all labels: +0.5", "= +crd/15 -scratch/15"),
    (
        "the gain of SR-UNet34 above that of 18",
        "table 4: 3.1, 1.7",
        "+ppkt_34/100 -scratch_34/100 -ppkt/100 +scratch/100",
    ),
    ("SR-UNet18 with PPKT above 34 from scratch", "table 4: +1.2", "+ppkt/100 -scratch_34/100"),
    ("PPKT above scratch, mAP@.25", "table 2: +2.1", "+ppkt/map25 -scratch/map25"),
    ("PPKT above scratch, mAP@.5", "table 2: +1.1", "+ppkt/map50 -scratch/map50"),
    ("PPKT above PointContrast, mAP@.25", "table 2: +1.1", "+ppkt/map25 -pointcontrast/map25"),
    ("PPKT above PointContrast, mAP@.5", "table 2: +1.2", "+ppkt/map50 -pointcontrast/map50"),
    ("PointContrast above scratch, mAP@.25", "table 2: +0.9", "+pointcontrast/map25 -scratch/map25"),
    ("the contrast above PPKD", "table 5 (mAP@.25): +2.0", "+ppkt_fcn/15 -ppkd/15"),
    ("PPKD above scratch", "table 5 (mAP@.25): +0.9", "+ppkd/15 -scratch/15"),
    ("a teacher of segmentation above one of classes", "table 5 (mAP@.25): +0.8", "+ppkt_fcn/15 -ppkt/15"),
    ("a self-supervised teacher like a supervised one", "table 6 (mAP@.25): -0.1", "= +ppkt_moco/15 -ppkt/15"),
    ("PPKT above its control", "", "+ppkt/15 -shuffled/15"),
    ("the control like scratch", "", "= +shuffled/15 -scratch/15"),
    ("PPKT above its control, all labels", "", "+ppkt/100 -shuffled/100"),
)
NOTES = """\
* Fine-tuning is on rooms of another style than pretraining; the paper's figure 4 and table 3 stay in one domain. Its
  tables have all labels; here only what says so has, and detection.
* The rooms of teachers, of pretraining and of scores are one set each, and every teacher is trained once: the intervals
  hold no chance of these, and what is said of teachers compares single ones.
* The teachers know the classes that are scored, from rooms with labels of their own; ImageNet's are others. MoCo is not
  told what an object is, but where it is.
* Students of single frames see the same frames in the same order, PointContrast's pairs of them and so twice as many.
  It has colours, as all have in fine-tuning, and turns views about the vertical alone: from views turned in any way it
  learned nothing in so few steps.
* Rates of pretraining are far below the paper's, with batches of four frames and few steps: 0.1 for PPKD and
  PointContrast, 0.01 for all others. Of these two each method has the one with the better score of its own on held-out
  frames of pretraining, after 80 steps (PPKT: 150 and more), or the smaller where these did not differ (Global KD,
  Gupta et al., CRD). Scores after fine-tuning had no part in it.
* With three seeds an interval reaches 2.5 standard deviations to either side: effects of one to three points, as the
  paper's, are seen only where the differences scatter by less than about one.
* Left out: the other rows of table 2, of which CRD is above PPKT at mAP@.5, and of table 3, where Global KD is the best
  in segmentation; PointContrast's official weights.
"""
GLOBAL: dict[str, Literal["kd", "l2", "crd"]] = {"global_kd": "kd", "gupta": "l2", "crd": "crd"}
UNTAUGHT = ("scratch", "scratch_34", "pointcontrast")
SIZES = {
    "tiny": Size(
        teacher_rooms=10, transfer_rooms=10, rooms=15, frames=6, classifier_steps=40, moco_steps=0,
        segmentation_steps=0, pretrain_steps=20, segment_steps=20, detect_steps=20, fractions=(0.15, 1.0),
        arms=("scratch", "gupta", "shuffled", "ppkt"), detected=("scratch", "ppkt"), deep=False,
    ),
    "small": Size(
        teacher_rooms=50, transfer_rooms=50, rooms=40, frames=12, classifier_steps=450, moco_steps=200,
        segmentation_steps=250, pretrain_steps=200, segment_steps=200, detect_steps=150,
        fractions=(0.15, 0.5, 1.0), arms=tuple(arm for arm in ARMS if not arm.endswith("_34")),
        detected=("scratch", "pointcontrast", "ppkt"), deep=True,
    ),
}  # fmt: skip


def prepare(out: Path, size: Size) -> None:
    """The rooms, where they are not there yet."""
    for part in ("teacher", "transfer", "labelled"):
        _rooms(out, size, part)


def _rooms(out: Path, size: Size, part: str) -> str:
    """The folder of the teacher's, the transfer or the labelled rooms."""
    posed = RoomOptions(frames=size.frames, size=size.image)
    plain = RoomOptions(frames=0, style="studio", spacing=0.06)
    scenes, options, seed = {
        "teacher": (size.teacher_rooms, posed, 1),
        "transfer": (size.transfer_rooms, posed, 2),
        "labelled": (size.rooms, plain, 4),
    }[part]
    kind = hashlib.sha256(f"{GENERATION} {scenes} {seed} {options!r}".encode()).hexdigest()[:8]
    return str(rooms_at(out / "rooms" / f"{part}-{kind}", scenes=scenes, options=options, seed=seed))


def jobs(size: Size, seeds: int) -> list[Job]:
    """All trainings, those that others need before them."""
    taught = [arm for arm in (*size.arms, *(("ppkt_34",) if size.deep else ())) if arm not in ("scratch", "scratch_34")]
    kinds = sorted({TEACHERS.get(arm, "classifier") for arm in taught if arm not in UNTAUGHT})
    listed = [
        Job(
            f"teacher_{kind}", train_teacher, {"size": size, "kind": kind},
            ("teacher_classifier",) if kind == "segmentation" else (),
        )
        for kind in kinds
    ]  # fmt: skip
    for seed in range(seeds):
        for arm in taught:
            needs = () if arm in UNTAUGHT else (f"teacher_{TEACHERS.get(arm, 'classifier')}",)
            arguments = {"size": size, "arm": arm, "seed": seed, "lr": PRETRAIN_LR.get(arm, 0.01)}
            listed.append(Job(f"{arm}.{seed}", pretrain, arguments, needs))
    for seed in range(seeds):
        wanted = [(arm, size.fractions[0]) for arm in size.arms]
        wanted += [(arm, fraction) for fraction in size.fractions[1:] for arm in ("scratch", "ppkt")]
        wanted += [("shuffled", 1.0)]
        wanted += [(arm, 1.0) for arm in ("scratch_34", "ppkt_34") if size.deep]
        for arm, fraction in wanted:
            arguments = {"size": size, "arm": arm, "seed": seed, "fraction": fraction}
            listed.append(Job(f"{arm}.{seed}.segment{round(100 * fraction)}", segment, arguments, _before(arm, seed)))
        for arm in size.detected:
            arguments = {"size": size, "arm": arm, "seed": seed}
            listed.append(Job(f"{arm}.{seed}.detect", detect, arguments, _before(arm, seed)))
    return listed


def _before(arm: str, seed: int) -> tuple[str, ...]:
    return () if arm.startswith("scratch") else (f"{arm}.{seed}",)


def train_teacher(out: Path, size: Size, kind: str) -> Scores:
    seed_everything(0, verbose=False)
    smaller: dict[str, Any] = {"size": size.image}
    if kind == "segmentation":  # its maps are of stride 8, and not 32: a smaller image shows as much to it
        smaller = {"size": (size.image[0] // 2, size.image[1] // 2), "resize": (1.0, 2.0)}
    data = TeacherData(_rooms(out, size, "teacher"), workers=0, **smaller)
    options: dict[str, Any] = {"depth": 18, "width": size.teacher_width}
    teacher: LightningModule
    if kind == "classifier":
        teacher, steps = ClassifierTeacher(data.classes, **options), size.classifier_steps
    elif kind == "moco":
        teacher, steps = MoCoTeacher(queue=512, lr=0.03, **options), size.moco_steps
    else:
        options["init"] = str(_checkpoint(out, "teacher_classifier"))  # as those of ADE20K begin from ImageNet's
        teacher, steps = SegmentationTeacher(data.classes, **options), size.segmentation_steps
    return _trained(teacher, data, steps, out, f"teacher_{kind}")


def pretrain(out: Path, size: Size, arm: str, seed: int, lr: float) -> Scores:
    seed_everything(seed, verbose=False)
    student: dict[str, Any] = {
        "net": "sr_unet34" if arm.endswith("_34") else "sr_unet18", "width": size.width,
        "voxel_size": size.voxel_size, "bn_momentum": BN_MOMENTUM, "lr": lr, "seed": seed,
    }  # fmt: skip
    where: dict[str, Any] = {"every": 1, "size": size.image, "batch_size": size.frame_batch, "workers": 0, "seed": seed}
    name = f"{arm}.{seed}"
    if arm == "pointcontrast":  # turned as rooms are: from views that may stand on their heads it learns nothing here
        pairs = PointContrastData(_rooms(out, size, "transfer"), **where)
        return _trained(
            PointContrast(pairs=1024, features="color", upright=True, **student), pairs, size.pretrain_steps, out, name
        )
    student |= {
        "teacher": 18, "teacher_width": size.teacher_width, "teacher_weights": str(_teacher_of(out, arm)),
        "teacher_prefix": "" if TEACHERS.get(arm) == "moco" else "net.", "distort": False,
    }  # fmt: skip
    pairs_of: dict[str, Any] = {"pairs": 1024, "sampling": "one_per_voxel"}
    model: LightningModule
    if arm in GLOBAL:
        model = GlobalDistillation(GLOBAL[arm], **student)
    elif arm == "ppkd":
        model = PPKD(**pairs_of, **student)
    else:
        student |= {"teacher_net": "resnet_fcn" if arm == "ppkt_fcn" else "resnet", "shuffled": arm == "shuffled"}
        model = PPKT(pictures=2, **pairs_of, **student)
    data = PPKTData(_rooms(out, size, "transfer"), **where)
    return _trained(model, data, size.pretrain_steps, out, name)


def segment(out: Path, size: Size, arm: str, seed: int, fraction: float) -> Scores:
    seed_everything(seed, verbose=False)
    data = Segment3DData(
        _rooms(out, size, "labelled"), batch_size=size.room_batch, workers=0, seed=seed, distort=False,
        fraction=fraction, fraction_seed=seed,
    )  # fmt: skip
    model = Segment3D(
        data.classes, voxel_size=size.voxel_size, bn_momentum=BN_MOMENTUM, pictures=0, **_network(out, size, arm, seed)
    )
    return _trained(model, data, size.segment_steps, out, f"{arm}.{seed}.segment{round(100 * fraction)}", keep=False)


def detect(out: Path, size: Size, arm: str, seed: int) -> Scores:
    seed_everything(seed, verbose=False)
    data = VoteNetData(_rooms(out, size, "labelled"), batch_size=size.room_batch, workers=0, seed=seed)
    model = VoteNetDetector(
        data.classes, voxel_size=size.voxel_size, points=20_000, n_seeds=256, n_proposals=256, lr=4e-3,
        bn_momentum=BN_MOMENTUM,
        **_network(out, size, arm, seed),
    )  # fmt: skip
    return _trained(model, data, size.detect_steps, out, f"{arm}.{seed}.detect", keep=False)


def _network(out: Path, size: Size, arm: str, seed: int) -> dict[str, Any]:
    """Where fine-tuning begins."""
    init = None if arm.startswith("scratch") else str(_checkpoint(out, f"{arm}.{seed}"))
    return {"net": "sr_unet34" if arm.endswith("_34") else "sr_unet18", "width": size.width, "init": init}


def _teacher_of(out: Path, arm: str) -> Path:
    return _checkpoint(out, f"teacher_{TEACHERS.get(arm, 'classifier')}")


def _checkpoint(out: Path, name: str) -> Path:
    return out / "checkpoints" / f"{name}.ckpt"


def _trained(
    model: LightningModule, data: LightningDataModule, steps: int, out: Path, name: str, keep: bool = True
) -> Scores:
    """Train for so many steps, score once. The log and what it draws are in ``logs/<name>``."""
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, check_val_every_n_epoch=10**9, num_sanity_val_steps=0, devices=1,
        logger=CSVLogger(out / "logs", name=name, version=""), log_every_n_steps=10, default_root_dir=out,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    scores = trainer.validate(model, data, verbose=False)[0]
    if keep:
        path = _checkpoint(out, name)
        trainer.save_checkpoint(path.with_suffix(".partial"), weights_only=True)
        path.with_suffix(".partial").replace(path)
    return {key: float(value) for key, value in scores.items()}


def report(out: Path, name: str, size: Size, seeds: int, results: dict[str, Scores]) -> Path:
    """``report.md``, which is returned, ``labels.png`` and ``results.json``: all scores, and which orderings hold."""

    def scores(arm: str, of: str) -> list[float]:
        """Of all seeds; none where the size has not measured it."""
        job, score = ("detect", f"val/{of}") if of in IOUS else (f"segment{of}", "val/miou")
        found = [results.get(f"{arm}.{seed}.{job}", {}).get(score) for seed in range(seeds)]
        return [value for value in found if value is not None]

    shares = [f"{100 * fraction:.0f}" for fraction in size.fractions]
    headings = {share: f"mIoU, {share} %" for share in shares} | IOUS
    columns = {heading: {arm: scores(arm, of) for arm in ARMS} for of, heading in headings.items()}
    columns["own pixel"] = {
        arm: [results[f"{arm}.{seed}"]["val/retrieval"] for seed in range(seeds)]
        for arm in ARMS
        if arm.startswith(("ppkt", "shuffled")) and f"{arm}.0" in results
    }
    rows = {arm: title for arm, title in ARMS.items() if any(column.get(arm) for column in columns.values())}
    claims = []
    for text, source, terms in CLAIMS:
        equal, signed = terms.startswith("= "), terms.removeprefix("= ").split()
        values = [scores(*term[1:].split("/")) for term in signed]
        if all(values):
            signs = [float(f"{term[0]}1") for term in signed]
            differences = [sum(map(mul, signs, of_seed)) for of_seed in zip(*values, strict=True)]
            claims.append(Claim(text, source, differences, equal, max(map(mean, values)) > LEARNED))
    curves = {
        ARMS[arm]: {fraction: scores(arm, share) for fraction, share in zip(size.fractions, shares, strict=True)}
        for arm in ("scratch", "ppkt")
    }
    draw_by_labels(out / "labels.png", curves, "mIoU, %")
    hours = sum(job["seconds"] for job in results.values()) / 3600
    path = out / "report.md"
    path.write_text(
        f"# PPKT on synthetic rooms, size {name}\n\n"
        f"`pyproj2d3d reproduce ppkt --size {name} --seeds {seeds}`: {len(results)} trainings, {hours:.1f} hours of "
        f"one process, on {device_name()}.\n\n"
        f"{score_table(rows, columns)}\n"
        f"Percent, mean ± standard deviation of {seeds} seeds. mIoU: segmentation with that share of the labelled "
        "rooms. mAP: detection with all of them. Own pixel: how often a point of a frame that was not trained on is "
        "nearest to its own of 256 pixels, in the space that both share; guessing gives 0.4.\n\n"
        f"{_teachers(results)}\n\n"
        "## What the paper says, and what is seen here\n\n"
        f"{claim_table(claims)}\n"
        "Differences are in points, mIoU with 15 % of the labels where nothing else is said, taken seed by seed; the "
        'interval is that of Student\'s t. "Holds" and "does not hold": zero is outside of it. If nothing differed, '
        f"{0.05 * len(claims):.1f} of these {len(claims)} intervals would exclude it by chance. "
        '"No difference seen" does not say that there is none: the interval says how large it may be. '
        f'"Nothing learned": no score in it is above {100 * LEARNED:.0f} %.\n\n'
        "![mIoU over the share of labelled rooms](labels.png)\n\n"
        f"## What to know\n\n{NOTES}"
    )
    kept = {"size": asdict(size), "seeds": seeds, "jobs": results}
    (out / "results.json").write_text(json.dumps(kept, indent=1, sort_keys=True))
    print(path.read_text())
    return path


def _teachers(results: dict[str, Scores]) -> str:
    said = [
        f"{name.removeprefix('teacher_')} ("
        + ", ".join(f"{key.removeprefix('val/')} {100 * value:.1f} %" for key, value in scores.items() if "/" in key)
        + ")"
        for name, scores in results.items()
        if name.startswith("teacher_")
    ]
    return f"Teachers, on rooms of theirs that they had not seen: {'; '.join(sorted(said))}."
