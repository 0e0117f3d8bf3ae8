"""Who learns: an existing model, layers of the teacher, or a new one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .base import LocalRef, Model, ModelURI, NonNegativeDecimal, rules


class StudentModel(Model):
    """An existing causal language model in Hugging Face layout."""

    uri: ModelURI = Field(description="hf://org/name@revision, s3://bucket/folder, pvc://claim/folder, or file:// in a local run.")
    credentials_secret_ref: LocalRef | None = Field(None, description="Secret with HF_TOKEN or AWS_* keys for this URI.")


class FromTeacher(Model):
    """A copy of the teacher with fewer layers; embeddings, norm and head are kept."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.numHiddenLayers) != has(self.layerIndices)", "fromTeacher needs exactly one of 'numHiddenLayers' or 'layerIndices'")
        )
    )
    num_hidden_layers: int | None = Field(
        None, ge=1, le=512, description="How many layers to keep, spread evenly from the first to the last."
    )
    layer_indices: Annotated[list[Annotated[int, Field(ge=0, le=511)]], Field(min_length=1, max_length=512)] | None = Field(
        None, description="Which layers to keep, counted from 0, in rising order."
    )


class Scratch(Model):
    """A new model with random weights; it takes the teacher's tokenizer."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.hiddenSize % self.numAttentionHeads == 0", "scratch.hiddenSize must be a multiple of numAttentionHeads"),
            (
                "self.numAttentionHeads % (has(self.numKeyValueHeads) ? self.numKeyValueHeads : self.numAttentionHeads) == 0",
                "scratch.numAttentionHeads must be a multiple of numKeyValueHeads",
            ),
        )
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
    dropout: NonNegativeDecimal = Field("0", description="Dropout on the adapter's input.")
    target_modules: Annotated[list[Annotated[str, Field(max_length=128)]], Field(min_length=1, max_length=64)] = Field(
        default=["all-linear"], description="Module names to adapt; all-linear is every linear layer but the output head."
    )
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(rank) instead (arXiv 2312.03732).")


class Student(Model):
    """Exactly one origin, and optionally adapters in place of full training."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.model), has(self.fromTeacher), has(self.scratch)].filter(x, x).size() == 1",
                "student needs exactly one of 'model', 'fromTeacher' or 'scratch'",
            ),
            (
                "!(has(self.lora) && has(self.scratch))",
                "student.lora cannot adapt random weights: remove 'lora', or start from 'model' or 'fromTeacher'",
            ),
        )
    )
    model: StudentModel | None = Field(None, description="Start from this model.")
    from_teacher: FromTeacher | None = Field(None, description="Start from some of the teacher's layers; needs teacher.model.")
    scratch: Scratch | None = Field(None, description="Start from random weights.")
    lora: Lora | None = Field(None, description="Train low-rank adapters; without it all weights are trained.")
