"""Who learns: an existing model, layers of the teacher, or a new one."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import LocalRef, Model, ModelURI, ProperFraction
from .rules import Rule


class StudentModel(Model):
    """An existing causal language model in Hugging Face layout."""

    uri: ModelURI = Field(description="hf://org/name@revision, s3://bucket/folder, pvc://claim/folder, or file:// in a local run.")
    credentials_secret_ref: LocalRef | None = Field(None, description="Secret with HF_TOKEN or AWS_* keys for this URI.")


class FromTeacher(Model):
    """A copy of the teacher with fewer layers; embeddings, norm and head are kept."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.numHiddenLayers) != has(self.layerIndices)",
            "needs exactly one of 'numHiddenLayers' or 'layerIndices': give one, remove the other",
            lambda m: (m.num_hidden_layers is None) != (m.layer_indices is None),
        ),
        Rule(
            "!has(self.layerIndices) || self.layerIndices.isSorted()",
            "layerIndices must rise: the kept layers stay in the teacher's order",
            lambda m: all(a < b for a, b in pairwise(m.layer_indices or [])),
        ),
    )
    num_hidden_layers: int | None = Field(
        None, ge=1, le=512, description="How many layers to keep, spread evenly from the first to the last."
    )
    layer_indices: Annotated[list[Annotated[int, Field(ge=0, le=511)]], Field(min_length=1, max_length=512)] | None = Field(
        None,
        description="Which layers to keep, counted from 0, in rising order.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Scratch(Model):
    """A new model with random weights; it takes the teacher's tokenizer."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.hiddenSize % self.numAttentionHeads == 0",
            "hiddenSize must be a multiple of numAttentionHeads",
            lambda m: m.hidden_size % m.num_attention_heads == 0,
        ),
        Rule(
            "!has(self.numKeyValueHeads) || self.numAttentionHeads % self.numKeyValueHeads == 0",
            "numAttentionHeads must be a multiple of numKeyValueHeads",
            lambda m: m.num_attention_heads % (m.num_key_value_heads or m.num_attention_heads) == 0,
        ),
        Rule(
            "self.architecture == 'gpt2' || (self.hiddenSize / self.numAttentionHeads) % 2 == 0",
            "hiddenSize / numAttentionHeads must be even: rotary position embeddings turn pairs",
            lambda m: m.architecture == "gpt2" or (m.hidden_size // m.num_attention_heads) % 2 == 0,
        ),
        Rule(
            "self.architecture != 'gpt2' || !has(self.numKeyValueHeads) || self.numKeyValueHeads == self.numAttentionHeads",
            "gpt2 has no grouped-query attention: remove numKeyValueHeads, or choose llama, qwen2 or qwen3",
            lambda m: m.architecture != "gpt2" or m.num_key_value_heads in (None, m.num_attention_heads),
        ),
    )
    architecture: Literal["llama", "qwen2", "qwen3", "gpt2"] = Field("llama", description="Model family, as Hugging Face's model_type.")
    num_hidden_layers: int = Field(ge=1, le=256, description="Number of transformer blocks.")
    hidden_size: int = Field(
        ge=32,
        le=16384,
        multiple_of=32,
        description="Width of the residual stream; a multiple of 32 so that every export format can hold it.",
    )
    intermediate_size: int = Field(ge=32, le=65536, multiple_of=32, description="Width of the feed-forward layer; a multiple of 32.")
    num_attention_heads: int = Field(ge=1, le=256, description="Number of attention heads.")
    num_key_value_heads: int | None = Field(
        None, ge=1, le=256, description="Number of key/value heads (grouped-query attention); as many as attention heads if absent."
    )
    max_position_embeddings: int = Field(2048, ge=16, le=1048576, description="Longest sequence that the model can see.")
    tie_word_embeddings: bool = Field(True, description="Share the input embedding with the output head.")


class Lora(Model):
    """Low-rank adapters (Hu et al., 2021, arXiv 2106.09685), merged into the weights before evaluation and export."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of the update.")
    alpha: int = Field(32, ge=1, le=4096, description="Scale: the update is multiplied by alpha / rank.")
    dropout: ProperFraction = Field("0", description="Dropout on the adapter's input.")
    target_modules: Annotated[list[Annotated[str, Field(max_length=128)]], Field(min_length=1, max_length=64)] = Field(
        default=["all-linear"], description="Module names to adapt; all-linear is every linear layer but the output head."
    )
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(rank) instead (arXiv 2312.03732).")


class Student(Model):
    """Exactly one origin, and optionally adapters in place of full training."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.model), has(self.fromTeacher), has(self.scratch)].filter(x, x).size() == 1",
            "needs exactly one of 'model', 'fromTeacher' or 'scratch': give one, remove the others",
            lambda m: [m.model, m.from_teacher, m.scratch].count(None) == 2,
        ),
        Rule(
            "!(has(self.lora) && has(self.scratch))",
            "lora cannot adapt random weights: remove 'lora', or start from 'model' or 'fromTeacher'",
            lambda m: m.lora is None or m.scratch is None,
        ),
    )
    model: StudentModel | None = Field(
        None,
        description="Start from an existing model. To match the teacher's distribution it must have the teacher's tokenizer; preflight checks.",
    )
    from_teacher: FromTeacher | None = Field(
        None,
        description="Start from some of the teacher's layers, with its embeddings and head; needs teacher.model. Knows much from the start.",
    )
    scratch: Scratch | None = Field(
        None, description="Start from random weights in a shape of your choice; for narrow tasks, where a very small model is enough."
    )
    lora: Lora | None = Field(None, description="Train low-rank adapters, merged at the end; without it all weights are trained.")
