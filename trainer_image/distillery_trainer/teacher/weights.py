"""Loads the teacher of a job: files, weights in the arithmetic that the machine is good at, tokenizer, its own template."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from distillery.api.teacher import TeacherModel
from distillery_trainer.data.templates import Renderer, template_of
from distillery_trainer.data.traces import TeacherRecord
from distillery_trainer.models.device import frozen_dtype, pick_device, set_threads
from distillery_trainer.models.endings import end_ids, savable
from distillery_trainer.models.files import ModelFiles, count_parameters, fetch_model, read_config, read_model, read_tokenizer
from distillery_trainer.models.positions import position_limit
from distillery_trainer.stores.digests import digest_input

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A frozen teacher, ready on its device."""

    files: ModelFiles
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    digest: str

    @property
    def positions(self) -> int:
        """Longest sequence that it can see, in tokens."""
        return position_limit(self.model.config)

    def record(self) -> TeacherRecord:
        """What later stages and the model card say about it."""
        head: Any = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return TeacherRecord(
            uri=self.files.uri,
            digest=self.digest,
            license=self.files.license,
            parameters=count_parameters(self.model),
            architecture=(self.model.config.architectures or [type(self.model).__name__])[0],
            model_type=self.model.config.model_type,
            dtype=str(self.model.dtype).removeprefix("torch."),
            vocab_size=int(head.weight.shape[0]),
            tokenizer_size=len(self.tokenizer),
        )

    def save(self, folder: Path) -> None:
        """Configuration, tokenizer and template: what a student needs to know of the teacher, without its weights."""
        save_description(folder, self.model.config, self.model.generation_config, self.tokenizer)


def save_description(
    folder: Path, config: PreTrainedConfig, generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase
) -> None:
    """All that later stages read of a teacher."""
    config.save_pretrained(folder)
    if generation is not None:
        savable(generation).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_teacher(spec: TeacherModel, work: Path) -> Teacher:
    """StageError where it cannot be reached or read."""
    device = pick_device()
    files = fetch_model(spec.uri, "teacher", work)
    config = read_config(files)
    width = int(config.hidden_size)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    dtype = frozen_dtype(spec.precision, device, width, int(inner))
    tokenizer, model = read_tokenizer(files), read_model(files, dtype)
    torch.nn.Module.to(model, device)
    threads = set_threads(count_parameters(model))
    log.info("teacher %s: %.1fM parameters, %s on %s, %d threads", spec.uri, count_parameters(model) / 1e6, dtype, device, threads)
    renderer = Renderer(tokenizer, template_of(tokenizer), end_ids(model.generation_config, tokenizer))
    return Teacher(files, model, tokenizer, renderer, digest_input(spec.uri, "teacher", work))
