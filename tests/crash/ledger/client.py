"""A gateway in small: racing clients that hold, ask a teacher that bills what it likes, and settle, until the process is killed.

Every step is told on standard output in one line, before or after it is done, so that whoever killed it knows what it was about:
`want ID`: the hold is asked for. `sent ID AMOUNT`: it was granted, the teacher is asked now. `paid ID AMOUNT`: the settlement is on disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from datetime import UTC, datetime

from distillery.gateway.ledger import Answer, Fenced, Hold, HoldResolved, Ledger, Refusal, Why, accounts_of, hold_id


def tell(word: str, number: str, amount: int = 0) -> None:
    """One write, so that a kill cuts no line in two."""
    os.write(1, f"{word} {number} {amount}\n".encode())


async def client(ledger: Ledger, name: int, limits: dict[str, int], rolls: random.Random) -> None:
    """Ask until the budget refuses."""
    job = f"job-{name % 8}"
    while True:
        now = datetime.now(UTC)
        number, worst = hold_id(now), rolls.randint(1, 1000)
        accounts = accounts_of("team-a/main", job, limits, {}, now)  # type: ignore[arg-type]
        tell("want", number)
        try:
            await ledger.hold(Hold(number, "team-a/main", job, "gpt", worst, 10, accounts, number, now, "terms", "prices"))
        except Refusal:
            tell("refused", number)
            return
        tell("sent", number, worst)
        await asyncio.sleep(rolls.random() / 500)
        fate = rolls.random()
        if fate < 0.1:
            await ledger.release(number, now, Why.BUSY, status=429)
            tell("released", number)
        elif fate < 0.2:
            await ledger.doubt(number, now, Why.TIMEOUT)
            tell("doubt", number)
        else:
            billed = rolls.randint(0, worst)
            await ledger.settle(number, billed, 3, 4, now, Answer(number, number.encode()))
            tell("paid", number, billed)


async def main(url: str, clients: int, limits: dict[str, int], seed: int) -> int:
    """0: the budget is used up. 3: another writer has taken over."""
    ledger = await Ledger.open(url, datetime.now(UTC))
    rolls = random.Random(seed)
    try:
        await asyncio.gather(*(client(ledger, name, limits, rolls) for name in range(clients)))
    except (Fenced, HoldResolved) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    await ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]))))
