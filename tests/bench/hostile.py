"""A tenant that misbehaves, and what another one notices: `python -m tests.bench.hostile`. Figures are printed, nothing is asserted.

Three processes: the gateway with its real ledger, a teacher, and the clients. The victim asks one question after the other, of its own
teacher or of the same; meanwhile the other tenant sends bodies of brackets, lets its teacher answer with 48 MiB of brackets, or asks
500 questions at once of the teacher that both share.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from tests.bench.clients import Target, ask
from tests.bench.gateway import running, told_port
from tests.bench.mock_teacher import ANSWER
from tests.bench.our_gateway import manifests
from tests.loopback import Objects, gateway, law

from distillery import logs
from distillery.gateway.credentials import Credentials

HUGE = 48 * 1024 * 1024
FLOOD, BODIES, ANSWERS = 500, 50, 10
SECONDS = 15.0


def token(namespace: str, job: str) -> str:
    """Of the pod that writes a job's traces."""
    return f"pod:{namespace}/{job}/traces"


async def serve_teacher() -> None:
    """/quick and /slow (0.2 s) answer as a teacher does, /huge with as many brackets as 48 MiB have room for."""
    huge = b'{"choices":[' + b"[]," * (HUGE // 3) + b"[]]}"

    async def answer(request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        await asyncio.sleep(0.2 if kind == "slow" else 0)
        return web.Response(body=huge if kind == "huge" else ANSWER, content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/{kind}/v1/chat/completions", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def serve_gateway(teacher: int, ledger: str) -> None:
    """Two namespaces: `a` misbehaves, `b` is the victim; each has a budget for each of the teachers."""
    stop, objects = asyncio.Event(), Objects()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    urls = {kind: f"http://127.0.0.1:{teacher}/{kind}/v1" for kind in ("quick", "slow", "huge")}
    for namespace in "ab":
        for kind, url in urls.items():
            for body in manifests(kind, url, "100000"):
                for spec in body["spec"].get("teachers", ()):
                    spec["rateLimits"] = {"maxConcurrency": 16}
                objects.apply(body, namespace)
    async with gateway(objects, law(Credentials((), urls.values(), time.monotonic)), ledger) as (url, _):
        print(urlsplit(url).port, flush=True)
        await stop.wait()


def memory(pid: int, field: str = "VmRSS") -> float:
    """MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


async def post(http: aiohttp.ClientSession, port: int, job: str, content: bytes) -> int:
    """A request of tenant `a`: its status, or 0 where the connection was closed."""
    headers = {"Authorization": f"Bearer {token('a', job)}", "Content-Type": "application/json"}
    try:
        async with http.post(f"http://127.0.0.1:{port}/v1/chat/completions", data=content, headers=headers) as response:
            await response.read()
            return response.status
    except aiohttp.ClientError:
        return 0


def question(number: int) -> bytes:
    """One that nobody asked before."""
    return json.dumps({"model": "mock", "messages": [{"role": "user", "content": f"{number}?"}], "max_completion_tokens": 32}).encode()


async def attack(port: int, kind: str) -> None:
    """The misdeeds of a kind, each again as soon as it is answered, until SIGTERM; prints what was answered."""
    stop, statuses = asyncio.Event(), Counter[int]()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if kind == "flood":
        misdeeds = [("slow", question(-number)) for number in range(1, FLOOD + 1)]
    else:
        misdeeds = [("quick", b"[" * 500_000 + b"]" * 500_000)] * (BODIES // 2)
        misdeeds += [("quick", b'{"messages":[' + b"{}," * 340_000 + b"{}]}")] * (BODIES // 2)
        misdeeds += [("huge", question(number)) for number in range(ANSWERS)]
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as http:

        async def misbehave(job: str, content: bytes) -> None:
            while True:
                status = await post(http, port, job, content)
                statuses[status] += 1
                if status != 200:
                    await asyncio.sleep(0.5)
                if job == "slow":
                    content = question(time.perf_counter_ns())

        tasks = [asyncio.create_task(misbehave(*misdeed)) for misdeed in misdeeds]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(dict(statuses), flush=True)


async def suffer(port: int, kind: str, name: str, pid: int, attacker: list[str]) -> None:
    """Ask as the victim, alone and then beside the attacker, and print what it was like."""
    victim = Target(port, "/v1/chat/completions", token("b", kind), "mock")
    await ask(victim, 1, 10, most=20)
    alone, highest = await ask(victim, 1, 5), 0.0
    process = await asyncio.create_subprocess_exec(*attacker, stdout=asyncio.subprocess.PIPE)

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, memory(pid))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(3)
    heard = await ask(victim, 1, SECONDS)
    watching.cancel()
    process.terminate()
    told, _ = await process.communicate()
    print(
        f"{name}\n  victim alone: p50 {alone.at(0.5):.1f} ms, p99 {alone.at(0.99):.1f} ms; meanwhile: p50 {heard.at(0.5):.1f} ms, "
        f"p99 {heard.at(0.99):.1f} ms of {len(heard.latencies)}\n  gateway: at most {highest:.0f} MiB; the other was told "
        f"{told.decode().strip()}",
        flush=True,
    )


async def main() -> None:
    """All of them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        me = [sys.executable, "-m", "tests.bench.hostile"]
        teacher = told_port(stack.enter_context(running([*me, "teacher"], folder / "teacher.log")))
        served = running([*me, "gateway", str(teacher), f"sqlite:///{folder / 'ledger.db'}"], folder / "gateway.log")
        process = stack.enter_context(served)
        port = told_port(process)
        print(f"gateway at rest: {memory(process.pid):.0f} MiB", flush=True)
        for kind, job, name in (
            ("bodies", "quick", f"{BODIES} hostile bodies of a MiB and {ANSWERS} hostile answers of 48 MiB, at any moment"),
            ("flood", "slow", f"{FLOOD} requests, at any moment, to the same teacher, which does 16 in 0.2 s"),
        ):
            await suffer(port, job, name, process.pid, [*me, "attack", str(port), kind])
        print(f"gateway at most in all: {memory(process.pid, 'VmHWM'):.0f} MiB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")


if __name__ == "__main__":
    logs.configure("warning")
    if sys.argv[1:2] == ["teacher"]:
        asyncio.run(serve_teacher())
    elif sys.argv[1:2] == ["gateway"]:
        asyncio.run(serve_gateway(int(sys.argv[2]), sys.argv[3]))
    elif sys.argv[1:2] == ["attack"]:
        asyncio.run(attack(int(sys.argv[2]), sys.argv[3]))
    else:
        asyncio.run(main())
