"""Every command line of README and docs that needs a cluster is run on one, as a reader would type it, with the names of the test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.documented import ROOT, Command, commands
from tests.e2e.conftest import Team

pytestmark = pytest.mark.cluster
NOW = "2026-01-01T00:00:00Z"
RUN = [command for command in commands() if command.needs_a_cluster and not command.not_run]
#: Lines that set a variable for those after them.
SETS = re.compile(r"gateway=")
PLACEHOLDERS = {"NAME": "first", "STAGE": "train", "REFERENCE": "registry.example/image:1"}


class Reader:
    """Types commands in a copy of the repository, where the team's namespace is the current one."""

    def __init__(self, team: Team, folder: Path) -> None:
        self.team, self.folder = team, folder
        for name in ("examples", "helm"):
            shutil.copytree(ROOT / name, folder / name)
        self._suspended(folder / "examples/minimal.yaml", folder / "examples/minimal.yaml")
        kubeconfig = folder / "kubeconfig"
        shutil.copy(team.cluster.kubeconfig, kubeconfig)
        program = folder / "bin/distill"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m distillery.local "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self.type(f"kubectl config set-context --current --namespace {team.namespace}")

    def type(self, line: str, meanwhile: Callable[[], None] | None = None, where: str = ".", seconds: float = 300) -> tuple[int, str]:
        """Exit code (124 where it ran until it was ended) and what was said; `meanwhile` happens once it runs."""
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                ["timeout", str(seconds), "bash", "-c", line],
                cwd=self.folder / where, env=self.environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            if meanwhile:
                meanwhile()
            code = process.wait()
            # a kubectl that watches does not notice that nobody reads it any more, as behind a shell's prompt
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            said.seek(0)
            return code, said.read()

    def job(self, name: str, source: str = "minimal") -> None:
        """A job of that name which waits: what is asked about it is answered, and nothing runs."""
        path = self.folder / f"{name}.yaml"
        self._suspended(ROOT / f"examples/{source}.yaml", path, name)
        self.team.kubectl("apply", "-f", str(path))

    def ended(self, name: str) -> None:
        """As the operator writes the end of a job into its status."""
        condition = {"type": "Succeeded", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": NOW}
        status = json.dumps({"status": {"completionTime": NOW, "conditions": [condition]}})
        self.team.kubectl("patch", "dj", name, "--subresource=status", "--type=merge", "-p", status)

    def _suspended(self, source: Path, target: Path, name: str | None = None) -> None:
        manifest: dict[str, Any] = yaml.safe_load(source.read_text())
        manifest["spec"]["suspend"] = True
        manifest["metadata"]["name"] = name or manifest["metadata"]["name"]
        target.write_text(yaml.safe_dump(manifest))


@pytest.fixture
def reader(team: Team, tmp_path: Path) -> Iterator[Reader]:
    """Has the objects that the pages speak of: jobs that wait, and a budget."""
    found = Reader(team, tmp_path)
    for name in ("arithmetic", "endpoint", "endpoint-again", "minimal"):
        found.job(name)
    team.kubectl("apply", "-f", str(ROOT / "examples/endpoint/budget.yaml"))
    yield found
    for name in ("arithmetic", "endpoint", "endpoint-again", "minimal"):
        team.kubectl("delete", "dj", name, "--wait=false")


def here(line: str, namespace: str) -> str:
    """The line with the names of this test."""
    for word, name in PLACEHOLDERS.items():
        line = re.sub(rf"\b{word}\b", name, line)
    line = re.sub(r"\bteam-a\b", namespace, line)
    # the release is another test's too: the server says whether it would take the upgrade
    return f"{line} --dry-run=server" if line.startswith("helm upgrade") else line


def folder_of(command: Command) -> str:
    """Where a page is read: the chart's beside the chart."""
    return "helm/distillery" if command.page.startswith("helm/") else "."


def test_a_job_is_watched_to_its_end_and_what_the_pages_ask_of_it_is_answered(reader: Reader) -> None:
    """The watch of README, on a real job; then every line about a job `first` or NAME."""
    reader.team.apply(reader.team.job("first"))
    watch = next(command.line for command in RUN if command.line.startswith("distill watch"))
    code, said = reader.type(watch, seconds=900)
    assert code == 0, said
    assert "Quality on" in said
    assert "Succeeded=True" in said
    lines = {command.line for command in RUN if re.search(r"\b(first|NAME)\b", command.line) and command.line != watch}
    assert len(lines) > 4
    for line in sorted(lines):
        code, said = reader.type(here(line, reader.team.namespace))
        assert code == 0, f"{line}: {said}"


def test_every_other_line_runs(reader: Reader) -> None:
    """In the order of the pages; a watch is ended after a moment, a wait gets what it waits for."""
    namespace, variables, failed = reader.team.namespace, "", []
    others = [command for command in RUN if not re.search(r"\b(first|NAME)\b", command.line)]
    assert others
    for command in others:
        if SETS.match(command.line):
            variables += f"{command.line}\n"
    for command in others:
        if SETS.match(command.line):
            continue
        if "create secret" in command.line:
            reader.team.kubectl("delete", "secret", "s3", "--ignore-not-found")
        waits = " wait " in command.line
        endless = command.line.endswith(" -w")
        line = variables + here(command.line, namespace)
        meanwhile = (lambda: reader.ended("minimal")) if waits else None
        code, said = reader.type(line, meanwhile, folder_of(command), seconds=10 if endless else 300)
        if code != (124 if endless else 0):
            failed.append(f"{command} ended with {code}: {said[-500:]}")
    assert failed == []
