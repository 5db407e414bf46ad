"""A task whose payloads another serializer packs: what it reads, and whose errors it tells."""

import json
from typing import Any

import pytest

from taskq import TaskQ
from taskq.client.values.serializers import pack_otherwise
from taskq.errors import DecodeError, EncodeError, TooLarge


class Json:
    name = "json"
    keeps_types = False

    def dumps(self, value: Any, /) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return json.loads(data)


def test_a_signature_with_a_serializer_of_ones_own() -> None:
    q = TaskQ(serializer=Json())

    @q.task(name="t")
    def t(a: tuple[int, int], b: set[str]) -> set[int]:
        return {1}

    payload = t.signature.encode(((1, 2), ["x"]), {})
    assert t.signature.arguments(payload) == ([(1, 2), {"x"}], {})
    assert t.signature.arguments(b"\x92\x92\x92\x01\x02\x91\xa1x\x80") == ([(1, 2), {"x"}], {})
    assert t.signature.result(t.signature.encode_result([1])) == {1}
    assert t.signature.result(b"\x91\x01") == {1}
    with pytest.raises(EncodeError, match=r"t\(\): argument 'b': json cannot pack it: TypeError"):
        t.call((1, 2), {"x"})
    with pytest.raises(EncodeError, match=r"t\(\): result: json cannot pack it"):
        t.signature.encode_result({1})
    with pytest.raises(TooLarge, match=r"t\(\): argument 'b' takes 2000013 of 20"):
        t.call((1, 2), "x" * 2_000_000)  # type: ignore[arg-type]  # so large
    odd: list[Any] = [{"a": 1}, [[1], {"b": 1}, 2], [5, {}], [[], []]]
    for wrong in odd:
        with pytest.raises(DecodeError, match=r"t\(\): json gave .*, and no call"):
            t.signature.arguments(pack_otherwise(Json(), wrong))
    with pytest.raises(TypeError, match=r"missing a required argument.*submitted was t\(list\)"):
        t.signature.arguments(pack_otherwise(Json(), [[[1, 2]], {}]))
