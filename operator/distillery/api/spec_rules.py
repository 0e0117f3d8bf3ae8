"""The rules that join parts of a spec: what the teacher brings, what gates and formats need."""

from __future__ import annotations

from typing import Any

from .base import number
from .rules import Rule


def _scores_labels(spec: Any) -> bool:
    return spec.teacher.traces is not None or (spec.data.evaluation is not None and spec.data.evaluation.answer is not None)


def _needs_labels(gates: Any) -> bool:
    return any(gate.metric == "labelAccuracy" for gate in gates)


_RESPONSE = "has(self.method) && self.method.rounds[0].objectives.exists(o, has(o.response))"
_LABELS = "has(self.teacher.traces) || (has(self.data.evaluation) && has(self.data.evaluation.answer))"
SPEC_RULES = (
    Rule(
        "!has(self.teacher.endpoint) || (has(self.budgetRef) && has(self.governance))",
        "teacher.endpoint needs budgetRef (the TeacherBudget that pays) and governance.declaredUse (what the student is for)",
        lambda s: s.teacher.endpoint is None or (s.budget_ref is not None and s.governance is not None),
    ),
    Rule(
        "!has(self.budgetRef) || has(self.teacher.endpoint)",
        "budgetRef pays for teacher.endpoint alone: remove it, or name a teacher of the budget in teacher.endpoint",
        lambda s: s.budget_ref is None or s.teacher.endpoint is not None,
    ),
    Rule(
        "!has(self.teacher.endpoint) || !has(self.student.scratch) || has(self.teacher.endpoint.tokenizer)",
        "student.scratch takes the teacher's tokenizer: name it in teacher.endpoint.tokenizer, or use student.model",
        lambda s: s.teacher.endpoint is None or s.student.scratch is None or s.teacher.endpoint.tokenizer is not None,
    ),
    Rule(
        f"!has(self.teacher.endpoint) || !({_RESPONSE}) || (has(self.teacher.endpoint.tokenizer)"
        " && has(self.teacher.endpoint.sampling.topLogprobs) && self.teacher.endpoint.sampling.topLogprobs > 0)",
        "a 'response' objective on teacher.endpoint needs sampling.topLogprobs above 0 and endpoint.tokenizer, which gives the server's tokens;"
        " or set method.rounds[0].objectives to [{hardLabel: {}}]",
        lambda s: (
            s.teacher.endpoint is None
            or s.method.response() is None
            or (s.teacher.endpoint.tokenizer is not None and s.teacher.endpoint.sampling.top_logprobs > 0)
        ),
    ),
    Rule(
        f"!has(self.teacher.endpoint) || !({_RESPONSE}) || (double(self.teacher.endpoint.sampling.temperature) == 1.0"
        " && self.method.rounds[0].objectives.all(o, !has(o.response) || double(o.response.temperature) == 1.0))",
        'log-probabilities of an API are those of one temperature: set teacher.endpoint.sampling.temperature and response.temperature to "1"',
        lambda s: (
            s.teacher.endpoint is None
            or (response := s.method.response()) is None
            or (number(s.teacher.endpoint.sampling.temperature) == 1 and number(response.temperature) == 1)
        ),
    ),
    Rule(
        "!has(self.evaluation.gates) || !has(self.teacher.endpoint)"
        " || self.evaluation.gates.all(g, !(g.metric in ['teacherKL', 'top1Agreement']))",
        "teacherKL and top1Agreement need the teacher's whole distribution, which teacher.endpoint does not give: gate on labelAccuracy,"
        " exactMatch or retention",
        lambda s: s.teacher.endpoint is None or not any(g.metric in ("teacherKL", "top1Agreement") for g in s.evaluation.gates),
    ),
    Rule(
        "!has(self.student.fromTeacher) || has(self.teacher.model)",
        "student.fromTeacher needs the teacher's weights: give teacher.model, or use student.model or student.scratch with teacher.traces",
        lambda s: s.student.from_teacher is None or s.teacher.model is not None,
    ),
    Rule(
        "has(self.teacher.traces) || (has(self.data) && has(self.data.train))",
        "data.train is required: name the rows that the student learns from (only teacher.traces brings its own)",
        lambda s: s.teacher.traces is not None or s.data.train is not None,
    ),
    Rule(
        "!has(self.teacher.traces) || !has(self.data) || !(has(self.data.train) || has(self.data.evaluation))",
        "teacher.traces holds its own rows: remove data.train and data.evaluation",
        lambda s: s.teacher.traces is None or (s.data.train is None and s.data.evaluation is None),
    ),
    Rule(
        f"!has(self.exports) || self.exports.all(e, !has(e.gates) || e.gates.all(g, g.metric != 'labelAccuracy')) || {_LABELS}",
        "a gate of exports on labelAccuracy needs data.evaluation.answer, which says where the true answer stands",
        lambda s: _scores_labels(s) or not any(_needs_labels(e.gates) for e in s.exports),
    ),
    Rule(
        f"!has(self.evaluation.gates) || self.evaluation.gates.all(g, g.metric != 'labelAccuracy') || {_LABELS}",
        "a gate of evaluation on labelAccuracy needs data.evaluation.answer, which says where the true answer stands",
        lambda s: _scores_labels(s) or not _needs_labels(s.evaluation.gates),
    ),
    Rule(
        None,
        "exports need a name each: two have the same",
        lambda s: len({e.name for e in s.exports}) == len(s.exports),
    ),
    Rule(
        "!has(self.training.microBatchSize) || self.training.globalBatchSize % self.training.microBatchSize == 0",
        "training.globalBatchSize must be a multiple of training.microBatchSize",
        lambda s: s.training.micro_batch_size is None or s.training.global_batch_size % s.training.micro_batch_size == 0,
    ),
    Rule(
        "!has(self.student.scratch) || self.training.maxSequenceLength <= self.student.scratch.maxPositionEmbeddings",
        "training.maxSequenceLength is longer than student.scratch.maxPositionEmbeddings, the longest text that the student can see:"
        " lower the one or raise the other",
        lambda s: s.student.scratch is None or s.training.max_sequence_length <= s.student.scratch.max_position_embeddings,
    ),
    Rule(
        "!has(self.student.scratch) || self.student.scratch.architecture != 'gpt2' || !has(self.exports)"
        " || self.exports.all(e, e.format != 'gguf')",
        "exports of format gguf hold llama, qwen2 and qwen3, not gpt2: choose format onnx or safetensors, or another"
        " student.scratch.architecture",
        lambda s: s.student.scratch is None or s.student.scratch.architecture != "gpt2" or all(e.format != "gguf" for e in s.exports),
    ),
)
