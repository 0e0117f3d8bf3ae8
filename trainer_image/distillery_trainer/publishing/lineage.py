"""Where a published model comes from, as its manifest says: read by field, not by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from distillery_trainer.data.traces import Record, SignalRecord, TeacherRecord, UsageRecord


class StudentRecord(Record):
    """What learned; `uri` where it began as an existing model, `origin` as spec.student has it."""

    model_type: str | None = None
    license: str | None = None
    chat_template: str | None = None
    origin: dict[str, Any] = Field(default={})
    uri: str | None = None


class RowsRecord(Record):
    """Rows of one split; without `uri` they are those of the traces."""

    sha256: str | None = None
    uri: str | None = None
    rows: int | None = None


class DataRecord(Record):
    """What was learned from, measured on, and left out (by reason)."""

    train: RowsRecord = RowsRecord()
    held_out: RowsRecord = RowsRecord()
    dropped: dict[str, int] = Field(default={})


class UseRecord(Record):
    """What of the declared use a card shows."""

    student_name: str | None = None


class Lineage(Record):
    """From whom, from which rows, by which settings and stages."""

    teacher: TeacherRecord = TeacherRecord()
    usage: UsageRecord | None = None
    mean_entropy: int | float | None = None
    declared_use: UseRecord | None = None
    signal: SignalRecord | None = None
    student: StudentRecord = StudentRecord()
    data: DataRecord = DataRecord()
    method: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    stages: dict[str, str] = Field(default={})

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Lineage:
        """That of a published manifest."""
        return Lineage.model_validate(manifest["lineage"])
