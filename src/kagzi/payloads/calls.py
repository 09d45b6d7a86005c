"""The arguments of one call, stored by the types of the parameters."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from kagzi.errors import PayloadError
from kagzi.payloads.seal import Seal
from kagzi.payloads.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a function takes: a shape for each parameter, in the order of the signature.

    A parameter that can be given either way is in `positional` and in `keyword`. Without a signature it takes anything.
    """

    function: str
    signature: inspect.Signature | None
    positional: dict[str, Shape[Any]]
    keyword: dict[str, Shape[Any]]
    more_positional: tuple[str, Shape[Any]] | None
    more_keywords: Shape[Any] | None

    def default(self, name: str) -> Any:
        """The default of a parameter; `inspect.Parameter.empty` if it has none."""
        return inspect.Parameter.empty if self.signature is None else self.signature.parameters[name].default


class CallShape:
    """How the arguments of a call are stored.

    As the JSON array of the positional ones, keyword arguments put in their places; if there are some that only a
    keyword can give, as `{"args": [...], "kwargs": {...}}`. Equal calls make equal texts.
    """

    __slots__ = ("_fewest", "_parameters", "_seal", "_shapes")

    def __init__(self, parameters: Parameters, *, seal: Seal) -> None:
        self._parameters = parameters
        self._seal = seal
        self._shapes = tuple(parameters.positional.items())
        self._fewest = sum(parameters.default(name) is _NONE for name in parameters.positional)
        if any(parameters.default(name) is _NONE for name in parameters.keyword if name not in parameters.positional):
            self._fewest = len(self._shapes) + 1  # no call without keywords can be right

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, where: str) -> str:
        """The text to store.

        Raises TypeError as Python does if the call doesn't fit the parameters, PayloadError or PayloadTooLarge if an
        argument can't be stored; the path in it starts with the parameter's name.
        """
        given: Sequence[Any] = args
        keywords = kwargs
        if kwargs or not self._fewest <= len(args) <= len(self._shapes):
            given, keywords = self._arrange(args, kwargs)
        json = ",".join([self._write(index, value, where) for index, value in enumerate(given)])
        if keywords:
            texts = [self._write_keyword(name, value, where) for name, value in keywords.items()]
            return self._seal.close(f'{{"args":[{json}],"kwargs":{{{",".join(texts)}}}}}', where)
        return self._seal.close(f"[{json}]", where)

    def decode(self, text: str, *, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments. Parameters with a default may be missing: a run may be older than they.

        Raises PayloadError if the text does not fit the parameters.
        """
        call = _read_call(self._seal.open(text, where), where)
        self._check_names(call, where)
        args = tuple([self._read(index, json, where) for index, json in enumerate(call.args)])
        return args, {name: self._read_keyword(name, json, where) for name, json in call.kwargs.items()}

    def _arrange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """The one form of all calls that are equal: positional where possible, gaps filled with the defaults."""
        parameters = self._parameters
        if parameters.signature is None:
            return args, dict(sorted(kwargs.items()))
        try:
            bound = parameters.signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{parameters.function}() {error}") from None
        names = list(parameters.positional)
        while names and names[-1] not in bound:
            names.pop()
        given = [bound[name] if name in bound else parameters.default(name) for name in names]
        keywords = {name: bound[name] for name in parameters.keyword if name in bound and name not in names}
        for name, parameter in parameters.signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                given += bound.get(name, ())
            elif parameter.kind is parameter.VAR_KEYWORD:
                keywords |= sorted(bound.get(name, {}).items())
        return given, keywords

    def _write(self, index: int, value: Any, where: str) -> str:
        path, shape = self._place(index)
        return shape.write(value, where=where, path=path)[0]

    def _read(self, index: int, json: msgspec.Raw, where: str) -> Any:
        path, shape = self._place(index)
        return shape.read(bytes(json), where=where, path=path)

    def _write_keyword(self, name: str, value: Any, where: str) -> str:
        json, _ = self._keyword(name).write(value, where=where, path=f"$.{name}")
        try:
            return f"{_encode(name).decode()}:{json}"
        except UnicodeEncodeError as error:
            raise PayloadError(
                f"{where}: the keyword {name!a} holds a lone surrogate. Use another.", step=where
            ) from error

    def _read_keyword(self, name: str, json: msgspec.Raw, where: str) -> Any:
        return self._keyword(name).read(bytes(json), where=where, path=f"$.{name}")

    def _place(self, index: int) -> tuple[str, Shape[Any]]:
        if index < len(self._shapes):
            name, shape = self._shapes[index]
            return f"$.{name}", shape
        assert self._parameters.more_positional is not None, "checked by bind and by _check_names"
        name, shape = self._parameters.more_positional
        position = index - len(self._shapes)
        return f"$.{name}[{position}]" if name else f"$[{position}]", shape

    def _keyword(self, name: str) -> Shape[Any]:
        shape = self._parameters.keyword.get(name, self._parameters.more_keywords)
        assert shape is not None, "checked by bind and by _check_names"
        return shape

    def _check_names(self, call: _Call, where: str) -> None:
        """Refuse a stored call that the function can't take."""
        parameters = self._parameters
        if len(call.args) > len(self._shapes) and parameters.more_positional is None:
            self._misfit(f"{len(call.args)} positional arguments, and it takes {len(self._shapes)}", where)
        taken = set(list(parameters.positional)[: len(call.args)])
        for name in call.kwargs:
            if name in taken and name in parameters.keyword:
                self._misfit(f"two arguments for {name!r}", where)
            if name not in parameters.keyword and parameters.more_keywords is None:
                self._misfit(f"an argument {name!r} that it does not take", where)
            taken |= {name} & parameters.keyword.keys()
        for name in parameters.positional | parameters.keyword:
            if name not in taken and parameters.default(name) is _NONE:
                self._misfit(f"no argument for {name!r}, which has no default", where)

    def _misfit(self, what: str, where: str) -> NoReturn:
        raise PayloadError(
            f"{where}: what is stored for {self._parameters.function}() has {what}. "
            "Deploy code that takes the call as it was made: give new parameters a default, keep old ones.",
            step=where,
        )


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    args: list[msgspec.Raw] = msgspec.field(default_factory=list)
    kwargs: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


def _read_call(json: str, where: str) -> _Call:
    try:
        return _Call(_decode_list(json)) if json.startswith("[") else _decode_call(json)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{where}: what is stored is not a call: {error}. "
            'A call is a JSON array of arguments, or an object {"args": [...], "kwargs": {...}}.',
            step=where,
        ) from error


_NONE = inspect.Parameter.empty
_encode = msgspec.json.Encoder().encode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_call = msgspec.json.Decoder(_Call).decode
