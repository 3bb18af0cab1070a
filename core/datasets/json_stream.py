"""Reading large JSON documents element by element, so that memory is bounded by one element and not by the file."""

import io
import json
from collections.abc import Collection, Iterator
from typing import IO, Any

_CHUNK = 1 << 20
_LARGEST_ELEMENT = 256 << 20  # characters of one element, or of one value that is not streamed
_BLANK = " \t\n\r"
_DECODER = json.JSONDecoder()


class JsonStreamError(ValueError):
    """The document is no JSON, or no object at its top."""


class _Text:
    """A window over the text that grows at its end and is cut at its start."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.buffer = ""
        self.position = 0
        self.ended = False
        self._line, self._counted = 1, 0

    def line(self) -> int:
        """The 1-based line of the next character that is no blank."""
        self.peek()
        self._line += self.buffer.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def fill(self) -> bool:
        """Read on; False at the end of the document. What was passed is forgotten."""
        if self.ended:
            return False
        # As much again as is still open: an element longer than the window is then scanned only a few times.
        chunk = self._stream.read(max(_CHUNK, len(self.buffer) - self.position))
        if not chunk:
            self.ended = True
            return False
        self._line += self.buffer.count("\n", self._counted, self.position)
        self.buffer = self.buffer[self.position :] + chunk
        self.position = self._counted = 0
        if len(self.buffer) > _LARGEST_ELEMENT:
            raise JsonStreamError(f"one value is longer than {_LARGEST_ELEMENT:,} characters")
        return True

    def peek(self) -> str:
        """The next character that is no blank, not passed; empty at the end."""
        while True:
            while self.position < len(self.buffer):
                character = self.buffer[self.position]
                if character not in _BLANK:
                    return character
                self.position += 1
            if not self.fill():
                return ""

    def take(self, expected: str) -> None:
        """Pass one character."""
        found = self.peek()
        if found != expected:
            raise JsonStreamError(f"expected “{expected}”, found “{found or 'the end'}”")
        self.position += 1

    def value(self) -> Any:
        """Pass one whole value and return it."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError as error:
                if self.fill():
                    continue
                raise JsonStreamError(error.msg) from error
            except (RecursionError, ValueError) as error:
                raise JsonStreamError(str(error)) from error
            # A number at the window's end may go on behind it.
            if end == len(self.buffer) and not isinstance(value, (dict, list, str)) and self.fill():
                continue
            self.position = end
            return value


def read_members(binary: IO[bytes], streamed: Collection[str]) -> Iterator[tuple[str, Any, int]]:
    """The members of the object at a document's top, as (key, value, line); lists under the keys `streamed` come element by element.

    `line` is where the value or element begins, from 1.

    Raises:
        JsonStreamError: when the document is no JSON object.
        UnicodeDecodeError: when it is no UTF-8.
    """
    text = _Text(io.TextIOWrapper(binary, encoding="utf-8-sig"))
    text.take("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise JsonStreamError("a key is no text")
        text.take(":")
        if key in streamed and text.peek() == "[":
            yield from ((key, element, line) for element, line in _elements(text))
        else:
            line = text.line()
            yield key, text.value(), line
        if text.peek() != ",":
            text.take("}")
            return
        text.take(",")


def _elements(text: _Text) -> Iterator[tuple[Any, int]]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        line = text.line()
        yield text.value(), line
        if text.peek() != ",":
            text.take("]")
            return
        text.take(",")


def first_keys(binary: IO[bytes], most: int = 65_536) -> list[str]:
    """The first keys of the object at a document's top, as far as they can be told from its first `most` bytes; nothing where it is none."""
    head = binary.read(most)
    keys: list[str] = []
    try:
        for key, _, _ in read_members(io.BytesIO(head), ("images", "annotations", "categories")):
            if key not in keys:
                keys.append(key)
    except (JsonStreamError, UnicodeDecodeError):
        pass  # the head ends somewhere within; or it is no JSON, then there are no keys
    return keys
