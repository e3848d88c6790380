"""Whole requests of Django with sessile's engine, beside Django's own engines; and the engines alone.

python -m benchmarks.django            all of it, about a minute; wants redis-server (Debian's package)
python -m benchmarks.django --quick    small: to see that it runs, not for figures

One process. The application is Django's own handler, called as a server calls it, with the session's middleware and no
other, and a view that reads one of the session's six fields; each request is of another one of 2,000 sessions. What is
timed goes round by round over all engines in turn; figures are medians of the rounds, and so are the ratios. SQLite is a
file in /dev/shm whose connection stays open; Redis is on a unix socket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import io
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.record import Section
from benchmarks.web import ENVIRON, HEADERS, SCOPE, redis
from benchmarks.workload import payload

COMMAND = "python -m benchmarks.django"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
OURS = "sessile.web.django.SessionMiddleware"
ENGINE = "sessile.web.django"
BACKENDS = "django.contrib.sessions.backends."


@dataclass
class Contender:
    """An engine with a middleware. `times`: nanoseconds an operation, a round each."""

    name: str
    engine: str
    middleware: str = DJANGOS
    alias: str = "default"
    times: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def select(self) -> None:
        """Let the settings be this one's: engines ask for some of them with each request."""
        from django.conf import settings

        settings.SESSION_ENGINE = self.engine
        settings.SESSION_CACHE_ALIAS = self.alias
        settings.MIDDLEWARE = [self.middleware]

    def store(self) -> Any:
        return import_module(self.engine).SessionStore

    def fill(self, count: int) -> None:
        self.select()
        for number in range(count):
            session = self.store()()
            session.update(payload(number))
            session.save()
            self.keys.append(session.session_key)
        random.Random(count).shuffle(self.keys)

    @property
    def cookie(self) -> str:
        return "__Host-Http-id" if self.middleware == OURS else "sessionid"


def contenders() -> list[Contender]:
    found = [
        Contender("sessile, its middleware", ENGINE, OURS),
        Contender("sessile, Django's middleware", ENGINE),
        Contender("cache over locmem", BACKENDS + "cache"),
        Contender("db over SQLite", BACKENDS + "db"),
        Contender("signed_cookies", BACKENDS + "signed_cookies"),
    ]
    if shutil.which("redis-server") is not None:
        found.insert(3, Contender("cache over Redis, unix socket", BACKENDS + "cache", alias="redis"))
    return found


def configure(folder: Path) -> None:
    """Django, with a table of sessile's and all that its own engines need."""
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="the secret key of the benchmarks, which is fifty characters",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="benchmarks.django",
        INSTALLED_APPS=["django.contrib.sessions"],
        SESSION_ENGINE=ENGINE,
        SESSILE={"path": str(folder / "table"), "capacity": 20_000, "memory": "64 MiB"},
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "database"), "CONN_MAX_AGE": None}
        },
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}},
            "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"unix://{folder / 'redis'}"},
        },
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def view(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(str(request.session["user_id"]))


async def async_view(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(str(await request.session.aget("user_id")))


urlpatterns: list[Any] = []
"""Filled when Django is configured; this module is the URL configuration."""


# ---- what is timed ----


def synchronous(contender: Contender) -> Callable[[str], object]:
    from django.core.handlers.wsgi import WSGIHandler

    contender.select()
    handler = WSGIHandler()
    answered: list[str] = []

    def start_response(status: str, _headers: Any, _error: Any = None) -> None:
        answered.append(status)

    def request(key: str) -> bytes:
        environ = {**ENVIRON, "PATH_INFO": "/sync", "HTTP_COOKIE": f"theme=dark; {contender.cookie}={key}"}
        environ["wsgi.input"] = io.BytesIO()
        response = handler(environ, start_response)
        body = b"".join(response)
        response.close()
        assert answered.pop() == "200 OK"
        return body

    assert int(request(contender.keys[0])) >= 100_000
    return request


def asynchronous(contender: Contender, loop: asyncio.AbstractEventLoop) -> Callable[[list[str]], None]:
    from django.core.handlers.asgi import ASGIHandler

    contender.select()
    handler = ASGIHandler()

    async def request(key: str) -> None:
        cookie = f"theme=dark; {contender.cookie}={key}".encode()
        scope = {**SCOPE, "path": "/async", "headers": [*HEADERS, (b"cookie", cookie)]}
        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])
        sent: list[Any] = []
        never = asyncio.Event()

        async def receive() -> Any:
            for message in messages:
                return message
            return await never.wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await handler(scope, receive, send)
        assert sent[0]["status"] == 200

    async def requests(keys: list[str]) -> None:
        for key in keys:
            await request(key)

    return lambda keys: loop.run_until_complete(requests(keys))


def timed(operation: Callable[[], object], count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        begun = time.perf_counter_ns()
        operation()
        return (time.perf_counter_ns() - begun) / count
    finally:
        gc.enable()


def in_turn(found: list[Contender], operations: dict[str, Callable[[list[str]], object]], rounds: int) -> None:
    for each in found:
        each.times = []
    for _ in range(rounds):
        for each in found:
            each.select()
            keys = each.keys
            run = operations[each.name]
            each.times.append(timed(lambda run=run, keys=keys: run(keys), len(keys)))  # type: ignore[misc]


def ratio(ours: Contender, theirs: Contender) -> str:
    ratios = sorted(mine / other for mine, other in zip(ours.times, theirs.times, strict=True))
    return f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def report(section: Section, found: list[Contender], targets: dict[str, str]) -> None:
    ours = found[0]
    for each in found:
        spent = f"{statistics.median(each.times) / 1000:.1f} us"
        if each is not ours:
            spent = f"{ratio(ours, each)}; {spent}"
        section.row(f"{ours.name} : {each.name}" if each is not ours else each.name, targets.get(each.name, ""), spent)


# ---- the parts ----


def requests(section: Section, found: list[Contender], rounds: int) -> None:
    section.heading("A request that reads the session, synchronous")
    called = {each.name: synchronous(each) for each in found}
    operations = {name: _over(call) for name, call in called.items()}
    in_turn(found, operations, rounds)
    report(section, found, {each.name: "faster" for each in found if "sessile" not in each.name})
    without = [each for each in found if each.middleware == DJANGOS]
    section.heading("The same with Django's middleware everywhere: one setting changed")
    report(section, without, {each.name: "faster" for each in without if "sessile" not in each.name})


def _over(call: Callable[[str], object]) -> Callable[[list[str]], object]:
    def run(keys: list[str]) -> None:
        for key in keys:
            call(key)

    return run


def async_requests(section: Section, found: list[Contender], rounds: int) -> None:
    section.heading("A request that reads the session, asynchronous")
    chosen = [each for each in found if each.name in ("sessile, its middleware", "sessile, Django's middleware")]
    chosen += [each for each in found if each.name == "cache over locmem"]
    loop = asyncio.new_event_loop()
    try:
        operations = {each.name: asynchronous(each, loop) for each in chosen}
        for each in chosen:
            each.keys = each.keys[: len(each.keys) // 4]
        in_turn(chosen, operations, rounds)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    report(section, chosen, {"cache over locmem": "<= 0.8 x"})


def engines(section: Section, found: list[Contender], rounds: int) -> None:
    section.heading("The engine alone")
    chosen = [each for each in found if each.middleware == DJANGOS]
    stores = {each.name: each.store() for each in chosen}

    def load(store: Any) -> Callable[[list[str]], object]:
        return _over(lambda key: store(key)["user_id"])

    def load_and_save(store: Any) -> Callable[[list[str]], object]:
        def once(key: str) -> None:
            session = store(key)
            session["login_time"] = session["login_time"] + 1
            session.save()

        return _over(once)

    for what, make in (("load", load), ("load and save", load_and_save)):
        in_turn(chosen, {name: make(store) for name, store in stores.items()}, rounds)
        ours = chosen[0]
        for each in chosen:
            spent = f"{statistics.median(each.times) / 1000:.2f} us"
            target = "<= 0.2 x" if each.name == "cache over locmem" else ""
            text = spent if each is ours else f"{ratio(ours, each)}; {spent}"
            section.row(f"{what}: {'sessile' if each is ours else each.name}", target, text)


@contextlib.contextmanager
def prepared(count: int) -> Iterator[list[Contender]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        if shutil.which("redis-server") is not None:
            stack.enter_context(redis(folder))
        configure(folder)
        from django.urls import path

        urlpatterns[:] = [path("sync", view), path("async", async_view)]
        found = contenders()
        for each in found:
            each.fill(count)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    sys.modules.setdefault("benchmarks.django", sys.modules[__name__])
    count, rounds = (50, 2) if arguments.quick else (2_000, 9)
    with record.section("django", "Django", COMMAND, quick=arguments.quick) as section, prepared(count) as found:
        engines(section, found, rounds)
        requests(section, found, rounds)
        async_requests(section, found, rounds)


if __name__ == "__main__":
    main()
