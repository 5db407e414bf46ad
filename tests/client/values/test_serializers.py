"""Other packings: what carries which mark, who may read it, and that nothing is unpickled unasked."""

import json
import threading
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq import Serializer, TaskQ
from taskq.client.payload import pack_value, unpack_call, unpack_value
from taskq.client.values.serializers import (
    Pickle,
    foreign_of,
    pack_otherwise,
    serializer_of,
    unpack_otherwise,
)
from taskq.errors import ConfigError, DecodeError, EncodeError, TooLarge


class Json:
    name = "json"
    keeps_types = False

    def dumps(self, value: Any, /) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return json.loads(data)


def test_messagepack_is_what_there_is_without_a_word() -> None:
    assert serializer_of("msgpack") is None and TaskQ().serializer is None
    assert isinstance(serializer_of("pickle"), Pickle)
    own: Serializer = Json()
    assert serializer_of(own) is own


@pytest.mark.parametrize("given", ["json", 5, Json, object(), type("Half", (), {"name": "half"})()])
def test_what_is_no_serializer_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="serializer is 'msgpack', 'pickle', or an object"):
        TaskQ(serializer=given)


@pytest.mark.parametrize("name", ["", "x" * 33, "ä", "a\0b", "msgpack", 5])
def test_what_is_no_name_is_refused(name: Any) -> None:
    odd = Json()
    odd.name = name
    with pytest.raises(ConfigError, match="the name of a serializer"):
        TaskQ(serializer=odd)


def test_its_mark_is_the_extension_of_the_manual() -> None:
    assert pack_otherwise(Json(), 5) == b"\xc7\x06\x0djson\x005"


@pytest.mark.parametrize("read", [unpack_call, unpack_value])
def test_others_say_what_it_is_and_do_not_read_it(read: Any) -> None:
    for serializer in (Json(), Pickle()):
        with pytest.raises(
            DecodeError, match=f"serializer '{serializer.name}', and this app reads 'msgpack'"
        ):
            read(pack_otherwise(serializer, ((), {})))
    with pytest.raises(DecodeError, match="trust all who can submit"):
        read(pack_otherwise(Pickle(), ((), {})))
    with pytest.raises(DecodeError, match="without the name of a serializer"):
        read(msgpack.packb(msgpack.ExtType(13, b"pickle")))


def test_a_serializer_reads_no_other() -> None:
    foreign = foreign_of(pack_otherwise(Pickle(), 5))
    assert foreign is not None
    with pytest.raises(DecodeError, match="'pickle', and this app reads 'json' only"):
        unpack_otherwise(Json(), foreign)


@given(st.binary(max_size=40))
def test_whatever_the_bytes_only_marked_ones_are_foreign(data: bytes) -> None:
    try:
        foreign = foreign_of(data)
    except DecodeError:
        return
    assert foreign is None or data[0] in (0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9))
    assert foreign_of(pack_value([data])) is None


def test_what_it_raises_is_an_error_of_ours() -> None:
    class Broken(Json):
        def dumps(self, value: Any, /) -> Any:
            if value == "none":
                return None
            raise RuntimeError("broken")

        def loads(self, data: bytes, /) -> Any:
            raise RuntimeError("broken too")

    with pytest.raises(EncodeError, match="json cannot pack it: RuntimeError: broken"):
        pack_otherwise(Broken(), 5)
    with pytest.raises(EncodeError, match="gave NoneType; bytes are needed"):
        pack_otherwise(Broken(), "none")
    foreign = foreign_of(pack_otherwise(Json(), 5))
    assert foreign is not None
    with pytest.raises(DecodeError, match="json cannot read it: RuntimeError: broken too"):
        unpack_otherwise(Broken(), foreign)
    with pytest.raises(TooLarge, match="bytes of payload; the limit is"):
        pack_otherwise(Json(), "x" * 2_000_000)


def test_cloudpickle_sends_what_has_no_name() -> None:
    pickle = Pickle()
    foreign = foreign_of(pack_otherwise(pickle, [lambda n: n + 1]))
    assert foreign is not None
    [fn] = unpack_otherwise(pickle, foreign)
    assert fn(1) == 2
    with pytest.raises(EncodeError, match="pickle cannot pack it: TypeError"):
        pack_otherwise(pickle, threading.Lock())
