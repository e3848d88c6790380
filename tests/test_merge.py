"""Concurrent requests on one session: saves merge by field (CON-03)."""

from collections.abc import Callable
from typing import Any

import pytest

import sessile
from sessile.testing import advance

MakeStore = Callable[..., sessile.Store]


def two_of(
    store: sessile.Store, fields: dict[str, Any], **options: Any
) -> tuple[sessile.Session, sessile.Session]:
    """Two requests that loaded the same session."""
    id = store.create(fields, **options).id
    first, second = store.load(id), store.load(id)
    assert first is not None
    assert second is not None
    return first, second


def stored(store: sessile.Store, session: sessile.Session) -> dict[str, Any]:
    return dict(store.load(session.id))


def test_changes_of_different_fields_are_all_kept(store: sessile.Store) -> None:
    """Django's cache engine, Flask-Session, starsessions and Beaker lose one of them."""
    first, second = two_of(store, {"a": 1, "b": 1, "c": 1})
    first["a"] = 2
    second["b"] = 2
    assert first.save()
    assert second.save()
    assert stored(store, first) == {"a": 2, "b": 2, "c": 1}
    assert dict(second) == {"a": 2, "b": 2, "c": 1}


def test_of_one_field_the_later_save_wins(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1})
    second["a"] = "second"
    first["a"] = "first"
    second.save()
    first.save()
    assert stored(store, first) == {"a": "first"}


def test_the_later_save_wins_also_with_the_value_that_was_loaded(store: sessile.Store) -> None:
    """Somebody turns a switch on, somebody else turns it off, later."""
    first, second = two_of(store, {"switch": False})
    first["switch"] = True
    first.save()
    second["switch"] = False
    assert second.save() is True
    assert stored(store, first) == {"switch": False}


def test_removed_and_added_fields_merge(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1, "b": 1})
    del first["a"]
    second["c"] = 1
    first.save()
    second.save()
    assert stored(store, first) == {"b": 1, "c": 1}


def test_a_removed_field_that_another_changed(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1, "b": 1})
    del first["a"]
    second["a"] = 2
    first.save()
    second.save()
    assert stored(store, first) == {"b": 1, "a": 2}
    first.reload()
    del first["a"]
    second["a"] = 3
    second.save()
    first.save()
    assert stored(store, first) == {"b": 1}


def test_changes_in_place_merge(store: sessile.Store) -> None:
    first, second = two_of(store, {"cart": ["book"], "seen": []})
    first["cart"].append("pen")
    second["seen"].append("page")
    assert second["cart"] == ["book"]
    first.save()
    second.save()
    assert stored(store, first) == {"cart": ["book", "pen"], "seen": ["page"]}


def test_a_value_read_before_another_changed_it_is_not_written_back(store: sessile.Store) -> None:
    first, second = two_of(store, {"cart": ["book"]})
    assert second["cart"] == ["book"]
    first["cart"].append("pen")
    first.save()
    second["x"] = 1
    second.save()
    assert stored(store, first) == {"cart": ["book", "pen"], "x": 1}
    assert second.save() is False


def test_a_change_in_place_after_a_merge_is_not_lost(store: sessile.Store) -> None:
    first, second = two_of(store, {"cart": ["book"]})
    cart = second["cart"]
    first["cart"].append("pen")
    first.save()
    second["x"] = 1
    second.save()
    cart.append("late")
    assert second.save() is True
    assert stored(store, first)["cart"] == ["book", "late"]


def test_plain_values_are_fresh_after_a_merge(store: sessile.Store) -> None:
    first, second = two_of(store, {"n": 1})
    assert second["n"] == 1
    first["n"] = 2
    first.save()
    second["x"] = 1
    second.save()
    assert second["n"] == 2


def test_a_plain_value_that_was_saved_is_not_written_again(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 0})
    first["a"] = 1
    first.save()
    second["a"] = 2
    second.save()
    first["b"] = 1
    first.save()
    assert stored(store, first) == {"a": 2, "b": 1}
    assert first["a"] == 2


def test_a_field_of_update_field_is_not_written_again(store: sessile.Store) -> None:
    first, second = two_of(store, {"n": 0, "list": []})
    first["n"] = 5
    first["list"] = [5]
    first.update_field("n", lambda n: n + 1)
    first.update_field("list", lambda items: [*items, 1])
    second.update_field("n", lambda n: n + 1)
    second.update_field("list", lambda items: [*items, 2])
    first["x"] = 1
    first.save()
    assert stored(store, first) == {"n": 2, "list": [1, 2], "x": 1}


def test_what_a_log_in_dropped_leaves_nothing_behind(store: sessile.Store) -> None:
    first, second = two_of(store, {"cart": ["book"]})
    assert second["cart"] == ["book"]
    first["cart"].append("pen")
    first.save()
    second["x"] = 1
    second.save()
    second.login("alice")
    other = store.load(second.id)
    other["cart"] = ["new"]
    other.save()
    second["y"] = 1
    second.save()
    assert second["cart"] == ["new"]
    other["cart"] = ["newer"]
    other.save()
    second["z"] = 1
    second.save()
    assert stored(store, second) == {"cart": ["newer"], "y": 1, "z": 1}


def test_strict_refuses_when_the_session_changed(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1, "b": 1})
    first["a"] = 2
    second["b"] = 2
    first.save(strict=True)
    with pytest.raises(sessile.Conflict) as caught:
        second.save(strict=True)
    assert caught.value.handle == second.handle
    assert stored(store, first) == {"a": 2, "b": 1}
    assert second["b"] == 2
    second.reload()
    second["b"] = 2
    assert second.save(strict=True) is True


def test_strict_ignores_what_is_no_change(store: sessile.Store) -> None:
    """A renewed deadline, other timeouts and a renewed id are no change."""
    first, second = two_of(store, {"a": 1}, owner="alice")
    advance(store, 600)
    assert store.load(first.id) is not None
    first.set_timeouts(idle=900)
    assert first._renew()
    second["a"] = 2
    assert second.save(strict=True) is True
    assert second.id == first.id


def test_a_change_and_its_undoing_are_no_change_for_strict(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1})
    first["a"] = 2
    first.save()
    first["a"] = 1
    first.save()
    second["b"] = 1
    assert second.save(strict=True) is True


def test_emptying_does_not_remove_what_another_added(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1})
    second["b"] = 1
    second.save()
    del first["a"]
    assert first.save() is True
    assert first.id == second.id
    assert stored(store, second) == {"b": 1}


def test_set_timeouts_stores_no_field_and_loses_none(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1})
    second["b"] = 1
    second.save()
    first["unsaved"] = 1
    first.set_timeouts(idle=100)
    assert stored(store, first) == {"a": 1, "b": 1}
    first.save()
    assert stored(store, first) == {"a": 1, "b": 1, "unsaved": 1}


def test_rotate_loses_no_change_of_another(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1})
    second["b"] = 1
    second.save()
    first["unsaved"] = 1
    first.rotate()
    assert stored(store, first) == {"a": 1, "b": 1}
    first.save()
    assert stored(store, first) == {"a": 1, "b": 1, "unsaved": 1}


def test_login_loses_no_change_of_another(store: sessile.Store) -> None:
    first, second = two_of(store, {"a": 1, "cart": [1]})
    second["cart"].append(2)
    second.save()
    first["unsaved"] = 1
    first.login("alice", keep=("cart", "unsaved"))
    assert stored(store, first) == {"cart": [1, 2], "unsaved": 1}


def test_no_update_is_lost_while_others_write(store: sessile.Store) -> None:
    """Each request changes its own field while all the others do, one step at a time."""
    id = store.create({"n": 0}).id
    requests = [store.load(id) for _ in range(30)]
    for number, request in enumerate(requests):
        request[f"field {number}"] = number
    for request in requests:
        request.update_field("n", lambda n: n + 1)
    for request in reversed(requests):
        request.save()
    assert stored(store, requests[0]) == {"n": 30} | {
        f"field {number}": number for number in reversed(range(30))
    }


def test_a_session_that_others_keep_changing_is_busy_in_the_end(make_store: MakeStore) -> None:
    store = make_store(busy_timeout=0.05)
    session, other = two_of(store, {"n": 0})

    def meddle(n: int) -> int:
        other["m"] = other.get("m", 0) + 1
        other.save()
        return n + 1

    with pytest.raises(sessile.Busy) as caught:
        session.update_field("n", meddle)
    assert caught.value.timeout == 0.05
    assert stored(store, session)["n"] == 0


@pytest.mark.parametrize("name", ["first", "middle", "ü" * 40, "last", "new"])
@pytest.mark.parametrize("value", ["text", "x" * 5000, -1, None, b"\x00", 1.5, [1, [2]], {"a": {"b": ()}}])
def test_one_changed_field_keeps_its_place_and_the_others_their_values(
    store: sessile.Store, name: str, value: object
) -> None:
    """A save of one field takes a way of its own: the same as if it had been stored so from the beginning."""
    before: dict[str, Any] = {"first": 1, "middle": ["a" * 300], "ü" * 40: {"k": 2}, "last": "end"}
    session = store.create(before)
    session[name] = value
    assert session.save()
    assert not session.save()
    loaded = store.load(session.id)
    assert loaded is not None
    assert list(dict(loaded).items()) == list((before | {name: value}).items())
    assert loaded._fields == store.create(before | {name: value})._fields


def test_one_changed_field_beside_one_that_was_read(store: sessile.Store) -> None:
    session = store.create({"cart": [1], "flash": "a"})
    session["cart"].append(2)
    session["flash"] = "b"
    assert session.save()
    session["flash"] = "c"
    session["cart"].append(3)
    assert session.save()
    assert stored(store, session) == {"cart": [1, 2, 3], "flash": "c"}


def test_one_changed_field_that_cannot_be_stored_leaves_all_as_it_was(store: sessile.Store) -> None:
    session = store.create({"a": 1})
    session["b"] = {"c": [object()]}
    with pytest.raises(TypeError, match=r"\$\.b\.c\[0\]"):
        session.save()
    assert stored(store, session) == {"a": 1}
    session["b"] = "x" * 70_000
    with pytest.raises(sessile.SessionTooLarge):
        session.save()
    del session["b"]
    session["a"] = 2
    assert session.save()
    assert stored(store, session) == {"a": 2}
