"""Shows the shop under traffic: `make demo`. With CHECK=1 it ends after that, else the shop stays up for you.

It starts gunicorn with two worker processes that share one table, lets customers visit for some seconds, and
says what they lost. In the second part a worker is killed (SIGKILL) several times a second, whatever it is
doing; gunicorn starts another one, and nobody is logged out.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import traffic
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

HERE = Path(__file__).parent
WORKERS = 2
KILL_EVERY = 0.4  # seconds on average: a new worker needs some of it to start


def main() -> int:
    options = parse()
    console = Console(highlight=False)
    with shop(options.port) as (server, port, log):
        console.print(f"The shop is at http://localhost:{port}, {WORKERS} workers, one table.")
        parts = [("undisturbed", False)] + ([("workers killed", True)] if options.kill else [])
        lost = []
        for name, kill in parts:
            before = time.monotonic()
            with bar(console, name) as progress, killer(server.pid if kill else None, port) as killed:
                ledger = traffic.run(port, options.customers, options.seconds, progress)
            elapsed = time.monotonic() - before
            traffic.look_again(ledger)
            report(console, name, ledger, elapsed, len(killed), figures(port)["sessions"])
            lost += ledger.lost
            if ledger.cut_off and not kill:
                lost.append(f"{ledger.cut_off} requests were not answered at all")
        for line in lost[:20]:
            console.print(f"lost: {line}", style="red")
        if lost:
            console.print(f"The server's log:\n{log.read_text()[-4000:]}", markup=False)
        if options.check:
            return 1 if lost else 0
        console.print(f"\nNow it is yours: http://localhost:{port}   (password: sesame; Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
    return 1 if lost else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=8, help="of traffic in each part")
    parser.add_argument("--customers", type=int, default=12, help="at the same time")
    parser.add_argument("--port", type=int, default=8000, help="0, or one in use: another one is taken")
    parser.add_argument("--check", action="store_true", default=os.environ.get("CHECK") == "1")
    parser.add_argument("--no-kill", dest="kill", action="store_false", help="leave out the second part")
    return parser.parse_args()


@contextlib.contextmanager
def shop(wanted: int) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """The site under gunicorn, and a table that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="sessile-demo-", dir="/dev/shm"))
    log = folder / "log"
    listener = listen(wanted)
    environment = {**os.environ, "DEMO_TABLE": str(folder / "table"), "DEMO_ROTATE_SECONDS": "1"}
    command = [sys.executable, "-W", "ignore:insecure_dev", "-m", "gunicorn", "--chdir", str(HERE)]
    command += ["--bind", f"fd://{listener.fileno()}", "--workers", str(WORKERS), "--threads", "16"]
    command += ["--keep-alive", "60", "--no-control-socket", "wsgi:app"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, pass_fds=[listener.fileno()], stdout=output, stderr=output
        )
    try:
        port = listener.getsockname()[1]
        wait_until_up(server, port, log)
        yield server, port, log
    finally:
        server.terminate()
        server.wait()
        listener.close()
        shutil.rmtree(folder)


def listen(wanted: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", wanted))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    return listener


def wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60):
            return
    sys.exit(f"the server did not start:\n{log.read_text()}")


def wait_for_answer(port: int, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
            return


def figures(port: int) -> dict[str, int]:
    import json

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/figures.json") as answer:
        found: dict[str, int] = json.load(answer)
    return found


@contextlib.contextmanager
def killer(master: int | None, port: int) -> Iterator[list[int]]:
    """Kill workers of a gunicorn at random, until the block ends; each time after somebody has answered, so that the shop
    goes on where workers are slow to start. None: nobody."""
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(random.uniform(0.5, 1.5) * KILL_EVERY):
            workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
            if workers:
                victim = int(random.choice(workers))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
                wait_for_answer(port, stop)

    thread = threading.Thread(target=kill)
    if master is not None:
        thread.start()
    try:
        yield killed
    finally:
        stop.set()
        if master is not None:
            thread.join()


@contextlib.contextmanager
def bar(console: Console, name: str) -> Iterator[traffic.Callable[[float], None]]:
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def report(
    console: Console, name: str, ledger: traffic.Ledger, elapsed: float, killed: int, alive: int
) -> None:
    requests = ledger.answers.total() if hasattr(ledger.answers, "total") else sum(ledger.answers.values())
    table = Table(title=name, show_header=False, title_justify="left")
    table.add_row("requests", f"{requests:,}, {requests / elapsed:,.0f} a second")
    table.add_row("log-ins, log-outs", f"{ledger.log_ins:,}, {ledger.log_outs:,}")
    table.add_row("new ids given while in use", f"{ledger.renewals:,}")
    table.add_row("sessions alive", f"{alive:,}")
    if killed:
        table.add_row("workers killed", f"{killed}")
        table.add_row("requests cut off by that, and repeated", f"{ledger.cut_off:,}")
    workers = [f"{worker}: {count:,}" for worker, count in ledger.answers.most_common(6)]
    more = len(ledger.answers) - len(workers)
    table.add_row("answers by worker", ", ".join(workers) + (f" and {more} more workers" if more else ""))
    table.add_row("lost", f"{len(ledger.lost)}", style="bold red" if ledger.lost else "bold green")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
