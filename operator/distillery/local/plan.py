"""`distill plan`: the stages of a job, and with its budget what its teacher would be asked and paid. Nothing is asked, nothing bought."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from distillery.api.budget import BudgetTeacher, TeacherBudgetSpec
from distillery.api.governance import PolicyVerdict
from distillery.api.job import FrozenJob
from distillery.api.money import NANO
from distillery.api.stages import planned_stages
from distillery.prices import PriceUnknown, price_of
from distillery.terms import BadCatalogue, Catalogue, judge, parse_catalogue, reason_of

from .estimate import GUESSES, Fit, Line, bound, dearest, fits, guessed
from .load import BadManifest, load_budget
from .prompts import Ask, Assumed, asked

#: Part of the package; the chart carries a copy.
SHIPPED_TERMS: Final = files("distillery.terms") / "terms.yaml"


def print_stages(job: FrozenJob, console: Console) -> None:
    """The stages in order, and what each waits for."""
    for stage in planned_stages(job.spec):
        _say(console, f"{stage.name:<24} after {', '.join(stage.needs) or '-'}")


def print_estimate(job: FrozenJob, budget_file: Path, terms: list[Path], assumed: Assumed | None, now: datetime, console: Console) -> bool:
    """What the teacher would be asked and cost, and whether the job would be let through. BadManifest where that cannot be told."""
    endpoint, reference = job.spec.teacher.endpoint, job.spec.budget_ref
    if endpoint is None or reference is None:
        raise BadManifest("--budget: the job's spec.teacher asks no endpoint, so no budget is used; leave it out")
    budget = load_budget(budget_file, reference.name)
    teacher = budget.teacher(endpoint.teacher)
    if teacher is None:
        known = ", ".join(t.name for t in budget.teachers)
        raise BadManifest(f'spec.teacher.endpoint.teacher: "{endpoint.teacher}" is not in TeacherBudget "{reference.name}"; it has {known}')
    asks = asked(job.spec, assumed)
    _say(console, f"\nTeacher {teacher.name}: {teacher.model} at {teacher.base_url}, paid by TeacherBudget {reference.name}")
    affordable = _print_cost(asks, teacher, budget, endpoint.retries_in_doubt, now, console)
    return _print_verdict(job, teacher, terms, now, console) and affordable


def _print_cost(asks: list[Ask], teacher: BudgetTeacher, budget: TeacherBudgetSpec, retries: int, now: datetime, console: Console) -> bool:
    try:
        prices = price_of(teacher, now)
    except PriceUnknown as error:
        _say(console, str(error), "red")
        return False
    for ask in asks:
        average = f"{ask.prompts.size // ask.prompts.count} bytes each on average" if ask.prompts.count else "none"
        each = f", {ask.samples} answers each" if ask.samples > 1 else ""
        _say(console, f"{ask.name:<16} {ask.prompts.count} prompts, {average}{each}, answers of at most {ask.limit} tokens")
    none = Line(0, 0, 0, 0)
    lines = {guess.name: sum((guessed(ask, teacher, prices, guess) for ask in asks), none) for guess in GUESSES}
    held, single = sum((bound(ask, teacher, prices) for ask in asks), none), dearest(asks, teacher, prices)
    console.print(
        _table({**lines, "held for all at once": held, "at worst": held.times(1 + retries), "held for one": single}, prices.source)
    )
    low, mean, high = GUESSES
    _say(
        console,
        f"A guess: {mean.bytes_per_token} bytes a token (low {low.bytes_per_token}, high {high.bytes_per_token}), answers of half their"
        " limit (low a tenth, high all of it). The job's own first answers replace it: status.estimate. Held: every byte a token, every"
        " answer at its limit, at the highest price of the day; what an answer does not cost is given back when it ends. At worst: the"
        f" outcome of every request unknown {1 + retries} times (spec.teacher.endpoint.retriesInDoubt: {retries}), and each stays booked.",
        "dim",
    )
    found = fits(budget.limits, lines["low"], lines["high"], single)
    for fit in found:
        _say(console, f"limit {fit.window:<8} {_amount(fit):>18}  {fit.verdict}", "red" if fit.stops else None)
    _say(console, "What other jobs have used of these limits is in `kubectl get teacherbudgets`.", "dim")
    return not any(fit.stops for fit in found)


def _table(lines: dict[str, Line], source: str) -> Table:
    table = Table(title=f"Prices from {source}")
    for header in ("", "requests", "input tokens", "output tokens", "US dollars"):
        table.add_column(header, justify="right" if header else "left")
    for name, line in lines.items():
        table.add_row(name, *(f"{n:,}" for n in (line.requests, line.input_tokens, line.output_tokens)), _dollars(line.cost))
    return table


def _dollars(nano: int) -> str:
    """With as many digits as tell something: cents for large sums, more for what is below one."""
    return f"{nano / NANO:,.2f}" if nano >= 10 * NANO else f"{nano / NANO:.6f}"


def _amount(fit: Fit) -> str:
    return f"{_dollars(fit.limit)} USD" if fit.unit == "USD" else f"{fit.limit:,} tokens"


def _print_verdict(job: FrozenJob, teacher: BudgetTeacher, own: list[Path], now: datetime, console: Console) -> bool:
    governance = job.spec.governance
    if governance is None:
        raise BadManifest("spec.governance: missing; say what the student is for in declaredUse")
    verdict = judge(governance.declared_use, teacher, _catalogue(own), now.date())
    reason = reason_of(verdict)
    _say(console, f"\nTerms: {verdict.verdict}{f' ({reason})' if reason else ''}. {verdict.message}", "red" if reason else None)
    _print_obligations(verdict, console)
    return reason is None


def _print_obligations(verdict: PolicyVerdict, console: Console) -> None:
    for duty in verdict.obligations:
        _say(console, f"  {duty.type}: {duty.value}" if duty.value else f"  {duty.type}")


def _catalogue(own: list[Path]) -> Catalogue:
    """The catalogue in the first file, overridden by each that follows."""
    try:
        given: Sequence[Traversable] = own or [SHIPPED_TERMS]
        found = [parse_catalogue(file.read_text(encoding="utf-8"), str(file)) for file in given]
    except OSError as error:
        raise BadManifest(
            f"--terms: {error.filename}: {error.strerror}; give a catalogue like files/terms.yaml of the chart, or leave it out"
        ) from error
    except BadCatalogue as error:
        raise BadManifest(str(error)) from error
    catalogue = found[0]
    for other in found[1:]:
        catalogue = catalogue.overridden(other)
    return catalogue


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
