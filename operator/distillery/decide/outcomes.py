"""How a run ended, read from its batch Job and its pods: the last one, or those of all shards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from distillery.api import reasons
from distillery.api.result import OUT_OF_BUDGET, TEMPORARY, USER_MISTAKE, StageResult, parse_result
from distillery.conditions import clip
from distillery.runs import Pod, Run

#: done: with a result. mistake: the user's, no retry. failed: costs an attempt. interrupted, unfunded (no money, or no permission to
#: ask the teacher): cost nothing.
Kind = Literal["done", "mistake", "failed", "interrupted", "unfunded"]
_ABOVE = re.compile(r"(^|/)\.\.?(/|$)")


@dataclass(frozen=True)
class Outcome:
    """The end of a run. `ended` is when, if anything knows."""

    kind: Kind
    reason: str
    message: str
    result: StageResult | None = None
    ended: str | None = None


def outcome(run: Run, output: str, memory_field: str) -> Outcome | None:
    """How a finished run ended; None while what was read does not tell yet.

    `output` is spec.output.uri, under which every URI of a result must lie; `memory_field` is where a user raises the limits of memory and
    of storage.
    """
    if run.finished == "Complete":
        return _completed(run, output)
    failed = [pod for pod in run.pods if pod.phase == "Failed"]
    # the first shard that fails by itself ends the Job, and with it the others
    own = sorted((pod for pod in failed if not pod.interrupted), key=lambda pod: pod.finished_at or "")
    pod = next(iter(own or reversed(failed)), None)
    if pod is None:
        return Outcome("interrupted", reasons.PREEMPTED, f"Job {run.name} lost its pod", ended=run.finished_at)
    if pod.interrupted:
        why = pod.disrupted or pod.eviction or ("deleted" if pod.deleting else "stopped in good order")
        return Outcome("interrupted", reasons.PREEMPTED, f"pod {pod.name} was interrupted: {why}", ended=pod.finished_at or run.finished_at)
    return _failed(run, pod, memory_field)


def _completed(run: Run, output: str) -> Outcome | None:
    if any(not pod.ended for pod in run.pods):
        return None  # the list of pods is older than the Job; the next one has the message
    results = [found for pod in reversed(run.pods) if pod.phase == "Succeeded" and (found := parse_result(pod.text)) is not None]
    # of several shards the one that was last has put the others' work together
    result = next((found for found in results if found.manifest), None) or (results[0] if len(results) == 1 else None)
    if result is None:
        message = f"Job {run.name} is complete but its result was lost; it runs again and finds its output"
        return Outcome("interrupted", reasons.PREEMPTED, message, ended=run.finished_at)
    if foreign := [uri for uri in _uris(result) if not _lies_under(uri, output)]:
        message = f'Job {run.name} reported "{foreign[0]}", which does not lie under spec.output.uri "{output}"; its result is refused'
        return Outcome("failed", reasons.INTERNAL_ERROR, message, ended=run.finished_at)
    return Outcome("done", reasons.DONE, result.message, result, run.finished_at)


def _failed(run: Run, pod: Pod, memory_field: str) -> Outcome:
    ended = pod.finished_at or run.finished_at
    result = parse_result(pod.text)
    said = result.message if result and result.message else _tail(pod.text)
    if pod.terminated_reason == "OOMKilled":
        remedy = f"reduce training.microBatchSize or raise {memory_field}.resources.limits.memory"
        return Outcome(
            "failed", reasons.OUT_OF_MEMORY, f"the container was killed for memory (exit {pod.exit_code}): {remedy}", ended=ended
        )
    if pod.overran:
        remedy = f"raise {memory_field}.resources.limits.ephemeral-storage, or let your platform team raise the chart's scratch"
        return Outcome("mistake", reasons.DISK_FULL, f"{clip(str(pod.eviction))} Its scratch space is too small: {remedy}", ended=ended)
    if pod.exit_code == USER_MISTAKE:
        reason = (result.reason if result else None) or reasons.BAD_INPUT
        return Outcome("mistake", reason, said or "the stage refused its input; see its log", result, ended)
    if pod.exit_code == OUT_OF_BUDGET:
        reason = (result.reason if result else None) or reasons.BUDGET_EXHAUSTED
        return Outcome("unfunded", reason, said or "the gateway gives no more answers of the teacher for now", ended=ended)
    if pod.exit_code == TEMPORARY:
        reason = (result.reason if result else None) or reasons.STORE_UNAVAILABLE
        return Outcome("failed", reason, said or "something that the stage needs was not available", ended=ended)
    code = f"exit {pod.exit_code}" if pod.exit_code is not None else "no exit code"
    reason = (result.reason if result else None) or reasons.INTERNAL_ERROR
    return Outcome("failed", reason, f"pod {pod.name} failed ({code}): {said or pod.terminated_reason or 'see its log'}", ended=ended)


def _tail(text: str) -> str:
    """The end of a log: the last lines of a traceback say what it was."""
    return clip(text[-600:])


def _uris(result: StageResult) -> list[str]:
    artifacts = [*(result.artifacts or ()), *([result.artifact] if result.artifact else ())]
    named = [result.manifest, result.model_uri, result.report_uri, *(artifact.uri for artifact in artifacts)]
    return [uri for uri in named if uri is not None]


def _lies_under(uri: str, output: str) -> bool:
    return uri.startswith(f"{output}/") and not _ABOVE.search(uri.removeprefix(f"{output}/"))
