"""A shallower copy of a model: some of its blocks, everything else as it is (as DistilBERT was started; Sanh et al., 2019, 1910.01108)."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from distillery.api import reasons
from distillery.api.student import FromTeacher
from distillery_trainer.errors import StageError
from distillery_trainer.models.files import settle_ties

#: `model.layers.7.`, `transformer.h.7.`: the number of a block in the name of a weight.
_BLOCK = re.compile(r"^((?:\w+\.)*?(?:layers|h|blocks)\.)(\d+)(\..+)$")
#: Lists with an entry for each layer. Any other list keeps its entries, as long as there happen to be layers (two ids that end an answer).
_PER_LAYER = frozenset(
    {
        "layer_types",
        "mlp_layer_types",
        "layers_block_type",
        "no_rope_layers",
        "layer_rope_theta",
        "block_configs",
        "attention_layers",
        "indexer_types",
        "layers_num_experts",
        "num_attention_heads",
        "num_key_value_heads",
        "num_attention_heads_per_layer",
        "num_key_value_heads_per_layer",
        "intermediate_size",
        "num_experts",
        "moe_topk",
        "swiglu_limits",
        "swiglu_limits_shared",
        "activation_sparsity_pattern",
    }
)
#: Lists of the numbers of those layers that are special.
_NUMBERS = frozenset({"mlp_only_layers", "moe_layers", "attn_layer_indices", "rope_scaling_layers"})


def chosen_layers(choice: FromTeacher, total: int) -> list[int]:
    """Indices of the blocks to keep, in order: those named, or `numHiddenLayers` spread evenly from the first to the last."""
    field = "spec.student.fromTeacher"
    if choice.layer_indices is not None:
        beyond = [index for index in choice.layer_indices if index >= total]
        if beyond:
            text = f"{field}.layerIndices: the teacher has {total} layers, numbered 0 to {total - 1}; {beyond[0]} is none of them"
            raise StageError(reasons.BAD_INPUT, text)
        if choice.layer_indices != sorted(set(choice.layer_indices)):
            raise StageError(reasons.BAD_INPUT, f"{field}.layerIndices: {choice.layer_indices} is not in rising order; sort it")
        return list(choice.layer_indices)
    count = choice.num_hidden_layers or total
    if count > total:
        raise StageError(reasons.BAD_INPUT, f"{field}.numHiddenLayers: {count} is more than the teacher's {total} layers; keep fewer")
    return [round(index * (total - 1) / (count - 1)) for index in range(count)] if count > 1 else [0]


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A new float32 model of the same family, in evaluation mode, with the blocks `kept` only.

    StageError Unsupported where a family cannot be cut so.
    """
    settle_ties(model)
    config = _shallower(model.config, kept)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    new_number = {old: new for new, old in enumerate(kept)}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        found = _BLOCK.match(name)
        if found is None:
            weights[name] = tensor
        elif int(found[2]) in new_number:
            weights[f"{found[1]}{new_number[int(found[2])]}{found[3]}"] = tensor
    try:
        made.load_state_dict(weights)
    except RuntimeError as error:
        text = f"layers of a {config.model_type} model cannot be taken out ({' '.join(str(error).split())[:200]}): use student.model"
        raise StageError(reasons.UNSUPPORTED, f"spec.student.fromTeacher: {text}") from error
    made.generation_config = model.generation_config
    made.train(False)
    return made


def _shallower(config: PreTrainedConfig, kept: Sequence[int]) -> PreTrainedConfig:
    """The configuration with fewer layers; lists per layer lose the same entries, layers' numbers are counted anew."""
    total = int(config.num_hidden_layers)
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        text = "the teacher scales attention by the layer's number, which changes when layers are taken out: use student.model or scratch"
        raise StageError(reasons.UNSUPPORTED, f"spec.student.fromTeacher: {text}")
    made = copy.deepcopy(config)
    new_number = {old: new for new, old in enumerate(kept)}
    for name, value in vars(config).items():
        if name in _PER_LAYER and isinstance(value, list | tuple) and len(value) == total:
            setattr(made, name, [value[index] for index in kept])
        elif name in _NUMBERS and isinstance(value, list | tuple):
            setattr(made, name, [new_number[index] for index in value if index in new_number])
    if hasattr(made, "quantization_config"):
        del made.quantization_config
    made.num_hidden_layers = len(kept)
    return made
