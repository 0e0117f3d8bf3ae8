"""Reservations: what is set aside for a job, in the windows of one day, and what becomes of the rest."""

from __future__ import annotations

from datetime import datetime

from .book import Book
from .contract import Need, Refusal, Unit
from .rows import JobRow, Move, ReservationRow, stamp
from .tranche import resized, tranche


def current(book: Book, job: JobRow, accounts: tuple[int, ...], at: datetime) -> ReservationRow:
    """The job's reservation in these accounts. One in other accounts (another day, another set of limits) lapses first."""
    if job.reservation is not None:
        row = book.reservation(job.reservation)
        if row.accounts == accounts:
            row.seen_at = stamp(at)
            return row
        close(book, row, job, at, "its windows ended")
        opened = book.open_reservation(job, accounts, at)
        opened.learn(Need(row.smallest, row.smallest_tokens, row.remaining, row.estimate, row.remaining_tokens, row.estimate_tokens))
        return opened
    return book.open_reservation(job, accounts, at)


def close(book: Book, row: ReservationRow, job: JobRow, at: datetime, why: str) -> None:
    """End a reservation; what no request holds is free again."""
    shrink(book, row, at, why)
    row.closed_at = stamp(at)
    job.reservation = None


def shrink(book: Book, row: ReservationRow, at: datetime, why: str, amount: int = 0, tokens: int = 0) -> None:
    """Give back what a reservation has beyond `amount` and `tokens`."""
    post(book, row, at, _resize(row, min(row.amount, amount), min(row.tokens, tokens)), why)


def post(book: Book, row: ReservationRow, at: datetime, moves: list[Move], why: str) -> None:
    """Book the moves of a reservation, if there are any."""
    if moves:
        book.touched_reservations.add(row.id)
        book.post("reserve", at, row.accounts, moves, reservation=row.id, job=row.uid, why=why)


def fit(book: Book, row: ReservationRow, amount: int, tokens: int, at: datetime) -> list[Move]:
    """Make the reservation large enough for one request of `amount` and `tokens`; returns the moves, for the caller to post.

    Raises Refusal, and a refused job keeps nothing aside: what it has is too little for it and enough for others.
    """
    wanted = tranche(max(amount, row.smallest), row.remaining, row.estimate)
    wanted_tokens = tranche(max(tokens, row.smallest_tokens), row.remaining_tokens, row.estimate_tokens)
    size = resized(row.amount, amount, wanted, _room(book, row.accounts, "USD"))
    size_tokens = resized(row.tokens, tokens, wanted_tokens, _room(book, row.accounts, "tokens"))
    if size is None or size_tokens is None:
        shrink(book, row, at, "too little for a request")
        raise _refusal(book, row, amount, tokens)
    return _resize(row, size, size_tokens)


def kept(row: ReservationRow, back: int, back_tokens: int) -> tuple[int, int]:
    """How much of what a request leaves over stays in the reservation: up to a tranche, none once it is closed."""
    if row.closed_at is not None:
        return 0, 0
    size, size_tokens = sizes(row)
    return max(0, min(back, size - row.amount)), max(0, min(back_tokens, size_tokens - row.tokens))


def sizes(row: ReservationRow) -> tuple[int, int]:
    """A tranche of the job, in nano-dollars and tokens."""
    return tranche(row.smallest, row.remaining, row.estimate), tranche(row.smallest_tokens, row.remaining_tokens, row.estimate_tokens)


def _resize(row: ReservationRow, amount: int, tokens: int) -> list[Move]:
    more, more_tokens = amount - row.amount, tokens - row.tokens
    row.amount, row.tokens = amount, tokens
    moves: list[Move] = [
        ("free", "reserved", max(0, more), max(0, more_tokens)),
        ("reserved", "free", max(0, -more), max(0, -more_tokens)),
    ]
    return [move for move in moves if move[2] or move[3]]


def _room(book: Book, accounts: tuple[int, ...], unit: Unit) -> int | None:
    rooms = [room for number in accounts if book.accounts[number].unit == unit and (room := book.accounts[number].room) is not None]
    return min(rooms, default=None)


def _refusal(book: Book, row: ReservationRow, amount: int, tokens: int) -> Refusal:
    """Of the accounts that refuse, the one that resumes last: total and perJob, then monthly, then daily."""
    lasting = {"total": 0, "perJob": 1, "monthly": 2, "daily": 3}
    refusing = []
    for account in map(book.accounts.__getitem__, row.accounts):
        needed = amount if account.unit == "USD" else tokens
        if account.room is not None and needed > account.room:
            refusing.append((lasting[account.span], needed, account))
    _, needed, account = min(refusing, key=lambda item: item[0])
    return Refusal(account.account(), needed, max(0, account.room or 0))
