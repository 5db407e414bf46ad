"""Every message survives the wire, is bounded, and can grow without breaking its readers."""

from typing import get_args

import msgspec
import pytest

from taskq import limits
from taskq.protocol import messages as m
from tests.protocol.samples import FAULT, ID, KINDS, LEASE, SAMPLES, TERMS

encode = msgspec.msgpack.encode
ALL = m.ToBroker | m.FromBroker
decoder: msgspec.msgpack.Decoder[m.Message] = msgspec.msgpack.Decoder(ALL)
decode = decoder.decode


def by_kind(message: m.Message) -> str:
    return type(message).__name__


def test_every_message_has_a_sample_with_every_field_told_apart_from_its_default() -> None:
    assert {type(message) for message in SAMPLES} == KINDS
    same = [
        f"{by_kind(message)}.{field.name}"
        for message in SAMPLES
        for field in msgspec.structs.fields(message)
        if not field.required and getattr(message, field.name) == field.default
    ]
    assert same == []


def test_every_message_can_be_said_by_somebody() -> None:
    assert set(get_args(ALL)) == KINDS


def test_numbers_are_unique() -> None:
    numbers = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("message", SAMPLES, ids=by_kind)
def test_a_message_survives_the_wire(message: m.Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", SAMPLES, ids=by_kind)
def test_a_message_is_an_array_that_begins_with_its_number(message: m.Message) -> None:
    elements = msgspec.msgpack.decode(encode(message))
    assert isinstance(elements, list)
    assert elements[0] == type(message).__struct_config__.tag
    assert len(elements) == 1 + len(message.__struct_fields__)


@pytest.mark.parametrize("message", SAMPLES, ids=by_kind)
def test_elements_appended_by_a_newer_version_are_ignored(message: m.Message) -> None:
    elements = msgspec.msgpack.decode(encode(message))
    assert decode(encode([*elements, "new", {"a": [1, None]}, msgspec.msgpack.Ext(5, b"x")])) == message


@pytest.mark.parametrize("message", SAMPLES, ids=by_kind)
def test_missing_trailing_elements_get_their_defaults(message: m.Message) -> None:
    elements = msgspec.msgpack.decode(encode(message))
    required = 1 + sum(field.required for field in msgspec.structs.fields(message))
    short = decode(encode(elements[:required]))
    for field in msgspec.structs.fields(short):
        if not field.required:
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            assert getattr(short, field.name) == default
    with pytest.raises(msgspec.ValidationError):
        decode(encode(elements[: required - 1]))


def test_parts_grow_too() -> None:
    held = msgspec.msgpack.decode(encode(m.Held(ID, LEASE)))
    assert decode(encode([38, [[*held, "new"]]])) == m.Resume([m.Held(ID, LEASE)])


@pytest.mark.parametrize(
    "message",
    [
        m.Watch([b"short"]),
        m.Watch([ID] * (limits.BATCH_MAX + 1)),
        m.Ping(-1),
        m.Ping(2**53 + 1),
        m.Cancel(1, [ID], "x" * (limits.TEXT_CHARS_MAX + 1)),
        m.Submit(1, [m.Terms("")], []),
        m.Submit(1, [m.Terms("t" * (limits.NAME_CHARS_MAX + 1))], []),
        m.Submit(1, [m.Terms("t", priority=limits.PRIORITY_MAX + 1)], []),
        m.Submit(1, [m.Terms("t", delay_ms=limits.HORIZON_MS + 1)], []),
        m.Submit(1, [m.Terms("t", retry=m.RetryTerms(factor=float("nan")))], []),
        m.Submit(1, [m.Terms("t", retry=m.RetryTerms(factor=float("inf")))], []),
        m.Submit(1, [m.Terms("t", retry=m.RetryTerms(max_attempts=0))], []),
        m.Submit(1, [m.Terms("t", retry=m.RetryTerms(max_attempts=10_000))], []),
        m.Submit(1, [m.Terms("t", on_dead=m.Callback(""))], []),
        m.Submit(1, [TERMS], [m.JobSpec(ID, 0, b"", 256)]),
        m.Submit(1, [TERMS], [m.JobSpec(ID, -1, b"")]),
        m.Submit(
            1, [TERMS], [m.JobSpec(ID, 0, b"", 0, {f"k{n}": b"" for n in range(limits.EXT_ITEMS_MAX + 1)})]
        ),
        m.Ack(1, [m.Success(ID, 2**63)]),
        m.Query(1, m.Filter(ids=[b"short"])),
        m.Query(1, m.Filter(task="t" * (limits.NAME_CHARS_MAX + 1))),
        m.Query(1, m.Filter(states=["dead"] * (limits.FILTER_STATES_MAX + 1))),
        m.Query(1, m.Filter(), b"", limits.PAGE_MAX + 1),
        m.Query(1, m.Filter(), b"", 0),
        m.Bulk(1, "cancel", m.Filter(older_ms=-1)),
        m.Nack(1, [m.Failure(ID, LEASE, "failed", FAULT, False, -2)]),
        m.Nack(1, [m.Failure(ID, LEASE, "snoozed", hold_key="k" * 1_000_000, hold_ms=1)]),
        m.Announce({"t": "async"}, ["q"], {"async": limits.SLOTS_MAX + 1}),
        m.Exited([m.ChildExit(ID, -300)]),
        m.Hello(1, b"", "worker"),
        m.Greeting(1, 1, b"short", ID, 1, 1, 1, 1, 1, 1, False),
    ],
    ids=lambda message: repr(message)[:40],
)
def test_what_is_out_of_bounds_is_refused(message: m.Message) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(encode(message))


def test_an_unknown_word_is_refused() -> None:
    elements = msgspec.msgpack.decode(encode(m.Nack(1, [m.Failure(ID, LEASE, "failed")])))
    elements[2][0][2] = "exploded"
    with pytest.raises(msgspec.ValidationError, match="exploded"):
        decode(encode(elements))
