"""A real deploy: gunicorn under load is stopped and started, gracefully and by kill -9 of everything (PER-09).

Clients log in, look, and log out without pause, through the restarts. Then: whoever had been told to be logged
in is, with the cookie that the client has; whoever had been told to be logged out is not, with any of its cookies.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.shared_home]

HERE = Path(__file__).parent
COOKIE = "__Host-Http-id"
CLIENTS = 4
STEP = 150  # requests between two events
PATIENCE = 300.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("shop.example", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


@dataclass
class Visit:
    """What one client was told of one session."""

    owner: str
    cookies: list[str] = field(default_factory=list)
    state: str = "unknown"  # in, out, or unknown: the last answer never came


class Site:
    """gunicorn with two workers, and how to ask it."""

    def __init__(self, folder: Path, environment: dict[str, str], preload: bool) -> None:
        self.socket = str(folder / "socket")
        self.log = folder / "log"
        self._environment = {**os.environ, **environment}
        self._preload = ["--preload"] if preload else []
        self.master: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["-m", "gunicorn", "--chdir", str(HERE), "--bind", f"unix:{self.socket}", "--workers", "2"]
        command += ["--threads", "4", "--graceful-timeout", "20", *self._preload, "deployed"]
        with self.log.open("ab") as log:
            self.master = subprocess.Popen(
                [sys.executable, *command], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask("/show", None)
                return
            except OSError:
                assert time.monotonic() < end, self.log.read_text()
                assert self.master.poll() is None, self.log.read_text()
                time.sleep(0.02)

    def stop(self, how: signal.Signals) -> None:
        assert self.master is not None
        if how == signal.SIGKILL:
            os.killpg(self.master.pid, how)
        else:
            self.master.send_signal(how)
        self.master.wait(PATIENCE)

    def ask(self, path: str, cookie: str | None) -> tuple[str, str | None]:
        """The body, and the cookie that was set ("": deleted).

        Raises:
            OSError: there was no whole answer.
        """
        connection = _Connection(self.socket)
        try:
            connection.request("GET", path, headers={"Cookie": f"{COOKIE}={cookie}"} if cookie else {})
            reply = connection.getresponse()
            body = reply.read().decode()
            if reply.status != 200:
                raise OSError(reply.status)
            given = reply.headers["Set-Cookie"]
            return body, None if given is None else given.split(";")[0].partition("=")[2]
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()


class Client(threading.Thread):
    """Logs in, looks, logs out, until it is stopped."""

    def __init__(self, site: Site, number: int) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._number = number
        self._chance = random.Random(number)
        self.visits: list[Visit] = []
        self.answers = 0
        self.wrong: list[str] = []
        self.ends = threading.Event()

    def _ask(self, visit: Visit, path: str, *, cookie: str | None, state: str) -> str | None:
        was, visit.state = visit.state, "unknown" if path != "/show" else visit.state
        try:
            body, given = self._site.ask(path, cookie)
        except OSError:
            time.sleep(0.02)
            return None
        self.answers += 1
        if given:
            visit.cookies.append(given)
        visit.state = state if path != "/show" else was
        return body

    def run(self) -> None:
        while not self.ends.is_set():
            visit = Visit(f"{self._number}-{len(self.visits)}")
            self.visits.append(visit)
            self._ask(visit, f"/login/{visit.owner}", cookie=None, state="in")
            for _ in range(self._chance.randrange(12)):
                if visit.state == "in":
                    seen = self._ask(visit, "/show", cookie=visit.cookies[-1], state="in")
                    if seen not in (None, visit.owner):
                        self.wrong.append(f"{visit.owner} was logged out")
            if visit.state == "in" and self._chance.random() < 0.6:
                self._ask(visit, "/logout", cookie=visit.cookies[-1], state="out")


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    named, snapshots = request.param
    (tmp_path / "tables").mkdir(mode=0o700)
    environment = {}
    if named:
        environment["SESSILE_TABLE"] = str(tmp_path / "tables" / "shop")
    if snapshots:
        environment["SESSILE_SNAPSHOTS"] = str(tmp_path / "snapshots")
    made = Site(tmp_path, environment, preload=not named)
    yield made
    if made.master is not None and made.master.poll() is None:
        os.killpg(made.master.pid, signal.SIGKILL)
        made.master.wait()


def _judge(site: Site, clients: list[Client]) -> tuple[int, int]:
    """How many are in and out; all as they were told."""
    visits = [visit for client in clients for visit in client.visits]
    assert [wrong for client in clients for wrong in client.wrong] == []
    ended = [visit for visit in visits if visit.state == "out"]
    here = [visit for visit in visits if visit.state == "in"]
    back = [visit.owner for visit in ended for cookie in visit.cookies if site.ask("/show", cookie)[0]]
    lost = []
    for visit in here:
        body, given = site.ask("/show", visit.cookies[-1])
        if body != visit.owner:
            lost.append(visit.owner)
        elif given:
            visit.cookies.append(given)
    assert (back, lost) == ([], [])
    return len(here), len(ended)


@pytest.mark.parametrize(
    "site",
    [(True, False), (True, True), (False, True)],
    ids=["named table", "named table with snapshots", "snapshots, preloaded"],
    indirect=True,
)
def test_per_09_a_deploy_logs_nobody_out_and_brings_nobody_back(site: Site, tmp_path: Path) -> None:
    """PER-09, MPR-07: a graceful restart, one by kill -9, and with snapshots a reboot."""
    clients = [Client(site, number) for number in range(CLIENTS)]

    def enough() -> bool:
        states = [visit.state for client in clients for visit in client.visits]
        return states.count("in") > 20 + 2 * CLIENTS and states.count("out") > 20

    def work(until: Callable[[], bool] = lambda: True) -> None:
        wanted, end = sum(client.answers for client in clients) + STEP, time.monotonic() + PATIENCE
        while sum(client.answers for client in clients) < wanted or not until():
            assert time.monotonic() < end, site.log.read_text()
            time.sleep(0.01)

    site.start()
    for client in clients:
        client.start()
    try:
        for how in (signal.SIGTERM, signal.SIGKILL):
            work()
            site.stop(how)
            site.start()
        work(enough)
    finally:
        for client in clients:
            client.ends.set()
        for client in clients:
            client.join()
    here, ended = _judge(site, clients)
    assert here > 20
    assert ended > 20
    if (tmp_path / "snapshots").exists():
        site.stop(signal.SIGKILL)
        for path in (tmp_path / "tables").iterdir():
            path.unlink()
        site.start()
        _judge(site, clients)
    site.stop(signal.SIGTERM)
