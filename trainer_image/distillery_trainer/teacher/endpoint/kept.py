"""Answers that outlive their pod: pieces of a shard in the stage's work folder, and a part for each shard that is done.

A piece is JSONL, one answer on each line, with the distributions beside it where the job keeps them. A part names the pieces of its
shard, so that whoever finishes last can put all together.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillery.api.digest import digest
from distillery_trainer.data.examples import read_lines, write_lines
from distillery_trainer.stores import Store, safe_join

from . import signals
from .answers import Answered
from .distribution import Distribution

#: An answer, and the distributions of its choices that have some.
Fresh = tuple[Answered, Sequence[Distribution | None]]
_READERS = 8


class Kept:
    """What one plan has kept. `plan` is all that decides what is asked and how it is cut, so that answers to other questions stay out."""

    def __init__(self, store: Store, folder: str, plan: Any, shard: int, shards: int) -> None:
        self._store, self._folder, self._shard, self._shards = store, f"{folder}/{digest(plan)[:16]}", shard, shards
        self._pieces: list[str] = []

    def restore(self, scratch: Path) -> dict[int, Answered]:
        """The answers of this shard's earlier runs, by number."""
        mine = f"{self._folder}/piece-{self._shard:05d}-"
        there = (entry.path for entry in self._store.list(self._folder))
        self._pieces = [path.rsplit("/", 1)[1] for path in there if path.startswith(mine) and path.endswith(".jsonl")]
        return self._read(self._pieces, scratch)

    def keep(self, fresh: Sequence[Fresh], scratch: Path) -> None:
        """Put some answers in the store as one piece. The name is new each time: two pods of one shard do not overwrite each other."""
        name = f"piece-{self._shard:05d}-{uuid.uuid4().hex[:12]}"
        scratch.mkdir(parents=True, exist_ok=True)
        files = [f"{name}.jsonl"]
        if distributions := [one for _, given in fresh for one in given if one is not None]:
            files.insert(0, f"{name}.safetensors")
            signals.save(scratch / files[0], distributions)
        write_lines(scratch / files[-1], (answer.wire() for answer in _placed(fresh, files[0])))
        for file in files:
            self._store.put(scratch / file, f"{self._folder}/{file}")
        self._pieces.append(files[-1])

    def finish(self, part: dict[str, Any]) -> None:
        """This shard is done: all its answers are in its pieces."""
        data = json.dumps({**part, "shard": self._shard, "pieces": self._pieces}, ensure_ascii=False).encode()
        self._store.write(f"{self._folder}/{self._part(self._shard)}", data)

    def parts(self) -> list[dict[str, Any]] | None:
        """Every shard's part; None while some are still at work. Missing if another pod has just put them together and cleared up."""
        there = {entry.path for entry in self._store.list(self._folder)}
        names = [f"{self._folder}/{self._part(shard)}" for shard in range(self._shards)]
        if not there.issuperset(names):
            return None
        return [json.loads(self._store.read(name)) for name in names]

    def all_answers(self, parts: Iterable[dict[str, Any]], scratch: Path) -> dict[int, Answered]:
        """The answers of every shard, by number. Missing as above."""
        return self._read([name for part in parts for name in part["pieces"]], scratch)

    def reopen(self) -> None:
        """Take back every shard's word that it is done: its rows without an answer are to be asked again."""
        for shard in range(self._shards):
            self._store.delete(f"{self._folder}/{self._part(shard)}")

    def fetch(self, name: str, scratch: Path) -> Path:
        """The file of a piece on this machine. Missing as above."""
        place = safe_join(scratch, name)
        if not place.exists():
            self._store.get(f"{self._folder}/{name}", place)
        return place

    @staticmethod
    def _part(shard: int) -> str:
        return f"part-{shard:05d}.json"

    def _read(self, names: Sequence[str], scratch: Path) -> dict[int, Answered]:
        def fetched(name: str) -> list[Answered]:
            return [Answered.read(line) for line in read_lines(self.fetch(name, scratch))]

        with ThreadPoolExecutor(_READERS) as pool:
            return {answer.at: answer for piece in pool.map(fetched, names) for answer in piece}


def _placed(fresh: Iterable[Fresh], file: str) -> Iterator[Answered]:
    """The answers, each choice with the place of its distributions in `file`."""
    offset = 0
    for answer, distributions in fresh:
        choices = []
        for choice, one in zip(answer.choices, distributions, strict=True):
            place = None if one is None else {"piece": file, "offset": offset, "length": len(one)}
            offset += 0 if one is None else len(one)
            choices.append(replace(choice, signal=place))
        yield replace(answer, choices=tuple(choices))
