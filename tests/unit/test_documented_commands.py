"""Every command line of README and docs that needs no cluster is run, as a reader would: from an installed package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.documented import NOT_RUN, ROOT, Command, commands

LOCAL = [command for command in commands() if command.runs_here and not command.not_run]
WITH_ARGUMENTS = [command for command in LOCAL if len(command.line.split()) > 2]
ROWS = 24


class Reader:
    """Has a copy of the repository, and an environment of its own in which the libraries are already."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "distillery"
        self.repository.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.repository)
        for name in ("operator", "trainer_image", "examples"):
            shutil.copytree(ROOT / name, self.repository / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        self.bin = folder / "venv/bin"

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line in bash, in the repository's root; pip asks no index."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        settings = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PATH": f"{self.bin}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", line], cwd=self.repository, env=environment | settings, capture_output=True, text=True, timeout=600
        )


def shorten(job: Path) -> None:
    """The same job, small: what is tested is the command."""
    manifest: dict[str, Any] = yaml.safe_load(job.read_text())
    spec = manifest["spec"]
    spec["training"] |= {"maxSteps": 2, "globalBatchSize": 4, "checkpoint": {"everySteps": 2}}
    spec["evaluation"].pop("gates")
    spec["exports"] = [{"name": "gguf-q8", "format": "gguf", "quantization": "q8_0"}]
    job.write_text(yaml.safe_dump(manifest))
    for rows in job.parent.glob("*.jsonl"):
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:ROWS]))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Has installed the package by the documented line."""
    folder = tmp_path_factory.mktemp("reader")
    found = Reader(folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    # before what a new environment has of its own: an older setuptools
    (site / "libraries.pth").write_text(f"import sys; sys.path.insert(0, {sysconfig.get_path('purelib')!r})\n")
    shorten(found.repository / "examples/arithmetic/job.yaml")
    for name in ("job.yaml", "budget.yaml"):
        shutil.copy(ROOT / "examples/endpoint" / name, found.repository / name)
    installs = {command.line for command in LOCAL if command.line.startswith("pip ")}
    assert installs == {"pip install '.[trainer,export,local]'"}
    done = found.run(installs.pop())
    assert done.returncode == 0, done.stdout + done.stderr
    return found


def test_every_documented_command_is_of_a_known_kind() -> None:
    """So that none is forgotten: it runs here, on the cluster (tests/e2e/test_documented_commands.py), in a checkout, or says why not."""
    found = commands()
    assert LOCAL
    assert [str(c) for c in found if not (c.runs_here or c.needs_a_cluster or c.builds or c.not_run)] == []


@pytest.mark.parametrize("line", sorted({c.line for c in WITH_ARGUMENTS if c.line.startswith("distill ")}))
def test_it_runs(line: str, reader: Reader) -> None:
    """To its end, with success."""
    done = reader.run(line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", sorted({c.line for c in commands() if c.line.startswith("distill ")}))
def test_its_verb_exists(line: str, reader: Reader) -> None:
    """Also of those that need a cluster, and where the text has a verb alone."""
    done = reader.run(f"distill {line.split()[1]} --help")
    assert done.returncode == 0, done.stderr


def test_the_watch_reads_what_kubectl_prints(reader: Reader) -> None:
    """The line of README, with a stream of objects in place of kubectl."""
    line = next(c.line for c in commands() if c.line.startswith("distill watch <"))
    objects = reader.repository / "objects.json"
    condition = {
        "type": "Succeeded",
        "status": "True",
        "reason": "Done",
        "message": "published",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    objects.write_text(json.dumps({"status": {"conditions": [condition]}}, indent=4) + "\n")
    done = reader.run(re.sub(r"kubectl [^)]*", f"cat {objects}", line))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Succeeded=True  Done: published\n"


def test_a_plan_with_a_budget_needs_no_checkout(reader: Reader, tmp_path: Path) -> None:
    """The catalogue of terms is part of what is installed: the verdict is told in an empty folder too."""
    for name in ("job.yaml", "budget.yaml"):
        shutil.copy(reader.repository / name, tmp_path / name)
    done = reader.run(f"cd {tmp_path} && distill plan job.yaml --budget budget.yaml --rows 2000")
    assert "Terms: permit" in done.stdout, done.stdout + done.stderr
    where = reader.run(f"cd {tmp_path} && python -c 'import distillery; print(distillery.__file__)'")
    assert where.stdout.startswith(str(reader.bin.parent))


@pytest.mark.parametrize("command", [c for c in commands() if c.builds], ids=str)
def test_what_a_build_command_names_is_there(command: Command) -> None:
    """Targets of make, files, modules."""
    words = command.line.split()
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    files = [w for w in words if re.fullmatch(r"[\w./-]+\.(py|txt|yaml)|\w+/Dockerfile|tests/kind/[\w-]+", w)]
    files += [words[words.index("-m") + 1].replace(".", "/") + ".py"] if "-m" in words else []
    assert words[0] == "make" or files or words[1] == "push"
    assert [f for f in files if not (ROOT / f).exists()] == []


def test_what_is_not_run_is_still_documented() -> None:
    """An excuse for a line that is gone goes too."""
    lines = [c.line for c in commands()]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []
