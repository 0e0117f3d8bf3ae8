"""The teaching side as preflight sees it: rows, configuration and tokenizer, from the job's inputs or from finished traces."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from distillery.api import reasons
from distillery.api.base import number
from distillery.api.kinds import KINDS, TRACES
from distillery_trainer.data.examples import Dropped, Example
from distillery_trainer.data.rows import Row
from distillery_trainer.data.selection import read, select
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.data.traces import HELD_OUT_LINES, TRAIN_LINES, TraceLine, TracesRecord, open_traces
from distillery_trainer.errors import StageError
from distillery_trainer.models.endings import end_ids
from distillery_trainer.models.files import (
    ModelFiles,
    fetch_model,
    read_config,
    read_generation,
    read_tokenizer,
    traced_teacher,
    traced_tokenizer,
)
from distillery_trainer.models.positions import position_limit
from distillery_trainer.runner.context import StageContext
from distillery_trainer.teacher.endpoint.introduction import Endpoint, endpoint_of

from . import inputs


@dataclass(frozen=True)
class Teaching:
    """What is known of the teaching side: rows (of the traces where the spec names some), configuration, tokenizer, end of a turn.

    Of a teacher behind an API the first is not known, and the rest only where the job names its tokenizer.
    """

    train: list[Example]
    held: list[Example]
    dropped: Dropped
    longest: int
    config: PreTrainedConfig | None
    renderer: Renderer | None
    files: ModelFiles | None = None
    end: list[int] | None = None
    endpoint: Endpoint | None = None
    generation: GenerationConfig | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The teacher's tokenizer."""
        return self.renderer.tokenizer if self.renderer else None

    @property
    def vocabulary(self) -> int:
        """Ids that the teacher knows, which a student from scratch takes over."""
        if self.config is not None:
            return int(self.config.vocab_size)
        return max(self.tokenizer.get_vocab().values()) + 1 if self.tokenizer else 0


def from_rows(context: StageContext) -> Teaching:
    """Read and render data.train and data.evaluation; of the teacher, all but the weights."""
    spec = context.job.spec
    if spec.teacher.model is None:
        raise StageError(reasons.INVALID_SPEC, "spec: teacher.model is not set; name the teacher")
    given = read(spec, context.work)
    files = fetch_model(spec.teacher.model.uri, "teacher", context.work, weights=False)
    config, tokenizer, generation = read_config(files), read_tokenizer(files), read_generation(files)
    renderer = Renderer(tokenizer, template_of(tokenizer), end_ids(generation, tokenizer))
    longest = min(spec.training.max_sequence_length, position_limit(config))
    rows = select(spec, given, renderer, longest)
    return Teaching(rows.train, rows.held, rows.dropped, longest, config, renderer, files, list(renderer.end), generation=generation)


def from_endpoint(context: StageContext) -> Teaching:
    """Read data.train and data.evaluation, and ask the gateway who the teacher is."""
    found = endpoint_of(context)
    selection, longest = found.selection, context.job.spec.training.max_sequence_length
    renderer = selection.renderer
    end = list(renderer.end) if renderer else None
    return Teaching(selection.train, selection.held, selection.dropped, longest, None, renderer, None, end, found)


def from_traces(context: StageContext) -> Teaching:
    """Read what teacher.traces names."""
    spec, given = context.job.spec, context.job.spec.teacher.traces
    uri = given.uri if given else ""
    if not uri.endswith("/manifest.json"):
        raise StageError(
            reasons.BAD_INPUT, f"spec.teacher.traces.uri: {uri!r} is not a manifest; name .../stages/traces-<hash>/manifest.json"
        )
    manifest = context.manifest(TRACES)
    if manifest.stage != TRACES or manifest.format != KINDS[TRACES].format:
        text = f"is the manifest of {manifest.stage} in format {manifest.format}; name one of traces in format {KINDS[TRACES].format}"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces.uri: {uri!r} {text}")
    inputs.gates_can_be_measured(spec, TracesRecord.of(manifest).answer)
    traces = open_traces(context, TRAIN_LINES, HELD_OUT_LINES, "teacher/*")
    lines = traces.train(), traces.held_out()
    response, signal = spec.method.response(), traces.record.signal
    if response and signal and not signal.whole and number(response.temperature) != 1:
        text = 'these traces hold log-probabilities of an API, which are those of temperature 1: set response.temperature to "1"'
        raise StageError(reasons.BAD_INPUT, f"spec.method.rounds[0].objectives: {text}")
    if response and (signal is None or (signal.whole and any(line.signal is None for line in lines[0]))):
        text = "these traces hold no signal, which the response objective needs: use hardLabel alone, or trace again with it"
        raise StageError(reasons.BAD_INPUT, f"spec.teacher.traces: {text}")
    traced, tokenizer = traced_teacher(traces.teacher), traced_tokenizer(traces.teacher)
    known = (traces.teacher / "config.json").is_file()
    config, generation = (read_config(traced), read_generation(traced)) if known else (None, None)
    renderer = Renderer(tokenizer, template_of(tokenizer), end_ids(generation, tokenizer)) if tokenizer else None
    train, held = ([_traced(line, renderer) for line in part] for part in lines)
    end = traces.record.end_of_turn
    # text has no length before the student reads it
    longest = max(e.tokens for e in train) if renderer else spec.training.max_sequence_length
    return Teaching(train, held, Dropped(), longest, config, renderer, None, list(end) if end else None, generation=generation)


def _traced(line: TraceLine, renderer: Renderer | None) -> Example:
    """A row of finished traces, rendered for the teacher again."""
    row = Row(line.id, line.prompt, line.completion, None, f"train.jsonl id {line.id}")
    return Example(row, renderer.prompt_ids(line.prompt) if renderer else [], line.completion_ids or [], line.completion)
