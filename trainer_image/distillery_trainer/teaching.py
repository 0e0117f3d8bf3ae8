"""The teaching side as preflight sees it: rows, configuration and tokenizer, from the job's inputs or from finished traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from distillery.api import reasons
from distillery.api.stages import FORMATS, TRACES

from . import checks
from .errors import StageError
from .examples import Dropped, Example, fitting, hold_out, read_lines, render
from .generate import position_limit
from .models import ModelFiles, fetch_model, read_config, read_tokenizer, traced_teacher
from .rows import Row, read_rows
from .stage import StageContext
from .templates import Renderer, template_of


@dataclass(frozen=True)
class Teaching:
    """What is known of the teaching side: rows (of the traces where the spec names some), configuration, tokenizer."""

    train: list[Example]
    held: list[Example]
    dropped: Dropped
    config: PreTrainedConfig
    renderer: Renderer
    files: ModelFiles | None
    end: list[int]
    longest: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer."""
        return self.renderer.tokenizer


def from_rows(context: StageContext) -> Teaching:
    """Read and render data.train and data.evaluation; of the teacher, all but the weights."""
    spec = context.job.spec
    if spec.teacher.model is None or spec.data.train is None:
        raise StageError(reasons.INVALID_SPEC, "spec: teacher.model needs data.train; name the rows, or use teacher.traces")
    rows = read_rows(spec.data.train, "train", context.work)
    held_rows = read_rows(spec.data.evaluation, "evaluation", context.work) if spec.data.evaluation else None
    files = fetch_model(spec.teacher.model.uri, "teacher", context.work, weights=False)
    config, tokenizer = read_config(files), read_tokenizer(files)
    renderer, dropped = Renderer(tokenizer, template_of(tokenizer)), Dropped()
    longest = min(spec.training.max_sequence_length, position_limit(config))

    def usable(given: list[Row], split: str) -> list[Example]:
        return fitting(render(given, renderer), split, longest, spec.data.overflow, dropped)

    train = usable(rows, "train")
    train, held = hold_out(train, dropped) if held_rows is None else (train, usable(held_rows, "heldout"))
    for name, left in (("training", train), ("held-out", held)):
        if not left:
            raise StageError(reasons.ROWS_INVALID, f"no {name} row is left: {dropped.told()}")
    return Teaching(train, held, dropped, config, renderer, files, list(renderer.end), longest)


def from_traces(context: StageContext) -> Teaching:
    """Read what teacher.traces names."""
    spec, given = context.job.spec, context.job.spec.teacher.traces
    uri = given.uri if given else ""
    if not uri.endswith("/manifest.json"):
        raise StageError(
            reasons.BAD_INPUT, f"spec.teacher.traces.uri: {uri!r} is not a manifest; name .../stages/traces-<hash>/manifest.json"
        )
    manifest = context.manifest(TRACES)
    if manifest.stage != TRACES or manifest.format != FORMATS[TRACES]:
        text = f"is the manifest of {manifest.stage} in format {manifest.format}; name one of traces in format {FORMATS[TRACES]}"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces.uri: {uri!r} {text}")
    checks.gates_can_be_measured(spec, manifest.lineage.get("answer"))
    folder = context.fetch(TRACES, "train.jsonl", "heldout.jsonl", "teacher/*")
    lines = [read_lines(folder / name) for name in ("train.jsonl", "heldout.jsonl")]
    if spec.method.response() and any(line["signal"] is None for line in lines[0]):
        text = "these traces hold no signal, which the response objective needs: use hardLabel alone, or trace again with it"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces: {text}")
    traced = traced_teacher(folder / "teacher")
    tokenizer = read_tokenizer(traced)
    renderer = Renderer(tokenizer, template_of(tokenizer))
    train, held = ([_traced(line, renderer) for line in part] for part in lines)
    end = list(manifest.lineage["endOfTurn"])
    return Teaching(train, held, Dropped(), read_config(traced), renderer, None, end, max(e.tokens for e in train))


def _traced(line: Mapping[str, object], renderer: Renderer) -> Example:
    """A row of finished traces, rendered for the teacher again."""
    prompt, ids = line["prompt"], line["completion_ids"]
    if not isinstance(prompt, str | list) or not isinstance(ids, list):
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces: row {line.get('id')!r} is none that a traces stage wrote")
    row = Row(str(line["id"]), prompt, str(line["completion"]), None, f"train.jsonl id {line['id']}")
    return Example(row, renderer.prompt_ids(prompt), ids, str(line["completion"]))
