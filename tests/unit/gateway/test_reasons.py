"""Every reason of a refusal is a word of `api.reasons`, so that scripts can count on it and the runbooks explain it."""

import ast
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parents[3] / "operator/distillery/gateway"
#: Where the reason stands among the arguments.
PLACE = {"Refused": 1, "refusal": 0}


@pytest.mark.parametrize("path", sorted(GATEWAY.rglob("*.py")), ids=lambda path: str(path.relative_to(GATEWAY)))
def test_no_reason_is_a_bare_string(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    given = [call.args[PLACE[call.func.id]] for call in calls if call.func.id in PLACE and len(call.args) > PLACE[call.func.id]]  # type: ignore[attr-defined]
    compared = [
        side
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "reason"
        for side in node.comparators
    ]
    assert not [ast.unparse(found) for found in (*given, *compared) if isinstance(found, ast.Constant)]
