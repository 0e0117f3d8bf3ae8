"""An auditor finds what is wrong with a chain, whoever wrote it."""

import json
from typing import Any

import pytest

from distillery.gateway.ledger.chain import GENESIS, link
from distillery.gateway.ledger.verify import exported

ACCOUNT = {"kind": "account", "account": 1, "budget": "b", "window": "total", "period": "total", "unit": "USD", "limit": 100}
OF = {"hold": "h", "job": "j", "accounts": [1], "at": "now"}
REQUEST = {"teacher": "t", "request": "k", "terms": "", "prices": ""}
HOLD = {"kind": "hold", **OF, **REQUEST, "moves": [["free", "reserved", 60, 0], ["reserved", "held", 60, 0]]}
SETTLE = {
    "kind": "settle", **OF, "moves": [["held", "settled", 20, 0], ["held", "free", 40, 0]], "billed": 20, "input": 0, "output": 0,
}  # fmt: skip
DOUBT = {"kind": "doubt", **OF, "moves": [["held", "in_doubt", 60, 0]], "why": "timeout"}
FREE = {"kind": "resolve", **OF, "moves": [["in_doubt", "free", 60, 0]], "verdict": "not-billed", "why": "a person"}


def chained(*facts: dict[str, Any]) -> list[str]:
    """Lines of an export."""
    lines, digest = [], GENESIS
    for sequence, fact in enumerate(facts, 1):
        entry = link(sequence, digest, fact)
        digest = entry.digest
        lines.append(entry.line())
    return lines


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        ((ACCOUNT, HOLD, SETTLE), None),
        ((ACCOUNT, HOLD, DOUBT, SETTLE | {"moves": [["in_doubt", "settled", 60, 0]], "billed": 60}), None),
        ((ACCOUNT, HOLD, DOUBT, FREE), None),
        ((ACCOUNT, HOLD, DOUBT, FREE, FREE), "entry 5: hold h is not open, it cannot resolve"),
        ((ACCOUNT, HOLD, FREE), "entry 3: hold h is not open, it cannot resolve"),
        ((ACCOUNT, HOLD, SETTLE | {"billed": 21}), "entry 3: hold h moves another amount than was billed"),
        ((ACCOUNT, HOLD, SETTLE | {"job": "another"}), "entry 3: hold h ends on another account than it was made on"),
        ((ACCOUNT, {"kind": "hold", **OF, "moves": []}), "entry 2 is none that this program writes: KeyError 'teacher'"),
        (({"kind": "format", "format": 99, "clock": ""},), "entry 1: format 99 follows, this program knows 2: use the newer image"),
        ((ACCOUNT, HOLD, {"kind": "limit", "account": 1, "limit": 10}, SETTLE), None),
        ((ACCOUNT | {"limit": 59}, HOLD), "entry 2: account 1 granted 60 of 59"),
        ((ACCOUNT, HOLD, {"kind": "limit", "account": 1, "limit": 10}, HOLD | {"hold": "i"}), "entry 4: account 1 granted 120 of 10"),
        ((ACCOUNT, HOLD, HOLD | {"moves": []}), "entry 3: hold h was made before"),
        ((ACCOUNT, HOLD, SETTLE, SETTLE | {"moves": []}), "entry 4: hold h is not open, it cannot settle"),
        (
            (ACCOUNT, HOLD, DOUBT, {"kind": "release", **OF, "moves": [], "why": ""}),
            "entry 4: hold h is not open, it cannot release",
        ),
        ((ACCOUNT, HOLD, SETTLE | {"moves": [["held", "free", 59, 0]]}), "entry 3: hold h ends with another amount than it was made with"),
        ((ACCOUNT, SETTLE), "entry 2: account 1 has a bucket below zero"),
        ((HOLD,), "entry 1: account 1 was never opened"),
    ],
)
def test_rules(facts: tuple[dict[str, Any], ...], fault: str | None) -> None:
    assert fault in (exported(chained(*facts)).faults or [None])


def test_a_changed_missing_or_swapped_line_is_found() -> None:
    lines = chained(ACCOUNT, HOLD, SETTLE)
    assert exported(lines).faults == []
    changed = json.loads(lines[1])
    changed["entry"]["moves"][0][2] = 61
    assert "entry 2 was changed: its digest does not fit" in exported([lines[0], json.dumps(changed)]).faults
    assert "entry 3 follows entry 1" in exported([lines[0], lines[2]]).faults
    assert "entry 2 follows entry 0" in exported([lines[1]]).faults
    with pytest.raises(ValueError, match="not a line of a ledger export"):
        exported(['{"kind": "hold"}'])
