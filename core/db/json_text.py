"""JSON that has been written already, stored without being read and written again."""

import json
from typing import Any


class JsonText(str):
    """The text of a JSON value, as `json.dumps` writes it: a column of JSON takes it for that value."""

    __slots__ = ()


def dump_json(value: Any) -> str:
    """What the engine calls for each value of a column of JSON."""
    return value if isinstance(value, JsonText) else json.dumps(value)
