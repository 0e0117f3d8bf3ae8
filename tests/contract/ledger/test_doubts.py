"""A doubt has a way out: a person finds the request at the provider and says what became of it; an answer of no use can be dropped."""

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.ledger.test_holds import balances
from tests.unit.ledger.wallet import NOON, Wallet, answer

from distillery.gateway.ledger import HoldResolved, Ledger, Need, Why
from distillery.gateway.ledger.commands import main


async def doubtful(ledger: Ledger, wallet: Wallet, **told: Any) -> str:
    """A request that was sent and never answered."""
    hold = wallet.hold(1_000, 50)
    await ledger.hold(hold)
    await ledger.doubt(hold.id, NOON, Why.FAILED, **told)
    return hold.id


def run(url: str, capsys: pytest.CaptureFixture[str], *words: str, fails: bool = False) -> list[dict[str, Any]]:
    """The lines that a command prints; its error as one of them where it fails."""
    capsys.readouterr()
    assert main([words[0], "--database", url, *words[1:]]) == int(fails)
    found = capsys.readouterr()
    return [{"error": found.err}] if fails else [json.loads(line) for line in found.out.splitlines()]


async def test_doubts_are_listed_with_all_that_finds_them_at_the_provider(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await doubtful(ledger, Wallet(), status=502, request_id="req_1-A.b:c")
    await doubtful(ledger, Wallet(budget="team-b/main"), request_id="no id: sk-key <script>")
    found = run(url, capsys, "doubts")
    assert found[0] | {"age": ""} == {
        "hold": first, "budget": "team-a/main", "job": "job-1", "teacher": "gpt", "sent": "2026-11-24T12:00:00Z", "age": "",
        "amount": "0.000001", "tokens": 50, "why": "teacher-failed", "status": 502, "requestId": "req_1-A.b:c",
    }  # fmt: skip
    assert found[1]["requestId"] is None, "a header of a foreign server is no place for anything else"
    assert [doubt["budget"] for doubt in run(url, capsys, "doubts", "--budget", "team-b/main")] == ["team-b/main"]


async def test_what_was_not_billed_is_free_again_and_told_once(url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    wallet = Wallet(usd={"total": 5_000})
    hold = await doubtful(ledger, wallet, request_id="req-1")
    resolve = ["resolve", "--hold", hold, "--not-billed", "--why", "not on the usage page of 24 November"]
    assert run(url, capsys, *resolve) == [{"resolved": 1, "before": 0}]
    assert run(url, capsys, *resolve) == [{"resolved": 0, "before": 1}], "told twice, booked once"
    assert await balances(ledger, wallet) == {}
    usage = await ledger.usage(wallet.job())
    assert (usage.requests, usage.in_doubt) == (0, 0)
    [entry] = [entry for line in await ledger.entries(0, 100) if (entry := json.loads(line)["entry"])["kind"] == "resolve"]
    assert (entry["hold"], entry["verdict"], entry["why"]) == (hold, "not-billed", "not on the usage page of 24 November")
    assert "only what is in doubt can be resolved" in run(url, capsys, *resolve[:3], "--billed", "1", "--why", "x", fails=True)[0]["error"]
    with pytest.raises(HoldResolved):
        await ledger.settle(hold, 1, 1, 1, NOON, None)
    run(url, capsys, "verify")
    assert run(url, capsys, "doubts") == []


@pytest.mark.parametrize(
    ("words", "settled", "overrun", "tokens"),
    [
        (["--billed", "0.0000004", "--tokens", "7,3"], 400, 0, (7, 3)),
        (["--billed", "0.0000004"], 400, 0, (50, 0)),
        (["--billed", "0.0000015", "--tokens", "40,20"], 1_000, 500, (40, 20)),
        (["--billed", "0"], 0, 0, (50, 0)),
    ],
)
async def test_what_was_billed_is_booked(
    url: str, ledger: Ledger, words: list[str], settled: int, overrun: int, tokens: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    wallet = Wallet(usd={"total": 5_000}, tokens={"total": 500})
    hold = await doubtful(ledger, wallet)
    resolve = ["resolve", "--hold", hold, *words, "--why", "usage page"]
    assert run(url, capsys, *resolve) == [{"resolved": 1, "before": 0}]
    assert run(url, capsys, *resolve) == [{"resolved": 0, "before": 1}]
    expected = {"settled": settled, "overrun": overrun}
    assert await balances(ledger, wallet) == {name: amount for name, amount in expected.items() if amount}
    held = await balances(ledger, wallet, unit="tokens")
    assert sum(held.values()) == sum(tokens)
    usage = await ledger.usage(wallet.job())
    assert (usage.tokens_in, usage.tokens_out, usage.answers, usage.requests) == (*tokens, 0, 1), "no answer: its cost predicts nothing"
    run(url, capsys, "verify")


async def test_many_doubts_of_one_outage_end_together_or_not_at_all(url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    wallet = Wallet()
    holds = [await doubtful(ledger, wallet) for _ in range(3)]
    words = [word for hold in [*holds, holds[0]] for word in ("--hold", hold)]
    assert run(url, capsys, "resolve", *words, "--not-billed", "--why", "outage") == [{"resolved": 3, "before": 0}]


async def test_only_a_doubt_is_resolved(url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    wallet = Wallet()
    sent, paid = wallet.hold(10), wallet.hold(10)
    for hold in (sent, paid):
        await ledger.hold(hold)
    await ledger.settle(paid.id, 5, 0, 0, NOON, None)
    for hold, wrong in ((sent.id, "is dispatched since"), (paid.id, "is settled since"), ("unknown", "the ledger knows none of this id")):
        assert wrong in run(url, capsys, "resolve", "--hold", hold, "--not-billed", "--why", "x", fails=True)[0]["error"]
    for words in (["--billed", "-1"], ["--billed", "much"], ["--billed", "1", "--tokens", "7"], ["--not-billed", "--tokens", "7,3"]):
        assert "--" in run(url, capsys, "resolve", "--hold", sent.id, *words, "--why", "x", fails=True)[0]["error"]


async def test_a_resolved_doubt_goes_back_to_a_job_that_is_still_asking(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    wallet = Wallet(usd={"total": 10_000})
    await ledger.reserve(wallet.job(), wallet.accounts(), Need(1_000, 50, 4_000, 16_000), NOON)
    hold = await doubtful(ledger, wallet)
    run(url, capsys, "resolve", "--hold", hold, "--not-billed", "--why", "x")
    assert await balances(ledger, wallet) == {"reserved": 4_000}
    await ledger.sweep(NOON + timedelta(minutes=11))
    run(url, capsys, "verify")


async def test_an_answer_that_is_forgotten_is_bought_again(url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    wallet = Wallet()
    for body in (b"of no use", b"better"):
        hold = wallet.hold(10)
        await ledger.hold(hold)
        await ledger.settle(hold.id, 5, 1, 1, NOON, answer("k", body))
        found = await ledger.answer("k")
        assert found is not None
        assert found.body == body
        assert run(url, capsys, "forget", "k", "--why", "a refusal in disguise") == [{"forgotten": True}]
        assert await ledger.answer("k") is None
    assert run(url, capsys, "forget", "k", "--why", "again") == [{"forgotten": False}]
    run(url, capsys, "verify")
    assert await balances(ledger, wallet) == {"settled": 10}, "what was paid stays paid"
