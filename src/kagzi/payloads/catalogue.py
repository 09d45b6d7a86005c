"""`Payloads`: the shapes of one application, each made once."""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any

from kagzi.errors import ConfigError
from kagzi.payloads.calls import CallShape, Parameters
from kagzi.payloads.fault import Role
from kagzi.payloads.hints import function_name, parameter_hints, result_hint
from kagzi.payloads.plan import plan_type
from kagzi.payloads.seal import PayloadCodec, Seal, read_json
from kagzi.payloads.shape import Shape

DEFAULT_LIMIT = 4 * 1024 * 1024
"""Bytes of UTF-8."""

_UNKNOWN = "nothing says what to read it back as"
_VALUE = Role(annotate="Give its type", use="use JSON values")
_RESULT = Role(annotate="Annotate the return type of the function", use="return JSON values")
_ARGUMENT = Role(annotate="Annotate the parameter", use="pass JSON values")
_CACHED_TYPES = 2000

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Payloads:
    """How the values of one application are stored. `limit` is in bytes of UTF-8 of the stored text."""

    def __init__(self, *, limit: int = DEFAULT_LIMIT, codec: PayloadCodec | None = None) -> None:
        self._seal = Seal(limit=limit, codec=codec)
        self._shapes: dict[tuple[Any, Role], Shape[Any]] = {}
        # By id, as hashing a function is slower, and weakly, as lambdas are made per call.
        self._results: dict[int, tuple[weakref.ref[Any], Shape[Any]]] = {}

    def shape(self, annotation: Any) -> Shape[Any]:
        """The shape of a type. Raises ConfigError, naming type and cure, if nothing could be read back as it."""
        return self._shape(annotation, _VALUE)

    def result_shape(self, fn: Callable[..., Any]) -> Shape[Any]:
        """The shape of what `fn` returns, or of what awaiting its result gives.

        Without an annotation, or with one that can't be resolved: JSON values only. Raises ConfigError for a type
        that can't be stored.
        """
        cached = self._results.get(id(fn))
        if cached is not None and cached[0]() is fn:
            return cached[1]
        if type(fn) is types.MethodType:  # made anew at each access
            return self.result_shape(fn.__func__)
        shape = self._result_shape(fn)
        self._remember(fn, shape)
        return shape

    def signature(self, fn: Callable[..., Any], *, skip_first: bool) -> CallShape:
        """The shape of calls of `fn`, without its first parameter if `skip_first` (a workflow's `ctx`).

        Raises ConfigError, naming function and parameter, for a type that is unknown or can't be stored.
        """
        name = function_name(fn)
        try:
            signature = inspect.signature(fn)
            hints = parameter_hints(fn)
        except ValueError:  # a builtin without a signature
            return self._untyped(name)
        except Exception as error:
            raise ConfigError(
                f"an annotation of {name}() can't be resolved: {error}. Define or import that name where the function "
                "is defined, outside `if TYPE_CHECKING`."
            ) from error
        if skip_first:
            signature = _without_first(signature, name)
        return CallShape(self._parameters(name, signature, hints), seal=self._seal)

    def untyped_call(self) -> CallShape:
        """The shape of calls of a function that isn't here: any arguments, JSON values only."""
        return self._untyped("the workflow")

    def show(self, text: str | None) -> Any:
        """The plain JSON value of a stored text, for showing to people. Raises PayloadError if it can't be read."""
        return None if text is None else read_json(self._seal.open(text, "payload"))

    def close(self, json: str, *, where: str) -> str:
        """The text to store of a JSON text. Raises PayloadError where the codec can't, PayloadTooLarge by its size."""
        return self._seal.close(json, where)

    def _shape(self, annotation: Any, role: Role) -> Shape[Any]:
        try:
            shape = self._shapes.get((annotation, role))
        except TypeError:  # an annotation that can't be hashed, such as Annotated[int, []]
            return self._new_shape(annotation, role)
        if shape is None:
            if len(self._shapes) >= _CACHED_TYPES:  # types made inside functions would pile up here
                self._shapes.clear()
            shape = self._shapes[annotation, role] = self._new_shape(annotation, role)
        return shape

    def _new_shape(self, annotation: Any, role: Role) -> Shape[Any]:
        plan = plan_type(annotation)
        if plan.annotation is Any and role.unknown is None:
            role = Role(annotate=role.annotate, use=role.use, unknown=_UNKNOWN)
        return Shape(plan, role=role, seal=self._seal)

    def _result_shape(self, fn: Callable[..., Any]) -> Shape[Any]:
        try:
            hint = result_hint(fn)
        except Exception as error:
            unknown = f"the return annotation of {function_name(fn)}() can't be resolved ({error})"
            return self._shape(
                Any, Role(annotate="Define that name where the function is", use=_RESULT.use, unknown=unknown)
            )
        try:
            return self._shape(hint, _RESULT)
        except ConfigError as error:
            raise ConfigError(f"the result of {function_name(fn)}(): {error}") from error

    def _remember(self, fn: Callable[..., Any], shape: Shape[Any]) -> None:
        key = id(fn)
        try:
            reference = weakref.ref(fn, lambda _: self._results.pop(key, None))
        except TypeError:  # not weakly referable: found out again each time
            return
        self._results[key] = (reference, shape)

    def _parameters(self, name: str, signature: inspect.Signature, hints: dict[str, Any]) -> Parameters:
        shapes: dict[str, Shape[Any]] = {}
        for each in signature.parameters:
            try:
                shapes[each] = self._shape(hints.get(each, Any), _ARGUMENT)
            except ConfigError as error:
                raise ConfigError(f"parameter {each!r} of {name}(): {error}") from error
        kinds = {each: parameter.kind for each, parameter in signature.parameters.items()}
        return Parameters(
            function=name,
            signature=signature,
            positional={each: shapes[each] for each, kind in kinds.items() if kind in _POSITIONAL},
            keyword={each: shapes[each] for each, kind in kinds.items() if kind in _KEYWORD},
            more_positional=next(
                ((each, shapes[each]) for each, kind in kinds.items() if kind is inspect.Parameter.VAR_POSITIONAL), None
            ),
            more_keywords=next(
                (shapes[each] for each, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None
            ),
        )

    def _untyped(self, function: str) -> CallShape:
        anything = self._shape(Any, _ARGUMENT)
        parameters = Parameters(
            function=function,
            signature=None,
            positional={},
            keyword={},
            more_positional=("", anything),
            more_keywords=anything,
        )
        return CallShape(parameters, seal=self._seal)


def _without_first(signature: inspect.Signature, name: str) -> inspect.Signature:
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise ConfigError(f"{name}() takes no context. Give it a first parameter: `ctx: WorkflowContext`.")
    if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return signature
    return signature.replace(parameters=parameters[1:])
