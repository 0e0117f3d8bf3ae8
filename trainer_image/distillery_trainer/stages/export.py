"""An export stage: makes one artifact, lets it answer the held-out rows in its own runtime, and says whether its gates are met.

Files: artifact/ (what is published), answers.jsonl (id, answer), artifact.json. What users get is what was measured here. A missed gate
is no failure of the stage: the artifact is withheld, the others go on; so is one that turns out to be impossible (infinity in F16).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from distillery.api import reasons
from distillery.api.digest import digest
from distillery.api.kinds import EVALUATE, EXPORT, TRAIN, stage_name
from distillery.api.measure import Artifact, Export, MetricValue
from distillery.api.result import StageResult
from distillery_trainer.data.examples import read_lines, write_lines
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.errors import Missing, StageError
from distillery_trainer.export.runtimes import main_file, make, open_runtime
from distillery_trainer.measure.gates import judged
from distillery_trainer.measure.held_out import HeldOut, held_out
from distillery_trainer.measure.metrics import decimal, exact_match
from distillery_trainer.models.device import set_threads
from distillery_trainer.models.endings import end_ids
from distillery_trainer.models.positions import position_limit
from distillery_trainer.runner.context import Outcome, StageContext
from distillery_trainer.runner.manifest import Manifest
from distillery_trainer.stores import local_files
from distillery_trainer.stores.digests import sha256_of

log = logging.getLogger(__name__)
#: What an artifact is told to be like, in this order.
SHOWN = ("labelAccuracy", "exactMatch", "retention", "agreement", "tokensPerSecond")
#: Why an artifact is not made after all; anything else is a failure of the stage.
_NOT_MADE = (reasons.UNSUPPORTED, reasons.DOES_NOT_FIT, reasons.MODEL_UNREADABLE)


@dataclass(frozen=True)
class Reading:
    """The held-out rows as the student reads them."""

    held: HeldOut
    prompts: Sequence[Sequence[int]]
    renderer: Renderer
    positions: int

    def text(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """An answer in words, without what runs over the model's last position."""
        return self.renderer.text(answer[: max(0, self.positions - len(prompt) + 1)])


def run(context: StageContext) -> Outcome:
    """Export the trained student and measure the artifact."""
    export, evaluation = export_of(context), context.job.spec.evaluation
    set_threads()
    model = context.fetch(TRAIN, "model/*") / "model"
    held = held_out(context)
    rows, total = reading(held, model), len(held.lines)
    context.progress.report(0, total, "rows", message=f"writing {export.format} {export.quantization}")
    folder = context.new_folder("output")
    began = time.perf_counter()
    try:
        make(export, model, folder / "artifact")
        seconds = time.perf_counter() - began
        answers, speed, runtime = _answers(context, export, folder / "artifact", rows)
    except StageError as error:
        if error.reason not in _NOT_MADE:
            raise
        return _unmade(export, folder, error.message)
    write_lines(folder / "answers.jsonl", held.named(answers))
    metrics = measured(held, answers, _student_answers(context, model, rows))
    metrics |= {"tokensPerSecond": round(speed, 1), "exportSeconds": round(seconds, 1)}
    artifact = _described(export, folder / "artifact", metrics)
    (folder / "artifact.json").write_text(artifact.model_dump_json(by_alias=True, exclude_none=True, indent=1))
    return Outcome(
        files=folder,
        result=StageResult(artifact=artifact),
        lineage={"runtime": runtime, "maxNewTokens": evaluation.generation.max_new_tokens},
        metrics=metrics,
        counts={"rows": total},
    )


def conclude(context: StageContext, manifest: Manifest) -> StageResult:
    """The result with the verdict of this job's gates."""
    artifact = judged(manifest, export_of(context))
    told = ", ".join(f"{m.name} {m.value}" for m in artifact.evaluation)
    size = f"{(artifact.size_bytes or 0) / 1e6:.1f} MB"
    verdict = f"withheld: {artifact.message}" if artifact.passed is False else told
    message = f"{artifact.format} {artifact.quantization}, {size}; {verdict}"
    return manifest.result.model_copy(update={"artifact": artifact, "message": message[:1024]})


def export_of(context: StageContext) -> Export:
    """The export that this stage makes."""
    return next(e for e in context.job.spec.exports if stage_name(EXPORT, e.name) == context.stage)


def reading(held: HeldOut, model: Path) -> Reading:
    """The rows rendered with the published template."""
    tokenizer, config = AutoTokenizer.from_pretrained(model), AutoConfig.from_pretrained(model)
    renderer = Renderer(tokenizer, template_of(tokenizer), end_ids(GenerationConfig.from_pretrained(model)))
    return Reading(held, [renderer.prompt_ids(line.prompt) for line in held.lines], renderer, position_limit(config))


def measured(held: HeldOut, answers: Sequence[str], student: Sequence[str]) -> dict[str, float]:
    """What gates may speak of: of the answers against the rows, and against the `student` before export."""
    metrics = held.scores(answers)
    main = list(metrics)[-1]
    if best := held.scores(held.teacher_answers)[main]:
        metrics["retention"] = metrics[main] / best
    return {**metrics, "agreement": exact_match(answers, student)}


def _answers(context: StageContext, export: Export, artifact: Path, rows: Reading) -> tuple[list[str], float, str]:
    """The artifact's answers, how many tokens it wrote in a second, and what ran it."""
    generation = context.job.spec.evaluation.generation
    longest, total = max(map(len, rows.prompts)) + generation.max_new_tokens, len(rows.prompts)
    runtime = open_runtime(export, artifact, rows.renderer.stop_ids, longest, rows.positions, generation.batch_size)
    with runtime:
        began = time.perf_counter()
        ids = runtime.answer(rows.prompts, generation.max_new_tokens, lambda done: context.progress.report(done, total, "rows"))
        seconds = time.perf_counter() - began
    answers = [rows.text(prompt, answer) for prompt, answer in zip(rows.prompts, ids, strict=True)]
    return answers, sum(map(len, ids)) / seconds, runtime.name


def _student_answers(context: StageContext, model: Path, rows: Reading) -> list[str]:
    """What the student answered before export: as evaluate wrote it down, else asked again."""
    try:
        told = {row["id"]: row["answer"] for row in read_lines(context.fetch(EVALUATE, "answers.jsonl") / "answers.jsonl")}
    except (Missing, KeyError):
        log.info("the answers of the evaluate stage are not there: the student is asked again")
        told = {}
    if all(line.id in told for line in rows.held.lines):
        return [told[line.id] for line in rows.held.lines]
    from distillery_trainer.export.safetensors import Transformers

    generation = context.job.spec.evaluation.generation
    with Transformers(model, rows.renderer.stop_ids, generation.batch_size) as student:
        ids = student.answer(rows.prompts, generation.max_new_tokens)
    return [rows.text(prompt, answer) for prompt, answer in zip(rows.prompts, ids, strict=True)]


def _unmade(export: Export, folder: Path, why: str) -> Outcome:
    """An artifact that cannot be, or that its own runtime refuses: withheld like one that misses a gate, and the others go on."""
    shutil.rmtree(folder / "artifact", ignore_errors=True)
    log.warning("%s", why)
    artifact = Artifact(name=export.name, format=export.format, quantization=export.quantization, passed=False, message=why[:900])
    (folder / "artifact.json").write_text(artifact.model_dump_json(by_alias=True, exclude_none=True, indent=1))
    return Outcome(files=folder, result=StageResult(artifact=artifact))


def _described(export: Export, folder: Path, metrics: dict[str, float]) -> Artifact:
    files = {name: file for file, name in local_files(folder)}
    sums = {name: sha256_of(file) for name, file in files.items()}
    only = main_file(export) if len(files) == 1 else None
    return Artifact(
        name=export.name,
        format=export.format,
        quantization=export.quantization,
        digest=f"sha256:{sums[only] if only else digest(sums)}",
        size_bytes=sum(file.stat().st_size for file in files.values()),
        evaluation=[MetricValue(name=name, value=decimal(metrics[name])) for name in SHOWN if name in metrics],
    )
