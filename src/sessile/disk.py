"""Files that must survive a power cut, or be refused: a directory that belongs to this user alone.

Every call to the file system goes through `system`, so that a test can record them, refuse any of them, and
ask what a disk would hold after each (PER-02, PER-03, PER-11).

The order that everything here stands on: a file is written under another name, synced, renamed, and the
directory synced. Whatever is under its final name is complete.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from sessile.errors import SnapshotError

__all__ = ["Directory", "NewFile", "OwnFile", "system"]

system: Any = os
"""Where calls to the file system go; a test puts a model in its place."""

_TEMPORARY = ".new"
_RANDOM = 17  # characters between a file's name and that
_SIZE_MOST = 1 << 42  # of a file that is read
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NewFile:
    """A file under a temporary name; it appears under its own by `publish`, complete and durable."""

    def __init__(self, directory: Directory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._temporary = f"{name}.{os.urandom(8).hex()}{_TEMPORARY}"
        self.descriptor = system.open(self._temporary, os.O_RDWR | _CREATE, 0o600, dir_fd=directory.descriptor)
        system.fchmod(self.descriptor, 0o600)

    def write(self, data: Any) -> None:
        """Append bytes; a short write is continued.

        Raises:
            OSError: the disk is full, or fails.
        """
        left = memoryview(data).cast("B")
        while left:
            left = left[system.write(self.descriptor, left) :]

    def publish(self) -> None:
        """Make what was written durable, then known by its name; the descriptor stays open.

        Raises:
            OSError: the disk fails; the file does not appear.
        """
        system.fsync(self.descriptor)
        directory = self._directory.descriptor
        system.rename(self._temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        self._directory.sync()

    def close(self) -> None:
        """Give up the descriptor; a file that was not published goes."""
        if self.descriptor >= 0:
            system.close(self.descriptor)
            self.descriptor = -1
            self._directory.remove(self._temporary)


class OwnFile:
    """A file that is read, which was checked when it was opened.

    Attributes:
        path: for messages.
        size: bytes, when it was opened.
    """

    def __init__(self, path: str, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._descriptor = descriptor

    def read(self, place: int, length: int) -> bytes:
        """Bytes from `place` on.

        Raises:
            SnapshotError: as `read_into`.
        """
        data = bytearray(length)
        self.read_into(memoryview(data), place)
        return bytes(data)

    def read_into(self, buffer: memoryview, place: int) -> None:
        """Fill a buffer with the bytes from `place` on; from any thread.

        Raises:
            SnapshotError: it cannot be read, or has become shorter.
        """
        while buffer:
            try:
                count = system.preadv(self._descriptor, [buffer], place)
            except OSError as error:
                raise Directory.refusal(self.path, f"cannot be read: {error.strerror}") from error
            if count == 0:
                raise Directory.refusal(self.path, "became shorter while it was read")
            buffer, place = buffer[count:], place + count

    def close(self) -> None:
        """Give up the descriptor."""
        system.close(self._descriptor)


class Directory:
    """A directory of this user that nobody else can write to (PER-01).

    Args:
        path: absolute. Made with mode 0700 if it is not there; its parent must be.

    Raises:
        SnapshotError: it belongs to another user, others may write to it, it is a symbolic link or no
            directory, or it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise self.refusal(path, f"cannot be made: {error.strerror}; make it, owned by this user") from error
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self.refusal(path, "is not a directory, or a symbolic link: give the directory itself") from error
        facts = os.fstat(self.descriptor)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            os.close(self.descriptor)
            raise self.refusal(
                path,
                f"belongs to user {facts.st_uid} with mode {stat.S_IMODE(facts.st_mode):04o}: it must "
                f"belong to user "
                f"{os.geteuid()}, and nobody else may write to it (chmod 700)",
            )

    @staticmethod
    def refusal(path: str, why: str) -> SnapshotError:
        """An error that says which file or directory, and why."""
        return SnapshotError(f"{path} {why}", path=path)

    def of(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """The files in it, sorted."""
        return sorted(system.listdir(self.descriptor))

    def create(self, name: str) -> NewFile:
        """A new file, not yet under its name.

        Raises:
            OSError: it cannot be made.
        """
        return NewFile(self, name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            system.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass

    def sync(self) -> None:
        """Make names durable.

        Raises:
            OSError: the disk fails.
        """
        system.fsync(self.descriptor)

    def sweep(self, of: Callable[[str], bool]) -> None:
        """Remove what killed processes left under temporary names.

        Args:
            of: whether nobody can be writing the file with this name, that it did not get, any more.
        """
        for name in self.names():
            if name.endswith(_TEMPORARY) and of(name[: -_RANDOM - len(_TEMPORARY)]):
                self.remove(name)

    def open(self, name: str) -> OwnFile:
        """A file to read, by this one descriptor (PER-03); the caller closes it.

        Raises:
            SnapshotError: a symbolic link, not a regular file, of another user, readable by others, with
                another name (hard link), or it cannot be opened.
        """
        path = self.of(name)
        try:
            descriptor = system.open(name, _READ, dir_fd=self.descriptor)
        except OSError as error:
            symbolic = error.errno == errno.ELOOP
            why = "is a symbolic link: remove it" if symbolic else f"cannot be read: {error.strerror}"
            raise self.refusal(path, why) from error
        try:
            facts = system.fstat(descriptor)
            self._require_own(path, facts)
        except BaseException:
            system.close(descriptor)
            raise
        return OwnFile(path, descriptor, facts.st_size)

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            SnapshotError: as `open`, or it cannot be read.
        """
        file = self.open(name)
        try:
            return file.read(0, file.size)
        finally:
            file.close()

    def _require_own(self, path: str, facts: os.stat_result) -> None:
        if not stat.S_ISREG(facts.st_mode):
            raise self.refusal(path, "is not a regular file: remove it")
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise self.refusal(
                path,
                f"belongs to user {facts.st_uid} with mode {stat.S_IMODE(facts.st_mode):04o}: it must be "
                f"of user "
                f"{os.geteuid()} with mode 0600; if you put it there, chown and chmod it",
            )
        if facts.st_nlink != 1:
            raise self.refusal(path, f"has {facts.st_nlink} names (hard links): copy it, and remove the links")
        if facts.st_size > _SIZE_MOST:
            raise self.refusal(path, f"has {facts.st_size} bytes: no snapshot is as large")

    def close(self) -> None:
        """Give up the descriptor; a second time is fine."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
