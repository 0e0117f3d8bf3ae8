"""Logs as one JSON object a line, for the collectors of a cluster."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

#: What every record has; whatever else stands on one was given by `extra=` and is printed.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "settings"}
_PLAIN = (str, int, float, bool, type(None))


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, the fields of `extra=`, and the traceback where there is one."""

    def __init__(self, hidden: Callable[[str], str] = str) -> None:
        super().__init__()
        self._hidden = hidden

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, without what `hidden` takes out."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            k: v if isinstance(v, _PLAIN) else str(v) for k, v in vars(record).items() if k not in _STANDARD and not k.startswith("k8s_")
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        found = {name: self._hidden(value) if isinstance(value, str) else value for name, value in line.items()}
        return json.dumps(found, ensure_ascii=False)


def configure(level: str, hidden: Callable[[str], str] = str) -> None:
    """Send everything to standard error as JSON; libraries are heard from WARNING on. `hidden` takes secrets out of every text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(hidden))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("distillery").setLevel(level.upper())
