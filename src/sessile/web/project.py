"""The store of a site that names none: a framework knows its project, and a secret.

    Store("<project>-<a digest of its root folder>", secret=<derived from the framework's secret keys>)

All workers of a project find the same table, and two checkouts of it never share one. While the site's tests
run there is a small table of the process's own in its place, so that they never touch the sessions of people.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from typing import Any

from sessile.keys import derive
from sessile.store import Store

__all__ = ["project_secrets", "project_store", "store_of_tests", "table_name"]

_NAME_LIMIT = 64
_is_other = re.compile(r"[^A-Za-z0-9._-]+")


def project_store(project: str, root: str | os.PathLike[str], secret_keys: Iterable[str | bytes]) -> Store:
    """The store of a project, with the options that a store has by default.

    Args:
        project: its name.
        root: its root folder.
        secret_keys: of the framework, the present one first; at most eight are used.

    Raises:
        AttachError: as `Store`.
        ValueError: there is no secret key.
    """
    return Store(table_name(project, root), secret=project_secrets(secret_keys))


def store_of_tests(**options: Any) -> Store:
    """A store for tests: of this process and its children, and small unless the options say otherwise."""
    with warnings.catch_warnings():
        # Test processes that were spawned share nothing, and need not.
        warnings.simplefilter("ignore", RuntimeWarning)
        return Store(**{"capacity": 16_384, "memory": "32 MiB", **options})


def table_name(project: str, root: str | os.PathLike[str]) -> str:
    """The name of a project's table: of its name and its root folder, so that it is the same in every
    worker."""
    plain = _is_other.sub("-", project).strip("-.") or "site"
    folder = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()
    return f"{plain[:_NAME_LIMIT]}-{folder[:12]}"


def project_secrets(secret_keys: Iterable[str | bytes]) -> list[bytes]:
    """Secrets for a store: one of each key of the framework, which knows nothing of it (STO-09).

    Raises:
        ValueError: there is none, or an empty one.
    """
    secrets = []
    for key in secret_keys:
        octets = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key)
        if not octets:
            raise ValueError("a secret key is empty")
        secrets.append(derive(octets, b"sessile of a project"))
    if not secrets:
        raise ValueError("there is no secret key")
    return secrets[:8]
