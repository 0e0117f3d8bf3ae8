"""A gateway on a ledger that came back from a backup asks nobody until a person has said what the ledger does not know."""

from pathlib import Path

from tests.loopback import gateway
from tests.unit.gateway.conftest import Gate

from distillery.gateway.ledger import commands


async def test_a_restored_ledger_grants_nothing_until_it_is_accepted(gate: Gate, tmp_path: Path) -> None:
    bought = await gate.ask("before the backup")
    database, copy, restored = f"sqlite:///{tmp_path}/ledger.db", tmp_path / "copy.db", f"sqlite:///{tmp_path}/restored.db"
    assert commands.main(["backup", "--database", database, "--to", str(copy)]) == 0
    await gate.ask("after it")
    assert commands.main(["restore", "--database", restored, "--from", str(copy)]) == 0
    async with gateway(gate.objects, gate.asking.law, restored, now=gate.time.now, clock=gate.time.clock) as (url, asking):
        gate.url, gate.asking = url, asking
        kept, refused = await gate.ask("before the backup"), await gate.ask("after it")
        assert (kept.cache, kept.text) == ("hit", bought.text)
        assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "ledger_read_only", "60")
        put = await gate.request("PUT", "/v1/reservations/nlp/arith/uid-arith", json={"requests": 1, "longestPromptBytes": 9})
        assert (put.status, put.code) == (503, "ledger_read_only")
        assert "restored" in (await gate.request("GET", "/v1/budgets/nlp/team-a")).json["readOnly"]
        accept = ["accept", "--database", restored, "--why", "the bill of the provider", "--spent", "nlp/team-a=0.000018"]
        assert commands.main(accept) == 0
        assert (await gate.ask("after it")).cache == "miss"
        assert (await gate.window()).settled == 3 * 18000
    assert commands.main(["verify", "--database", restored]) == 0
