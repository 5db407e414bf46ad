"""The manuals say what the code does. Here: PROTOCOL.md, its tables, its words and its bytes."""

import json
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgpack
import msgspec
import pytest
from msgspec import inspect

from taskq import limits
from taskq.client.payload import pack_call, pack_value
from taskq.protocol import messages as m
from taskq.protocol.connection import MAY_SEND
from taskq.protocol.frames import encode
from taskq.protocol.ids import job_slot, make_id
from taskq.protocol.tokens import COVERS, Token, proof

MANUAL: Final = Path(m.__file__).with_name("PROTOCOL.md").read_text(encoding="utf-8")
MESSAGES: Final = sorted(m.Message.__subclasses__(), key=lambda kind: int(str(kind.__struct_config__.tag)))
PARTS: Final = m.Part.__subclasses__()

# The manual's names for the types of messages.py.
ALIASES: Final = {
    "id": m.Id,
    "name": m.Name,
    "text": m.Text,
    "payload": m.Payload,
    "count": m.Count,
    "number": m.Number,
    "millis": m.Millis,
    "ext": m.Ext,
    "role": m.Role,
    "ending": m.Ending,
    "job state": m.JobStateName,
}


def spelled(kind: Any) -> str:
    """A field's type and bounds, as the manual's tables write them."""
    for alias, annotation in ALIASES.items():
        if kind == inspect.type_info(annotation):
            return alias
    match kind:
        case inspect.StructType():
            return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
        case inspect.ListType():
            return f"[{spelled(kind.item_type)}]" + most(kind.max_length)
        case inspect.DictType():
            return f"{{{spelled(kind.key_type)}: {spelled(kind.value_type)}}}" + most(kind.max_length)
        case inspect.UnionType():
            return " or ".join(spelled(one) for one in kind.types)
        case inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in sorted(kind.values, key=str))
        case inspect.IntType() | inspect.FloatType():
            name = "int" if isinstance(kind, inspect.IntType) else "float"
            low, high = kind.ge, kind.le if kind.lt is None else kind.lt - 1
            return name if low is None else f"{name} {low:.12g} to {high:.12g}"
        case inspect.StrType() | inspect.BytesType():
            name = "str" if isinstance(kind, inspect.StrType) else "bin"
            return (
                f"{name} {kind.min_length} to {kind.max_length}"
                if kind.min_length
                else name + most(kind.max_length)
            )
        case inspect.VarTupleType():
            return f"[{spelled(kind.item_type)}]{most(kind.max_length)}"
        case inspect.TupleType():
            return f"[{', '.join(map(spelled, kind.item_types))}]"
        case inspect.BoolType():
            return "bool"
        case inspect.NoneType():
            return "nil"
        case _:
            raise AssertionError(f"no word for {kind}")


def most(length: int | None) -> str:
    return "" if length is None else f", at most {length}"


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """A field's default, as the manual's tables write it."""
    if field.required:
        return ""
    if field.default_factory is not msgspec.NODEFAULT:
        return str(field.default_factory())
    match field.default:
        case None:
            return "nil"
        case bytes():
            return "empty"
        case float():
            return f"{field.default:g}"
        case msgspec.Struct():
            assert field.default == type(field.default)()
            return "all defaults"
        case _:
            return json.dumps(field.default)


def expected_rows(kind: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    infos = inspect.type_info(kind)
    assert isinstance(infos, inspect.StructType)
    return [
        (f"`{field.name}`", spelled(info.type), default_of(field))
        for field, info in zip(msgspec.structs.fields(kind), infos.fields, strict=True)
    ]


def section(heading: str) -> str:
    """What stands under this heading, up to the next one."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", MANUAL, re.MULTILINE | re.DOTALL)
    assert found, f"PROTOCOL.md has no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the table in this text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def check_table(kind: type[msgspec.Struct], text: str) -> None:
    table = rows(text)
    assert [tuple(row[:3]) for row in table] == expected_rows(kind)
    assert all(row[3] for row in table), "each field says what it means"


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_each_message_has_its_section_with_every_field(kind: type[m.Message]) -> None:
    check_table(kind, section(f"{kind.__struct_config__.tag} {kind.__name__}"))


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_each_part_has_its_section_with_every_field(kind: type[m.Part]) -> None:
    check_table(kind, section(kind.__name__))


def test_there_is_no_section_of_a_message_that_is_not() -> None:
    numbered = re.findall(r"^### (\d+ \w+)$", MANUAL, re.MULTILINE)
    assert numbered == [f"{kind.__struct_config__.tag} {kind.__name__}" for kind in MESSAGES]


def test_the_named_types_are_explained() -> None:
    explained = [row[0] for row in rows(section("Named types"))]
    assert explained == [f"`{alias}`" for alias in ALIASES]


def test_the_words_are_those_of_the_code() -> None:
    for alias in ("role", "ending", "job state"):
        kind = inspect.type_info(ALIASES[alias])
        assert isinstance(kind, inspect.LiteralType)
        (row,) = (row for row in rows(section("Named types")) if row[0] == f"`{alias}`")
        assert set(re.findall(r"`([a-z_]+)`", row[1])) == set(kind.values)


def test_the_roles_are_those_of_the_code() -> None:
    table = {
        row[0]: [set(re.findall(r"`([A-Za-z]+)`", cell)) for cell in row[1:]]
        for row in rows(section("Roles"))
    }
    always = {"Ping", "Pong", "Goodbye", "Unsupported"}
    assert table == {
        f"`{role}`": [
            {kind.__name__ for kind in kinds} - always,
            {token for token, covered in COVERS.items() if role in covered},
        ]
        for role, kinds in MAY_SEND.items()
    }


def test_the_limits_are_those_of_the_code() -> None:
    table = rows(section("Limits"))
    assert table
    for name, value, _ in table:
        assert getattr(limits, name.strip("`")) == int(value.replace(" ", "").replace(",", "")), name


def test_the_slots_are_those_of_the_code() -> None:
    table = rows(section("Hash slots"))
    assert table
    for words, slot in table:
        assert job_slot(*words.strip("`").split("`, `")) == int(slot)


# -- the worked bytes -----------------------------------------------------------------------------

SECRET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
TOKEN: Final = Token("worker01", SECRET)
NONCE: Final = bytes(range(0x10, 0x20))
SESSION: Final = bytes.fromhex("5e" * 16)
CLUSTER: Final = bytes.fromhex("c1" * 16)
JOB: Final = make_id(1_767_225_600_000, job_slot("default", "default"), 0x0123456789ABCDEF)
LEASE: Final = (3 << 40) | 1
CALL: Final = bytes.fromhex("92 92 02 03 80")
TERMS: Final = m.Terms("tasks.add")

WORKED: Final[dict[str, m.Message]] = {
    "greeting": m.Greeting(
        version_min=1,
        version_max=1,
        nonce=NONCE,
        cluster=CLUSTER,
        epoch=3,
        partitions=1,
        frame_bytes_max=limits.FRAME_BYTES_MAX,
        payload_bytes_max=limits.PAYLOAD_BYTES_MAX,
        batch_max=limits.BATCH_MAX,
        beat_ms=limits.BEAT_MS,
        auth=True,
    ),
    "hello": m.Hello(
        1, SESSION, "worker", "host:1", token_id=TOKEN.id, proof=proof(TOKEN, NONCE, "worker", 1)
    ),
    "welcome": m.Welcome(1, 1_767_225_600_000, 0),
    "submit": m.Submit(0, [TERMS], [m.JobSpec(JOB, 0, CALL)]),
    "confirm": m.Confirm(0, 1),
    "watch": m.Watch([JOB]),
    "announce": m.Announce({"tasks.add": "async"}, ["default"], {"async": 10}),
    "resume": m.Resume([]),
    "deliver": m.Deliver([TERMS], [m.Delivery(JOB, LEASE, 1, 0, CALL)]),
    "ack": m.Ack(1, [m.Success(JOB, LEASE, b"\x05")]),
    "acked": m.Acked(1),
    "outcomes": m.Outcomes([m.Outcome(JOB, "succeeded", b"\x05", attempts=1)]),
}


def worked(name: str) -> bytes:
    """The bytes in the block after `<!-- bytes: name -->`; what follows a `#` explains them."""
    found = re.search(rf"<!-- bytes: {name} -->\n```\n(.*?)```", MANUAL, re.DOTALL)
    assert found, f"PROTOCOL.md has no worked bytes named {name}"
    return bytes.fromhex("".join(line.partition("#")[0] for line in found[1].splitlines()))


@pytest.mark.parametrize("name", WORKED)
def test_worked_bytes_are_what_is_sent(name: str) -> None:
    assert worked(name) == encode(WORKED[name])


@pytest.mark.parametrize("name", WORKED)
def test_worked_bytes_are_standard_messagepack(name: str) -> None:
    """Another codec, as other languages have it, reads them and writes them again."""
    number, *fields = msgpack.unpackb(worked(name)[4:], strict_map_key=True)
    kind = type(WORKED[name])
    assert number == kind.__struct_config__.tag
    again = msgpack.packb([number, *fields])
    assert msgspec.msgpack.decode(again, type=kind) == WORKED[name]


def test_all_worked_bytes_are_tested() -> None:
    assert re.findall(r"<!-- bytes: (\w+) -->", MANUAL) == list(WORKED)


def test_the_example_of_a_payload_is_what_the_client_packs() -> None:
    text = section("Payloads")
    assert pack_call((2, 3), {}) == CALL
    assert f"`{CALL.hex(' ')}`" in text
    assert f"`5` is `{pack_value(5).hex()}`" in text
    assert f"nil, `{pack_value(None).hex()}`" in text


@pytest.mark.parametrize(
    "value",
    [
        (1,),
        {1},
        frozenset({1}),
        datetime(2026, 1, 1),
        date(2026, 1, 1),
        time(12),
        timedelta(1),
        Decimal(1),
        UUID(int=1),
        2**70,
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_extensions_of_payloads_have_the_codes_of_the_table(value: object) -> None:
    codes = {row[1]: int(row[0]) for row in rows(section("Payloads")) if row[0].isdigit() and len(row) == 3}
    packed = msgpack.unpackb(pack_value(value))
    assert isinstance(packed, msgpack.ExtType)
    assert codes[type(value).__name__] == packed.code


def test_the_example_of_a_proof_is_the_one_in_the_hello() -> None:
    text = section("Proving a token")
    assert TOKEN.text in text
    assert NONCE.hex() in text
    assert proof(TOKEN, NONCE, "worker", 1).hex() in text
