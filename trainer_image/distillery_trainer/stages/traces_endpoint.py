"""The traces stage with a teacher behind an API: each pod asks its shard of the rows, and the last to finish puts all together.

Files: train.jsonl, heldout.jsonl, dropped.jsonl, and teacher/ (tokenizer) where the job names one. Completions have token ids only then:
without the teacher's tokenizer they are text, which each student reads with its own.
"""

from __future__ import annotations

import logging

from distillery.api import reasons
from distillery.api.result import StageResult
from distillery_trainer.data.end_words import KNOWN
from distillery_trainer.errors import Missing, StageError, unavailable
from distillery_trainer.runner import commit
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.teacher.endpoint.answers import Answered
from distillery_trainer.teacher.endpoint.asks import mine, planned
from distillery_trainer.teacher.endpoint.assembly import Assembly
from distillery_trainer.teacher.endpoint.distribution import Reader
from distillery_trainer.teacher.endpoint.kept import Kept
from distillery_trainer.teacher.endpoint.selection import Shard, select
from distillery_trainer.teacher.endpoint.session import Failures, Session, rows_of

log = logging.getLogger(__name__)
STOPS_ITSELF = True


def run(context: StageContext) -> Outcome:
    """Ask what is not answered yet; then, if the other shards are done too, make the files."""
    endpoint = context.job.spec.teacher.endpoint
    if endpoint is None:
        raise StageError(reasons.INVALID_SPEC, "spec: this traces stage needs teacher.endpoint")
    selection, shard = select(context), Shard.of(endpoint, context.environment)
    asks = planned(selection.train, selection.held, endpoint)
    plan = [[ask.row.id for ask in asks], endpoint.sampling.samples, shard.count]
    kept = Kept(context.output, f"{context.work_folder}/answers", plan, shard.index, shard.count)
    renderer, k = selection.renderer, endpoint.sampling.top_logprobs
    reader = Reader(renderer, k) if renderer and k else None
    words = (*KNOWN, *renderer.end_words) if renderer else KNOWN
    session = Session(context, mine(asks, shard.index, shard.count), kept, rows_of(asks), reader, words)
    info = session.run()
    scratch = context.work / "answers"
    kept.finish({"failed": session.failed_rows, "incomplete": [answer.wire() for answer in session.incomplete.values()]})
    try:
        parts = kept.parts()
        answers = kept.all_answers(parts or [], scratch)
    except (Missing, FileNotFoundError) as error:
        return _overtaken(context, error)
    if parts is None:
        text = f"shard {shard.index + 1} of {shard.count} is done: {len(session.answers)} answers; the last one to finish puts all together"
        return Outcome(None, StageResult(message=text))
    lost = {int(at): why for part in parts for at, why in part["failed"].items()}
    answers |= {answer.at: answer for part in parts for answer in map(Answered.read, part.get("incomplete", ()))}
    if failed := Failures.of(asks, answers, lost).error(endpoint, rows_of(asks)):
        kept.reopen()
        raise failed
    try:
        return Assembly(context, selection, asks, answers, lost, info, shard.count, lambda name: kept.fetch(name, scratch)).outcome()
    except (Missing, FileNotFoundError) as error:
        return _overtaken(context, error)


def _overtaken(context: StageContext, error: Exception) -> Outcome:
    """Another shard finished at the same moment, has committed and cleared the pieces away: its result is ours."""
    manifest = commit.find(context.output, context.folder())
    if manifest is None:
        raise unavailable(f"the answers of the other shards cannot be read: {error}") from error
    log.info("another shard has put all together")
    return Outcome(None, manifest.result)
