"""How a stage ends other than well: the exceptions that the border of the process turns into exit codes."""

from __future__ import annotations

from distillery.api import reasons
from distillery.api.result import TEMPORARY, USER_MISTAKE, StageResult


class StageError(Exception):
    """A failure that a person can act on: `message` names the field or file, the value and the remedy.

    `code` is 64 (the user's mistake, never retried), 75 (temporary, retried) or 76 (the teacher may not be asked at the moment: run again,
    at no cost, when it may). `result` carries what the stage found out before it
    failed, for example the evaluation whose gate was missed.
    """

    def __init__(self, reason: str, message: str, code: int = USER_MISTAKE, result: StageResult | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.code, self.result = reason, message, code, result


class Missing(StageError):
    """Nothing stands under this path of a store."""

    def __init__(self, message: str) -> None:
        super().__init__(reasons.NOT_FOUND, message)


def unavailable(message: str) -> StageError:
    """A store or server that does not answer now and may answer later."""
    return StageError(reasons.STORE_UNAVAILABLE, message, TEMPORARY)


class Stopped(BaseException):
    """SIGTERM came. A BaseException, so that no `except Exception` on the way keeps the process alive."""
