"""Servers that peers need, each peer its own: started in the peer's folder, on a unix socket, ended with it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from benchmarks.peers.base import Cannot, Peer, Place


class Server:
    """A server process. For a second process of the peer only its socket."""

    program = ""
    debian = ""

    def __init__(self, place: Place) -> None:
        self.socket = place.directory / "socket"
        self.process: subprocess.Popen[bytes] | None = None
        if not place.first:
            return
        if not shutil.which(self.program):
            raise Cannot(f"no {self.program} on this machine (Debian: apt install {self.debian})")
        with open(place.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                self.command(place), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place.directory
            )
        self._wait()

    def command(self, place: Place) -> list[str]:
        raise NotImplementedError

    def _wait(self) -> None:
        assert self.process is not None
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.socket)) == 0:
                    return
            time.sleep(0.02)
        raise Cannot(f"{self.program} did not start: {(self.socket.parent / 'log').read_text()[-300:]}")

    def resident_bytes(self) -> int:
        """Resident set of the server."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise OSError("no VmRSS")

    def version(self) -> str:
        """", " and the program with its version."""
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"[0-9]+\.[0-9.]+[0-9]", said)
        return f", {self.program} {found[0] if found else said.strip()}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Redis(Server):
    program = "redis-server"
    debian = "redis-server"

    def command(self, place: Place) -> list[str]:
        return [self.program, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]


class Memcached(Server):
    program = "memcached"
    debian = "memcached"

    def command(self, place: Place) -> list[str]:
        # It refuses to run as root unless told as whom; the folder is ours, so as ourselves.
        return [self.program, "-u", pwd.getpwuid(os.getuid()).pw_name, "-s", str(self.socket), "-m", "4096", "-t", "2"]


class ServedPeer(Peer):
    """A peer whose sessions are in a server of its own; its constructor puts that into `_server`."""

    shared = True
    _server: Server

    def server_version(self) -> str:
        return self._server.version()

    def outside_bytes(self) -> int:
        return self._server.resident_bytes()

    def close(self) -> None:
        self._server.stop()
