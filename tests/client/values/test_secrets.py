"""A Secret shows itself to nobody who does not ask."""

import copy
import json
import logging
import pickle
import traceback
from dataclasses import dataclass

import pydantic
import pytest

from taskq import Secret
from taskq.client.extras import Extras
from taskq.client.payload import pack_call, pack_value, unpack_value
from taskq.client.values.secrets import holds_secret, revealed
from taskq.errors import DecodeError

X = Secret("hunter2")


@dataclass
class Login:
    user: str
    password: Secret[str]


def test_it_is_shown_as_stars_however_it_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("%s %r %s", X, [X], {"a": X})
    texts = [str(X), repr(X), f"{X} {X!r} {X:>9}", f"{Login('ann', X)}", str({X}), "%s" % X, caplog.text]  # noqa: UP031  # one more way
    try:
        raise ValueError("bad", X)
    except ValueError as error:
        texts += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    assert not [text for text in texts if "hunter2" in text]
    assert json.dumps({"a": X}, default=str) == '{"a": "***"}'
    with pytest.raises(TypeError):
        json.dumps(X)
    with pytest.raises(TypeError):
        vars(X)


def test_it_is_a_value() -> None:
    assert X.reveal() == "hunter2"
    assert Secret("hunter2") == X != Secret("x") and X != "hunter2"
    assert len({X, Secret("hunter2")}) == 1
    twice: Secret[str] = Secret(X)
    assert twice == X
    assert pickle.loads(pickle.dumps(X)) == copy.deepcopy(X) == copy.copy(X) == X


def test_it_travels_as_one() -> None:
    for value in (X, [X, {"a": (X,)}], {X: 1}, Secret([1, {2}]), Login("ann", X)):
        data = pack_value(value)
        found = unpack_value(data)
        assert holds_secret(found)
        assert "hunter2" not in repr(found)
    assert unpack_value(pack_value(Secret({"a": Secret([1])}))) == Secret({"a": Secret([1])})
    assert not holds_secret(unpack_value(pack_value([1, {"a": {2}}])))


def test_what_is_no_box_of_one_is_refused() -> None:
    for body in (b"\xd4\x0c\x90", b"\xd5\x0c\x92\x01", b"\xd4\x0c\x05", b"\xd4\x0c\xc1"):
        with pytest.raises(DecodeError):
            unpack_value(body)


def test_it_cannot_hide_depth() -> None:
    deep: object = 1
    for _ in range(63):
        deep = Secret([deep]).reveal()
    assert unpack_value(pack_value(Secret(deep))) == Secret(deep)
    data = b"\x91" * 40 + b"\xc7\x2a\x0c" + b"\x91" * 41 + b"\x01"
    with pytest.raises(DecodeError, match="64 levels"):
        unpack_value(data)


def test_revealed_is_the_same_without_secrets() -> None:
    assert revealed([X, (X, {X}), {"a": {"b": X}}, Secret(X)]) == [
        "hunter2",
        ("hunter2", {"hunter2"}),
        {"a": {"b": "hunter2"}},
        "hunter2",
    ]


def test_jobs_are_alone_with_the_same_secret() -> None:
    extras = Extras(scope=0)
    one, two, other = (
        extras.own(None, "t", pack_call([Secret(value)], {})) for value in ({1, 99}, {99, 1}, {3})
    )
    assert one == two != other


def test_pydantic_knows_it() -> None:
    class Model(pydantic.BaseModel):
        token: Secret[str]
        pin: Secret[int] | None = None
        raw: Secret = Secret(None)  # type: ignore[type-arg]  # as users write

    made = Model.model_validate({"token": "hunter2", "pin": Secret(5), "raw": [1]})
    assert (made.token, made.pin, made.raw) == (X, Secret(5), Secret([1]))
    assert "hunter2" not in repr(made)
    with pytest.raises(pydantic.ValidationError, match="valid integer"):
        Model(token=X, pin="x")  # type: ignore[arg-type]  # the mistake
