"""Every kind of stage, one line each, in the order in which they run: what the two programs have to know of a kind stands here alone.

A new kind needs its line here, the part of the spec that decides its output (`hashes`), its field in `scheduling`, and its module in the
trainer. Which stages a spec has, their order and hashes, verbs, weights, conditions and phases follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from . import reasons
from .inputs import EVALUATION_ROWS, ORIGIN, STUDENT, TEACHER, TOKENIZER, TRACES_MADE_BEFORE, TRAIN_ROWS
from .job import DistillationJobSpec

PREFLIGHT, TRACES, CURATE, TRAIN, EVALUATE = "preflight", "traces", "curate", "train", "evaluate"
EXPORT, PUBLISH = "export", "publish"


class Kind(NamedTuple):
    """A kind of stage; its name is its verb of `distill`, and its module in the trainer."""

    name: str
    #: What its verb says of itself.
    about: str
    #: Number of its output's form. Raised only when the meaning of the output changes: then, and only then, finished stages run again.
    #: 0 for a kind that leaves nothing behind.
    format: int
    #: For display while a stage of it is the one that runs.
    phase: str
    #: Part of the whole that one stage of it usually takes, in percent.
    weight: int
    #: Stages whose output it is made of, so that their hashes are in its own.
    reads: tuple[str, ...] = ()
    #: Inputs that it is made of, so that their digests are in its hash.
    sources: tuple[str, ...] = ()
    #: Inputs that its pods open: they get the credentials and claims of these alone, beside those of the output.
    opens: tuple[str, ...] = ()
    #: The condition that says how its stages stand, and what it says where a spec needs none.
    condition: str | None = None
    absent: str = ""
    #: Whether gates decide its end. They are not in the hash: output that is there already is judged by them anew.
    gated: bool = False
    #: Whether its pods speak to the gateway about a teacher behind an API.
    asks: bool = False
    #: Whether each job has its own: the hash covers the job and every stage before, and the stage always gets its pod.
    owned: bool = False
    #: Whether there is one stage for each export, instead of one.
    per_export: bool = False
    #: Whether a spec needs it.
    needed: Callable[[DistillationJobSpec], bool] = lambda spec: True


_ALL: Final = (
    # preflight learns who a teacher behind an API is, traces buys its answers, publish asks once more what its terms say
    Kind(
        PREFLIGHT, "check the inputs and say what is already done", 0, "Preflight", 2, asks=True,
        opens=(TEACHER, TOKENIZER, TRACES_MADE_BEFORE, STUDENT, TRAIN_ROWS, EVALUATION_ROWS),
    ),
    Kind(
        TRACES, "let the teacher write and score", 1, "Traces", 25, asks=True,
        sources=(TEACHER, TOKENIZER, TRAIN_ROWS, EVALUATION_ROWS), opens=(TEACHER, TOKENIZER, TRAIN_ROWS, EVALUATION_ROWS),
        condition=reasons.TRACES_READY, absent="teacher.traces holds traces that were made before",
        needed=lambda spec: spec.teacher.traces is None,
    ),
    Kind(
        CURATE, "choose the rows to train on", 1, "Curate", 3, reads=(TRACES,), sources=(STUDENT,), opens=(TRACES_MADE_BEFORE, STUDENT),
    ),
    Kind(
        TRAIN, "train the student", 2, "Train", 45, reads=(TRACES, CURATE), sources=(ORIGIN,), opens=(TRACES_MADE_BEFORE, ORIGIN),
        condition=reasons.TRAINED,
    ),
    Kind(
        # the untrained student that it compares with is made anew; which one that was is in the hash of train
        EVALUATE, "measure teacher, student and baseline, and check the gates", 1, "Evaluate", 10, reads=(TRACES, TRAIN),
        opens=(TRACES_MADE_BEFORE, ORIGIN), condition=reasons.EVALUATED, gated=True,
    ),
    Kind(
        EXPORT, "make one artifact and measure it in its own runtime", 1, "Export", 10, reads=(TRACES, TRAIN), opens=(TRACES_MADE_BEFORE,),
        condition=reasons.EXPORTED, absent="spec.exports is empty", gated=True, per_export=True,
    ),
    Kind(
        PUBLISH, "publish the model, the artifacts and their lineage", 1, "Publish", 5, opens=(TRACES_MADE_BEFORE,),
        condition=reasons.PUBLISHED, asks=True, owned=True,
    ),
)  # fmt: skip
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _ALL}


def stage_name(kind: str, export: str | None = None) -> str:
    """The name of a stage: its kind's, and of a kind with a stage for each export also the export's."""
    return f"{kind}-{export}" if export else kind


def kind_of(stage: str) -> Kind | None:
    """The kind of a stage by its name: all that a status holds. None for a name that no stage of this version has."""
    name, _, export = stage.partition("-")
    kind = KINDS.get(name)
    return kind if kind is not None and kind.per_export == bool(export) else None
