"""A gateway in memory, as far as the operator sees it: what a job has set aside is an object beside the others, so that it is part of
every snapshot, and of what must be the same in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.crash.fake_cluster import FakeCluster

from distillery.api import reasons
from distillery.api.result import Progress
from distillery.api.status import TeacherUsage
from distillery.api.usage import BudgetSnapshot, Reservation, ReservationRequest
from distillery.observe import Silence

RESERVATION = "Reservation"


@dataclass
class FakeGateway:
    """`grants` and `answers` tell, at any moment, whether there is money and whether anyone is at home."""

    cluster: FakeCluster
    grants: Callable[[], bool] = lambda: True
    answers: Callable[[], bool] = lambda: True
    reports: dict[str, Progress] = field(default_factory=dict)
    usage: TeacherUsage = field(default_factory=TeacherUsage)
    snapshot: BudgetSnapshot = field(default_factory=BudgetSnapshot)

    async def progress(self, namespace: str, job: str, uid: str) -> Mapping[str, Progress]:
        return self.reports

    async def reserve(self, namespace: str, job: str, uid: str, need: ReservationRequest) -> Reservation | Silence:
        def reserved() -> Reservation:
            live = self.cluster.objects.get(("DistillationJob", namespace, job), {})
            if not live.get("status", {}).get("budgetClaimed"):
                return Reservation(state="Refused", reason=reasons.WAITING_FOR_BUDGET, message="the job's status notes no claim")
            if not self.grants():
                return Reservation(state="Refused", reason=reasons.BUDGET_EXHAUSTED, message="daily is used up", usage=self.usage)
            meta = {"namespace": namespace, "name": uid, "uid": f"reservation-{uid}"}
            self.cluster.objects[RESERVATION, namespace, uid] = {"kind": RESERVATION, "metadata": meta, "need": need.wire()}
            return Reservation(state="Granted", reason=reasons.BUDGET_RESERVED, usage=self.usage)

        return await self._asked("reserve", reserved)

    async def give_back(self, namespace: str, job: str, uid: str) -> Reservation | Silence:
        def returned() -> Reservation:
            self.cluster.objects.pop((RESERVATION, namespace, uid), None)
            return Reservation(state="Refused", reason=reasons.RELEASED, usage=self.usage)

        return await self._asked("give_back", returned)

    async def budget(self, namespace: str, name: str) -> BudgetSnapshot | Silence:
        return await self._asked("budget", lambda: self.snapshot)

    async def _asked(self, name: str, answer: Callable[[], Any]) -> Any:
        return await self.cluster.call(name, lambda: answer() if self.answers() else Silence("no answer in time"))
