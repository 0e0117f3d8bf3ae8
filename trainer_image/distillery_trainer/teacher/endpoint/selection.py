"""Which rows there are and which shard's part of them this pod asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillery.api import process, reasons
from distillery.api.teacher import TeacherEndpoint
from distillery_trainer.data import selection
from distillery_trainer.data.selection import Selection
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.errors import StageError
from distillery_trainer.runner.context import StageContext

if TYPE_CHECKING:
    from distillery_trainer.models.files import ModelFiles


@dataclass(frozen=True)
class Asked(Selection):
    """The rows of a job whose teacher is asked; `renderer` is of endpoint.tokenizer, `tokenizer` its files."""

    tokenizer: ModelFiles | None


@dataclass(frozen=True)
class Shard:
    """Number `index` of `count`."""

    index: int
    count: int

    @staticmethod
    def of(endpoint: TeacherEndpoint, environment: Mapping[str, str]) -> Shard:
        """The index is the pod's in its Indexed Job; a process that is none does all."""
        index = environment.get(process.SHARD)
        if index is None:
            return Shard(0, 1)
        count = endpoint.shards
        if int(index) >= count:
            text = f"this pod is number {index}, but there are {count} shards"
            raise StageError(reasons.BAD_INPUT, f"spec.teacher.endpoint.shards: {text}: a Job of the stage needs as many completions")
        return Shard(int(index), count)


def select(context: StageContext) -> Asked:
    """Read data.train and data.evaluation. Rows too long for training are left out before they are paid for, where a tokenizer can tell."""
    spec = context.job.spec
    endpoint = spec.teacher.endpoint
    if endpoint is None:
        raise StageError(reasons.INVALID_SPEC, "spec: teacher.endpoint is not set; name the teacher")
    files, renderer = None, None
    if endpoint.tokenizer is not None:
        # torch comes with it; without a tokenizer a pod that asks stays small
        from distillery_trainer.models.files import fetch_tokenizer, read_tokenizer

        files = fetch_tokenizer(endpoint.tokenizer.uri, "tokenizer", context.work)
        tokenizer = read_tokenizer(files)
        renderer = Renderer(tokenizer, template_of(tokenizer))
    rows = selection.select(spec, selection.read(spec, context.work), renderer, spec.training.max_sequence_length)
    return Asked(rows.train, rows.held, rows.dropped, rows.renderer, files)
