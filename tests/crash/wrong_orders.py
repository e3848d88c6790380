# ruff: noqa: E501 (the lines of C that it quotes are longer)
"""Builds of the table with a wrong order of stores: the stepper must find each of them, or it proves nothing.

    python3 tests/crash/wrong_orders.py orders     the orders that the design depends on, each broken on purpose
    python3 tests/crash/wrong_orders.py mutants    every pair of adjacent statements that store, swapped

An edit names the lines that it changes, and fails loudly where they are no longer there. A mutant that nothing
notices must be of a kind of which no kill can tell the difference, or stand in EQUAL with the reason. The code under
test is a copy: production sources carry no switches for this.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c11", "-w", "-g", "-pthread"]
SEED = "20"
FEW = 5


@dataclass(frozen=True)
class Order:
    """A wrong order of stores: lines of one or more files and what stands there instead."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    scenes: tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """Two adjacent statements of a function, swapped."""

    file: str
    function: str
    first: str
    second: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.function, summary(self.first), summary(self.second))


ORDERS = (
    Order(
        "commit before payload",
        (
            (
                "shard.c",
                ("    memcpy(slot->payload, image->payload, record_payload_length(lengths));\n"
                "    record_order();\n"
                "    atomic_store_explicit(&slot->commit, commit, memory_order_release);\n"),
                ("    atomic_store_explicit(&slot->commit, commit, memory_order_release);\n"
                "    record_order();\n"
                "    memcpy(slot->payload, image->payload, record_payload_length(lengths));\n"),
            ),
        ),
        ("create", "update"),
    ),
    Order(
        "old freed before new committed",
        (
            (
                "shard.c",
                ("        commit_record(hold, arena_record(&hold->table->arena, to), image, version + 1);\n"
                "        supersede(hold, slot, to);\n"),
                ("        atomic_store_explicit(&old->commit, RECORD_DIRTY, memory_order_release);\n"
                "        record_order();\n"
                "        commit_record(hold, arena_record(&hold->table->arena, to), image, version + 1);\n"
                "        supersede(hold, slot, to);\n"),
            ),
        ),
        ("update",),
    ),
    Order(
        "index before commit, outside the write that seq announces",
        (
            (
                "shard.c",
                "    record = arena_record(arena, slot);\n    commit_record(hold, record, image, version);\n    grow_index(hold);\n",
                "    record = arena_record(arena, slot);\n    grow_index(hold);\n",
            ),
            (
                "shard.c",
                "    shard->entries++;\n    shard_file(hold, slot, record);\n    shard_seq_end(shard);\n    return SHARD_OK;\n",
                ("    shard->entries++;\n    shard_seq_end(shard);\n    record_order();\n    shard_seq_begin(shard);\n"
                "    commit_record(hold, record, image, version);\n    shard_file(hold, slot, record);\n"
                "    shard_seq_end(shard);\n    return SHARD_OK;\n"),
            ),
        ),
        ("create",),
    ),
    Order(
        "owner reference after the commit",
        (
            (
                "owner.c",
                ("    *answer = owner_add(hold, owner, prefix);\n"
                "    if (*answer == ARENA_NEED_PAGE && sweep(hold, call, SWEEP_WHEN_FULL))\n"
                "        *answer = owner_add(hold, owner, prefix);\n"),
                "    *answer = ARENA_OK;\n",
            ),
            (
                "table.c",
                "                *exceeds = owner_exceeds(&stripe, owner, table->policy.sessions_per_owner);\n",
                ("                (void)!owner_add(&stripe, owner, prefix);\n"
                "                *exceeds = owner_exceeds(&stripe, owner, table->policy.sessions_per_owner);\n"),
            ),
        ),
        ("create-owned",),
    ),
    Order(
        "child promoted before the parent is retired",
        (
            (
                "rotation.c",
                "    bool committed = added && retire(rotation, refusal);\n",
                ("    (void)!succession_promote(rotation->table, rotation->child, rotation->parent, "
                "rotation->call->wait_ms);\n"
                "    bool committed = added && retire(rotation, refusal);\n"),
            ),
        ),
        ("login", "rotate"),
    ),
    Order(
        "clean before it is wiped",
        (
            (
                "shard.c",
                ("    shard_wipe(record, size);\n    record_order();\n"
                "    atomic_store_explicit(&record->commit, 0, memory_order_release);\n    arena_give"),
                ("    atomic_store_explicit(&record->commit, 0, memory_order_release);\n    record_order();\n"
                "    shard_wipe(record, size);\n    arena_give"),
            ),
        ),
        ("remove",),
    ),
    Order(
        "seq announced after the first store",
        (
            (
                "shard.c",
                ("    shard_seq_begin(shard);\n    shard->lsn++;\n"
                "    atomic_store_explicit(&record->commit, RECORD_DIRTY, memory_order_release);\n    record_order();\n"),
                ("    shard->lsn++;\n"
                "    atomic_store_explicit(&record->commit, RECORD_DIRTY, memory_order_release);\n    record_order();\n"
                "    shard_seq_begin(shard);\n"),
            ),
        ),
        ("remove",),
    ),
    Order(
        "seq ended before the last store",
        (
            (
                "shard.c",
                "    shard_file(hold, to, new);\n}",
                "    shard_seq_end(hold->shard);\n    record_order();\n    shard_file(hold, to, new);\n}",
            ),
        ),
        ("update",),
    ),
    Order(
        "proven before the drain begins (T5)",
        (
            (
                "succession.c",
                ("    struct hold hold;\n    struct record *record;\n    struct retired retired;\n    struct image image;\n"
                "    size_t needed;\n"),
                ("    struct hold hold;\n    struct record *record;\n    struct retired retired;\n    struct image image;\n"
                "    size_t needed;\n"
                "    if (shard_enter(table, shard_number(table, child), call->wait_ms, &hold) != SESSILE_OK)\n"
                "        return false;\n"
                "    if (shard_find(&hold, child, &record) != 0)\n"
                "        atomic_fetch_or(&record->used, RECORD_PROVEN);\n"
                "    shard_leave(&hold);\n"),
            ),
        ),
        ("first",),
    ),
    Order(
        "recount marked done before it is",
        (
            (
                "recover.c",
                "        atomic_store(&header->sessions, sessions);\n        atomic_store(&header->anonymous, anonymous);\n",
                ("        atomic_store(&header->recount_due, 0);\n"
                "        atomic_store(&header->sessions, sessions);\n        atomic_store(&header->anonymous, anonymous);\n"),
            ),
        ),
        ("recount",),
    ),
    Order(
        "epoch of the shard before its records are killed",
        (
            (
                "shard.c",
                ("    shard_seq_begin(shard);\n"
                "    for (uint32_t unit = 0; arena_next_page(arena, hold->number, &unit, &page);)\n"
                "        for (uint32_t i = 0; i < page.slots; i++) {\n"),
                ("    shard_seq_begin(shard);\n"
                "    atomic_store_explicit(&shard->epoch, epoch, memory_order_release);\n    record_order();\n"
                "    for (uint32_t unit = 0; arena_next_page(arena, hold->number, &unit, &page);)\n"
                "        for (uint32_t i = 0; i < page.slots; i++) {\n"),
            ),
        ),
        ("reset",),
    ),
    Order(
        "a page lent before its further units are marked (A1)",
        (
            (
                "arena.c",
                ("        for (uint32_t i = 1; i < units; i++)\n"
                "            atomic_store_explicit(&directory[unit + i], TAIL | (uint64_t)i << 16, memory_order_relaxed);\n"),
                "",
            ),
            (
                "arena.c",
                "                              (uint64_t)units << 16 | (uint64_t)holder << 32, memory_order_release);\n",
                ("                              (uint64_t)units << 16 | (uint64_t)holder << 32, memory_order_release);\n"
                "        record_order();\n"
                "        for (uint32_t i = 1; i < units; i++)\n"
                "            atomic_store_explicit(&directory[unit + i], TAIL | (uint64_t)i << 16, memory_order_relaxed);\n"),
            ),
        ),
        ("create:12", "update:12", "update:27"),
    ),
    Order(
        "an owner's entry wiped while its key still names it",
        (
            (
                "owner.c",
                ("    atomic_store_explicit(&entry->key[0], 0, memory_order_release);\n    record_order();\n"
                "    system_wipe((void *)entry, sizeof *entry);\n    arena_give(&hold->table->arena, lists, holder, slot);\n"),
                # As a memset does that begins at the end.
                ("    system_wipe((uint8_t *)entry + 16, sizeof *entry - 16);\n    record_order();\n"
                "    system_wipe((void *)entry, sizeof *entry);\n    arena_give(&hold->table->arena, lists, holder, slot);\n"),
            ),
        ),
        ("compact:1",),
    ),
    Order(
        "a dead process's lock taken over without a repair",
        (("opening.c", "        shard_recover(table, number);\n}", "        (void)number;\n}"),),
        ("update",),
    ),
)

# Functions whose adjacent stores are swapped, by file, and the scenes that run through them: all that store into a table,
# though some store once, and have no pair.
# But for those that build one: nobody sees it before it is complete and has its name.
MUTATED: dict[str, dict[str, tuple[str, ...]]] = {
    "shard.c": {
        "retired_add": ("rotate",),
        "retired_remove": ("retired",),
        "count_record": ("create", "remove"),
        "reset": ("reset",),
        "commit_copy": ("create", "update"),
        "shard_insert": ("create", "evict"),
        "kill_record": ("remove", "update"),
        "supersede": ("update",),
        "shard_replace": ("update",),
        "shard_promote": ("login",),
        "shard_remove": ("remove",),
        "shard_wipe": ("remove",),
        "shard_clear_derived": ("reset", "take-over:65"),
        "unfile_record": ("remove", "retired"),
        "grow_index": ("doubling",),
        "refile": ("sweep:2", "sweep:3"),
        "fire": ("sweep:0", "retired:2"),
        "first_victim": ("make-room",),
        "shard_evict": ("evict:0", "evict:1"),
        "move": ("evacuate:0", "home"),
        "shard_evacuate_page": ("evacuate:0",),
        "shard_leave": ("remove",),
    },
    "recover.c": {
        "discard": tuple(f"take-over:{64 + state}" for state in (12, 16, 20, 24, 28, 32, 36, 40)),
        "shard_recover": ("update", "login", "take-over:3"),
        "shard_recount": ("recount",),
        "grow": ("take-over:65",),
        "enter": ("take-over:83", "take-over:85"),
        "examine": ("take-over:83", "take-over:90", "take-over:100"),
        "adopt": ("take-over:65", "take-over:90"),
    },
    "table.c": {
        "insert": ("create", "create-owned"),
        "end_located": ("remove",),
        "sessile_collect": ("collect",),
    },
    "listing.c": {"sessile_revoke_all": ("revoke-all",), "end_handle": ("revoke:8", "revoke:11")},
    "opening.c": {
        "add_key": ("attach",),
        "repair_pool": ("attach-unclean:65", "take-over:65"),
        "take_over": ("take-over:65", "take-over:122", "take-over:177"),
        "settle": ("attach-unclean:65",),
        "settle_next": ("attach-unclean:65", "attach-unclean:124"),
    },
    "process.c": {"own": ("attach", "attach-unclean:65"), "process_attach": ("attach",), "process_reap": ("take-over:65",)},
    "owner.c": {
        "obtain": ("create-owned:0", "create-owned:3"),
        "owner_add": ("create-owned:3", "create-owned:7"),
        "free_entry": ("list:0", "list:1", "list:2", "compact:1"),
        "tidy": ("list:2", "list:5", "list:8"),
        "move_entry": ("compact:0", "compact:1"),
        "grow": ("create-owned:0",),
        "drop": ("list:2",),
        "walk_place": ("list:2", "list:5"),
        "owner_walk": ("list:2", "list:5", "list:8"),
        "owner_claim": ("create-owned:3", "create-owned:9"),
        "owner_unclaim": ("login",),
        "evacuate_page": ("compact:0", "compact:1"),
        "owner_revoke": ("revoke:0", "revoke:5"),
        "end_one": ("revoke:0", "revoke:5"),
        "evict_prefix": ("login:15",),
        "owner_evict": ("login:15",),
        "entry_taken": ("take-over:120", "take-over:122", "compact:0"),
        "mark_chain": ("take-over:120", "take-over:122"),
        "wipe_small": ("compact:0", "compact:1"),
        "reset": ("reset",),
        "owner_recover": ("create-owned:7", "revoke:3", "take-over:120", "take-over:122", "take-over:124"),
    },
    "arena.c": {
        "lend": ("create", "update"),
        "arena_return_page": ("remove:1", "remove:6", "reset"),
        "arena_give": ("remove",),
        "pop_slot": ("create",),
        "list_add": ("create", "remove"),
        "list_remove": ("create", "remove"),
        "pool_end": ("create:12", "chunk"),
        "count_units": ("create:12", "remove:1"),
        "arena_unlist": ("evacuate:0", "compact:0"),
        "arena_relist": ("evacuate:0",),
        "arena_reserve": ("chunk",),
        "arena_rebuild_page": ("take-over:65", "take-over:90"),
        "arena_rebuild_units": ("take-over:65", "take-over:90"),
    },
    "rotation.c": {
        "attempt": ("login", "rotate"),
        "retire": ("rotate",),
        "add_child": ("login",),
        "forget_anonymous": ("login:0",),
        "after_commit": ("login:0", "login:15"),
        "sessile_end_theft": ("theft",),
    },
    "succession.c": {"succession_first": ("first",), "succession_promote": ("login",), "succession_drop": ("login",)},
    "room.c": {"room_leave": ("remove",), "advance_shard": ("sweep",), "retire_collect": ("retired",)},
    "index.c": {"index_grow": ("doubling",), "close_gap": ("remove:2",), "settle": ("doubling:1",)},
    "wheel.c": {"wheel_add": ("create",), "wheel_remove": ("remove",)},
}

# What may be stored in any order, because a kill finds seq odd and recovery makes it anew from the records.
DERIVED = re.compile(
    r"index_(insert|replace|remove|clear|grow)\(|unfile_record\(|shard_file\(|count_record\(|retired|forwarding|"
    r"->entries|->active|->(next|prev),|->tick|->next_fire|lists|\bpage->|pages\(arena\)|set_units\(|count_units\(|"
    r"list_(add|remove)\(|wheel|arena_rebuild_|shard_clear_derived\(|\bgrow\(|grow_index\(|->(sessions|anonymous), |"
    r"write_entry\(|settle\(|bitmap|heads|explicit\(link, (0|page)|in_use|->used_(anonymous_)?units|used\["
)
# Figures for people and hints: no decision stands on them.
FIGURES = re.compile(
    r"lsn|->(revoked|expired|evicted|created)\+\+|->revoked|->recoveries|->quarantined|->recovered|->count\b|->hand|->search|"
    r"note_use\(|->process_id|->attached_ms"
)
# What a record says: it counts only from its commit on.
PAYLOAD = re.compile(r"^(slot->|memcpy\((\(void \*\)&)?slot->|atomic_store_explicit\(&slot->used)")
# Stores between the mark of a dirty slot and that of a clean one.
WIPE = re.compile(r"^(system_wipe\((&?record->|record->digest)|atomic_store_explicit\(&record->used, 0)")
BOUNDARY = re.compile(r"(seq|pool)_(begin|end)\(|lock_release\(|_leave\(")
# Statements that store nothing into the table.
PRIVATE = re.compile(
    r"^(return|break|continue|goto|bool|const|struct|u?int\d+_t|_Atomic|enum|size_t|static|\}|refusal->|retired\.|"
    r"\*?(slot|done|freed|place|link|moved|moves|to|from|answer|status|sessions|anonymous|count|more|committed|added) [+]?= |"
    r"image\.|image->|atomic_store_explicit\(&rotation->image|memcpy\(image|image_(end|begin)|note_orphan|rotation->|recovery\.|hold->index|view\(|shard_view_index|"
    r"atomic_fetch_add\(&table->|shard_report\(|defer\(|recovery->|(atomic_store(_explicit)?\(&)?process->local->|void \*|walk->|hold->orphan_count|"
    r"arena_forget_order\()|\breturn\b|if \(record == other && arena_place|RECORD_RETIRED\) note_orphan|refusal->status = "
)


@dataclass(frozen=True)
class Equal:
    """Mutants that no kill can tell from the code, and why."""

    function: str
    first: str
    second: str
    reason: str

    def covers(self, mutant: Mutant) -> bool:
        function, first, second = mutant.key
        return function == self.function and self.first in first and self.second in second


ALONE = "needs another process in between; tests/c and the campaign have them"
LOCKS = "two locks that are never held at once: tests/c asserts the order of locks"
AGAIN = "the epoch is still the old one: whoever comes next empties it all again"
EQUAL = (
    Equal("reset", "system_wipe(", "arena_rebuild_page(", "the page goes back, and its links with it"),
    Equal("reset", "atomic_store_explicit(&shard->epoch", "shard_seq_end", AGAIN),
    Equal("reset", "atomic_store_explicit(&stripe->epoch", "seq_end", AGAIN),
    Equal("reset", "seq_begin(stripe)", "system_wipe(", AGAIN),
    Equal("shard_insert", "arena_give(", "shard_seq_end(", ALONE),
    Equal("succession_first", "atomic_fetch_or(", "shard_leave(", ALONE),
    Equal("shard_recover", "shard_seq_begin(", "recount_due", "nothing is changed yet"),
    Equal("obtain", "key[1], owner", "key[0], owner", "an entry without references is swept"),
    Equal("move_entry", "system_wipe(", "arena_give(", "recovery wipes what is free; the page goes back"),
    Equal("move_entry", "index_replace(", "key[0], 0", "the index is derived"),
    Equal("move_entry", "key[0], 0", "system_wipe(", "this memset begins at the front; the order with another is above"),
    Equal("owner_revoke", "revoking, 0", "tidy(", "an entry without references is freed either way"),
    Equal("arena_return_page", "lists->free", "pool_begin(", "the lists belong to the shard, and to its seq"),
    Equal("shard_leave", "lock_release(", "forget_parent(", LOCKS),
    Equal("room_leave", "shard_leave(", "room_settle(", LOCKS),
    Equal("advance_shard", "shard_leave(", "room_settle(", LOCKS),
    Equal("room_leave", "shard_advance(", "shard_leave(", ALONE),
    Equal("room_leave", "advance_shard(", "shard_recount(", "neither needs the other"),
    Equal("end_located", "shard_remove(", "room_leave(", ALONE),
    Equal("forget_anonymous", "shard_remove(", "room_leave(", ALONE),
    Equal("process_reap", "take_over(", "system_close(", ALONE),
    Equal("owner_claim", "sweep_own(", "sweep(hold, call, SWEEP_ENTRIES)", "both drop what is stale"),
    Equal("owner_claim", "SWEEP_ENTRIES", "SWEEP_WHEN_FULL", "both drop what is stale"),
    Equal("owner_claim", "SWEEP_WHEN_FULL", "owner_leave(", ALONE),
    Equal("owner_evict", "evict_prefix(", "owner_leave(", ALONE),
    Equal("owner_unclaim", "drop(", "tidy(", "an entry without references is swept"),
    Equal("owner_unclaim", "tidy(", "owner_leave(", ALONE),
    Equal("succession_drop", "shard_remove(", "shard_leave(", ALONE),
    Equal("sessile_end_theft", "memcpy(", "shard_leave(", ALONE),
    Equal("retire_collect", "retired", "shard_leave(", ALONE),
    Equal("retire_collect", "RECORD_RETIRED", "shard_leave(", ALONE),
    Equal("pool_end", "pool_seq", "lock_release(", ALONE),
    Equal("attempt", "drop_child", "succession_promote", "either the one or the other"),
)


def reason_of(mutant: Mutant) -> str | None:
    """Why the mutant is no fault, or None."""
    for equal in EQUAL:
        if equal.covers(mutant):
            return equal.reason
    first, second = mutant.key[1:]
    if FIGURES.search(first) or FIGURES.search(second):
        return "figures"
    if PAYLOAD.search(first) and PAYLOAD.search(second):
        return "both count only from the commit on"
    if WIPE.search(first) and WIPE.search(second):
        return "both between the marks of dirty and clean"
    derived = DERIVED.search(first), DERIVED.search(second)
    boundary = BOUNDARY.search(first) or BOUNDARY.search(second)
    return "derived, made anew by recovery" if any(derived) and not boundary else None


def summary(statement: str) -> str:
    """A statement on one line without blanks at its ends, as the table above names it."""
    return " ".join(statement.split())


def wraps() -> list[str]:
    """The linker's options, from the Makefile."""
    text = (ROOT / "tests/crash/Makefile").read_text()
    found = re.search(r"^WRAP := (.*)$", text, re.M)
    assert found
    return [f"-Wl,--wrap={name}" for name in found[1].split()]


class Bench:
    """A copy of the sources, changed and built into a stepper that is run."""

    def __init__(self, out: Path, compiler: str, level: str) -> None:
        self.compiler, self.level = compiler, level
        self.work = out / "wrong"
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(ROOT / "csrc", self.work / "csrc")
        variables = [f"CSRC={self.work}/csrc", f"OUT={self.work}", f"COMPILERS={compiler}", f"LEVELS={level}"]
        alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        command = ["make", "-s", "-j2", "-f", "tests/crash/Makefile", *variables, "build-stepper"]
        subprocess.run(command, cwd=ROOT, env=alone, check=True)
        self.objects = self.work / f"{compiler}{level}"

    def text(self, name: str) -> str:
        return (self.work / "csrc" / name).read_text()

    def build(self, changed: dict[str, str]) -> Path | None:
        """A stepper with these sources in place of the real ones, or None where they do not compile."""
        replaced = []
        for name, text in changed.items():
            source = self.work / "csrc" / name
            original = source.read_text()
            try:
                source.write_text(text)
                target = self.work / name.replace(".c", ".o")
                done = subprocess.run(
                    [self.compiler, self.level, *FLAGS, "-I", str(source.parent), "-c", "-o", str(target), str(source)],
                    capture_output=True,
                    check=False,
                )
            finally:
                source.write_text(original)
            if done.returncode != 0:
                return None
            replaced.append(target)
        names = {path.name for path in replaced}
        others = [path for path in sorted(self.objects.glob("*.o")) if path.name not in names]
        stepper = self.work / "stepper"
        link = [self.compiler, "-pthread", "-o", str(stepper), *map(str, [*others, *replaced]), *wraps(), "-lm"]
        subprocess.run(link, check=True)
        return stepper

    def catches(self, stepper: Path, scenes: tuple[str, ...], size: str) -> str | None:
        """The first finding of the stepper, or None where it finds nothing."""
        for scene in scenes:
            name, _, variant = scene.partition(":")
            command = [str(stepper), "--size", size, "--scene", name, "--form", "kill", "--seed", SEED]
            command += ["--work-every", "1"]
            try:
                done = subprocess.run(
                    [*command, "--variant", variant] if variant else command,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=600,
                )
            except subprocess.TimeoutExpired:
                return f"{scene}: it never ends"
            if done.returncode == 1:
                found = re.search(r"^FAILED (.*)$", done.stdout, re.M)
                return found[1] if found else "failures"
            if done.returncode != 0:
                ended = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                return f"{scene}: {ended}"
        return None


def apply(bench: Bench, order: Order) -> dict[str, str]:
    """The sources of an order, edited."""
    texts: dict[str, str] = {}
    for name, old, new in order.edits:
        text = texts.get(name) or bench.text(name)
        if text.count(old) != 1:
            sys.exit(f"{order.name}: csrc/{name} has these lines {text.count(old)} times, not once:\n{old}")
        texts[name] = text.replace(old, new)
    return texts


def try_orders(bench: Bench, orders: tuple[Order, ...], only: str | None) -> int:
    missed = 0
    if finding := bench.catches(bench.objects / "stepper", ("create", "update"), "short"):
        sys.exit(f"the code as it is fails: {finding}")
    for order in orders:
        if only and only not in order.name:
            continue
        stepper = bench.build(apply(bench, order))
        if stepper is None:
            sys.exit(f"{order.name}: does not compile")
        finding = bench.catches(stepper, order.scenes, "short")
        print(f"{'caught' if finding else 'MISSED'}  {order.name}: {finding or 'the stepper finds nothing'}", flush=True)
        missed += finding is None
    return missed


# ---- mutants ----


def function_body(text: str, name: str) -> tuple[int, int] | None:
    """Offsets of the lines between the braces of a function's definition."""
    found = re.search(rf"^[a-z][^\n;]*\b{name}\([^;{{]*\)\n\{{\n", text, re.M)
    if not found:
        return None
    return found.end(), text.index("\n}\n", found.end()) + 1


def statements(body: str) -> list[tuple[int, int, str]]:
    """Statements of all blocks: start, end and text, with the statement that an if or a loop governs in one piece."""
    pieces: list[tuple[int, int, str]] = []
    lines = body.splitlines(keepends=True)
    position, number = 0, 0
    while number < len(lines):
        start, text = position, lines[number]
        position += len(lines[number])
        number += 1
        stripped = text.strip()
        if not stripped or stripped.startswith(("/*", "*")) or stripped.endswith(("{", "}", ":")):
            continue
        while not text.rstrip().endswith((";", "{", "}")) and number < len(lines):
            text += lines[number]
            position += len(lines[number])
            number += 1
        if text.rstrip().endswith(";"):
            pieces.append((start, position, text))
    return pieces


def stores(statement: str) -> bool:
    text = summary(statement)
    return not PRIVATE.search(text) and ("(" in text or "=" in text or "++" in text or "--" in text)


def mutants_of(bench: Bench, file: str, function: str) -> Iterator[Mutant]:
    text = bench.text(file)
    where = function_body(text, function)
    if where is None:
        sys.exit(f"csrc/{file} has no function {function}() to mutate")
    body = text[where[0] : where[1]]
    pieces = [piece for piece in statements(body) if summary(piece[2]) != "record_order();"]
    for (start, end, first), (start2, end2, second) in pairwise(pieces):
        between = body[end:start2]
        if re.search(r"[{}]", between) or not (stores(first) and stores(second)):
            continue
        swapped = body[:start] + second + between + first + body[end2:]
        yield Mutant(file, function, first, second, text[: where[0]] + swapped + text[where[1] :])


def try_mutants(bench: Bench, size: str, only: str | None) -> int:
    missed = tried = caught = 0
    unused = set(EQUAL)
    for file, functions in MUTATED.items():
        for function, scenes in functions.items():
            if only and only != function:
                continue
            for mutant in mutants_of(bench, file, function):
                stepper = bench.build({file: mutant.source})
                if stepper is None:
                    continue
                tried += 1
                finding = bench.catches(stepper, scenes, size)
                reason = reason_of(mutant)
                unused -= {equal for equal in EQUAL if equal.covers(mutant)}
                caught += finding is not None
                missed += finding is None and reason is None
                verdict = "caught" if finding else "equal " if reason else "MISSED"
                first, second = mutant.key[1:]
                print(f"{verdict}  {file} {function}: {first}  <->  {second}: {finding or reason or '-'}", flush=True)
    for equal in () if only else unused:
        print(f"UNUSED  {equal.function}: no mutant any more of {equal.first} and {equal.second}")
    print(f"{tried} mutants, {caught} caught, {tried - caught - missed} equal, {missed} missed")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["orders", "mutants"])
    parser.add_argument("--out", type=Path, default=ROOT / "build/crash")
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--level", default="-O1")
    parser.add_argument("--size", default="short", help="of the stepper's runs on mutants")
    parser.add_argument("--only", help="one order or the mutants of one function")
    parser.add_argument("--few", action="store_true", help="only the first orders, which are those that every change may break")
    options = parser.parse_args()
    bench = Bench(options.out.resolve(), options.compiler, options.level)
    if options.what == "orders":
        return 1 if try_orders(bench, ORDERS[:FEW] if options.few else ORDERS, options.only) else 0
    return 1 if try_mutants(bench, options.size, options.only) else 0


if __name__ == "__main__":
    sys.exit(main())
