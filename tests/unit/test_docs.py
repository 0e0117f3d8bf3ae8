"""The docs point at what is there, and leave no reason unexplained."""

import re
from pathlib import Path

import pytest

from distillery.api import reasons

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "helm/distillery/README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Reasons that need no action: the names of states, and of Events that say what happened.
PLAIN = {
    "Pending", "Running", "Done", "Reused", "NotPlanned", "Waiting", "SuspendedByUser", "Resumed", "Failed", "Terminated", "StageStarted",
    "StageSucceeded", "StagesReused", "StageRetried", "StageInterrupted", "StageFailed",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert not [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text())
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_map_names_what_is_there() -> None:
    text, files = (ROOT / "docs/architecture.md").read_text(), [path.as_posix() for path in ROOT.glob("[!.]*/**/*.py")]
    named = re.findall(r"`([\w/]+\.py)`", text)
    assert named
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in files)]
    trainer = ROOT / "trainer_image/distillery_trainer"
    # data.rows.read_rows
    walked = [name.split(".") for name in re.findall(r"`([a-z_]+(?:\.(?!py`)\w+)+)`", text)]
    walked = [names for names in walked if (trainer / names[0]).is_dir()]
    assert walked
    for names in walked:
        place = trainer
        while place.is_dir() and names:
            place /= names.pop(0)
        text = "" if place.is_dir() else place.with_suffix(".py").read_text()
        assert not [name for name in names if name not in text], place


def test_every_reason_has_its_runbook() -> None:
    words = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    text = (ROOT / "docs/runbooks.md").read_text()
    assert not sorted(word for word in words - set(reasons.CONDITIONS) - PLAIN if word not in text)


def test_every_alert_has_its_section() -> None:
    alerts = re.findall(r"alert: (\w+)", (ROOT / "helm/distillery/templates/monitoring.yaml").read_text())
    assert alerts
    assert not [alert for alert in alerts if alert not in (ROOT / "docs/runbooks.md").read_text()]
