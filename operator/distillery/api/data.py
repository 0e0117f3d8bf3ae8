"""The rows: what the student learns from, and what it is checked on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from .base import DataURI, FieldName, LocalRef, Model, Text
from .patterns import LINEAR, AnswerPattern

Format = Literal["messages", "prompt", "promptCompletion"]
#: Without rows of its own, evaluation holds out a tenth of the training rows, at most this many.
HELD_OUT_LIMIT: Final = 200


class Fields(Model):
    """Column names, as TRL calls them, where the rows use others."""

    id: FieldName = Field("id", description="Column with the row's own name; without it the line number is used.")
    messages: FieldName = Field("messages", description="Column with a list of {role, content}; the last is the assistant's.")
    prompt: FieldName = Field("prompt", description="Column with a string or a list of {role, content}.")
    completion: FieldName = Field("completion", description="Column with the answer: a string, or a list with one assistant message.")


class Rows(Model):
    """A file of rows (.jsonl or .parquet), or a data set of the Hugging Face hub."""

    uri: DataURI = Field(
        description="s3://bucket/key, pvc://claim/path, hf://org/dataset@revision/path, or file:// in a local run; .jsonl or .parquet, one file or a folder."
    )
    credentials_secret_ref: LocalRef | None = Field(None, description="Secret with HF_TOKEN or AWS_* keys for this URI.")
    split: FieldName | None = Field(None, description="Only files whose name holds this word, for folders with several splits.")
    format: Format = Field(
        "prompt",
        description="prompt: the teacher writes the completion. promptCompletion: the row has it. messages: the last assistant message is it.",
    )
    fields: Fields = Field(default_factory=Fields, description="Names of the columns.")
    system_prompt: Text | None = Field(None, description="Put as system message before prompts that have none.")


class Answer(Model):
    """How the truth of a held-out row is found in the text that a model wrote."""

    field: FieldName = Field("answer", description="Column with the true answer; numbers and truth values count as the file spells them.")
    extract: Annotated[str, Field(min_length=1, max_length=512), *LINEAR, AnswerPattern()] = Field(
        "(.*)",
        description="Regular expression, which runs in linear time (RE2); its first group in the generated text (last match) is the answer.",
    )
    normalize: Annotated[list[Literal["lower", "strip", "punctuation"]], Field(max_length=3)] = Field(
        default=["strip"], description="Done to both sides before they are compared."
    )


class EvaluationRows(Rows):
    """Held-out rows; never trained on."""

    answer: Answer | None = Field(None, description="With it, label accuracy is measured; without it, exact match of the whole text.")


def held_out_of(rows: int) -> int:
    """How many of so many training rows are held out where the spec names no others."""
    return min(HELD_OUT_LIMIT, max(1, rows // 10))


class Curation(Model):
    """What is left out of training; each dropped row is written down with its reason."""

    deduplicate: bool = Field(True, description="Drop rows whose prompt and completion stood before.")
    decontaminate: bool = Field(True, description="Drop rows that share a 13-gram of words with a held-out row (Brown et al., 2020).")
    min_completion_tokens: int = Field(1, ge=1, le=32768, description="Drop rows with a shorter completion.")


class Data(Model):
    """Training rows, held-out rows, and how they are prepared."""

    train: Rows | None = Field(None, description="Training rows; left out with teacher.traces, which holds them.")
    evaluation: EvaluationRows | None = Field(
        None, description="Held-out rows; without them a tenth of the training rows (at most 200) is held out."
    )
    chat_template: Literal["auto", "student", "teacher", "none"] = Field(
        "auto",
        description="Whose template renders the student's prompts and is published. auto: the student's, else the teacher's, else none (plain text).",
    )
    overflow: Literal["drop", "fail"] = Field(
        "drop", description="Rows longer than training.maxSequenceLength are dropped and counted, or fail the job; never cut."
    )
    curation: Curation = Field(default_factory=Curation, description="Filters before training.")
