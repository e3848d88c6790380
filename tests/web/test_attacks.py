"""Attacks on sessions, and faults that other session systems have, each carried out against a running server.

Those that need time to pass are against a server in this process, whose store has a clock that can be
advanced; the others against two worker processes of gunicorn. That a comparison takes the same time whatever it
compares, which a network would hide, has its proof beside that part (STO-02); here is that no answer and no counter
tells more than that there is no such session.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

import sessile
from sessile.testing import EventRecorder, advance
from sessile.web.cookies import Cookie

Serve = Callable[..., Any]


@pytest.fixture
def workers(serve: Callable[[str], Any]) -> Any:
    """Two worker processes."""
    return serve("gunicorn-gthread")


@pytest.fixture
def here(serve_here: Serve, watched: sessile.Store) -> Any:
    """A server in this process."""
    return serve_here(watched, rotate_every=100)


def logged_in(server: Any, owner: str) -> Any:
    client = server.client()
    assert client.ask(f"/login?owner={owner}").status == 303
    return client


# ---- hijacking and replay ----


def test_hijacking_a_stolen_id_dies_with_the_next_renewal(here: Any, recorder: EventRecorder) -> None:
    """LIF-08, LIF-10: once the victim went on with the new id, the thief's attempt ends the session."""
    victim = logged_in(here, "alice")
    victim.show()
    stolen = victim.cookie
    advance(here.store, 101)
    victim.show()
    victim.show()
    assert victim.cookie != stolen
    advance(here.store, 30)
    recorder.take()
    assert here.client().show(cookie=stolen)["owner"] is None
    assert "ended(theft)" in recorder.kinds
    assert victim.show()["owner"] is None  # whichever of the two was the thief: both must log in again


def test_hijacking_a_stolen_id_dies_when_the_victim_logs_out_everywhere(workers: Any) -> None:
    """LIF-11, LIF-12, MPR-07."""
    victim, other = logged_in(workers, "victor"), logged_in(workers, "victor")
    thief = workers.client()
    assert thief.show(cookie=victim.cookie)["owner"] == "victor"
    keep = workers.store.load(other.cookie.split("=")[1])
    assert workers.store.revoke("victor", keep=keep) == 1
    assert thief.show(cookie=victim.cookie)["owner"] is None
    assert other.show()["owner"] == "victor"


def test_hijacking_a_stolen_id_dies_of_disuse_and_of_age(here: Any) -> None:
    """LIF-01, LIF-02."""
    victim = logged_in(here, "alice")
    advance(here.store, 1801)
    assert here.client().show(cookie=victim.cookie)["owner"] is None
    victim = logged_in(here, "alice")
    for _ in range(32):
        advance(here.store, 899)
        assert victim.show()["owner"] == "alice"
    advance(here.store, 40)
    assert victim.show()["owner"] is None


def test_replay_after_a_log_out(workers: Any) -> None:
    """LIF-11: from the moment on at which the log-out was answered, on every worker."""
    for _ in range(20):
        client = logged_in(workers, "rita")
        old = client.cookie
        client.ask("/logout")
        assert [workers.client().show(cookie=old)["owner"] for _ in range(4)] == [None] * 4


def test_sidejacking_over_plain_http(serve_here: Serve, store: sessile.Store) -> None:
    """COK-12: the cookie is neither accepted nor set."""
    server = serve_here(store, https=None)
    client = server.client()
    known = store.create({"a": 1}, owner="alice")
    reply = client.ask("/show", cookie=f"__Host-Http-id={known.id}")
    assert (client.show(cookie=f"__Host-Http-id={known.id}")["owner"], reply["Set-Cookie"]) == (None, None)


# ---- fixation ----


def test_fixation_an_id_that_a_client_chose(workers: Any) -> None:
    """SID-06: starsessions and Beaker answer `Cookie: session=attackerchosen` with that very id, and so did
    Litestar; Laravel takes any 40 characters, PHP any id unless it is told not to."""
    chosen = "attackerchosen-attackerchosen-00"
    for path in ("/count", "/login?owner=alice"):
        reply = workers.client().ask(path, cookie=f"__Host-Http-id={chosen}")
        assert reply.cookie
        assert chosen not in reply.cookie
        assert workers.client().show(cookie=f"__Host-Http-id={chosen}") | {"pid": 0} == {
            "owner": None,
            "fields": {},
            "pid": 0,
        }


def test_fixation_an_id_from_before_the_log_in(workers: Any) -> None:
    """LIF-05, LIF-07: whoever knows the victim's anonymous id polls it from four threads during log-ins, and
    never once sees the owner; and what he put into the session is gone."""
    over = threading.Event()
    known: list[str] = []
    seen: list[Any] = []

    def poll() -> None:
        attacker = workers.client()
        while not over.is_set():
            for each in known[-2:]:
                shown = attacker.show(cookie=each)
                if shown["owner"] is not None:
                    seen.append(shown)

    with ThreadPoolExecutor(4) as attackers:
        polling = [attackers.submit(poll) for _ in range(4)]
        try:
            for _ in range(100):
                victim = workers.client()
                victim.ask("/set?planted=1")
                known.append(victim.cookie)
                victim.ask("/login?owner=vera")
                shown = victim.show()
                assert (shown["owner"], shown["fields"]) == ("vera", {})
                victim.connection.close()
        finally:
            over.set()
        for each in polling:
            each.result()
    assert seen == []


# ---- prediction and brute force ----


@pytest.mark.shared_home
def test_prediction(serving: Serve, private_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SID-01, SID-04: workers that were forked with all their state never give an id twice, and no part of an
    id tells anything of another one."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--preload")
    with serving("gunicorn-gthread", private_folder) as server:
        by_worker: dict[int, list[str]] = {}
        while len(by_worker) < 2 or min(map(len, by_worker.values())) < 100:
            client = server.client()
            pid = client.show("/count")["pid"]
            by_worker.setdefault(pid, []).append(client.cookie.split("=")[1])
            client.connection.close()
    ids = [each for given in by_worker.values() for each in given]
    assert len(set(ids)) == len(ids)
    for place in range(32):
        # Of 64 characters in 200 draws; fewer than 40 different ones has a chance below 1e-9.
        assert len({each[place] for each in ids}) >= 40


def test_brute_force(workers: Any) -> None:
    """SID-02, DOS-08: guesses find nothing, leave nothing, and are counted."""
    known = logged_in(workers, "gail").cookie.split("=")[1]
    before = workers.store.stats()
    guesser = workers.client()
    guesses = [base64.urlsafe_b64encode(os.urandom(24)).decode() for _ in range(400)]
    # And who knows nearly all of an id knows nothing: neighbours lie nowhere near in the table (DOS-06).
    for at, right in enumerate(known):
        guesses += [known[:at] + wrong + known[at + 1 :] for wrong in "AZ9-" if wrong != right]
    for guess in guesses:
        shown = guesser.show(cookie=f"__Host-Http-id={guess}")
        assert (shown["owner"], shown["fields"]) == (None, {})
    after = workers.store.stats()
    assert (after.sessions, after.memory_used) == (before.sessions, before.memory_used)
    assert after.misses - before.misses >= len(guesses)


def answer_to(server: Any, id: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that a client can see."""
    reply = server.client().ask("/show", cookie=f"__Host-Http-id={id}")
    return reply.status, [field for field in reply.headers if field[0] != "Date"], reply.body


def test_timing_of_a_look_up(here: Any) -> None:
    """STO-02, SID-07, DOS-08: whatever a guess has in common with an id, the same is done for it: one look-up that finds
    nothing, and the very same answer. What cannot be an id is not looked up at all. An id that was one once looks like one
    that never was."""
    known = logged_in(here, "tim").cookie.split("=")[1]
    ended = logged_in(here, "tina")
    ended_id = ended.cookie.split("=")[1]
    ended.ask("/logout")

    def other(character: str) -> str:
        return "A" if character != "A" else "B"

    nearly = [known[:at] + other(known[at]) + known[at + 1 :] for at in range(32)]
    strange = [other(known[0]) * 32, *(base64.urlsafe_b64encode(os.urandom(24)).decode() for _ in range(8))]
    nothing = answer_to(here, strange[0])
    for guess in nearly + strange:
        before = here.store.stats()
        assert answer_to(here, guess) == nothing
        after = here.store.stats()
        assert (after.misses - before.misses, after.loads - before.loads) == (1, 0)
        assert after.malformed == before.malformed
    for guess in (known[:-1], known + "A", known[:-1] + "=", known[:-1] + "%41", "", "x"):
        before = here.store.stats()
        assert answer_to(here, guess) == nothing
        after = here.store.stats()
        assert (after.misses, after.malformed - before.malformed) == (before.misses, 1)
    assert answer_to(here, ended_id) == nothing
    assert json.loads(answer_to(here, known)[2])["owner"] == "tim"


def test_ids_that_collide(serve_here: Serve, make_store: Callable[..., sessile.Store]) -> None:
    """DOS-06: sessions that share a shard, and a place in its index, as nobody without the key could choose them: each
    is found, and only each, while others of them come and go in between."""
    server = serve_here(make_store(capacity=10_000, memory="16 MiB", anonymous_share=1.0))
    by_place: dict[tuple[int, int], list[sessile.Session]] = {}
    for number in range(4000):
        session = server.store.create({"who": str(number)})
        digest = session._digest[0]
        # The shard is chosen by the highest bits of the first eight bytes, the place by those of the first four.
        by_place.setdefault((digest[7] >> 5, digest[3] >> 3), []).append(session)
    colliding = max(by_place.values(), key=len)
    assert len(colliding) >= 8
    for sessions in by_place.values():
        if sessions is not colliding:
            for session in sessions:
                session.destroy()
    while colliding:
        for session in colliding:
            shown = server.client().show(cookie=f"__Host-Http-id={session.id}")
            assert shown["fields"] == {"who": session["who"]}
        gone = colliding.pop(len(colliding) // 2)
        server.client().ask("/logout", cookie=f"__Host-Http-id={gone.id}")
        assert server.client().show(cookie=f"__Host-Http-id={gone.id}")["fields"] == {}


# ---- riding and donation ----


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_riding(workers: Any, site: str, method: str) -> None:
    """COK-13: a form or a script of another site, sent by the victim's browser with the victim's cookie."""
    victim = logged_in(workers, "rosa")
    headers = {"Sec-Fetch-Site": site, "Origin": "https://evil.example"}
    assert victim.ask("/set?to=mallory", method, headers).status == 403
    assert victim.ask("/logout", method, {"Origin": "https://evil.example"}).status == 403
    assert victim.show()["fields"] == {}


def test_donation_by_a_log_in_from_another_site(workers: Any) -> None:
    """COK-13: a victim's browser must not be logged in to the attacker's account."""
    victim = workers.client()
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    reply = victim.ask("/login?owner=mallory", "POST", headers)
    assert (reply.status, reply["Set-Cookie"]) == (403, None)


def test_donation_by_a_planted_cookie(workers: Any) -> None:
    """COK-03, COK-07: a sibling domain tosses the attacker's cookie, which comes before or after ours."""
    victim, mallory = logged_in(workers, "dora"), logged_in(workers, "mallory")
    for header in (f"{mallory.cookie}; {victim.cookie}", f"{victim.cookie}; {mallory.cookie}"):
        assert workers.client().show(cookie=header)["owner"] is None
    planted = mallory.cookie.split("=")[1]
    for name in ("__host-http-id", "\xe2\x80\x80__Host-Http-id", " __Host-Http-id ", "id", "__Host-id", ""):
        shown = workers.client().show(cookie=f"{victim.cookie}; {name}={planted}")
        assert shown["owner"] == "dora", name


def test_jar_overflow(workers: Any) -> None:
    """COK-08: so many cookies that nobody can tell what the browser dropped: no session, no error."""
    victim = logged_in(workers, "olga")
    flood = "; ".join(f"c{number}=x" for number in range(180))
    assert victim.show(cookie=f"{flood}; {victim.cookie}")["owner"] == "olga"
    flood = "; ".join(f"c{number}=x" for number in range(300))
    assert victim.show(cookie=f"{flood}; {victim.cookie}")["owner"] is None


def test_a_cookie_without_its_prefix_cannot_be_configured() -> None:
    """COK-02."""
    with pytest.raises(ValueError, match="__Host-Http-"):
        Cookie("id")


# ---- puzzling, header injection, caches, memory ----


def test_puzzling(workers: Any) -> None:
    """STO-08: data of one flow never authenticates in another: the owner is no field."""
    client = workers.client()
    client.ask("/set?owner=admin&user=admin&_owner=admin&authenticated_at=1&handle=x&id=y")
    shown = client.show()
    assert (shown["owner"], shown["fields"]["owner"]) == (None, "admin")


def test_header_injection(workers: Any) -> None:
    """COK-09, SID-07: nothing that a client sends comes back in a header."""
    client = workers.client()
    for hostile in ("a%0d%0aSet-Cookie:%20x=y", "%0a%0d", "%00"):
        reply = client.ask(f"/login?owner=eve{hostile}")
        assert reply.status in (303, 500)
        assert len(reply.all("Set-Cookie")) <= 1
        assert all("eve" not in value and "\n" not in value for _, value in reply.headers)
    for hostile in ("A" * 31 + "\t", "x\x0b\x0cy" * 8, "A" * 32 + "\x85"):
        reply = client.ask("/count", cookie=f"__Host-Http-id={hostile}")
        assert reply.status in (200, 400)  # gunicorn refuses most of them itself
        assert all("\n" not in value and hostile not in value for _, value in reply.headers)


def test_a_shared_cache_in_front(workers: Any) -> None:
    """COK-10: Flask, CVE-2023-30861 and CVE-2026-27205. What a cache may keep: nothing that sets a cookie,
    nothing of somebody who is logged in, and the rest for one cookie only."""
    client = workers.client()
    assert client.ask("/untouched").all("Vary") == []
    for path in ("/show", "/count", "/show", "/login?owner=carl", "/show", "/logout"):
        reply = client.ask(path)
        assert "Cookie" in (reply["Vary"] or "")
        if reply["Set-Cookie"]:
            assert reply["Cache-Control"] == "no-store"
        elif path == "/show" and client.show()["owner"]:
            assert reply["Cache-Control"] == "private"


def test_memory_disclosure_of_the_table(workers: Any) -> None:
    """STO-01: whoever reads the table, or the store's file, finds no id; not in text, not in bytes."""
    clients = [logged_in(workers, "mona") for _ in range(5)]
    table = Path(workers.store._path).read_bytes()
    assert b"mona" in table
    for client in clients:
        secret = client.cookie.split("=")[1]
        assert secret.encode() not in table
        assert base64.urlsafe_b64decode(secret) not in table


# ---- snapshots ----


def refused(server: Any) -> str:
    """Why a server ended by itself: the name of the error in its log."""
    assert server.process.wait(60) != 0
    return re.findall(r"^sessile\.errors\.(\w+):", server.log.read_text(), re.MULTILINE)[0]


def everybody_out(server: Any) -> None:
    """A power cut: all processes at once, and the memory too."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@pytest.mark.slow
def test_replay_theft_and_tampering_of_a_snapshot(
    serving: Serve, private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PER-03, PER-04, PER-05, PER-09: a reboot brings nobody back who logged out after the snapshot; the files give no
    cookie away; a changed one is refused, and no worker serves a request."""
    monkeypatch.setenv("SESSILE_SNAPSHOTS", str(private_folder / "snapshots"))

    def server(number: int, **options: Any) -> Any:
        """Its table is new each time, as after a reboot."""
        monkeypatch.setenv("SESSILE_TABLE", str(private_folder / f"table-{number}"))
        return serving("gunicorn-gthread", private_folder, **options)

    with server(1) as first:
        stays, leaves = logged_in(first, "stella"), logged_in(first, "leo")
        stays.show("/snapshot")
        old = leaves.cookie
        leaves.ask("/logout")
        everybody_out(first)
    files = [path for path in (private_folder / "snapshots").iterdir() if path.is_file()]
    assert any(b"stella" in path.read_bytes() for path in files)
    for path in files:
        for cookie in (stays.cookie, old):
            id = cookie.split("=")[1]
            assert id.encode() not in path.read_bytes()
            assert base64.urlsafe_b64decode(id) not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
    with server(2) as second:
        assert second.client().show(cookie=stays.cookie)["owner"] == "stella"
        assert second.client().show(cookie=old)["owner"] is None
        everybody_out(second)
    (*_, newest) = sorted((private_folder / "snapshots").glob("image-*.sessile"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with server(3, wait=False) as third:
        assert refused(third) == "SnapshotError"


# ---- a local attacker, and a worker that dies ----


@pytest.mark.slow
def test_a_planted_table(serving: Serve, private_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PER-01, MPR-03: in a folder that others can write to, behind a link, or of somebody else's making, no table is
    opened, and no worker serves a request with it."""
    open_to_all, planted, link = (private_folder / name for name in ("open", "planted", "link"))
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    planted.write_bytes(b"not a table" * 1000)
    planted.chmod(0o600)
    link.symlink_to(private_folder / "elsewhere")
    for table in (open_to_all / "table", planted, link):
        monkeypatch.setenv("SESSILE_TABLE", str(table))
        with serving("gunicorn-sync", private_folder, wait=False) as server:
            assert refused(server) == "AttachError"
    assert not (private_folder / "elsewhere").exists()


def nonzero(table: int) -> list[int]:
    """The offsets of what is in use in a file with holes."""
    used = []
    at, size = 0, os.fstat(table).st_size
    while at < size:
        try:
            at = os.lseek(table, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(table, at, os.SEEK_HOLE)
        used += [at + place for place, octet in enumerate(os.pread(table, end - at, at)) if octet]
        at = end
    return used


@pytest.mark.shared_home
@pytest.mark.parametrize("seed", range(2))
def test_hostile_memory(serving: Serve, private_folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """MPR-05: a local process that may write to the table flips bits in it, in records, indices, locks and headers,
    while requests are served. No worker dies of it; what was damaged is refused, and nobody gets what is another's."""
    monkeypatch.setenv("SESSILE_TABLE", str(private_folder / "table"))
    monkeypatch.setenv("SERVED_BUSY_TIMEOUT", "0.1")  # a lock whose owner is somebody alive, it says, is waited for
    random = Random(seed)
    with serving("gunicorn-gthread", private_folder) as server:
        workers: set[int] = set()
        while len(workers) < 2:  # who opens a damaged table later is refused, and gunicorn gives up
            client = server.client()
            workers.add(client.show("/untouched")["pid"])
            client.connection.close()
        clients = []
        for number in range(60):
            client = logged_in(server, f"hal{number}")
            client.ask(f"/set?who={number}")
            client.connection.close()
            clients.append(client)
        table = os.open(private_folder / "table", os.O_RDWR)
        try:
            used = nonzero(table)
            assert len(used) > 1000
            sound = 0
            for _ in range(300):
                for offset in random.choices(used, k=4):
                    octet = os.pread(table, 1, offset)[0] ^ 1 << random.randrange(8)
                    os.pwrite(table, bytes([octet]), offset)
                number = random.randrange(60)
                reply = server.client().ask("/show", cookie=clients[number].cookie)
                assert reply.status in (200, 500, 503)
                if reply.status == 200:
                    shown = json.loads(reply.body)
                    seen = (shown["owner"], shown["fields"])
                    assert seen in [(f"hal{number}", {"who": str(number)}), (None, {})]
                    sound += seen[0] is not None
        finally:
            os.close(table)
        assert sound < 300
        assert "was sent SIG" not in server.log.read_text()
        assert server.log.read_text().count("Booting worker") == 2
        assert server.client().ask("/untouched").status == 200


def answering(server: Any) -> int:
    """The process that answers; the limit of the test ends the wait for one."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            pid: int = server.client().show("/untouched")["pid"]
            return pid


@pytest.mark.slow
def test_a_worker_that_dies_takes_nothing_along(serving: Serve, private_folder: Path) -> None:
    """MPR-06: killed at any moment, while requests are under way."""
    with serving("gunicorn-gthread", private_folder, SESSILE_TABLE=str(private_folder / "table")) as server:
        clients = [logged_in(server, f"kim+{number}") for number in range(8)]
        over = threading.Event()

        def use(client: Any) -> int:
            acknowledged = 0
            while not over.is_set():
                try:
                    assert client.ask(f"/set?n{acknowledged}=1").status == 200
                    acknowledged += 1
                except (OSError, http.client.HTTPException):
                    client.connection.close()
            return acknowledged

        with ThreadPoolExecutor(8) as threads:
            using = [threads.submit(use, client) for client in clients]
            try:
                for _ in range(4):
                    os.kill(answering(server), signal.SIGKILL)
            finally:
                over.set()
            counts = [each.result() for each in using]
        assert sum(counts) > 0
        for number, client in enumerate(clients):
            answering(server)
            shown = server.client().show(cookie=client.cookie)
            assert shown["owner"] == f"kim {number}"
            assert set(shown["fields"]) >= {f"n{each}" for each in range(counts[number])}


# ---- flooding ----


def test_session_flooding(serve_here: Serve, make_store: Callable[..., sessile.Store]) -> None:
    """DOS-01 to DOS-05: ten times the capacity in anonymous sessions: whoever is logged in stays so, who
    comes next can log in, and the store is never above its capacity by one."""
    capacity = 60
    server = serve_here(make_store(capacity=capacity, memory="2 MiB"))
    victims = [logged_in(server, f"flo {number}".replace(" ", "+")) for number in range(10)]
    flooder = server.client()
    for _ in range(10 * capacity):
        assert flooder.ask("/set?junk=1", cookie="").status == 200
    stats = server.store.stats()
    assert stats.anonymous <= capacity // 2
    assert stats.sessions <= capacity
    for number, victim in enumerate(victims):
        assert victim.show()["owner"] == f"flo {number}"
    assert logged_in(server, "late").show()["owner"] == "late"


def test_flooding_with_reads(workers: Any) -> None:
    """DOS-01: Django CVE-2015-5143, Rack's pool: reading made records."""
    before = workers.store.stats().created
    client = workers.client()
    for number in range(300):
        assert client.ask("/show", cookie=f"__Host-Http-id={number:032}").cookie is None
    assert workers.store.stats().created == before


def test_everything_ends_at_once(serve_here: Serve, make_store: Callable[..., sessile.Store]) -> None:
    """DOS-07: most of a table is due in one moment; whoever comes next is served as ever, and all is given back."""
    server = serve_here(make_store(capacity=5000, memory="8 MiB", anonymous_share=1.0))
    for number in range(4000):
        server.store.create({"number": number})
    advance(server.store, 1000)
    client = logged_in(server, "ed")
    advance(server.store, 900)
    before = server.store.stats().expired
    for number in range(50):
        assert client.show("/count")["fields"] == {"n": number + 1}
    assert 0 < server.store.stats().expired - before < 4000  # each request does a little of it
    while server.store.sweep():
        pass
    assert server.store.stats().sessions == 1


# ---- faults of others ----


def wait_for(folder: Path, count: int) -> None:
    """Until so many slow requests have read their session; the limit of the test ends the wait."""
    while len(list(folder.glob("reached-*"))) < count:
        time.sleep(0.01)


@pytest.mark.parametrize("written", ["", "&late=1"], ids=["reads", "writes"])
def test_a_slow_request_does_not_undo_a_log_out(workers: Any, tmp_path: Path, written: str) -> None:
    """CON-02: on Flask-Session 0.8 and starsessions 2.3 a request that only *reads* brings the session back;
    it is reported for express, Laravel, ASP.NET and others since 2012."""
    client = logged_in(workers, "sue")
    old = client.cookie
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(workers.client().ask, f"/slow?folder={tmp_path}{written}", cookie=old)
        wait_for(tmp_path, 1)
        client.ask("/logout")
        (tmp_path / "go").touch()
        reply = slow.result()
    assert (reply.status, reply["Set-Cookie"]) == (200, None)
    assert workers.client().show(cookie=old)["owner"] is None


def test_two_writers_of_different_fields(workers: Any, tmp_path: Path) -> None:
    """CON-03: Flask-Session, starsessions, Django's cache backend and Beaker lose one of the two."""
    client = workers.client()
    client.ask("/set?a=0&b=0")
    with ThreadPoolExecutor(6) as threads:
        writers = [
            threads.submit(workers.client().ask, f"/slow?folder={tmp_path}&{name}=1", cookie=client.cookie)
            for name in "abcdef"
        ]
        wait_for(tmp_path, 6)
        (tmp_path / "go").touch()
        assert [each.result().status for each in writers] == [200] * 6
    assert client.show()["fields"] == dict.fromkeys("abcdef", "1")


def test_no_cookie_and_no_write_where_nothing_changed(workers: Any) -> None:
    """COK-11: starsessions and scs send one with every response that loaded a session, Litestar always."""
    client = workers.client()
    client.ask("/set?a=1")
    session = workers.store.load(client.cookie.split("=")[1])
    for _ in range(20):
        assert client.ask("/show")["Set-Cookie"] is None
    session["a"] = "2"
    assert session.save(strict=True)  # nobody wrote it meanwhile


def test_the_browser_is_not_faster_than_the_store(workers: Any) -> None:
    """ASP.NET Core stores the session after the response: whoever follows the redirect is too early."""
    for _ in range(50):
        client = workers.client()
        location = client.ask("/login?owner=fast")["Location"]
        assert workers.client().show(location, cookie=client.cookie)["owner"] == "fast"


def test_idle_and_absolute_time_do_not_depend_on_clean_up(here: Any) -> None:
    """LIF-03: PHP's idle time is a lottery of its garbage collector; Plug's never ends."""
    client = logged_in(here, "alice")
    advance(here.store, 1700)  # not nearer: time passes between two requests, too
    assert client.show()["owner"] == "alice"
    advance(here.store, 1801)
    assert client.show()["owner"] is None
