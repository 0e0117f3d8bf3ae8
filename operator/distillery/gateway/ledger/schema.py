"""The tables, as statements need them. Migrations make them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text

metadata = MetaData()


def _text(*names: str) -> list[Column[str]]:
    return [Column(name, Text) for name in names]


def _whole(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger) for name in names]


head = Table(
    "head", metadata, Column("id", BigInteger, primary_key=True), *_whole("sequence"), *_text("digest"), *_whole("epoch"),
    *_text("clock", "read_only"), *_whole("next_account", "next_reservation", "format"),
)  # fmt: skip
writers = Table("writers", metadata, Column("id", BigInteger, primary_key=True), *_text("opened_at", "seen_at"), *_whole("known"))
accounts = Table(
    "accounts", metadata, Column("id", BigInteger, primary_key=True), *_text("budget", "span", "period", "unit"),
    *_whole("bound", "settled", "held", "reserved", "in_doubt", "overrun", "parent"),
)  # fmt: skip
jobs = Table(
    "jobs", metadata, *_text("budget", "uid"),
    *_whole("reservation", "requests", "hits", "tokens_in", "tokens_out", "settled", "held", "in_doubt", "overrun", "saved", "answers",
            "total"),
    Column("squares", Double), PrimaryKeyConstraint("uid", "budget"),
)  # fmt: skip
reservations = Table(
    "reservations", metadata, Column("id", BigInteger, primary_key=True),
    *_text("budget", "uid", "accounts", "opened_at", "seen_at", "closed_at"),
    *_whole("amount", "tokens", "smallest", "smallest_tokens", "remaining", "estimate", "remaining_tokens", "estimate_tokens"),
)  # fmt: skip
holds = Table(
    "holds", metadata, Column("id", Text, primary_key=True), *_whole("reservation"), *_text("state"), *_whole("amount", "tokens"),
    *_text("teacher", "request_key", "terms", "prices"), *_whole("writer"), *_text("at"), *_whole("billed", "tokens_in", "tokens_out"),
    *_text("resolved_at", "why"), *_whole("status"), *_text("request_id"),
)  # fmt: skip
answers = Table(
    "answers", metadata, Column("key", Text, primary_key=True), *_text("hold", "digest", "finish"), Column("body", LargeBinary),
    *_text("location", "at"),
)  # fmt: skip
entries = Table("entries", metadata, Column("sequence", BigInteger, primary_key=True), *_text("digest", "body"))
versions = Table("schema_versions", metadata, Column("version", BigInteger, primary_key=True), *_text("applied_at"))

#: Tables that a dump holds, in an order in which they can be loaded.
DUMPED = (head, writers, accounts, jobs, reservations, holds, answers, entries)
