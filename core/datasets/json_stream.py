"""Reading large JSON documents element by element, so that memory is bounded by one element and not by the file."""

import io
import json
from collections.abc import Collection, Iterator
from typing import IO, Any

_CHUNK = 1 << 20
_LARGEST_ELEMENT = 256 << 20  # characters of one element, or of one value that is not streamed
_BLANK = " \t\n\r"
_DECODER = json.JSONDecoder()
_CUT_OFF = "it ends before it is complete, so it has been cut off"
_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")


class JsonStreamError(ValueError):
    """The document is no JSON, or no object at its top. `line` is where it stops being one, from 1; None where that is not known."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


class TooLongError(JsonStreamError):
    """A value that is too long to be looked at as a whole; it may be sound."""


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
        try:
            chunk = self._stream.read(max(_CHUNK, len(self.buffer) - self.position))
        except UnicodeDecodeError as error:
            raise JsonStreamError("it is not in UTF-8") from error
        if not chunk:
            self.ended = True
            return False
        self._line += self.buffer.count("\n", self._counted, self.position)
        self.buffer = self.buffer[self.position :] + chunk
        self.position = self._counted = 0
        if len(self.buffer) > _LARGEST_ELEMENT:
            raise TooLongError(f"one value is longer than {_LARGEST_ELEMENT:,} characters")
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
            raise JsonStreamError(f"expected “{expected}”, found “{found}”" if found else _CUT_OFF, self.line())
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
                line = self.line() + self.buffer.count("\n", self.position, error.pos)
                raise JsonStreamError(_CUT_OFF if _ends_within(error) else error.msg, line) from error
            except (RecursionError, ValueError) as error:
                raise JsonStreamError(str(error), self.line()) from error
            # A number at the window's end may go on behind it.
            if end == len(self.buffer) and not isinstance(value, (dict, list, str)) and self.fill():
                continue
            self.position = end
            return value


def _ends_within(error: json.JSONDecodeError) -> bool:
    """Whether what is wrong with a value is that the document ends before it does."""
    rest = error.doc[error.pos :].strip()
    return not rest or error.msg.startswith("Unterminated") or any(word.startswith(rest) for word in _WORDS)


def read_members(binary: IO[bytes], streamed: Collection[str]) -> Iterator[tuple[str, Any, int]]:
    """The members of the object at a document's top, as (key, value, line); lists under the keys `streamed` come element by element.

    `line` is where the value or element begins, from 1.

    Raises:
        JsonStreamError: when the document is no JSON object in UTF-8.
    """
    yield from _members(_Text(io.TextIOWrapper(binary, encoding="utf-8-sig")), streamed, [])


def _members(text: _Text, streamed: Collection[str], met: list[str]) -> Iterator[tuple[str, Any, int]]:
    """As `read_members`; each key is put into `met` before its value is looked at."""
    text.take("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise JsonStreamError("a key is no text", text.line())
        met.append(key)
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
    """The first keys of the object at a document's top, as far as they can be told from its first `most` bytes; nothing where it is none.

    A key counts before its value does: this may be longer than the head, or cut off.
    """
    keys: list[str] = []
    try:
        text = _Text(io.TextIOWrapper(io.BytesIO(binary.read(most)), encoding="utf-8-sig"))
        for _ in _members(text, ("images", "annotations", "categories"), keys):
            pass
    except JsonStreamError:
        pass  # the head ends somewhere within; or it is no JSON, then there are no keys
    return list(dict.fromkeys(keys))


def check(binary: IO[bytes]) -> None:
    """Read a whole document, whatever stands at its top.

    Raises:
        JsonStreamError: when it is no JSON in UTF-8.
    """
    text = _Text(io.TextIOWrapper(binary, encoding="utf-8-sig"))
    first = text.peek()
    if first == "{":
        for _ in _members(text, ("images", "annotations", "categories"), []):
            pass
    elif first == "[":
        for _ in _elements(text):
            pass
    else:
        text.value()
