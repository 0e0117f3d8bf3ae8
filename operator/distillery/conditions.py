"""Conditions as metav1 has them: set all together, moved in time only when their status changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from .api import reasons
from .api.status import Condition, StageStatus
from .timestamps import stamp

Truth = Literal["True", "False", "Unknown"]
MESSAGE_LIMIT = 1024


class Verdict(NamedTuple):
    """What a condition says."""

    status: Truth
    reason: str
    message: str = ""


def updated(
    old: Iterable[Condition],
    wanted: Mapping[str, Verdict],
    generation: int,
    now: datetime,
    kinds: Sequence[str] = reasons.CONDITIONS,
) -> list[Condition]:
    """All conditions of `kinds`, in that order. One that `wanted` leaves out stays as it was, Unknown at first."""
    before = {condition.type: condition for condition in old}
    return [_condition(kind, before.get(kind), wanted.get(kind), generation, now) for kind in kinds]


def milestone(stages: Sequence[StageStatus], absent: str) -> Verdict:
    """What the stages of a condition say together; `absent` is the message where a spec needs none of them."""
    if not stages:
        return Verdict("True", reasons.NOT_PLANNED, absent)
    for stage in stages:
        if stage.state == "Failed":
            return Verdict("False", stage.reason or reasons.FAILED, named(stage))
    if all(stage.state in ("Succeeded", "Reused") for stage in stages):
        reused = all(stage.state == "Reused" for stage in stages)
        return Verdict("True", reasons.REUSED if reused else reasons.DONE, "; ".join(named(s) for s in stages if s.message))
    for state, reason in (("Waiting", reasons.WAITING), ("Running", reasons.RUNNING), ("Suspended", reasons.SUSPENDED)):
        for stage in stages:
            if stage.state == state:
                return Verdict(
                    "Unknown", reason if state != "Waiting" else stage.reason or reason, named(stage) if state == "Waiting" else ""
                )
    return Verdict("Unknown", reasons.PENDING)


def named(stage: StageStatus) -> str:
    """The stage's message under its name."""
    return clip(f"stage {stage.name}: {stage.message or stage.state}")


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """At most `limit` printable characters; what is cut is the middle, since errors have their cause at the end."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()
    if len(clean) <= limit:
        return clean
    half = (limit - 3) // 2
    return f"{clean[:half]}...{clean[-half:]}"


def status_of(conditions: Iterable[Condition], kind: str) -> Truth | None:
    """The status of one condition; None if it is not there."""
    return next((condition.status for condition in conditions if condition.type == kind), None)


def _condition(kind: str, old: Condition | None, wanted: Verdict | None, generation: int, now: datetime) -> Condition:
    if wanted is None:
        wanted = Verdict(old.status, old.reason, old.message) if old else Verdict("Unknown", reasons.PENDING)
    same = old is not None and old.status == wanted.status
    return Condition(
        type=kind,
        status=wanted.status,
        reason=wanted.reason,
        message=clip(wanted.message),
        last_transition_time=old.last_transition_time if old and same else stamp(now),
        observed_generation=generation,
    )
