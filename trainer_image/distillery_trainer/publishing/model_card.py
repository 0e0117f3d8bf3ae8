"""The model card of what is published: README.md with the front matter that model hubs read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .front_matter import base_uri, front_matter, license_of
from .lineage import Lineage, RowsRecord
from .teacher_terms import is_endpoint, published_name, teacher_name, terms_section

_ONNX_EXAMPLE = Path(__file__).parent.parent / "export" / "onnx_example.py"


def card(manifest: Mapping[str, Any]) -> str:
    """README.md of a published folder, from its manifest; links are relative to the folder."""
    parts = [
        f"---\n{front_matter(manifest)}\n---",
        f"# {published_name(manifest)}",
        _opening(manifest),
        terms_section(Lineage.of(manifest).teacher, Lineage.of(manifest).usage),
        "## How well it does",
        _evaluation(manifest["evaluation"]),
        "## How to run it",
        *_usage(manifest),
        "## Where it comes from",
        _lineage(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(manifest: Mapping[str, Any]) -> str:
    lineage, evaluation = Lineage.of(manifest), manifest["evaluation"]
    teacher = lineage.teacher
    size = f"{_millions(evaluation.get('studentParameters'))} parameters"
    smaller = f", {evaluation['compression']} times fewer than its teacher" if "compression" in evaluation else ""
    base = base_uri(lineage)
    began = f" Its weights began as those of `{base}`{_licensed(license_of(lineage))}." if base else ""
    told = f"A {lineage.student.model_type or ''} model of {size}{smaller}, distilled from {teacher_name(teacher)}.{began}"
    license_ = teacher.license
    terms = f"The teacher's licence is `{license_}`" if license_ else "The teacher's model card names no licence: check its terms"
    return told if is_endpoint(teacher) else f"{told}\n{terms}; it may bind this model too."


def _licensed(name: str | None) -> str:
    return f", whose licence is `{name}`" if name else ", whose card names no licence: check its terms"


def _millions(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e6:.2f} M"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines)


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    rows = [
        (row["metric"], row.get("teacher"), row.get("student"), row.get("baseline"), row.get("retention"))
        for row in evaluation.get("results", [])
    ]
    head = ("metric", "teacher", "student", "untrained student", "retention")
    return f"On {evaluation.get('rows', '?')} held-out rows, answered greedily:\n\n{_table(head, rows)}"


def _published(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [artifact for artifact in manifest["artifacts"] if artifact.get("passed")]


def _usage(manifest: Mapping[str, Any]) -> list[str]:
    templated = bool(Lineage.of(manifest).student.chat_template)
    ask = (
        'ids = tokenizer.apply_chat_template([{"role": "user", "content": "…"}], add_generation_prompt=True, return_dict=False,'
        ' return_tensors="pt")'
        if templated
        else 'ids = tokenizer("…", return_tensors="pt").input_ids'
    )
    parts = [
        "With transformers:",
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model, tokenizer = AutoModelForCausalLM.from_pretrained("model"), AutoTokenizer.from_pretrained("model")\n'
        f"{ask}\n"
        "print(tokenizer.decode(model.generate(ids, do_sample=False)[0, ids.shape[1] :], skip_special_tokens=True))\n```",
    ]
    if not manifest["artifacts"]:
        return parts
    head = ("artifact", "format", "MB", "measured in its own runtime", "file")
    parts += ["Artifacts for edge targets, each measured on the held-out rows in the runtime that it is for:"]
    parts += [_table(head, (_artifact_row(artifact) for artifact in manifest["artifacts"]))]
    formats = {artifact["format"] for artifact in _published(manifest)}
    return [*parts, *(_gguf(manifest, templated) if "gguf" in formats else []), *(_onnx(manifest, templated) if "onnx" in formats else [])]


def _artifact_row(artifact: Mapping[str, Any]) -> tuple[Any, ...]:
    measured = ", ".join(f"{metric['name']} {metric['value']}" for metric in artifact["evaluation"])
    where = f"`{artifact['path']}`" if artifact.get("passed") else f"withheld: {artifact.get('message')}"
    size = f"{artifact['sizeBytes'] / 1e6:.1f}" if "sizeBytes" in artifact else None
    return artifact["name"], f"{artifact['format']} {artifact['quantization']}", size, measured, where


def _gguf(manifest: Mapping[str, Any], templated: bool) -> list[str]:
    files = {a["quantization"]: a["path"] for a in _published(manifest) if a["format"] == "gguf"}
    first = next(iter(files.values()))
    serve = f"llama-server -m {first}" if templated else f'llama-completion -m {first} -no-cnv --temp 0 -p "…"'
    how = "the chat template is in the file" if templated else "prompts are plain text"
    source = files.get("f16", "model-F16.gguf")
    hint = "" if "f16" in files else " (add an export with quantization f16 to the job to get it)"
    return [
        f"GGUF, with llama.cpp ({how}):",
        f"```sh\n{serve}\n```",
        f"Other sizes, for example the K-quants, are made from the F16 file{hint}; measure them on your own rows before use:",
        f"```sh\nllama-quantize {source} model-Q4_K_M.gguf Q4_K_M\n```",
    ]


def _onnx(manifest: Mapping[str, Any], templated: bool) -> list[str]:
    path = next(a["path"] for a in _published(manifest) if a["format"] == "onnx")
    prompt = "; PROMPT is the text that the chat template makes of the conversation" if templated else ""
    code = _ONNX_EXAMPLE.read_text().replace("  # type: ignore[import-untyped]", "")
    if templated:  # whose text holds its special tokens already
        code = code.replace("encode(prompt)", "encode(prompt, add_special_tokens=False)")
    return [
        f"ONNX, with onnxruntime and tokenizers alone (FOLDER is `{path.removesuffix('/model.onnx')}`{prompt}):",
        f"```python\n{code}```",
    ]


def _lineage(manifest: Mapping[str, Any]) -> str:
    lineage = Lineage.of(manifest)
    teacher, data = lineage.teacher, lineage.data
    left_out = ", ".join(f"{count} {reason}" for reason, count in data.dropped.items()) or "none"
    rows = [
        ("job", f"{manifest['job']['namespace']}/{manifest['job']['name']} ({manifest['job']['uid']})"),
        ("teacher", teacher_name(teacher) + (f", {_millions(teacher.parameters)} parameters" if teacher.parameters else "")),
        ("teacher's sha256", f"`{teacher.digest}`" if teacher.digest else None),
        ("teacher's entropy", f"{lineage.mean_entropy:.4g} nats/token" if lineage.mean_entropy is not None else None),
        ("training rows", _rows(data.train, "the traces")),
        ("held-out rows", _rows(data.held_out, "?")),
        ("rows left out", left_out),
        ("objectives", "; then ".join(_flat(turn["objectives"]) for turn in lineage.method["rounds"])),
        ("training", _flat(lineage.training)),
        ("trainer image", f"`{manifest['trainerImage']}`" if manifest.get("trainerImage") else None),
        *((f"stage {name}", f"`{stage_hash}`") for name, stage_hash in lineage.stages.items()),
    ]
    return (
        _table(("", ""), (row for row in rows if row[1] is not None))
        + "\n\nThe sha256 of each file and the whole lineage are in [manifest.json](manifest.json)."
    )


def _rows(rows: RowsRecord, otherwise: str) -> str:
    return f"{rows.rows} of `{rows.uri or otherwise}`, sha256 `{rows.sha256}`"


def _flat(value: Any) -> str:
    """Settings in one line: name value, name value."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} ({_flat(inner)})" if isinstance(inner, Mapping) else f"{key} {_flat(inner)}" for key, inner in value.items()
        )
    if isinstance(value, list):
        return ", ".join(_flat(inner) for inner in value)
    return str(value)
