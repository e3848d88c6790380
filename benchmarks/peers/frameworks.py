"""What the frameworks bring: Django's engines, Flask-Session, Beaker."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import IDLE, Cannot, Peer, Place
from benchmarks.peers.servers import Redis as RedisServer
from benchmarks.peers.servers import ServedPeer


def bytes_below(directory: Path) -> int:
    """Bytes that the files below a folder take on their file system."""
    files = (Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    return sum(path.stat().st_blocks * 512 for path in files)


class DjangoPeer(Peer):
    """An engine of Django, through its SessionStore: load, and what a request does through the mapping."""

    package = "django"
    engine: ClassVar[str]

    def __init__(self, place: Place) -> None:
        import django
        from django.conf import settings

        self._directory = place.directory
        (place.directory / "files").mkdir(exist_ok=True)
        settings.configure(
            SECRET_KEY="benchmark" * 6,
            SESSION_ENGINE=f"django.contrib.sessions.backends.{self.engine}",
            SESSION_COOKIE_AGE=IDLE,
            SESSION_FILE_PATH=str(place.directory / "files"),
            INSTALLED_APPS=["django.contrib.sessions"],
            CACHES={"default": self.cache(place)},
            DATABASES={
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(place.directory / "database")}
            },
            USE_TZ=True,
        )
        django.setup()
        self._store = import_module(settings.SESSION_ENGINE).SessionStore
        if self.engine in ("db", "cached_db") and place.first:
            from django.core.management import call_command

            call_command("migrate", verbosity=0)

    def cache(self, place: Place) -> dict[str, Any]:
        most = 2 * place.count + 10_000
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": most}}

    def create(self, fields: dict[str, Any]) -> str:
        session = self._store()
        session.update(fields)
        session.save()
        return str(session.session_key)

    def load(self, id: str) -> Any:
        return self._store(id).load()

    def read(self, id: str) -> object:
        return self._store(id)["locale"]

    def write(self, id: str, flash: str) -> None:
        session = self._store(id)
        session["locale"]
        session["flash"] = flash
        session.save()

    def destroy(self, id: str) -> None:
        self._store(id).delete()


class DjangoLocmem(DjangoPeer):
    name = "Django cache, locmem"
    engine = "cache"
    about = "each worker has its own"


class DjangoRedis(ServedPeer, DjangoPeer):
    name = "Django cache, Redis"
    engine = "cache"
    about = "over a unix socket"

    def cache(self, place: Place) -> dict[str, Any]:
        self._server = RedisServer(place)
        return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"unix://{self._server.socket}"}

    def _expiry(self) -> str:
        return "Redis does: see there"


class DjangoExpiring(DjangoPeer):
    def expire(self, count: int) -> float:
        for _ in range(count):
            session = self._store()
            session.update({"theme": "dark"})
            session.set_expiry(-1)
            session.save()
        begun = time.perf_counter()
        self._store.clear_expired()
        return time.perf_counter() - begun


class DjangoDatabase(DjangoExpiring):
    name = "Django db, SQLite"
    engine = "db"
    about = "SQLite as Django sets it up"
    shared = True

    def fill(self, many: list[dict[str, Any]]) -> list[str]:
        from django.db import transaction

        with transaction.atomic():
            return super().fill(many)

    def outside_bytes(self) -> int:
        return (self._directory / "database").stat().st_size


class DjangoFile(DjangoExpiring):
    name = "Django file"
    engine = "file"
    about = "a file a session"
    shared = True

    def outside_bytes(self) -> int:
        return bytes_below(self._directory / "files")


class DjangoCookie(DjangoPeer):
    name = "Django signed_cookies"
    engine = "signed_cookies"
    about = "no store: the fields travel signed and readable in the cookie, and a log-out ends nothing"
    stored = False
    shared = True

    def destroy(self, id: str) -> None:
        raise Cannot("a cookie that was given out stays valid")

    def _expiry(self) -> str:
        return "nothing is stored"


class FlaskSessionPeer(Peer):
    """Flask-Session through Flask's own interface: open_session and save_session of a request with the cookie."""

    package = "flask-session"

    def configuration(self, place: Place) -> dict[str, Any]:
        raise NotImplementedError

    def __init__(self, place: Place) -> None:
        from flask import Flask
        from flask_session import Session

        self._directory = place.directory
        self._app = Flask("benchmark")
        self._app.config.update(self.configuration(place), PERMANENT_SESSION_LIFETIME=timedelta(seconds=IDLE))
        Session(self._app)
        self._interface: Any = self._app.session_interface

    def _open(self, id: str) -> Any:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "shop.example",
            "SERVER_PORT": "443", "wsgi.url_scheme": "https", "SERVER_PROTOCOL": "HTTP/1.1",
        }  # fmt: skip
        if id:
            environ["HTTP_COOKIE"] = f"session={id}"
        return self._interface.open_session(self._app, self._app.request_class(environ))

    def _save(self, session: Any) -> None:
        self._interface.save_session(self._app, session, self._app.response_class())

    def create(self, fields: dict[str, Any]) -> str:
        session = self._open("")
        session.update(fields)
        self._save(session)
        return str(session.sid)

    def load(self, id: str) -> Any:
        return self._open(id)

    def write(self, id: str, flash: str) -> None:
        session = self._open(id)
        session["locale"]
        session["flash"] = flash
        self._save(session)

    def destroy(self, id: str) -> None:
        session = self._open(id)
        session.clear()
        self._save(session)


class FlaskSessionRedis(ServedPeer, FlaskSessionPeer):
    name = "Flask-Session, Redis"
    about = "over a unix socket; Flask's request and cookie parser included"

    def configuration(self, place: Place) -> dict[str, Any]:
        from redis import Redis

        self._server = RedisServer(place)
        return {"SESSION_TYPE": "redis", "SESSION_REDIS": Redis(unix_socket_path=str(self._server.socket))}

    def _expiry(self) -> str:
        return "Redis does: see there"


class FlaskSessionFiles(FlaskSessionPeer):
    name = "Flask-Session, files"
    about = "cachelib's FileSystemCache; Flask's request and cookie parser included"
    shared = True

    def configuration(self, place: Place) -> dict[str, Any]:
        from cachelib.file import FileSystemCache

        cache = FileSystemCache(str(place.directory / "files"), threshold=2 * place.count + 10_000)
        return {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": cache}

    def outside_bytes(self) -> int:
        return bytes_below(self._directory / "files")


class BeakerPeer(Peer):
    """Beaker's Session object, as its middleware makes one for each request."""

    package = "beaker"
    options: ClassVar[dict[str, Any]]

    def __init__(self, place: Place) -> None:
        from beaker.session import Session

        self._session = Session
        self._directory = place.directory
        self._settings = {"timeout": IDLE, "data_serializer": "json", "data_dir": str(place.directory), **self.options}

    def _open(self, id: str | None) -> Any:
        request: dict[str, Any] = {"cookie": None, "cookie_out": None}
        return self._session(request, id=id, use_cookies=False, **self._settings)

    def create(self, fields: dict[str, Any]) -> str:
        session = self._open(None)
        session.update(fields)
        session.save()
        return str(session.id)

    def load(self, id: str) -> Any:
        return self._open(id)

    def write(self, id: str, flash: str) -> None:
        session = self._open(id)
        session["locale"]
        session["flash"] = flash
        session.save()

    def destroy(self, id: str) -> None:
        self._open(id).delete()


class BeakerMemory(BeakerPeer):
    name = "Beaker, memory"
    about = "each worker has its own"
    options: ClassVar[dict[str, Any]] = {"type": "memory"}

    def _expiry(self) -> str:
        return "its store never forgets"


class BeakerFiles(BeakerPeer):
    name = "Beaker, files"
    about = "a file and a lock file a session"
    shared = True
    options: ClassVar[dict[str, Any]] = {"type": "file"}

    def _expiry(self) -> str:
        return "its files stay"

    def outside_bytes(self) -> int:
        return bytes_below(self._directory)
