"""What a spec names by URI: the inputs of a job, and its output. One list, for credentials, claims, digests and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from .job import DistillationJobSpec

OUTPUT, TEACHER, TOKENIZER, TRACES_MADE_BEFORE, STUDENT = "output", "teacher", "tokenizer", "traces", "student"
TRAIN_ROWS, EVALUATION_ROWS = "train", "evaluation"
#: What the student is made from before it learns: its own model, or the teacher whose layers it takes.
ORIGIN = "origin"


class Role(NamedTuple):
    """What a URI is to a job."""

    name: str
    #: Its path in the manifest.
    field: str
    #: Of the environment variables that hold its credentials.
    prefix: str
    #: Whether it is a dataset where it lies on the hub; else a model.
    dataset: bool
    #: The part of a spec that holds `uri` and `credentialsSecretRef`, or None.
    part: Callable[[DistillationJobSpec], Any]


_ALL: Final = (
    Role(OUTPUT, "spec.output", "OUTPUT_", False, lambda spec: spec.output),
    Role(TEACHER, "spec.teacher.model", "TEACHER_", False, lambda spec: spec.teacher.model),
    Role(TRACES_MADE_BEFORE, "spec.teacher.traces", "TEACHER_", True, lambda spec: spec.teacher.traces),
    Role(
        TOKENIZER, "spec.teacher.endpoint.tokenizer", "TEACHER_", False,
        lambda spec: spec.teacher.endpoint.tokenizer if spec.teacher.endpoint else None,
    ),
    Role(STUDENT, "spec.student.model", "STUDENT_", False, lambda spec: spec.student.model),
    Role(TRAIN_ROWS, "spec.data.train", "TRAIN_", True, lambda spec: spec.data.train),
    Role(EVALUATION_ROWS, "spec.data.evaluation", "EVALUATION_", True, lambda spec: spec.data.evaluation),
)  # fmt: skip
ROLES: Final[Mapping[str, Role]] = {role.name: role for role in _ALL}


class Input(NamedTuple):
    """Something outside the cluster that stages read or, as the output, write."""

    role: Role
    uri: str
    secret: str | None

    @property
    def claim(self) -> str | None:
        """The PersistentVolumeClaim of a pvc:// URI."""
        return self.uri.removeprefix("pvc://").split("/", 1)[0] if self.uri.startswith("pvc://") else None


def inputs(spec: DistillationJobSpec) -> tuple[Input, ...]:
    """Every URI of a spec; the output is first. A teacher behind an API has none but its tokenizer's."""
    named = ((role, role.part(spec)) for role in _ALL)
    return tuple(
        Input(role, part.uri, part.credentials_secret_ref.name if part.credentials_secret_ref else None)
        for role, part in named
        if part is not None
    )


def roles_of(spec: DistillationJobSpec, names: Iterable[str]) -> Iterator[str]:
    """The roles that a kind of stage lists, with ORIGIN as what it is in this spec: nothing where a student is made from a config alone."""
    for name in names:
        if name != ORIGIN:
            yield name
        elif spec.student.from_teacher is not None:
            yield TEACHER
        elif spec.student.model is not None:
            yield STUDENT
