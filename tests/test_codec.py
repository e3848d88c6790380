"""The codec by example: the stored form byte by byte, what is refused and how, damaged bytes, the fields."""

import decimal
import enum
import gc
import pickle
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
import zoneinfo
from collections import OrderedDict, namedtuple
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from uuid import UUID

import pytest

from sessile import codec
from sessile.errors import SessileError, SessionTooLarge


def repr_of(value):
    return f"{type(value).__name__}"


def fixed(name=None, **offset):
    return timezone(timedelta(**offset)) if name is None else timezone(timedelta(**offset), name)


# The stored form. What stands here may lie in somebody's table: lines may be added, none may be changed.
STORED = [
    (None, "c0"),
    (False, "c2"),
    (True, "c3"),
    (0, "00"),
    (127, "7f"),
    (128, "cc80"),
    (255, "ccff"),
    (256, "cd0100"),
    (65_535, "cdffff"),
    (65_536, "ce00010000"),
    (2**32 - 1, "ceffffffff"),
    (2**32, "cf0000000100000000"),
    (2**63, "cf8000000000000000"),
    (2**64 - 1, "cfffffffffffffffff"),
    (-1, "ff"),
    (-32, "e0"),
    (-33, "d0df"),
    (-128, "d080"),
    (-129, "d1ff7f"),
    (-32_768, "d18000"),
    (-32_769, "d2ffff7fff"),
    (-(2**31), "d280000000"),
    (-(2**31) - 1, "d3ffffffff7fffffff"),
    (-(2**63), "d38000000000000000"),
    (2**64, "c7090a010000000000000000"),
    (-(2**63) - 1, "c7090aff7fffffffffffffff"),
    (2**127, "c7110a0080000000000000000000000000000000"),
    (-(2**127), "d80a80000000000000000000000000000000"),
    (0.0, "cb0000000000000000"),
    (-0.0, "cb8000000000000000"),
    (1.5, "cb3ff8000000000000"),
    (float("inf"), "cb7ff0000000000000"),
    (float("-inf"), "cbfff0000000000000"),
    ("", "a0"),
    ("a", "a161"),
    ("Grüße 🐚", "ac4772c3bcc39f6520f09f909a"),
    ("x" * 31, "bf" + "78" * 31),
    ("x" * 32, "d920" + "78" * 32),
    ("x" * 256, "da0100" + "78" * 256),
    ("x" * 65_536, "db00010000" + "78" * 65_536),
    (b"", "c400"),
    (b"\x00\xff", "c40200ff"),
    (b"x" * 256, "c50100" + "78" * 256),
    (b"x" * 65_536, "c600010000" + "78" * 65_536),
    ([], "90"),
    ([1, [2, "a"]], "92019202a161"),
    ([0] * 16, "dc0010" + "00" * 16),
    ([0] * 65_536, "dd00010000" + "00" * 65_536),
    ({}, "80"),
    ({"b": 1, "a": 2}, "82a16201a16102"),
    ({1: "one", -1: None, 2**63: True}, "8301a36f6e65ffc0cf8000000000000000c3"),
    (dict.fromkeys(range(16), 0), "de0010" + "".join(f"{n:02x}00" for n in range(16))),
    ((), "d40190"),
    ((1,), "d5019101"),
    ((1, (2,)), "c706019201d5019102"),
    (tuple(range(16)), "c71301dc0010" + "".join(f"{n:02x}" for n in range(16))),
    (("x" * 300,), "c8013001" + "91da012c" + "78" * 300),
    (("x" * 70_000,), "c90001117601" + "91db00011170" + "78" * 70_000),
    (set(), "d40290"),
    ({"b", "a", 3}, "c706029303a161a162"),
    (frozenset({2, 1}), "c70303920102"),
    (datetime(2026, 11, 23, 13, 5, 59, 999_999), "d70403f55dda2f7e847e"),
    (datetime(1, 1, 1, fold=1), "d7040000884000000001"),
    (datetime(2026, 11, 23, 13, 5, tzinfo=timezone.utc), "d70423f55dda28000000"),
    (
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=fixed(hours=-5, microseconds=1)),
        "c70d045387e7efdf600000fbcf1dcc01",
    ),
    (datetime(2026, 1, 2, tzinfo=fixed("CET", hours=1)), "d80463f508800000000000d693a400434554"),
    (date(2026, 11, 23), "d60507ea0b17"),
    (time(23, 59, 1, 5), "c705062fd820000a"),
    (time(0, 0, fold=1, tzinfo=timezone.utc), "c705064000000001"),
    (time(7, 30, tzinfo=fixed(minutes=-90)), "c70a068ef0000000febe228a00"),
    (time(7, 30, tzinfo=fixed("GMT")), "c70d06cef00000000000000000474d54"),
    (timedelta(days=-1, seconds=86_399, microseconds=7), "c70c07ffffffff0001517f00000007"),
    (Decimal("-0.00"), "c705082d302e3030"),
    (Decimal("1E+3"), "d60831452b33"),
    (Decimal("-Infinity"), "c709082d496e66696e697479"),
    (UUID("12345678-1234-5678-1234-567812345678"), "d809" + "12345678123456781234567812345678"),
]


def shape(value):
    """What a value is made of: its type, its members' types, and what == does not see."""
    if isinstance(value, (list, tuple)):
        return type(value), [shape(member) for member in value]
    if isinstance(value, dict):
        return dict, [(shape(key), shape(member)) for key, member in value.items()]
    if isinstance(value, (datetime, time)):
        return type(value), value.replace(tzinfo=None), value.fold, value.tzinfo, value.tzname()
    return type(value), value if value == value and not isinstance(value, (set, frozenset)) else None


class TestStoredForm:
    @pytest.mark.parametrize(("value", "stored"), STORED, ids=[repr(value)[:40] for value, _ in STORED])
    def test_each_type_is_stored_as_documented_and_comes_back(self, value, stored):
        assert codec.encode_value(value).hex() == stored
        again = codec.decode_value(bytes.fromhex(stored))
        assert again == value
        assert shape(again) == shape(value)

    @pytest.mark.parametrize(
        "text", ["NaN", "-NaN", "NaN123", "sNaN", "-sNaN9", "Infinity", "-0", "0E-7", "1E+999999"]
    )
    def test_decimals_keep_what_comparing_does_not_see(self, text):
        again = codec.decode_value(codec.encode_value(Decimal(text)))
        assert type(again) is Decimal
        assert again.as_tuple() == Decimal(text).as_tuple()

    @pytest.mark.parametrize("bits", ["7ff8000000000000", "fff8000000000000", "7ff8000000000123"])
    def test_floats_that_are_no_number_keep_every_bit(self, bits):
        (number,) = struct.unpack(">d", bytes.fromhex(bits))
        assert codec.encode_value(number).hex() == "cb" + bits
        assert struct.pack(">d", codec.decode_value(codec.encode_value(number))).hex() == bits

    def test_the_decimal_context_has_no_say(self):
        number = Decimal("12345678901234567890E+30")
        with decimal.localcontext() as context:
            context.capitals = 0
            context.prec = 3
            context.traps[decimal.Inexact] = True
            stored = codec.encode_value(number)
            again = codec.decode_value(stored)
        assert stored == codec.encode_value(number)
        assert again.as_tuple() == number.as_tuple()

    def test_sets_are_stored_in_an_order_of_their_own(self):
        members = [f"member-{n}" for n in range(100)]
        backwards = set()
        for member in reversed(members):
            backwards.add(member)
        assert codec.encode_value(set(members)) == codec.encode_value(backwards)
        assert (
            codec.encode_value([{3, 1}, {"b", "a"}]).hex() == "92" + "c703029201" + "03" + "c7050292a161a162"
        )

    def test_dicts_keep_their_order(self):
        value = {"z": 1, "a": {"y": 1, "b": 2}}
        again = codec.decode_value(codec.encode_value(value))
        assert list(again) == ["z", "a"]
        assert list(again["a"]) == ["y", "b"]

    def test_what_is_stored_is_a_copy(self):
        """STO-04: neither the value that was given nor one that was read leads to what is stored."""
        value = {"cart": ["book"]}
        stored = codec.encode_value(value)
        value["cart"].append("pen")
        first = codec.decode_value(stored)
        first["cart"].clear()
        assert codec.decode_value(stored) == {"cart": ["book"]}

    def test_importing_the_codec_imports_nothing_that_is_rarely_needed(self):
        """A program that stores plain values pays for neither `decimal`, `uuid` nor `zoneinfo`."""
        program = (
            "import sys; from sessile import codec\n"
            "from datetime import datetime, timezone\n"
            "codec.decode_value(codec.encode_value([1, 'a', (b'', {2.5}), datetime.now(timezone.utc)]))\n"
            "print('sessile.extension_types' in sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False"]


# ----------------------------------------------------------------------------------------------------------
# Time zones


def zone_file(rules):
    """A TZif file (RFC 8536) without transitions, whose footer holds the rules."""
    header = b"TZif2" + bytes(15) + struct.pack(">6L", 0, 0, 0, 0, 1, 4)
    body = struct.pack(">lbb", 0, 0, 0) + b"LMT\0"
    return header + body + header + body + b"\n" + rules.encode() + b"\n"


@pytest.fixture
def zones(tmp_path):
    """A folder that is the only source of time zones; a function that writes one."""

    def write(key, rules):
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zone_file(rules))
        zoneinfo.ZoneInfo.clear_cache()

    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[tmp_path])
    zoneinfo.ZoneInfo.clear_cache()
    yield write
    zoneinfo.reset_tzpath(to=before)
    zoneinfo.ZoneInfo.clear_cache()


CENTRAL = "CET-1CEST,M3.5.0,M10.5.0/3"


class TestTimeZones:
    def test_a_zone_is_kept_with_its_key(self, zones):
        zones("Test/Central", CENTRAL)
        zone = zoneinfo.ZoneInfo("Test/Central")
        for fold in (0, 1):
            moment = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=zone)
            again = codec.decode_value(codec.encode_value(moment))
            assert again.tzinfo is zone
            assert again == moment
            assert (again.fold, again.utcoffset()) == (fold, timedelta(hours=2 - fold))

    def test_the_stored_form_has_offset_and_key(self, zones):
        zones("Test/Central", CENTRAL)
        moment = datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Test/Central"))
        payload = codec.encode_value(moment)[3:]
        assert payload[0] >> 5 == 4
        assert int.from_bytes(payload[8:13], "big") == 2 * 3600 * 10**6
        assert payload[13:] == b"Test/Central"

    @pytest.mark.parametrize("later", [None, "EET-2EEST,M3.5.0,M10.5.0/3"])
    def test_where_the_zone_is_unknown_or_has_other_rules_the_moment_stays(self, zones, tmp_path, later):
        zones("Test/Central", CENTRAL)
        moment = datetime(2026, 7, 1, 9, tzinfo=zoneinfo.ZoneInfo("Test/Central"))
        at = moment.timestamp()
        stored = codec.encode_value(moment)
        (tmp_path / "Test" / "Central").unlink()
        zoneinfo.ZoneInfo.clear_cache()
        if later is not None:
            zones("Test/Central", later)
        again = codec.decode_value(stored)
        assert again.tzinfo == timezone(timedelta(hours=2))
        assert again.tzname() == "Test/Central"
        assert again.timestamp() == at
        assert again.replace(tzinfo=None) == datetime(2026, 7, 1, 9)

    @pytest.mark.parametrize(
        "key", ["../secret", "/etc/localtime", "", "a.b", "Europe/Börlin", "a\0b", "x" * 256]
    )
    def test_sto_03_a_damaged_key_opens_no_file(self, zones, key):
        """STO-03: a key that is read names a zone below the folders for zones, or nothing."""
        zones("Test/Central", CENTRAL)
        zones("a.b", CENTRAL)
        stored = codec.encode_value(datetime(2026, 7, 1, 9, tzinfo=zoneinfo.ZoneInfo("Test/Central")))
        payload = stored[3:].replace(b"Test/Central", key.encode())
        head = (
            b"\xc7" + bytes([len(payload)])
            if len(payload) < 256
            else b"\xc8" + struct.pack(">H", len(payload))
        )
        with pytest.raises(codec.DecodeError):
            codec.decode_value(head + b"\x04" + payload)

    def test_a_zone_without_a_key_is_refused(self, tmp_path):
        path = tmp_path / "zone"
        path.write_bytes(zone_file(CENTRAL))
        with path.open("rb") as file:
            zone = zoneinfo.ZoneInfo.from_file(file)
        with pytest.raises(TypeError, match=r"^\$\.at: .*ZoneInfo without an IANA key.*astimezone"):
            codec.encode_fields({"at": datetime(2026, 7, 1, tzinfo=zone)})

    def test_other_zone_classes_are_refused_and_never_asked(self):
        class Zone(tzinfo):
            def utcoffset(self, moment):
                raise AssertionError("asked")

        class Key(zoneinfo.ZoneInfo):
            pass

        for zone in (Zone(), Key.__new__(Key, "UTC")):
            with pytest.raises(TypeError, match=r"^\$: .*tzinfo is .*(Zone|Key).*fixed offset"):
                codec.encode_value(datetime(2026, 7, 1, tzinfo=zone))
            with pytest.raises(TypeError, match=r"^\$: .*tzinfo is .*(Zone|Key).*fixed offset"):
                codec.encode_value(time(7, tzinfo=zone))

    def test_a_time_in_a_zone_is_refused(self, zones):
        zones("Test/Central", CENTRAL)
        with pytest.raises(
            TypeError, match=r"^\$\[0\]: a time whose tzinfo is zoneinfo\.ZoneInfo .*fixed offset"
        ):
            codec.encode_value([time(7, tzinfo=zoneinfo.ZoneInfo("Test/Central"))])

    def test_the_name_of_a_zone_must_be_text(self):
        class Text(str):
            pass

        with pytest.raises(ValueError, match=r"^\$: .*lone surrogate"):
            codec.encode_value(datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=1), "\ud800")))
        with pytest.raises(TypeError, match=r"^\$: .*Text"):
            codec.encode_value(datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=1), Text("CET"))))


# ----------------------------------------------------------------------------------------------------------
# Refusals


class Money:
    pass


class Colour(enum.IntEnum):
    RED = 1


class Mood(str, enum.Enum):
    GOOD = "good"


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Bytes(bytes):
    pass


class List(list):
    pass


class Moment(datetime):
    pass


class Day(date):
    pass


class Span(timedelta):
    pass


class Amount(Decimal):
    pass


class Reduced:
    def __reduce__(self):
        raise AssertionError("asked")


Point = namedtuple("Point", "x y")

SUBCLASSES = [
    (Colour.RED, "Colour", "int"),
    (Mood.GOOD, "Mood", "str"),
    (Text("a"), "Text", "str"),
    (Number(1), "Number", "int"),
    (Real(1), "Real", "float"),
    (Bytes(b"a"), "Bytes", "bytes"),
    (List(), "List", "list"),
    (OrderedDict(), "collections.OrderedDict", "dict"),
    (Point(1, 2), "Point", "tuple"),
    (type("Tags", (set,), {})(), "Tags", "set"),
    (type("Fixed", (frozenset,), {})(), "Fixed", "frozenset"),
    (Moment(2026, 1, 1), "Moment", "datetime"),
    (Day(2026, 1, 1), "Day", "date"),
    (type("Clock", (time,), {})(7), "Clock", "time"),
    (Span(1), "Span", "timedelta"),
    (Amount(1), "Amount", "Decimal"),
    (type("Name", (UUID,), {})(int=1), "Name", "UUID"),
]
OTHERS = [
    Money(),
    Reduced(),
    object(),
    Money,
    len,
    1j,
    bytearray(b"a"),
    memoryview(b"a"),
    range(3),
    iter(()),
    ...,
]


class TestRefusals:
    @pytest.mark.parametrize(("value", "name", "base"), SUBCLASSES, ids=[name for _, name, _ in SUBCLASSES])
    def test_sto_03_a_subclass_is_refused_with_path_type_and_remedy(self, value, name, base):
        with pytest.raises(TypeError) as caught:
            codec.encode_fields({"cart": [{"price": value}]})
        text = str(caught.value)
        assert text.startswith("$.cart[0].price: ")
        assert name in text
        assert f"convert it to {base} first" in text

    @pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
    def test_sto_03_any_other_type_is_refused_with_path_type_and_remedy(self, value):
        with pytest.raises(TypeError) as caught:
            codec.encode_fields({"cart": ({"price": value},)})
        text = str(caught.value)
        assert text.startswith("$.cart[0].price: ")
        assert type(value).__name__ in text
        assert "convert it first to what can be: None, bool, int, float, str, bytes, list" in text

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            (Money(), "$"),
            ([0, Money()], "$[1]"),
            ((0, Money()), "$[1]"),
            ({"a": {"b": Money()}}, "$.a.b"),
            ({"two words": Money()}, "$['two words']"),
            ({"it's": [Money()]}, '$["it\'s"][0]'),
            ({"": Money()}, "$['']"),
            ({7: Money()}, "$[7]"),
            ({"größe": Money()}, "$.größe"),
            ({Money()}, "${…}"),
            ({"tags": {frozenset({(1, Money())})}}, "$.tags{…}{…}[1]"),
            ({"x" * 100: Money()}, "$." + "x" * 57 + "..."),
        ],
    )
    def test_paths_read_like_python(self, value, path):
        with pytest.raises(TypeError) as caught:
            codec.encode_value(value)
        assert str(caught.value).partition(": ")[0] == path

    def test_the_path_begins_where_the_caller_says(self):
        with pytest.raises(TypeError, match=r"^device\.name: "):
            codec.encode_value({"name": Money()}, "device")
        with pytest.raises(TypeError, match=r"^\$\.cart\[0\]: "):
            codec.encode_field("cart", [Money()])

    @pytest.mark.parametrize(
        "key", [True, None, 1.5, b"a", (1,), Text("a"), Number(1), Colour.RED, Mood.GOOD]
    )
    def test_sto_03_other_keys_are_refused(self, key):
        with pytest.raises(
            TypeError, match=r"^\$\.cart: a key is of type .*convert it to str or int first"
        ) as caught:
            codec.encode_fields({"cart": {"ok": 1, key: 2}})
        assert type(key).__name__ in str(caught.value)

    @pytest.mark.parametrize("key", [2**64, -(2**63) - 1, 1 << 20_000], ids=["positive", "negative", "huge"])
    def test_int_keys_have_at_most_64_bits(self, key):
        with pytest.raises(ValueError, match=r"^\$\.cart: a key is an int beyond 64 bits"):
            codec.encode_fields({"cart": {key: 2}})

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            ("\ud800", "$.a"),
            (["ok", "x\udfff"], "$.a[1]"),
            ({"\ud800": 1}, "$.a['\\ud800']"),
            ({"ok", "\ud800"}, "$.a{…}"),
        ],
    )
    def test_lone_surrogates_are_refused(self, value, path):
        with pytest.raises(ValueError, match="lone surrogate") as caught:
            codec.encode_fields({"a": value})
        assert str(caught.value).startswith(path + ": ")
        assert not isinstance(caught.value, UnicodeError)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    def test_messages_tell_nothing_of_the_content(self):
        """Messages go to logs: names and types, never what a field holds."""
        for value in (Text("secret"), Bytes(b"secret"), "secret\ud800", [Text("secret")]):
            with pytest.raises((TypeError, ValueError)) as caught:
                codec.encode_field("token", value)
            assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "base", [object, int, str, bytes, list, dict, tuple, set, frozenset, datetime, Decimal]
    )
    def test_sto_03_no_method_of_a_value_or_of_its_type_runs(self, base):
        def asked(*arguments):
            raise AssertionError("asked")

        names = [
            *(
                "__getattribute__",
                "__getattr__",
                "__eq__",
                "__lt__",
                "__iter__",
                "__len__",
                "__bool__",
                "__repr__",
            ),
            *(
                "__str__",
                "__int__",
                "__index__",
                "__bytes__",
                "__reduce__",
                "__reduce_ex__",
                "__getitem__",
                "keys",
            ),
        ]
        arguments = (2026, 1, 1) if base is datetime else ()
        plain = type("Plain", (base,), {})
        spy = base.__new__(plain, *arguments)

        class Meta(type):
            __instancecheck__ = __subclasscheck__ = __repr__ = __getattribute__ = mro_again = asked

        spy.__class__ = kind = Meta("Spy", (plain,), dict.fromkeys(names, asked))
        with pytest.raises(TypeError, match=r"^\$\[0\]: .*Spy cannot be stored"):
            codec.encode_value([spy])
        assert type(spy) is kind

    def test_sto_03_pickles_are_data(self):
        """STO-03: bytes that are a pickle come back as bytes; as a stored form they are refused."""
        pickled = pickle.dumps({"a": 1})
        assert codec.decode_value(codec.encode_value(pickled)) == pickled
        with pytest.raises(codec.DecodeError):
            codec.decode_value(pickled)

    def test_a_refusal_leaves_the_codec_as_it_was(self):
        value = {"a": [1, {2, 3}], "b": ("x",)}
        before = codec.encode_fields(value)
        for _ in range(3):
            with pytest.raises(TypeError):
                codec.encode_fields({**value, "c": Money()})
        assert codec.encode_fields(value) == before
        assert value == {"a": [1, {2, 3}], "b": ("x",)}


@pytest.mark.parametrize("value", [(1,), [(1,)], {"a": {1: 2}}, {1: 2}, {(1,)}])
def test_what_json_has_another_form_for_is_refused_on_demand(value: object) -> None:
    assert codec.decode_fields(codec.encode_fields({"a": value})) == {"a": value}
    with pytest.raises((TypeError, ValueError)):
        codec.encode_fields({"a": value}, as_json=True)
    plain = {"a": [None, True, 1, 1.5, "x", b"x", {"b": [{}]}], "c": datetime(2026, 7, 1)}
    assert codec.encode_fields(plain, as_json=True) == codec.encode_fields(plain)


def nested(kind, depth):
    value = kind([])
    for _ in range(depth - 1):
        value = {"a": value} if kind is dict else kind([value])
    return value


class TestLimits:
    @pytest.mark.parametrize("kind", [list, tuple, dict, frozenset])
    def test_sto_05_nesting_at_the_limit_and_beyond(self, kind):
        assert codec.NESTING_LIMIT == 32
        deepest = nested(kind, 32)
        stored = codec.encode_value(deepest)
        assert codec.decode_value(stored) == deepest
        assert codec.decode_fields(codec.encode_fields({"field": deepest})) == {"field": deepest}
        for encode in (codec.encode_value, lambda value: codec.encode_fields({"field": value})):
            with pytest.raises(ValueError, match=r"^\$.*: nested deeper than 32 levels"):
                encode(nested(kind, 33))

    def test_sto_05_deeper_bytes_are_refused_whatever_they_are_made_of(self):
        inner = codec.encode_value(nested(tuple, 32))
        for deeper in (b"\x91" + inner, b"\x81\x00" + inner, b"\x91" * 33, b"\x91" * 100_000 + b"\xc0"):
            with pytest.raises(codec.DecodeError):
                codec.decode_value(deeper)
        assert codec.decode_value(b"\x91" * 31 + b"\x90") == nested(list, 32)
        with pytest.raises(codec.DecodeError, match="nested too deep"):
            codec.decode_value(b"\x91" * 32 + b"\x90")

    def test_a_value_that_contains_itself_is_named(self):
        cart = {"items": [1]}
        cart["items"].append(cart)
        with pytest.raises(
            ValueError, match=r"^\$\.cart\.items\[1\]: is \$\.cart again, a value that contains itself"
        ):
            codec.encode_field("cart", cart)
        fields = {}
        fields["me"] = fields
        with pytest.raises(ValueError, match=r"^\$\.me: is \$ again, a value that contains itself"):
            codec.encode_fields(fields)

    def test_the_same_value_twice_is_fine(self):
        book = {"title": "Moby Dick"}
        assert codec.decode_value(codec.encode_value([book, book, (book, [book])])) == [
            book,
            book,
            (book, [book]),
        ]

    def test_sto_05_more_than_a_record_can_hold_is_refused_early(self):
        """STO-05: also where each list holds the one before a thousand times, which would never end."""
        largest = codec.encode_value(b"x" * (codec.SIZE_LIMIT - 5))
        assert len(largest) == codec.SIZE_LIMIT
        assert codec.decode_value(largest) == b"x" * (codec.SIZE_LIMIT - 5)
        endless = [0]
        for _ in range(20):
            endless = [endless] * 1000
        many = {(n, "x" * 70_000) for n in range(20)}
        for value in (
            b"x" * (codec.SIZE_LIMIT - 4),
            "x" * 2**21,
            endless,
            tuple(endless),
            many,
            1 << (2**23 + 9),
        ):
            with pytest.raises(SessionTooLarge) as caught:
                codec.encode_value(value)
            assert caught.value.limit == codec.SIZE_LIMIT
            assert caught.value.size > codec.SIZE_LIMIT

    def test_sto_05_a_set_that_is_too_large_is_refused_before_it_is_put_in_order(self):
        """STO-05: its members are kept until all are written, so they are counted meanwhile."""
        text = "x" * 70_000
        members = {(number, text) for number in range(200)}
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(SessionTooLarge):
                codec.encode_value(members)
            assert tracemalloc.get_traced_memory()[1] - before < 4 * codec.SIZE_LIMIT
        finally:
            tracemalloc.stop()

    def test_sto_05_names_have_at_most_255_bytes(self):
        assert codec.FIELD_NAME_LIMIT == 255
        for name in ("x" * 255, "ü" * 127 + "x"):
            stored = codec.encode_fields({name: 1})
            assert codec.decode_fields(stored) == {name: 1}
            assert codec.find_field(stored, name) == b"\x01"
        for name in ("x" * 256, "ü" * 128):
            for use in (
                lambda name=name: codec.encode_fields({name: 1}),
                lambda name=name: codec.encode_field(name, 1),
                lambda name=name: codec.join_fields({name: b"\x01"}),
                lambda name=name: codec.merge_fields(b"", {name: b"\x01"}),
            ):
                with pytest.raises(ValueError, match="takes 256 bytes, 255 are allowed"):
                    use()

    @pytest.mark.skipif(
        sys.version_info >= (3, 12), reason="the collector no longer runs within an allocation"
    )
    @pytest.mark.parametrize(
        ("victim", "fill"),
        [
            ([], lambda victim: victim.extend([{1}, {2}, {3}])),
            ({}, lambda victim: victim.update({"a": {1}, "b": {2}, "c": {3}})),
        ],
        ids=["list", "dict"],
    )
    def test_a_value_that_the_collector_changes_meanwhile_is_an_error(self, victim, fill):
        """The collector runs after so many allocations; for some number, that is while a set is written."""
        answers = set()
        threshold = gc.get_threshold()
        gc.callbacks.append(lambda phase, info: victim.clear())
        try:
            for number in range(1, 60):
                gc.disable()
                gc.collect(0)
                fill(victim)
                gc.set_threshold(number)
                gc.enable()
                try:
                    answers.add(codec.encode_value(victim))
                except RuntimeError as error:
                    answers.add(str(error))
        finally:
            gc.callbacks.pop()
            gc.enable()
            gc.set_threshold(*threshold)
        assert "$: changed while it was being stored" in answers

    def test_con_01_threads_that_change_a_value_meanwhile_crash_nothing(self):
        """A Session that two threads share may lose a change; it may not crash."""
        shared = {"list": list(range(50)), "dict": {}, "set": set()}
        stop = threading.Event()

        def change():
            turn = 0
            while not stop.is_set():
                turn += 1
                shared["list"][:] = [str(turn)] * (turn % 50)
                shared["dict"] = {str(key): [key] for key in range(turn % 30)}
                shared["dict"].pop("0", None)
                shared["set"].add(turn % 100)
                shared["set"].discard((turn + 50) % 100)

        threads = [threading.Thread(target=change) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2000):
                assert list(codec.decode_value(codec.encode_value(shared))) == ["list", "dict", "set"]
        finally:
            stop.set()
            for thread in threads:
                thread.join()


# ----------------------------------------------------------------------------------------------------------
# Damaged bytes

DAMAGED = {
    "nothing": "",
    "two values": "0000",
    "a tag that does not exist": "c1",
    "a float of 32 bits": "ca3fc00000",
    "an integer in a longer form": "cc7f",
    "a longer integer in a longer form": "cd00ff",
    "a negative integer in a longer form": "d0e0",
    "a negative integer that is none": "d001",
    "a large negative integer in a longer form": "d3ffffffff80000000",
    "text in a longer form": "d90161",
    "longer text in a longer form": "da0001" + "61",
    "bytes in a longer form": "c5000161",
    "a list in a longer form": "dc000100",
    "a map in a longer form": "de00010000",
    "an extension type in a longer form": "c7010190",
    "a UUID in a longer form": "c71009" + "00" * 16,
    "a larger extension type in a longer form": "c800030192" + "0102",
    "an integer cut short": "cd01",
    "text cut short": "a3" + "6162",
    "bytes cut short": "c40361",
    "a list cut short": "9201",
    "a map cut short": "8101",
    "an extension type cut short": "d70400",
    "an extension type without its code": "c703",
    "text that is no UTF-8": "a2c328",
    "text with a surrogate": "a3eda080",
    "longer text that is no UTF-8": "ac" + "61" * 11 + "80",
    "a key that is no UTF-8": "81a2c32800",
    "a key that is a float": "81cb3ff800000000000000",
    "a key that is bytes": "81c4016100",
    "a key that is a bool": "81c300",
    "a key that is None": "81c000",
    "a key that is a list": "819000",
    "a key that is a tuple": "81d4019000",
    "a key twice": "82a16100a16101",
    "a number as a key twice": "8201000101",
    "a member twice": "c70302920101",
    "members out of order": "c70302920201",
    "members out of order of length": "c70502" + "92a16101",
    "a member that no set can have": "d5029190",
    "a tuple with a list in a set": "c7050291" + "d5019190",
    "a set that is no list": "d40201",
    "a tuple that is no list": "d401a0",
    "a tuple and more": "d5019000",
    "a set and more": "d5029000",
    "a tuple cut short": "d40191",
    "an extension type that does not exist": "d40c00",
    "MessagePack's own timestamp": "d6ff00000000",
    "a datetime without a month": "d70403f505da2f7e847e",
    "a datetime of the zone kind 5": "d704a3f55dda28000000",
    "a naive datetime and more": "c7090403f55dda2f7e847e00",
    "a UTC datetime and more": "c7090423f55dda2800000000",
    "a datetime cut short": "d60403f55dda",
    "a fixed offset of zero": "c70d0443f55dda280000000000000000",
    "a fixed offset of a day": "c70d0443f55dda28000000141dd76000",
    "a fixed offset cut short": "c70c0443f55dda2800000000d693a4",
    "a name of a zone that is no UTF-8": "c70e0463f55dda2800000000d693a400ff",
    "a date that does not exist": "d60507ea021e",
    "a date cut short": "d50507ea",
    "a date and more": "c7050507ea0b1700",
    "a time that does not exist": "c70506300000000000",
    "a timedelta with too many seconds": "c70c07000000000001518000000000",
    "a timedelta with negative microseconds": "c70c070000000000000000ffffffff",
    "a timedelta that is too large": "c70c073b9aca000000000000000000",
    "a timedelta cut short": "d7070000000000000000",
    "a Decimal with a lower-case e": "d60831652b33",
    "a Decimal with a blank": "d508" + "2031",
    "a Decimal with an underscore": "c70308315f30",
    "a Decimal in other digits": "d508d9a1",
    "a Decimal that is none": "d608" + "73706d6d",
    "a Decimal with too large an exponent": "c71a0831452b" + "39" * 23,
    "an empty Decimal": "c70008",
    "a UUID cut short": "d709" + "00" * 8,
    "a large integer that is small": "d70a" + "7f" + "ff" * 7,
    "a large integer of 64 bits": "c7090a00" + "ff" * 8,
    "a large integer in a longer form": "c70a0a0001" + "00" * 8,
    "an empty large integer": "c7000a",
}


class TestDamage:
    @pytest.mark.parametrize("stored", DAMAGED.values(), ids=DAMAGED.keys())
    def test_sto_03_what_would_not_be_written_is_not_read(self, stored):
        with pytest.raises(codec.DecodeError, match=r"^stored bytes are damaged at byte [0-9]+: "):
            codec.decode_value(bytes.fromhex(stored))

    def test_the_error_is_one_of_ours_and_says_where(self):
        with pytest.raises(codec.DecodeError) as caught:
            codec.decode_value(b"\x92\x01\xc1")
        assert isinstance(caught.value, SessileError)
        assert isinstance(caught.value, ValueError)
        assert str(caught.value) == "stored bytes are damaged at byte 2: no such type"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    @pytest.mark.parametrize("stored", [stored for _, stored in STORED if len(stored) < 200])
    def test_every_truncation_is_refused(self, stored):
        data = bytes.fromhex(stored)
        for length in range(len(data)):
            with pytest.raises(codec.DecodeError):
                codec.decode_value(data[:length])

    @pytest.mark.parametrize("head", ["dd", "df", "db", "c6"])
    def test_per_12_what_is_announced_is_not_allocated(self, head):
        """PER-12, STO-05: ten bytes that announce 4,294,967,295 members cost nothing."""
        data = bytes.fromhex(head) + b"\xff" * 9
        tracemalloc.start()
        try:
            for use in (codec.decode_value, lambda data: codec.split_fields(b"\xa1a" + data)):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                with pytest.raises(codec.DecodeError):
                    use(data)
                assert tracemalloc.get_traced_memory()[1] - before < 20_000
        finally:
            tracemalloc.stop()

    def test_per_12_nested_announcements_share_the_bytes_that_are_left(self):
        """PER-12: 31 lists, one inside the other, that each announce all the rest: no 31 times the memory."""
        count = 1_000_000
        data = (b"\xdd" + count.to_bytes(4, "big")) * 31 + b"\x00" * (count + 200)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(codec.DecodeError):
                codec.decode_value(data)
            assert tracemalloc.get_traced_memory()[1] - before < 16 * count
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("data", [bytearray(b"\x00"), memoryview(b"\x00"), "\x00", None, 0])
    def test_only_bytes_are_read(self, data):
        functions = [codec.decode_value, codec.decode_fields, codec.split_fields, codec.field_names]
        for function in [*functions, codec.fields_wellformed]:
            with pytest.raises(TypeError):
                function(data)
        with pytest.raises(TypeError):
            codec.find_field(data, "a")
        with pytest.raises(TypeError):
            codec.decode_field(data, "a")
        with pytest.raises(TypeError):
            codec.merge_fields(data, {})


# ----------------------------------------------------------------------------------------------------------
# Fields

SESSION = {
    "user_id": 48_213,
    "csrf": "Zq3x9Yb1mK7dT0sRw5uVh2LpAe8NfJgC",
    "cart": [{"sku": "A-1001", "quantity": 2}],
    "größe": None,
    "login": datetime(2026, 11, 23, 13, 5, tzinfo=timezone.utc),
}
FIELDS = codec.encode_fields(SESSION)

DAMAGED_FIELDS = {
    "a name without a value": "a161",
    "a name cut short": "a361",
    "a value cut short": "a161cd00",
    "a number as a name": "0000",
    "bytes as a name": "c4016100",
    "a name in a longer form": "d9016100",
    "a name that is too long": "da0100" + "78" * 256 + "00",
    "a name that is no UTF-8": "a2c32800",
    "a name twice": "a16100a16101",
    "a value of no type": "a161c1",
}


class TestFields:
    def test_fields_are_names_and_values_and_nothing_else(self):
        assert codec.encode_fields({}) == b""
        assert codec.encode_fields({"b": 1, "a": "x"}).hex() == "a16201" + "a161a178"
        assert codec.decode_fields(b"") == {}
        assert codec.decode_fields(FIELDS) == SESSION
        assert list(codec.decode_fields(FIELDS)) == list(SESSION)

    def test_any_mapping_will_do(self):
        assert codec.encode_fields(OrderedDict(a=1)) == codec.encode_fields({"a": 1})

    def test_splitting_and_joining_are_inverse(self):
        parts = codec.split_fields(FIELDS)
        assert parts == {name: codec.encode_value(value) for name, value in SESSION.items()}
        assert parts == {name: codec.encode_field(name, value) for name, value in SESSION.items()}
        assert codec.join_fields(parts) == FIELDS
        assert codec.field_names(FIELDS) == list(SESSION)

    def test_one_field_is_found_without_reading_the_others(self):
        for name, value in SESSION.items():
            assert codec.find_field(FIELDS, name) == codec.encode_value(value)
            assert codec.decode_field(FIELDS, name) == value
        damaged_value = codec.encode_fields({"a": "x"}) + bytes.fromhex("a162" + "a2c328" + "a163" + "07")
        assert codec.decode_field(damaged_value, "c") == 7
        with pytest.raises(codec.DecodeError):
            codec.decode_field(damaged_value, "b")

    @pytest.mark.parametrize(
        "name", ["", "user", "user_id2", "CSRF", "\ud800", "x" * 300, 1, None, b"csrf", ("a",)]
    )
    def test_a_field_that_is_not_there_is_none_or_the_default(self, name):
        assert codec.find_field(FIELDS, name) is None
        assert codec.decode_field(FIELDS, name) is None
        assert codec.decode_field(FIELDS, name, 7) == 7
        assert codec.decode_field(FIELDS, "größe", 7) is None

    def test_a_name_may_be_asked_for_by_a_subclass_of_str(self):
        assert codec.decode_field(FIELDS, Text("user_id")) == 48_213

    @pytest.mark.parametrize(
        "name", [1, 1 << 20_000, None, b"a", True, 1.5, Text("a"), Mood.GOOD, Money()], ids=repr_of
    )
    def test_names_must_be_exactly_str(self, name):
        for use in (
            lambda: codec.encode_fields({"other": 1, name: 2}),
            lambda: codec.encode_field(name, 2),
            lambda: codec.join_fields({name: b"\x02"}),
            lambda: codec.merge_fields(FIELDS, {name: b"\x02"}),
        ):
            with pytest.raises(TypeError, match="name of a field must be str, not") as caught:
                use()
            assert type(name).__name__ in str(caught.value)

    @pytest.mark.parametrize(("name", "shown"), [(17, "17"), (b"ab", "b'ab'"), (Text("ab"), "'ab'")])
    def test_a_name_is_shown_where_showing_it_runs_no_code(self, name, shown):
        with pytest.raises(TypeError, match=re.escape(f"({shown})")):
            codec.encode_fields({name: 2})

    def test_names_have_no_lone_surrogates(self):
        with pytest.raises(ValueError, match=r"lone surrogate.*'a\\ud800'"):
            codec.encode_fields({"a\ud800": 1})

    def test_merging_changes_in_place_drops_and_appends(self):
        stored = codec.encode_fields({"a": 1, "b": [2], "c": 3, "d": 4})
        changed = {"e": codec.encode_value(5), "b": codec.encode_value("two")}
        merged = codec.merge_fields(stored, changed, ["c", "never there"])
        assert list(codec.decode_fields(merged).items()) == [("a", 1), ("b", "two"), ("d", 4), ("e", 5)]
        assert changed == {"e": codec.encode_value(5), "b": codec.encode_value("two")}
        assert codec.merge_fields(stored, {}) == stored
        assert codec.merge_fields(stored, {}, set("abcd")) == b""
        assert codec.merge_fields(b"", {"a": b"\x01"}) == codec.encode_fields({"a": 1})

    def test_what_is_dropped_and_set_again_goes_to_the_end(self):
        stored = codec.encode_fields({"a": 1, "b": 2})
        merged = codec.merge_fields(stored, {"a": b"\x07"}, {"a"})
        assert list(codec.decode_fields(merged).items()) == [("b", 2), ("a", 7)]

    @pytest.mark.parametrize("value", [b"", b"\x01\x02", b"\xc1", b"\xa3ab"])
    def test_what_is_merged_or_joined_is_one_value_each(self, value):
        with pytest.raises(codec.DecodeError):
            codec.merge_fields(FIELDS, {"a": value})
        with pytest.raises(codec.DecodeError):
            codec.join_fields({"a": value})

    @pytest.mark.parametrize("value", ["a", bytearray(b"\x01"), None, 1])
    def test_what_is_merged_or_joined_is_bytes(self, value):
        for use in (
            lambda: codec.merge_fields(FIELDS, {"a": value}),
            lambda: codec.join_fields({"a": value}),
        ):
            with pytest.raises(TypeError, match="the encoded value of the field 'a' must be bytes"):
                use()

    @pytest.mark.parametrize("stored", DAMAGED_FIELDS.values(), ids=DAMAGED_FIELDS.keys())
    def test_sto_03_damaged_fields_are_refused(self, stored):
        data = bytes.fromhex(stored)
        assert codec.fields_wellformed(data) is False
        for function in (codec.decode_fields, codec.split_fields, codec.field_names):
            with pytest.raises(codec.DecodeError):
                function(data)

    def test_sto_03_damage_before_a_field_is_met_on_the_way(self):
        for stored in ("a161c1a162" + "01", "0000a16201", "a161a3"):
            data = bytes.fromhex(stored)
            for use in (codec.find_field, codec.decode_field):
                with pytest.raises(codec.DecodeError):
                    use(data, "b")
            with pytest.raises(codec.DecodeError):
                codec.merge_fields(data, {})

    def test_fields_are_wellformed_or_not(self):
        assert codec.fields_wellformed(FIELDS) is True
        assert codec.fields_wellformed(b"") is True
        assert codec.fields_wellformed(FIELDS[:-1]) is False

    def test_names_are_made_once_and_never_mistaken(self):
        """Short names come from a table with a limited number of places: more names than places, twice."""
        first, again = (codec.decode_fields(FIELDS) for _ in range(2))
        assert next(iter(first)) is next(iter(again))
        names = [f"{n:x}" * (1 + n % 9) for n in range(1, 6000)] + ["ü", "x" * 31, "x" * 32, "x" * 33, ""]
        for _ in range(2):
            for name in names:
                assert codec.field_names(codec.encode_fields({name: 1})) == [name]
                assert codec.decode_value(codec.encode_value({name: 1})) == {name: 1}


def test_markup_is_stored_only_where_an_adapter_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back as what it was, in the middle of a value too; without markupsafe as its text."""
    markupsafe = pytest.importorskip("markupsafe", reason="markupsafe is not installed")
    from sessile import extension_types

    marked = markupsafe.Markup("<b>ß</b>")
    monkeypatch.delitem(extension_types._BY_TYPE, markupsafe.Markup, raising=False)
    with pytest.raises(TypeError, match=r"it would come back as str"):
        codec.encode_value([marked])
    monkeypatch.setitem(extension_types._BY_TYPE, markupsafe.Markup, (11, extension_types._write_markup))
    stored = codec.encode_value([marked, "<b>"])
    back = codec.decode_value(stored)
    assert back == ["<b>ß</b>", "<b>"]
    assert [type(value) for value in back] == [markupsafe.Markup, str]
    with pytest.raises(ValueError, match=r"\$\[0\]: the text has a lone surrogate"):
        codec.encode_value([markupsafe.Markup("\ud800")])
    monkeypatch.setitem(sys.modules, "markupsafe", None)
    assert [type(value) for value in codec.decode_value(stored)] == [str, str]
