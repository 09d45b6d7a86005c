"""The last stage of storing: the application's codec, and the limit on what one payload may weigh."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kagzi.errors import PayloadError, PayloadTooLarge


class PayloadCodec(Protocol):
    """Text to text, around everything that is stored: for encryption or compression.

    `decode(encode(text))` must be `text`. What `encode` returns must not hold NUL characters or lone surrogates.
    Both are called on the worker's event loop.
    """

    def encode(self, text: str) -> str:
        """The text to store."""
        ...

    def decode(self, text: str) -> str:
        """The text that was given to `encode`."""
        ...


class Seal:
    """Turns JSON into stored text and back. `limit` is in bytes of UTF-8 of the stored text."""

    __slots__ = ("_codec", "_limit", "_surely_fits")

    def __init__(self, *, limit: int, codec: PayloadCodec | None) -> None:
        self._limit = limit
        self._surely_fits = limit // 4  # characters, which take four bytes at the most
        self._codec = codec

    def close(self, json: str, where: str) -> str:
        """The text to store. Raises PayloadTooLarge, and PayloadError if the codec fails or loses something."""
        text = json if self._codec is None else _through(self._codec, json, where)
        if len(text) > self._surely_fits:
            size = len(text.encode())
            if size > self._limit:
                raise _too_large(size, self._limit, where)
        return text

    def open(self, text: str, where: str) -> str:
        """The JSON that was closed into `text`. Raises PayloadError if the codec can't read it."""
        if self._codec is None:
            return text
        try:
            return self._codec.decode(text)
        except Exception as error:
            raise PayloadError(
                f"{where}: {type(self._codec).__name__} can't decode the stored text: {_cause(error)}. "
                "Use the codec and the key that it was stored with.",
                step=where,
            ) from error


def read_json(text: str) -> Any:
    """The plain JSON value of a text that the codec has decoded already, for showing to people.

    Raises PayloadError if it is not JSON.
    """
    try:
        return _decode_plain(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PayloadError(f"the stored text is not readable JSON: {_cause(error)}.") from error


def _through(codec: PayloadCodec, json: str, where: str) -> str:
    name = type(codec).__name__
    try:
        text = codec.encode(json)
        intact = codec.decode(text) == json
        text.encode()
    except Exception as error:
        raise PayloadError(f"{where}: {name} can't encode it: {_cause(error)}.", step=where) from error
    if not intact:
        raise PayloadError(
            f"{where}: {name} does not give back what it encoded. Mend its `decode`, or its `encode`.", step=where
        )
    if "\0" in text:
        raise PayloadError(
            f"{where}: what {name} encodes holds NUL characters, which databases refuse. "
            "Let it return text such as base64.",
            step=where,
        )
    return text


def _too_large(size: int, limit: int, where: str) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"{where}: it takes {size:,} bytes when encoded, and the limit is {limit:,}. "
        "Store it elsewhere (a file, a bucket, a table of yours) and keep a reference to it here.",
        step=where,
    )


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(". ")


_decode_plain = msgspec.json.Decoder().decode
