"""A task's signature: do these arguments fit, which one cannot be sent, and what were they before.

Whether anything needs converting is found out once per task, at its first job.
"""

import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import cached_property, partial
from typing import Annotated, Any, Final, get_args

import msgspec

from taskq.client.depends import needs_of, without
from taskq.client.faults import fault_of
from taskq.client.payload import pack_call, pack_value, unpack_call, unpack_value
from taskq.client.values.secrets import Secret, has_secret, is_secret
from taskq.client.values.typed import Convert, conversion_to, hint_of
from taskq.errors import DecodeError, EncodeError, TooLarge
from taskq.limits import SIGNATURE_CHARS_MAX

_log = logging.getLogger("taskq.client")

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MARKS: Final[dict[object, str]] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
_SCALARS: Final = (int, float, str, bytes, bool)
_LEFT: Final = (None, None)  # as it came
_NO_NAMES: Final = Annotated[dict[str, None], msgspec.Meta(max_length=0)]


class CallSignature:
    """What a function takes and returns, as the wire sees it. `name` begins every error's text.

    Raises ValueError for a function, written in C, that does not say what it takes.
    """

    def __init__(self, fn: Callable[..., object], name: str) -> None:
        self.name = name
        self._fn = fn
        self.needs = needs_of(fn)
        self._signature = without(inspect.signature(fn), self.needs, name)
        parameters = self._signature.parameters.values()
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        self._most = len(positional)
        self._least = sum(each.default is each.empty for each in positional)
        if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
            self._least = self._most + 1  # a name is required: never the short way
        # Nor the first time: names in annotations are looked up then only, and may be of secrets.
        self._short_from = self._most + 1
        # No cached_property, and what packs is of the object: each would cost a submit 20 of its 300 ns.
        self._hiding: dict[str, Convert] | None = None
        self._pack_call: Callable[[tuple[Any, ...], dict[str, Any]], bytes] = pack_call
        self._unpack_call: Callable[[bytes], tuple[list[Any], dict[str, Any]]] = unpack_call
        self._pack_value = pack_value
        self._unpack_value = unpack_value

    def check(self, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> None:
        """Raises TypeError if the function cannot be called so."""
        if self._is_fitting(len(args), kwargs):
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}{self._injected()}") from None

    def check_plain_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises TypeError when a call here and now lacks what a worker would inject."""
        given = inspect.signature(self._fn).bind_partial(*args, **kwargs).arguments
        missing = [name for name in self.needs if name not in given]
        if missing:
            raise TypeError(
                f"{self.name}(): workers inject {', '.join(missing)}; a call here and now has to give it "
                f"by name: {missing[0]}=..."
            )

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The payload of this call. TypeError if it does not fit; EncodeError, TooLarge name the argument."""
        if kwargs or not self._short_from <= len(args) <= self._most:
            args, kwargs = self._looked_at(args, kwargs)
        try:
            return self._pack_call(args, kwargs)
        except EncodeError as error:
            raise EncodeError(f"{self.name}(): {self._culprit(args, kwargs) or error}") from error
        except TooLarge as error:
            raise TooLarge(f"{self.name}(): {self._largest(args, kwargs)}{error}") from None

    def arguments(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """The arguments in a payload, typed again by the annotations.

        Raises DecodeError if they cannot be read or converted, TypeError if they do not fit.
        """
        read = self._read_scalars
        if read is not None:
            try:
                return list(read(payload)[0]), {}
            except (msgspec.MsgspecError, ValueError):
                pass  # the long way reads what this one cannot, or says what is wrong
        args, kwargs = self._unpack_call(payload)
        if kwargs or not self._least <= len(args) <= self._most:
            try:
                self.check(args, kwargs)
            except TypeError as error:
                raise TypeError(f"{error}; {self._both(args, kwargs)}") from None
        if self._conversions:
            self._convert(args, kwargs)
        return args, kwargs

    def encode_result(self, value: object, what: str = "result") -> bytes:
        """The payload of what the function returned. EncodeError says where it cannot be sent; TooLarge.
        Both call it `what`."""
        try:
            return self._pack_value(value)
        except EncodeError as error:
            raise EncodeError(f"{self.name}(): {what}: {_without_end(value) or error}") from error
        except TooLarge as error:
            raise TooLarge(f"{self.name}(): {what}: {error}") from None

    def result(self, payload: bytes) -> Any:
        """The result in a payload, typed again by the return annotation. Raises DecodeError."""
        value = self._unpack_value(payload)
        convert = self._result_conversion
        if convert is None or value is None:
            return value
        try:
            return convert(value)
        except Exception as error:
            raise DecodeError(f"{self.name}(): result: {error}") from error

    def item(self, payload: bytes) -> Any:
        """The same for one item of what a generator function yields."""
        value = self._unpack_value(payload)
        convert = self._item_conversion
        if convert is None or value is None:
            return value
        try:
            return convert(value)
        except Exception as error:
            raise DecodeError(f"{self.name}(): item: {error}") from error

    def _injected(self) -> str:
        if not self.needs:
            return ""
        return f" (workers inject {', '.join(self.needs)}; what follows that is given by name)"

    # -- do they fit ------------------------------------------------------------------------------

    def _is_fitting(self, count: int, kwargs: dict[str, Any]) -> bool:
        """What `bind` says, in a fifth of its time. False if nobody but it can tell."""
        places, required = self._places
        if count > self._most:
            return False
        for name in kwargs:
            if places.get(name, -1) < count:  # unknown, or given by its place too
                return False
        return all(place < count or name in kwargs for name, place in required)

    @cached_property
    def _places(self) -> tuple[dict[str, int], list[tuple[str, int]]]:
        """The place of each parameter that can be given by name; and of those that must be given."""
        named: dict[str, int] = {}
        required: list[tuple[str, int]] = []
        for place, each in enumerate(self._signature.parameters.values()):
            if each.kind in _MARKS:
                continue
            # What goes by name only has a place that no number of positional ones reaches.
            at = place if each.kind in _POSITIONAL else place + len(self._signature.parameters)
            if each.kind is not each.POSITIONAL_ONLY:
                named[each.name] = at
            if each.default is each.empty:
                required.append((each.name, at))
        return named, required

    # -- what cannot be sent ----------------------------------------------------------------------

    def _culprit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        for name, value in self._named(args, kwargs):
            fault = fault_of(value)
            if fault is not None:
                where = f" at {fault.path}" if fault.path else ""
                return f"argument {name!r}{where}: {fault.text}"
        return None

    def _largest(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The argument that takes the most; nothing if it is the only one."""
        sizes = {name: self._size(value) for name, value in self._named(args, kwargs)}
        name = max(sizes, key=lambda each: sizes[each], default=None)
        return "" if name is None else f"argument {name!r} takes {sizes[name]} of "

    def _size(self, value: object) -> int:
        try:
            return len(self._pack_value(value))
        except TooLarge as error:
            return int(str(error).partition(" ")[0])

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
        positional = self._positional_names
        names = [*positional, *(f"#{number + 1}" for number in range(len(positional), len(args)))]
        return [*zip(names, args, strict=False), *kwargs.items()]

    # -- secrets ----------------------------------------------------------------------------------

    def _looked_at(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, if they fit, with what is secret in them marked."""
        if self._hiding is None:
            self._hiding = self._hiders()
            if not self._hiding:
                self._short_from = self._least
        if kwargs or not self._least <= len(args) <= self._most:
            self.check(args, kwargs)
        return self._hidden(args, kwargs) if self._hiding else (args, kwargs)

    def _hidden(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A plain value where a Secret is annotated travels as one: from here on nobody shows it."""
        places = zip(args, self._positions(len(args)), strict=True)
        hidden = tuple(self._hide(name, name, value) for value, name in places)
        return hidden, {
            name: self._hide(name, self._parameter(name), value) for name, value in kwargs.items()
        }

    def _hide(self, name: str, parameter: str, value: Any) -> Any:
        assert self._hiding is not None, "not looked for"
        hide = self._hiding.get(parameter)
        if hide is None or value is None:
            return value
        try:
            return hide(value)
        except EncodeError:
            return value  # packing it says why, and where
        except Exception as error:
            raise EncodeError(f"{self.name}(): argument {name!r}: {error}") from None

    def _hiders(self) -> dict[str, Convert]:
        """By parameter, for those that are, or have in them, a Secret: how what is plain becomes one."""
        found: dict[str, Convert] = {}
        for each in self._signature.parameters.values():
            hint = self._hint(each.annotation)
            if is_secret(hint):
                found[_MARKS.get(each.kind, each.name)] = Secret
            elif has_secret(hint) and (convert := conversion_to(hint, is_strict=True)) is not None:
                found[_MARKS.get(each.kind, each.name)] = partial(_remade, convert)
        return found

    # -- what arrived -----------------------------------------------------------------------------

    def _convert(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        conversions = self._conversions
        for index, name in enumerate(self._positions(len(args))):
            kind, convert = conversions.get(name, _LEFT)
            value = args[index]
            if convert is not None and type(value) is not kind:
                args[index] = self._converted(name, convert, value)
        for name, value in kwargs.items():
            kind, convert = conversions.get(self._parameter(name), _LEFT)
            if convert is not None and type(value) is not kind:
                kwargs[name] = self._converted(name, convert, value)

    def _positions(self, count: int) -> list[str]:
        return [*self._positional_names[:count], *["*"] * (count - len(self._positional_names))]

    def _parameter(self, name: str) -> str:
        return name if name in self._places[0] else "**"

    def _converted(self, name: str, convert: Convert, value: Any) -> Any:
        # None stands for "nothing given" far more often than annotations say so.
        if value is None:
            return None
        try:
            return convert(value)
        except Exception as error:
            text = f"{self.name}(): argument {name!r}: {error}; this worker's signature is {self._text}"
            raise DecodeError(text) from error

    @cached_property
    def _positional_names(self) -> list[str]:
        return [each.name for each in self._signature.parameters.values() if each.kind in _POSITIONAL]

    @cached_property
    def _conversions(self) -> dict[str, tuple[type | None, Convert]]:
        """By parameter, for those whose annotations say something; `*` and `**` for the rest.

        With the type that needs none: a look at it costs a tenth of what msgspec takes to say so.
        """
        found: dict[str, tuple[type | None, Convert]] = {}
        for parameter in self._signature.parameters.values():
            hint = self._hint(parameter.annotation)
            convert = conversion_to(hint, is_strict=True)
            if convert is not None:
                kind = hint if hint in _SCALARS else None
                found[_MARKS.get(parameter.kind, parameter.name)] = (kind, convert)
        return found

    @cached_property
    def _result_conversion(self) -> Convert | None:
        # Not strict: nobody could do anything about a result that is there.
        return conversion_to(self._hint(self._signature.return_annotation), is_strict=False)

    @cached_property
    def _item_conversion(self) -> Convert | None:
        kinds = get_args(self._hint(self._signature.return_annotation))
        return conversion_to(kinds[0], is_strict=False) if kinds else None

    @cached_property
    def _read_scalars(self) -> Callable[[bytes], Any] | None:
        """Reads and checks a call of a few numbers and texts in one go: 0.1 us instead of 0.8.

        Only those: of what can be nested or long, msgspec bounds neither depth nor size.
        """
        hints = [self._hint(each.annotation) for each in self._signature.parameters.values()]
        if len(hints) != len(self._positional_names) or any(hint not in _SCALARS for hint in hints):
            return None
        positional: Any = tuple.__class_getitem__((*hints,))
        return msgspec.msgpack.Decoder(tuple.__class_getitem__((positional, _NO_NAMES))).decode

    def _hint(self, annotation: Any) -> Any:
        """Any if there is none, or if names in it exist for type checkers only."""
        if annotation is inspect.Parameter.empty:
            return Any
        try:
            return hint_of(self._fn, annotation)
        except Exception as error:
            text = "%s(): %r cannot be looked up (%s), so such values stay as they arrive"
            _log.info(text, self.name, annotation, error)
            return Any

    # -- what is told of it -----------------------------------------------------------------------

    def _both(self, args: list[Any], kwargs: dict[str, Any]) -> str:
        """What was submitted and what is here: types and names, never values."""
        types = [type(each).__name__ for each in args[:20]] + ["..."] * (len(args) > 20)
        types += [f"{name}={type(each).__name__}" for name, each in [*kwargs.items()][:20]]
        call = _shorter(f"{self.name}({', '.join(types)})")
        return f"submitted was {call}, this worker's signature is {self._text}: do both run the same version?"

    @cached_property
    def _text(self) -> str:
        """Without its defaults: those are values too."""
        hidden = [
            each.replace(
                default=each.default if each.default is each.empty else _Bare("..."),
                annotation=_Bare(each.annotation) if isinstance(each.annotation, str) else each.annotation,
            )
            for each in self._signature.parameters.values()
        ]
        shown = self._signature.replace(parameters=hidden, return_annotation=inspect.Signature.empty)
        return _shorter(f"{self.name}{shown}")


class _Bare(str):
    """A text that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _remade(convert: Convert, value: Any) -> Any:
    """As it would arrive: then what is secret in it is marked as such."""
    return convert(unpack_value(pack_value(value)))


def _without_end(value: object) -> str | None:
    """What is wrong with a result that nobody has waited for, or gone through, yet."""
    if isinstance(value, Coroutine):
        value.close()  # else Python warns, later and elsewhere, that nobody awaited it
        return (
            "the function returned a coroutine, which nobody awaits. Await it; or, if an async def is "
            "behind a plain decorator, let the decorator's own function be async def"
        )
    if isinstance(value, Generator | AsyncGenerator):
        return "the function returned a generator; return a list of what it yields"
    return None


def _shorter(text: str) -> str:
    return text if len(text) <= SIGNATURE_CHARS_MAX else f"{text[: SIGNATURE_CHARS_MAX - 3]}..."
