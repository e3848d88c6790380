"""Keys: one for each purpose, derived from `secret`, so that none of them tells anything about another
(STO-09).

HKDF with SHA-256 (RFC 5869), the purpose as its info. The key of ids has 64 bytes, the block size of SHA-256:
the table compresses it once when it is opened, and each digest of an id then costs one more block.

A table with a name or path and no `secret` keeps a random one in a file of mode 0600 beside it. That protects
an image of the table that leaves the host, not the host (MPR-08).
"""

from __future__ import annotations

import hmac
import os
import stat
from dataclasses import dataclass, field

from sessile._table import id_of
from sessile.errors import AttachError, SnapshotError

__all__ = ["Keys", "derive", "renewed_id", "secret_beside", "secret_in"]

_SECRET_SIZE = 32
_HASH_SIZE = 32


def derive(secret: bytes, purpose: bytes, size: int = _HASH_SIZE) -> bytes:
    """`size` bytes for one purpose: HKDF-SHA-256 with the salt "sessile" (RFC 5869)."""
    pseudorandom = hmac.digest(b"sessile", secret, "sha256")
    derived = block = b""
    while len(derived) < size:
        block = hmac.digest(pseudorandom, block + purpose + bytes([len(derived) // _HASH_SIZE + 1]), "sha256")
        derived += block
    return derived[:size]


@dataclass(frozen=True, slots=True)
class Keys:
    """What one secret is good for.

    Attributes:
        id: 64 bytes; the digest of an id, which is all that is stored of it, is keyed with it (STO-01).
        renewal: 32 bytes; a renewal's next id is derived from a nonce with it.
        csrf: 32 bytes; for tokens against cross-site requests (COK-13).
        snapshot: 32 bytes; authenticates what is written to disk (PER-04).
        carried: 32 bytes; the ids of sessions that another system kept before are derived with it.
    """

    id: bytes = field(repr=False)
    renewal: bytes = field(repr=False)
    csrf: bytes = field(repr=False)
    snapshot: bytes = field(repr=False)
    carried: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> Keys:
        """Derive all keys of a secret."""
        return cls(
            id=derive(secret, b"id", 64),
            renewal=derive(secret, b"renewal"),
            csrf=derive(secret, b"csrf"),
            snapshot=derive(secret, b"snapshot"),
            carried=derive(secret, b"carried"),
        )


def renewed_id(key: bytes, nonce: bytes) -> str:
    """The id that follows in a renewal.

    It is derived, so that every request that comes with the old id computes the same new one, although the
    table stores digests only (LIF-08, LIF-09). Whoever lacks `key` learns nothing of it from the nonce.
    """
    return id_of(hmac.digest(key, nonce, "sha256")[:24])


def secret_beside(table: str) -> bytes:
    """The secret in the file `<table>.key`; the first process to ask for it makes it.

    The file appears complete under its name, or not at all: it is written under another name and then linked.

    Raises:
        AttachError: the file is not a regular one of this user that nobody else may read (PER-07); or it is
            missing while the table is there; or it cannot be made.
    """
    path = table + ".key"
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except AttachError:
        raise
    except OSError as error:
        raise AttachError(f"the secret in {path} cannot be read: {error.strerror}", path=table) from error
    if os.path.lexists(table):
        raise AttachError(
            f"the table {table} is there, its secret {path} is not: restore that file, pass secret=, "
            "or remove the table when no process uses it",
            path=table,
        )
    try:
        _make(path)
        return _read(path)
    except AttachError:
        raise
    except OSError as error:
        raise AttachError(f"the secret in {path} cannot be made: {error.strerror}", path=table) from error


def secret_in(directory: str) -> bytes:
    """The secret in the file `secret.key` of a directory of snapshots; the first process to ask for it makes
    it.

    It lies there because it must outlive a reboot, as the snapshots do (PER-07). Whoever takes the whole
    directory has it: pass `secret=` where that matters.

    Raises:
        SnapshotError: the file is missing while there are snapshots; or it is not a regular one of this user
            that nobody else may read; or it cannot be made.
    """
    from sessile.disk import Directory

    where = Directory(directory)
    try:
        names = where.names()
        if "secret.key" not in names and any(name.startswith(("image-", "revoke-")) for name in names):
            raise SnapshotError(
                f"the secret {directory}/secret.key is missing, and the snapshots beside it need it: "
                "bring it back, pass secret=, or move the directory away to start without its sessions",
                path=directory,
            )
        try:
            return secret_beside(os.path.join(directory, "secret"))
        except AttachError as error:
            raise SnapshotError(str(error), path=directory) from error
    finally:
        where.sync()
        where.close()


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise AttachError(
                f"the secret in {path} must be a regular file of this user with mode 0600", path=path
            )
        secret = os.read(descriptor, _SECRET_SIZE + 1)
    finally:
        os.close(descriptor)
    if len(secret) != _SECRET_SIZE:
        raise AttachError(f"the secret in {path} has not {_SECRET_SIZE} bytes: it is damaged", path=path)
    return secret


def _make(path: str) -> None:
    complete = f"{path}.{os.urandom(8).hex()}"
    descriptor = os.open(complete, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, os.urandom(_SECRET_SIZE))
        os.fsync(descriptor)
        try:
            os.link(complete, path)
        except FileExistsError:
            pass
    finally:
        os.close(descriptor)
        os.unlink(complete)
