"""A session as a mapping, what save() sees, what is told of it."""

import datetime as dt
import decimal
import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import sessile
from sessile.testing import advance

MakeStore = Callable[..., sessile.Store]

# ---- a mapping ----


def test_it_behaves_as_a_dict_does(store: sessile.Store) -> None:
    session = store.create({"a": 1, "b": [2]})
    session["c"] = 3
    assert list(session) == ["a", "b", "c"]
    assert len(session) == 3
    assert ("a" in session, "x" in session, 7 in session) == (True, False, False)
    assert (session.get("a"), session.get("x"), session.get("x", 9)) == (1, None, 9)
    assert list(session.items()) == [("a", 1), ("b", [2]), ("c", 3)]
    assert list(session.values()) == [1, [2], 3]
    assert list(session.keys()) == ["a", "b", "c"]
    assert session.pop("a") == 1
    assert session.pop("a", "gone") == "gone"
    assert session.setdefault("b", []) == [2]
    session.setdefault("list", []).append("kept")
    assert session["list"] == ["kept"]
    session.update({"d": 4}, e=5)
    del session["d"]
    with pytest.raises(KeyError):
        del session["d"]
    with pytest.raises(KeyError):
        session["d"]
    with pytest.raises(KeyError):
        session[7]
    assert dict(session) == session.copy() == {"b": [2], "c": 3, "list": ["kept"], "e": 5}
    session.save()
    assert dict(store.load(session.id)) == {"b": [2], "c": 3, "list": ["kept"], "e": 5}


def test_a_removed_field_can_come_back(store: sessile.Store) -> None:
    session = store.create({"a": 1, "b": 2})
    del session["a"]
    assert list(session) == ["b"]
    session["a"] = 7
    assert session["a"] == 7
    assert len(session) == 2
    session.save()
    assert dict(store.load(session.id)) == {"a": 7, "b": 2}


def test_names_are_text(store: sessile.Store) -> None:
    session = store.create()
    for name in (1, b"a", None, ("a",)):
        with pytest.raises(TypeError, match="must be str"):
            session[name] = 1

    class Text(str):
        __slots__ = ()

    with pytest.raises(TypeError):
        session[Text("a")] = 1
    assert len(session) == 0


def test_json_fails_rather_than_lie(store: sessile.Store) -> None:
    """A lazy subclass of dict gives {} here: C code reads its empty storage."""
    session = store.create({"a": 1})
    with pytest.raises(TypeError):
        json.dumps(session)
    assert json.dumps(dict(session)) == '{"a": 1}'


def test_equality_is_identity(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    other = store.load(session.id)
    assert session == session
    assert session != other
    assert session != {"a": 1}
    assert len({session, other}) == 2


def test_truth(store: sessile.Store) -> None:
    """Stored, owned, or has a field."""
    session = store.open()
    assert not session
    session["a"] = 1
    assert session
    del session["a"]
    assert not session
    assert store.create()
    session = store.create()
    session.destroy()
    assert not session


def test_it_is_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match=r"store\.open"):
        sessile.Session()


def test_attributes_cannot_be_invented(store: sessile.Store) -> None:
    session = store.create()
    with pytest.raises(AttributeError):
        session.user = "alice"
    for name in ("id", "owner", "handle", "created", "is_new"):
        with pytest.raises(AttributeError):
            setattr(session, name, "x")


def test_there_are_no_reserved_field_names(store: sessile.Store) -> None:
    """STO-08: owner and times are no fields, so no field can pretend to be them (WSTG-SESS-08)."""
    names = {"owner": "root", "id": 1, "handle": 2, "created": 3, "": 4, "authenticated_at": 5, "$": 6}
    session = store.create(names)
    loaded = store.load(session.id)
    assert dict(loaded) == names
    assert (loaded.owner, loaded.authenticated_at, loaded.fresh(1000)) == (None, None, False)


# ---- values ----

VALUES = [
    None, True, False, 0, -1, 2**63, -(2**70), 1.5, float("inf"), "", "text", "ü\0", b"", b"\xff\0", [],
    [1, [2]], {}, {"a": {"b": [1]}}, {1: "one", "1": "text"}, (), (1, (2,), [3]), set(), {1, "a", b"b"},
    frozenset({1}), frozenset(),
    dt.datetime(2026, 1, 2, 3, 4, 5, 6), dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), dt.date(2026, 1, 2),
    dt.time(1, 2, 3), dt.timedelta(days=-1, microseconds=5), decimal.Decimal("1.10"), uuid.UUID(int=7),
]  # fmt: skip


def kinds(value: Any) -> Any:
    """The value with all its types."""
    if isinstance(value, dict):
        return dict, [(kinds(key), kinds(member)) for key, member in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [kinds(member) for member in value]
    return type(value), value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_keeps_its_type(store: sessile.Store, value: Any) -> None:
    session = store.create({"x": value})
    assert kinds(store.load(session.id)["x"]) == kinds(value)
    session["x"] = [value]
    session.save()
    assert kinds(store.load(session.id)["x"]) == kinds([value])


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_reading_is_never_a_write(store: sessile.Store, value: Any) -> None:
    session = store.load(store.create({"x": value}).id)
    assert kinds(session["x"]) == kinds(value)
    assert session.save() is False


@pytest.mark.parametrize(
    ("value", "error", "path"),
    [
        (object(), TypeError, "$.x"),
        ([1, {"a": object()}], TypeError, "$.x[1].a"),
        ({1.5: 1}, TypeError, "$.x"),
        ({True: 1}, TypeError, "$.x"),
        (type("Sub", (dict,), {})(), TypeError, "$.x"),
        ("\ud800", ValueError, "$.x"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_at_the_save(
    store: sessile.Store, value: Any, error: type[Exception], path: str
) -> None:
    session = store.create({"a": 1, "b": [1]})
    session["a"] = 2
    session["x"] = value
    with pytest.raises(error, match=re.escape(path)):
        session.save()
    assert dict(store.load(session.id)) == {"a": 1, "b": [1]}
    del session["x"]
    session.save()
    assert dict(store.load(session.id)) == {"a": 2, "b": [1]}


def test_a_value_that_contains_itself_or_is_too_deep_is_refused(store: sessile.Store) -> None:
    session = store.create()
    loop: list[Any] = []
    loop.append(loop)
    session["x"] = loop
    with pytest.raises(ValueError, match="itself"):
        session.save()
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    session["x"] = deep
    with pytest.raises(ValueError, match="deep"):
        session.save()
    assert dict(store.load(session.id)) == {}


# ---- what save() sees ----


def test_save_writes_what_changed_and_says_whether(store: sessile.Store) -> None:
    session = store.load(store.create({"a": 1, "cart": ["book"]}).id)
    assert session.save() is False
    session["a"] = 2
    assert session.save() is True
    assert session.save() is False
    session["cart"].append("pen")
    assert session.save() is True
    assert session.save() is False
    del session["a"]
    assert session.save() is True
    assert dict(store.load(session.id)) == {"cart": ["book", "pen"]}


CHANGES: list[tuple[Any, Callable[[Any], Any]]] = [
    ([1], lambda value: value.append(2)),
    ({"a": 1}, lambda value: value.update(b=2)),
    ({1}, lambda value: value.add(2)),
    (([1],), lambda value: value[0].append(2)),
    ([{"a": [{"b": 1}]}], lambda value: value[0]["a"][0].update(b=2)),
    ({"a": {1}}, lambda value: value["a"].clear()),
    ([1, 2], lambda value: value.reverse()),
]


def test_popitem_takes_the_last_field_as_a_dict_does(store: sessile.Store) -> None:
    session = store.create({"a": 1, "b": 2})
    session["c"] = 3
    assert [session.popitem() for _ in range(3)] == [("c", 3), ("b", 2), ("a", 1)]
    with pytest.raises(KeyError):
        session.popitem()


@pytest.mark.parametrize(("value", "change"), CHANGES, ids=lambda each: repr(each)[:20])
def test_a_change_in_place_is_seen_without_any_flag(
    store: sessile.Store, value: Any, change: Callable[[Any], Any]
) -> None:
    """Starlette and Spring Session lose it; Django and Flask want a flag."""
    session = store.load(store.create({"x": value, "y": 1}).id)
    change(session["x"])
    assert session.save() is True
    assert store.load(session.id)["x"] == session["x"] != value


def test_a_value_can_be_changed_after_it_was_assigned(store: sessile.Store) -> None:
    session = store.create()
    session["cart"] = cart = []
    cart.append("book")
    assert session["cart"] is cart
    session.save()
    cart.append("pen")
    assert session.save() is True
    assert store.load(session.id)["cart"] == ["book", "pen"]


def test_in_place_changes_that_cancel_out_are_no_change(store: sessile.Store) -> None:
    session = store.load(store.create({"x": [1]}).id)
    session["x"].append(2)
    session["x"].pop()
    assert session.save() is False


def test_a_set_is_the_same_in_any_order(store: sessile.Store) -> None:
    session = store.create({"x": {"a", "b", "c", 1, 2, 3}})
    session["x"] = {3, 2, 1, "c", "b", "a"}
    assert session.save() is False


def test_saving_nothing_looks_nothing_up(store: sessile.Store) -> None:
    session = store.load(store.create({"a": 1, "x": []}).id)
    assert (session["a"], session["x"]) == (1, [])
    other = store.load(session.id)
    other.destroy()
    assert session.save() is False


def test_assigning_what_is_stored_writes_nothing(store: sessile.Store) -> None:
    session = store.load(store.create({"a": 1}).id)
    session["a"] = 1
    assert session.save() is False
    assert session.save(strict=True) is False


def test_a_new_session_is_stored_at_its_first_save(store: sessile.Store) -> None:
    session = store.open()
    assert session.save() is False
    assert store.stats().sessions == 0
    session["a"] = 1
    assert session.id is None
    assert session.save() is True
    assert session.id is not None
    assert session.handle is not None
    assert session.is_new
    assert dict(store.load(session.id)) == {"a": 1}
    assert session.save() is False


def test_a_new_session_that_was_emptied_again_is_not_stored(store: sessile.Store) -> None:
    """STO-11."""
    session = store.open()
    session["a"] = 1
    del session["a"]
    assert session.save() is False
    assert store.stats().sessions == 0


def test_a_save_that_empties_an_anonymous_session_removes_it(store: sessile.Store) -> None:
    """STO-11, CVE-2018-1000519: an emptied session is absent, never a valid empty record."""
    session = store.create({"a": 1})
    id = session.id
    del session["a"]
    assert session.save() is True
    assert store.load(id) is None
    assert store.stats().sessions == 0
    assert (session.id, session.handle) == (None, None)
    session["b"] = 1
    assert session.save() is True
    assert session.id not in (None, id)
    assert store.load(id) is None


def test_an_owned_session_may_be_empty(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    del session["a"]
    assert session.save() is True
    assert store.load(session.id).owner == "alice"


def test_a_block_saves_at_its_end(store: sessile.Store) -> None:
    with store.open() as session:
        session["a"] = 1
    assert store.load(session.id)["a"] == 1
    with store.load(session.id) as loaded:
        loaded["a"] = 2
    assert store.load(session.id)["a"] == 2


def test_a_block_that_an_exception_leaves_saves_nothing(store: sessile.Store) -> None:
    with pytest.raises(ZeroDivisionError), store.open() as session:
        session["a"] = 1 // 0
    session = store.open()
    session["a"] = 1
    with pytest.raises(KeyError), session:
        session["absent"]
    assert store.stats().sessions == 0


def test_a_block_in_which_the_session_ends_is_fine(store: sessile.Store) -> None:
    id = store.create({"a": 1}).id
    with store.open(id) as session:
        session["a"] = 2
        session.destroy()
    assert store.load(id) is None
    assert store.stats().sessions == 0


def test_over_the_limit_nothing_is_changed(make_store: MakeStore) -> None:
    """STO-05."""
    store = make_store(max_session_size=200)
    session = store.create({"a": "x" * 100})
    session["b"] = "y" * 150
    with pytest.raises(sessile.SessionTooLarge) as caught:
        session.save()
    assert caught.value.limit == 200 < caught.value.size
    for attempt in (
        lambda: session.login("alice", keep=True),
        lambda: session.update_field("c", lambda value: "z" * 300, default=None),
    ):
        with pytest.raises(sessile.SessionTooLarge):
            attempt()
    loaded = store.load(session.id)
    assert (dict(loaded), loaded.owner) == ({"a": "x" * 100}, None)


# ---- reload, clear, end ----


def test_reload_gives_what_is_stored(store: sessile.Store) -> None:
    session = store.create({"a": 1, "x": [1]})
    session["a"] = 9
    session["b"] = 9
    session["x"].append(9)
    other = store.load(session.id)
    other["c"] = 3
    other.save()
    session.reload()
    assert dict(session) == {"a": 1, "x": [1], "c": 3}
    assert session.save() is False


def test_reload_of_a_session_that_is_not_stored_empties_it(store: sessile.Store) -> None:
    session = store.open()
    session["a"] = 1
    session.reload()
    assert dict(session) == {}


def test_reload_of_a_session_that_ended(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    store.load(session.id).destroy()
    with pytest.raises(sessile.SessionGone):
        session.reload()
    assert dict(session) == {}


def test_clear_empties(store: sessile.Store) -> None:
    session = store.create({"a": 1, "b": [2]})
    id = session.id
    session["b"].append(3)
    session.clear()
    assert (dict(session), len(session), "a" in session, session.get("b")) == ({}, 0, False, None)
    session["c"] = 4
    assert dict(session) == {"c": 4}
    assert dict(store.load(id)) == {"a": 1, "b": [2]}
    assert session.save() is True
    assert session.id == id
    assert dict(store.load(id)) == dict(session) == {"c": 4}


def test_clear_and_save_removes_an_anonymous_session(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    id = session.id
    session.clear()
    assert session.save() is True
    assert store.load(id) is None
    assert session.id is None


def test_clear_takes_along_what_others_added(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    other = store.load(session.id)
    session.clear()
    session["kept"] = 1
    other["b"] = 2
    other.save()
    session.save()
    assert dict(store.load(session.id)) == {"kept": 1}


def test_clear_of_an_owned_session_ends_it(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    id = session.id
    session.clear()
    assert (session.owner, session.id, dict(session)) == (None, None, {})
    assert store.load(id) is None
    session["b"] = 1
    session.save()
    assert session.id not in (None, id)
    assert session.owner is None


def test_clear_before_the_first_save(store: sessile.Store) -> None:
    session = store.open()
    session.set_timeouts(idle=77)
    session["a"] = 1
    session.clear()
    assert session.save() is False
    session["b"] = 1
    session.save()
    assert 76 < session.remaining <= 77


def test_destroy_ends_it_for_good(store: sessile.Store) -> None:
    """LIF-11, and idempotent."""
    session = store.create({"a": 1}, owner="alice")
    id, handle = session.id, session.handle
    session.destroy()
    session.destroy()
    assert store.load(id) is None
    assert (session.id, session.handle) == (id, handle)
    assert (session.owner, dict(session), session.alive(), session.remaining) == (None, {}, False, 0.0)
    writes: list[Callable[[], Any]] = [
        lambda: session.__setitem__("a", 1),
        lambda: session.__delitem__("a"),
        lambda: session.update_field("a", lambda a: a, default=1),
        lambda: session.set_timeouts(idle=5),
        lambda: session.login("bob"),
        session.save,
        session.rotate,
        session.clear,
        session.reload,
    ]
    for write in writes:
        with pytest.raises(sessile.SessionGone) as caught:
            write()
        assert caught.value.handle == handle
    assert store.stats().sessions == 0


def test_logout_ends_it_and_goes_on_as_a_new_one(store: sessile.Store) -> None:
    session = store.create({"a": 1}, owner="alice")
    id = session.id
    session.logout()
    assert store.load(id) is None
    assert (session.id, session.handle, session.owner, dict(session), session.is_new) == (
        None,
        None,
        None,
        {},
        True,
    )
    assert session.save() is False
    session["flash"] = "good bye"
    session.save()
    assert session.id not in (None, id)
    assert (store.load(session.id).owner, store.load(session.id)["flash"]) == (None, "good bye")


def test_logout_forgets_timeouts_too(store: sessile.Store) -> None:
    session = store.open()
    session.set_timeouts(idle=60)
    session.logout()
    session["a"] = 1
    session.save()
    assert session.remaining > 1799


def test_ending_what_has_ended_is_fine(store: sessile.Store) -> None:
    """LIF-11."""
    first = store.create()
    second, third = store.load(first.id), store.load(first.id)
    first.destroy()
    second.logout()
    third.destroy()
    fresh = store.open()
    fresh.logout()
    fresh.destroy()
    with pytest.raises(sessile.SessionGone):
        fresh["a"] = 1


@pytest.mark.parametrize(
    "end", ["destroy", "logout", "login", "rotate", "revoke", "revoke_all", "expire", "clear"]
)
@pytest.mark.parametrize("write", ["save", "update_field", "login", "rotate", "set_timeouts", "reload"])
def test_nothing_brings_a_session_back(store: sessile.Store, end: str, write: str) -> None:
    """CON-02, CVE-2025-46336: a slow request must not undo a log-out, as in Flask-Session."""
    session = store.create({"a": 1}, owner="alice")
    slow = store.load(session.id)
    if end == "revoke":
        store.revoke("alice")
    elif end == "revoke_all":
        store.revoke_all()
    elif end == "expire":
        advance(store, 3600)
    elif end == "login":
        session.login("bob")
    else:
        getattr(session, end)()
    alive = store.stats().sessions if end in ("login", "rotate") else 0
    slow["b"] = 2
    arguments = {"update_field": ("a", lambda a: a), "login": ("mallory",)}.get(write, ())
    keywords = {"idle": 5} if write == "set_timeouts" else {}
    with pytest.raises(sessile.SessionGone):
        getattr(slow, write)(*arguments, **keywords)
    assert (bool(slow), slow.owner, dict(slow), slow.alive()) == (False, None, {}, False)
    assert [info.owner for info in store.sessions()] == [session.owner] * alive


# ---- update_field ----


def test_update_field_works_on_what_is_stored(store: sessile.Store) -> None:
    session = store.create({"n": 1, "other": 1})
    slow = store.load(session.id)
    slow["n"] = 100
    slow["unsaved"] = 1
    session["n"] = 5
    session.save()
    assert slow.update_field("n", lambda n: n + 1) == 6
    assert slow["n"] == 6
    assert store.load(session.id)["n"] == 6
    assert "unsaved" not in store.load(session.id)
    assert slow.save() is True
    assert dict(store.load(session.id)) == {"n": 6, "other": 1, "unsaved": 1}


def test_update_field_with_and_without_a_default(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    with pytest.raises(KeyError):
        session.update_field("n", lambda n: n + 1)
    assert session.update_field("n", lambda n: n + 1, default=0) == 1
    assert session.update_field("list", lambda items: [*items, 1], default=[]) == [1]
    assert dict(store.load(session.id)) == {"a": 1, "n": 1, "list": [1]}
    stale = store.load(session.id)
    session.update_field("added", lambda n: 7, default=0)
    assert stale.update_field("added", lambda n: n + 1) == 8


def test_update_field_gives_its_function_a_copy_and_calls_it_again(store: sessile.Store) -> None:
    session = store.create({"x": [1]})
    other = store.load(session.id)
    seen = []

    def change(value: list[int]) -> list[int]:
        seen.append(list(value))
        if len(seen) == 1:
            other["x"] = [5]
            other.save()  # no lock is held while this runs (CON-04)
        value.append(9)
        return value

    assert session.update_field("x", change) == [5, 9]
    assert seen == [[1], [5]]
    assert store.load(session.id)["x"] == [5, 9]


def test_a_default_is_not_changed(store: sessile.Store) -> None:
    session = store.create()
    default: list[int] = []
    assert session.update_field("x", lambda value: value.append(1) or value, default=default) == [1]
    assert default == []


def test_update_field_that_fails_changes_nothing(store: sessile.Store) -> None:
    session = store.create({"n": 1})
    with pytest.raises(ZeroDivisionError):
        session.update_field("n", lambda n: 1 // 0)
    with pytest.raises(TypeError, match=re.escape("$.n")):
        session.update_field("n", lambda n: object())
    assert (session["n"], store.load(session.id)["n"]) == (1, 1)


def test_update_field_before_the_first_save(store: sessile.Store) -> None:
    session = store.open()
    with pytest.raises(KeyError):
        session.update_field("n", lambda n: n)
    assert session.update_field("n", lambda n: n + 1, default=0) == 1
    assert session.update_field("n", lambda n: n + 1) == 2
    assert store.stats().sessions == 0
    session.save()
    assert store.load(session.id)["n"] == 2


def test_a_value_of_update_field_can_be_changed_in_place_later(store: sessile.Store) -> None:
    session = store.create({"x": []})
    value = session.update_field("x", lambda x: [*x, 1])
    value.append(2)
    assert session.save() is True
    assert store.load(session.id)["x"] == [1, 2]


def test_update_field_after_clear(store: sessile.Store) -> None:
    session = store.create({"n": 1, "gone": 1})
    session.clear()
    assert session.update_field("n", lambda n: n + 1) == 2
    assert dict(session) == {"n": 2}
    session.save()
    assert dict(store.load(session.id)) == {"n": 2}


# ---- facts ----


def test_times(store: sessile.Store) -> None:
    before = dt.datetime.now(dt.timezone.utc)
    session = store.create(owner="alice")
    after = dt.datetime.now(dt.timezone.utc)
    slack = dt.timedelta(seconds=1, milliseconds=100)  # creation is kept to the second
    for moment in (session.created, session.last_used, session.authenticated_at):
        assert before - slack <= moment <= after + slack
        assert moment.tzinfo is dt.timezone.utc
    assert abs(session.expires - after - dt.timedelta(seconds=1800)) < slack
    assert 1798 < session.remaining <= 1800
    loaded = store.load(session.id)
    assert (loaded.created, loaded.authenticated_at) == (session.created, session.authenticated_at)
    assert loaded.created == loaded.created


def test_a_session_that_is_not_stored_has_no_times(store: sessile.Store) -> None:
    session = store.open()
    for name in (
        "created",
        "last_used",
        "expires",
        "authenticated_at",
        "remaining",
        "device",
        "owner",
        "handle",
        "id",
    ):
        assert getattr(session, name) is None
    assert (session.fresh(100), session.alive()) == (False, False)


def test_a_handle_has_sixteen_hexadecimal_digits(store: sessile.Store) -> None:
    handles = {store.create().handle for _ in range(200)}
    assert len(handles) == 200
    assert all(re.fullmatch(r"[0-9a-f]{16}", handle) for handle in handles)


def test_repr_names_the_handle_and_the_state(store: sessile.Store) -> None:
    session = store.open()
    assert "not stored" in repr(session)
    session["a"] = 1
    session.save()
    assert session.handle in repr(session)
    session.destroy()
    assert "ended" in repr(session)


def test_alive_looks_it_up(store: sessile.Store) -> None:
    """COK-15: for connections that live long."""
    session = store.create()
    other = store.load(session.id)
    assert other.alive()
    session.destroy()
    assert not other.alive()


def test_fresh_is_for_a_step_up(store: sessile.Store) -> None:
    """LIF-15."""
    session = store.create()
    assert not session.fresh(10_000)
    session.login("alice")
    assert session.fresh(300)
    assert session.fresh(dt.timedelta(minutes=5))
    advance(store, 299)
    assert session.fresh(302)
    advance(store, 10)
    assert not session.fresh(300)
    session.login("alice")
    assert session.fresh(300)
    for value in (0, -1, "x", None):
        with pytest.raises(ValueError, match="max_age"):
            session.fresh(value)
