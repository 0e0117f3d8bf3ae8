"""The student: made as the job says, the same each time (evaluate makes it again as its baseline), saved as others load it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from distillery.api import reasons
from distillery.api.base import number
from distillery.api.job import DistillationJobSpec
from distillery.api.student import Lora, Scratch
from distillery_trainer.data.templates import Renderer, choose_template
from distillery_trainer.errors import StageError
from distillery_trainer.models.endings import end_ids, savable
from distillery_trainer.models.files import (
    fetch_model,
    read_model,
    read_tokenizer,
    settle_ties,
    traced_ends,
    traced_tokenizer,
    traced_vocabulary,
)
from distillery_trainer.models.head import Head, head_of

from .layers import chosen_layers, keep_layers

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """`model` has float32 weights; adapters, where there are any, work inside it, and `adapters` knows them. `field` is its origin's,
    `license` what the card of the model names that it began as."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    field: str
    adapters: PeftModel | None = None
    license: str | None = None

    @property
    def head(self) -> Head:
        """The output head with the live parameters, so that gradients reach them."""
        layer: Any = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return replace(head_of(self.model), weight=layer.weight, bias=getattr(layer, "bias", None))

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """States [rows, positions, hidden] after the final norm, from right-padded ids [rows, positions].

        No mask is given: attention looks back only, so padding on the right is never seen by a token that counts.
        """
        decoder: Any = self.model.get_decoder()  # type: ignore[no-untyped-call]
        states: torch.Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def save(self, folder: Path, end_of_turn: int) -> None:
        """Hugging Face layout: float32 safetensors with adapters merged, tokenizer, published template, ids that end an answer.

        Weights are rounded here, once, to what F16 holds: what is evaluated and published is what an F16 export has, bit for bit.
        """
        model = self._merged()
        if not round_to_half(model):
            log.warning("a weight is beyond F16's range (65504): the student's weights are not rounded, and an F16 export cannot hold them")
        self._finish(model, end_of_turn)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def rehearse(self, folder: Path, end_of_turn: int) -> None:
        """All of `save` but the weights, for a student on the meta device: what it would raise after training, it raises here."""
        model = self._merged()
        self._finish(model, end_of_turn)
        model.save_pretrained(folder, state_dict={})
        self.tokenizer.save_pretrained(folder)

    def _merged(self) -> PreTrainedModel:
        merged: Any = self.adapters.merge_and_unload() if self.adapters is not None else self.model
        model: PreTrainedModel = merged
        return model

    def _finish(self, model: PreTrainedModel, end_of_turn: int) -> None:
        """What the saved folder says beside its weights: what ends an answer, the template, whether the head is the embedding."""
        settle_ties(model)
        model.generation_config = generation = savable(model.generation_config)
        stops = sorted({end_of_turn, *self.renderer.stop_ids})
        generation.eos_token_id = stops if len(stops) > 1 else stops[0]
        pad = self.tokenizer.pad_token_id
        generation.stop_strings = None  # generate() would want a tokenizer for them
        generation.pad_token_id = int(pad) if pad is not None else end_of_turn
        self.tokenizer.chat_template = self.renderer.template


@torch.no_grad()
def round_to_half(model: torch.nn.Module) -> bool:
    """Give each weight the nearest value that F16 holds. False, and nothing is changed, where one is beyond F16's range."""
    if not all(bool(parameter.half().isfinite().all()) for parameter in model.parameters()):
        return False
    for parameter in model.parameters():
        parameter.copy_(parameter.half())
    return True


def make_student(spec: DistillationJobSpec, teacher_folder: Path, work: Path) -> Student:
    """The untrained student of a job. `teacher_folder` is the traces' teacher/: configuration and tokenizer, as far as they are known.

    Seeded by training.seed: the same job makes the same weights.
    """
    teacher_tokenizer, field = traced_tokenizer(teacher_folder), "spec.student.scratch"
    tokenizer, licence = teacher_tokenizer, None
    torch.manual_seed(spec.training.seed)
    if spec.student.model is not None:
        files, field = fetch_model(spec.student.model.uri, "student", work), "spec.student.model"
        tokenizer, licence = read_tokenizer(files), files.license
        if teacher_tokenizer is not None:
            require_same_tokens(tokenizer, teacher_tokenizer)
        model = read_model(files, torch.float32)
    elif spec.student.from_teacher is not None and spec.teacher.model is not None:
        field = "spec.student.fromTeacher"
        teacher = read_model(fetch_model(spec.teacher.model.uri, "teacher", work), torch.float32)
        model = keep_layers(teacher, chosen_layers(spec.student.from_teacher, int(teacher.config.num_hidden_layers)))
    elif spec.student.scratch is not None and tokenizer is not None:
        model = random_model(spec.student.scratch, traced_vocabulary(teacher_folder, tokenizer), tokenizer)
    else:
        text = "exactly one of model, fromTeacher (with teacher.model) or scratch (with a teacher whose tokenizer is known) is needed"
        raise StageError(reasons.INVALID_SPEC, f"spec.student: {text}")
    if tokenizer is None:
        raise StageError(reasons.BAD_INPUT, "spec.student.fromTeacher: these traces hold no tokenizer; use student.model")
    adapters = with_adapters(model, spec.student.lora) if spec.student.lora else None
    ends = end_ids(model.generation_config, tokenizer) | traced_ends(teacher_folder, tokenizer)
    renderer = Renderer(tokenizer, choose_template(spec.data.chat_template, tokenizer, teacher_tokenizer), ends)
    return Student(model, tokenizer, renderer, field, adapters, licence)


def require_same_tokens(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    """White-box distillation compares distributions id by id: an id must mean the same token on both sides (either may have more ids)."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    by_id = {index: token for token, index in theirs.items()}
    for token, index in sorted(ours.items(), key=lambda item: item[1]):
        other = by_id.get(index, token)
        if other != token or theirs.get(token, index) != index:
            text = f"id {index} is {token!r} in the student's tokenizer, but {other!r} in the teacher's"
            remedy = "use a student of the teacher's family, student.fromTeacher or student.scratch"
            raise StageError(reasons.TOKENIZER_MISMATCH, f"spec.student.model: {text}: their distributions cannot be compared; {remedy}")


def random_model(shape: Scratch, vocab: int, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A new model with the teacher's vocabulary size, so that distributions compare column by column.

    Weights are drawn with standard deviation hidden^-0.5, which keeps the variance of activations through a layer: at the small widths
    that are trained from scratch here, the usual 0.02 (right at a width of 2500) starts so near zero that training loses hundreds of steps.
    """
    kv = shape.num_key_value_heads or shape.num_attention_heads
    fields: dict[str, Any] = {
        "vocab_size": vocab,
        "num_hidden_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "max_position_embeddings": shape.max_position_embeddings,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "initializer_range": shape.hidden_size**-0.5,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if shape.architecture == "gpt2":
        # GPT-2's dropout of 0.1 is a regulariser for many passes over much text; the other families have none
        fields |= {"n_inner": shape.intermediate_size, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        fields |= {"intermediate_size": shape.intermediate_size, "num_key_value_heads": kv}
    if shape.architecture == "qwen3":
        # its default is 128, whatever the width
        fields["head_dim"] = shape.hidden_size // shape.num_attention_heads
    config = AutoConfig.for_model(shape.architecture, **fields)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    made.train(False)
    return made


def with_adapters(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """Put low-rank adapters into the model's linear layers and freeze the rest (arXiv 2106.09685); they start as the identity."""
    from peft import LoraConfig, PeftModel, get_peft_model  # a second of each pod's start, for those that adapt

    field = "spec.student.lora.targetModules"
    targets: str | list[str] = "all-linear" if lora.target_modules == ["all-linear"] else list(lora.target_modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=number(lora.dropout),
        target_modules=targets,
        use_rslora=lora.use_rslora,
        task_type="CAUSAL_LM",
    )
    try:
        adapters = get_peft_model(model, config)
    except ValueError as error:
        text = f"{lora.target_modules}: {' '.join(str(error).split())[:300]}; name linear layers of the student, or all-linear"
        raise StageError(reasons.BAD_INPUT, f"{field}: {text}") from error
    ends = (model.get_output_embeddings(), model.get_input_embeddings())  # type: ignore[no-untyped-call]
    if any(hasattr(end, "lora_A") for end in ends):
        text = f"{lora.target_modules} adapts the embedding or the output head, which the loss reads as plain matrices: leave them out"
        raise StageError(reasons.UNSUPPORTED, f"{field}: {text}")
    if not isinstance(adapters, PeftModel):
        raise TypeError(f"peft gave a {type(adapters).__name__} for one set of adapters")
    return adapters
