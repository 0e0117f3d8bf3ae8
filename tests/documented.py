"""The command lines of README and docs: what a reader copies. Each runs in a test, or stands here with the reason why not."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "helm/distillery/README.md", ROOT / "tests/kind/README.md", *sorted((ROOT / "docs").glob("*.md"))]
HERE = ("distill ", "pip ")
CLUSTER = ("kubectl ", "helm ", "distillery-gateway ", "$gateway ", "gateway=", "$pod ", "pod=", "sed ", "test ")
#: They build, bring up or measure what other tests then use; that the targets, files and modules exist is tested.
MACHINE = ("make ", "docker ", "python ", "bash ")
#: Neither here nor there: the beginning of the command, and why.
NOT_RUN = {
    "aws s3api": "the client of AWS is no dependency; the rules themselves are put by tests/e2e where the store takes them",
    "distill run --store runs examples/smollm2": "needs Hugging Face: tests/slow/test_smollm2.py",
    "helm upgrade distillery helm/distillery -n distillery-system --reset-then-reuse-values": "changes the release that other tests use; "
    "what it renders: tests/unit/test_gitops_health.py",
    "kubectl -n distillery-system get configmap distillery-argocd-health": "there only after the upgrade above",
    "kubectl -n argocd patch": "needs Argo CD",
    "$gateway resolve": "changes the books of a doubt that the cluster has not: tests/unit/ledger",
    "$gateway accept": "the same",
    "$gateway forget": "the same",
    "$gateway verify --head": "the head of another ledger: tests/unit/ledger",
    "$gateway backup --to s3://": "a bucket of one's own: tests/e2e/test_ledger_backup.py, as for the way back",
    "kubectl -n distillery-system scale": "the way back to a copy",
    "sed ": "the way back to a copy",
    "pod=": "the way back to a copy",
    "$pod ": "the way back to a copy",
    "kubectl -n distillery-system delete pod ledger-restore": "the way back to a copy",
}


@dataclass(frozen=True)
class Command:
    """One command line, whole: continued lines joined, the comment cut off."""

    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"

    @property
    def not_run(self) -> bool:
        """Whether it stands in NOT_RUN."""
        return self.line.startswith(tuple(NOT_RUN))

    @property
    def needs_a_cluster(self) -> bool:
        """For itself, or for what it reads."""
        return self.line.startswith(CLUSTER) or "kubectl" in self.line

    @property
    def runs_here(self) -> bool:
        """Needs nothing but this package."""
        return self.line.startswith(HERE) and not self.needs_a_cluster

    @property
    def builds(self) -> bool:
        """Belongs to a checkout."""
        return self.line.startswith(MACHINE)


def commands() -> list[Command]:
    """Of all pages, in their order: the lines of fenced blocks that are neither output nor data, and `distill …` in the text."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line for language, block in blocks if language in ("", "sh", "bash") for line in _of_block(block)]
        lines += [_bare(line) for line in re.findall(r"^    ((?:python|make) .*)", plain, re.MULTILINE)]
        lines += [line for line in re.findall(r"`(distill [^`\n]+)`", plain) if not re.match(r"distill (<|[A-Z])", line)]
        found += [Command(str(page.relative_to(ROOT)), line) for line in lines]
    return found


def _of_block(block: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", block)
    prompted = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    known = (*HERE, *CLUSTER, *MACHINE, *NOT_RUN)
    lines = prompted or [line.strip() for line in joined.splitlines() if line.strip().startswith(known) and " / " not in line]
    return [_bare(line) for line in lines]


def _bare(line: str) -> str:
    return re.sub(r"\s{2,}#.*$", "", line).strip()
