"""Which key may be sent where, for whom: what the chart says, and no TeacherBudget can widen."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import Field, TypeAdapter, ValidationError

from distillery.api import reasons
from distillery.api.base import DnsLabel, Model
from distillery.api.budget import BaseURL, BudgetTeacher
from distillery.api.problems import problems
from distillery.api.rules import Rule

from .errors import refusal
from .foreign import secret

EVERY: Final = "*"
#: A key that was renewed is used after so many seconds; the kubelet needs longer to bring it.
_REREAD: Final = 5.0
#: Characters of a key: servers take heads of 8 KiB or more, and cut the connection at longer ones, which would be in doubt.
_LONGEST: Final = 4096


class BadCredentials(ValueError):
    """The file of credentials says what cannot be meant; the message names entry, field and remedy."""


class CredentialEntry(Model):
    """One entry of the file: where the key stands, where it may be sent, and for whose budgets."""

    RULES: ClassVar[tuple[Rule, ...]] = (Rule(None, "needs either keyFile or env", lambda m: (m.key_file is None) != (m.env is None)),)
    name: DnsLabel
    base_urls: Annotated[list[BaseURL], Field(min_length=1, alias="baseURLs")]
    namespaces: Annotated[list[str], Field(min_length=1)]
    key_file: str | None = None
    env: str | None = None


class Credential:
    """A key by its name. It is read again every few seconds, so that a renewed one counts without a restart."""

    def __init__(self, entry: CredentialEntry, folder: Path, clock: Callable[[], float]) -> None:
        self.entry, self._folder, self._clock = entry, folder, clock
        self._read_at, self._key, self._fault = float("-inf"), "", ""

    def key(self) -> str:
        """The key. Refused where there is none."""
        now = self._clock()
        if now - self._read_at >= _REREAD:
            self._key, self._fault = self._read()
            self._read_at = now
        if self._fault:
            where = f"file {self.entry.key_file}" if self.entry.key_file else f"environment variable {self.entry.env}"
            raise refusal(reasons.CREDENTIAL_MISSING, f'credential "{self.entry.name}": {where} of the gateway {self._fault}')
        return self._key

    @property
    def last(self) -> str | None:
        """The key as it was read last, if it was."""
        return self._key or None

    def _read(self) -> tuple[str, str]:
        """The key, and what is wrong with it: no header can be sent what is no visible ASCII, or has a line break in it."""
        try:
            key = self._content().strip()
        except FileNotFoundError:
            key = b""
        except OSError as error:
            return "", f"cannot be read ({type(error).__name__}); correct the Secret that the chart names"
        if not key:
            return "", "is missing or empty; create the Secret that the chart names"
        if len(key) > _LONGEST or not all(0x21 <= byte <= 0x7E for byte in key):
            return "", f"is no key: write up to {_LONGEST} visible ASCII characters, in one line and without blanks, into the Secret"
        return key.decode(), ""

    def _content(self) -> bytes:
        if self.entry.env is not None:
            return os.environb.get(self.entry.env.encode(), b"")
        return (self._folder / str(self.entry.key_file)).read_bytes()


class Credentials:
    """All of an installation. `open_base_urls` are those that may be called without a key."""

    def __init__(
        self,
        entries: Sequence[CredentialEntry],
        open_base_urls: Collection[str],
        clock: Callable[[], float],
        folder: Path = Path(),
    ) -> None:
        self._by_name = {entry.name: Credential(entry, folder, clock) for entry in entries}
        self._open = frozenset(open_base_urls)

    def hidden(self, text: str) -> str:
        """`text`, of any length, without any of the keys: for the log."""
        for credential in self._by_name.values():
            text = secret(credential.last).hidden(text)
        return text

    def of(self, teacher: BudgetTeacher, namespace: str) -> Credential | None:
        """What to send to this teacher for a budget of this namespace: a key that is there, or none. Refused."""
        field = f'spec.teachers["{teacher.name}"]'
        if teacher.credential is None:
            if teacher.base_url not in self._open:
                text = f"{field}.baseURL: {teacher.base_url} may not be called without a credential; name one, or let the platform"
                raise refusal(reasons.BASE_URL_FORBIDDEN, f"{text} team list the URL in openBaseURLs of the chart")
            return None
        found = self._by_name.get(teacher.credential)
        if found is None:
            text = f'{field}.credential: "{teacher.credential}" is no credential of this installation; add it to credentials of the chart'
            raise refusal(reasons.CREDENTIAL_MISSING, text)
        if namespace not in found.entry.namespaces and EVERY not in found.entry.namespaces:
            text = f'{field}.credential: "{teacher.credential}" is not for namespace "{namespace}"; add it to the namespaces'
            raise refusal(reasons.CREDENTIAL_FORBIDDEN, f"{text} of that credential in the chart")
        if teacher.base_url not in found.entry.base_urls:
            text = f'{field}.baseURL: credential "{teacher.credential}" may not be sent to {teacher.base_url}, but to'
            raise refusal(reasons.BASE_URL_FORBIDDEN, f"{text} {', '.join(found.entry.base_urls)}; correct it, or add it in the chart")
        found.key()
        return found


def read_credentials(path: Path | None, open_base_urls: Collection[str], clock: Callable[[], float]) -> Credentials:
    """From the file of the chart: a JSON list of entries. Relative key files stand beside it. BadCredentials."""
    if path is None:
        return Credentials((), open_base_urls, clock)
    try:
        entries = TypeAdapter(list[CredentialEntry]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadCredentials(f"{path}: " + "; ".join(problems(error, values=False))) from error
    if len({entry.name for entry in entries}) != len(entries):
        raise BadCredentials(f"{path}: two credentials have the same name; give each its own")
    return Credentials(entries, open_base_urls, clock, path.parent)
