"""What Slack publishes of its API, as a schema: the arguments of each method, blocks, views, options, manifests, what it sends and is answered.

`slack_api.json` is made from Slack's own TypeScript types by `tools/pin_slack_schema.py`, which says how. No property is taken that they do not
name, and the longest texts and lists are those of their comments. What they leave unsaid is in `slack_rules`.
"""

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

SCHEMA = json.loads((Path(__file__).parent / "slack_api.json").read_text())
METHODS = frozenset(SCHEMA["methods"])


def argument_problems(method: str, arguments: Mapping[str, Any], *, as_text: bool = False) -> list[str]:
    """What is wrong with the arguments of a method of the Web API; `as_text`: they came as a form, in which everything is text."""
    if method not in METHODS:
        return [f"{method} is none of the methods of the schema"]
    schema = SCHEMA["methods"][method]
    given = {key: _read(value, _kinds(schema, key)) if as_text else value for key, value in arguments.items()}
    found = _problems(f"methods/{method}", json.dumps(given))
    found += [problem for block in given.get("blocks") or () for problem in block_problems(block)]
    return found + (view_problems(given["view"]) if "view" in given else [])


def result_problems(method: str, result: Mapping[str, Any]) -> list[str]:
    """What is wrong with what Slack is to answer to a method; blocks and views, which it sends back, aside."""
    return _problems(f"results/{method}", json.dumps(_without_enterprise(result)))


def payload_problems(kind: str, payload: Mapping[str, Any]) -> list[str]:
    """What is wrong with what Slack is to send: an envelope's type and its payload. What is none of Slack's would make the bot rely on it."""
    if kind == "events_api" and payload["type"] == "url_verification":
        return []  # the types leave it to the library
    if kind == "events_api":
        kind, payload = str(payload["event"]["type"]), payload["event"]
        return (
            _problems(f"events/{kind}", json.dumps(payload))
            if kind in SCHEMA["events"]
            else [f"{kind} is none of the events of the schema"]
        )
    kind = kind if kind == "slash_commands" else str(payload["type"])
    return (
        _problems(f"payloads/{kind}", json.dumps(_without_enterprise(payload)))
        if kind in SCHEMA["payloads"]
        else [f"{kind} is none of the payloads of the schema"]
    )


def answer_problems(kind: str, answer: Any) -> list[str]:
    """What is wrong with what the bot acknowledges a payload with, by the payload's type, or sends to its `response_url`."""
    return _problems(f"answers/{kind}", json.dumps(answer)) if kind in SCHEMA["answers"] else [f"{kind} is acknowledged without words"]


def block_problems(block: Any) -> list[str]:
    """What is wrong with a block of a message or view."""
    return _problems("block", json.dumps(block))


def view_problems(view: Any) -> list[str]:
    """What is wrong with a modal or a home."""
    return _problems("view", json.dumps(view))


def option_problems(option: Any) -> list[str]:
    """What is wrong with an option of a select menu, or of the answer to a search of it."""
    return _problems("option", json.dumps(option))


def manifest_problems(manifest: Any) -> list[str]:
    """What is wrong with an app's manifest."""
    return _problems("manifest", json.dumps(manifest))


def _without_enterprise(value: Mapping[str, Any]) -> dict[str, Any]:
    """Slack says null of an enterprise that there is not; the types know undefined only, which JSON has not."""
    return {key: item for key, item in value.items() if key != "enterprise" or item is not None}


@cache
def _validator(what: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/{what}"} | SCHEMA)


def _problems(what: str, text: str) -> list[str]:
    return list(_found(what, text))


@lru_cache(2048)  # a message that changes keeps most of its blocks
def _found(what: str, text: str) -> tuple[str, ...]:
    meant = [_meant(error) for error in _validator(what).iter_errors(json.loads(text))]
    return tuple(f"{_short(error.message)} [json-pointer:/{'/'.join(map(str, error.absolute_path))}]" for error in meant)


def _short(message: str) -> str:
    """Begin and end of a message: the whole value stands in it, before or after what is wrong with it."""
    return message if len(message) <= 300 else f"{message[:120]} … {message[-180:]}"


def _meant(error: ValidationError) -> ValidationError:
    """Of several things that something might be, the complaint about the one that it says it is, or comes closest to."""
    while error.context:
        branches: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        meant = min(branches.values(), key=lambda found: (any(inner.validator == "const" for inner in found), len(found)))
        error = max(meant, key=lambda inner: len(inner.absolute_path))
    return error


def _kinds(schema: Mapping[str, Any], name: str) -> set[str]:
    """The JSON types that an argument may have."""
    described = schema.get("properties", {}).get(name, True)
    found = set() if isinstance(described, bool) else {described.get("type", "object")}
    return found.union(*(_kinds(item, name) for item in schema.get("anyOf", ())))


def _read(value: Any, kinds: set[str]) -> Any:
    """An argument of a form, as the schema knows it: Slack reads numbers, `1`, `0`, `true`, `false` and JSON out of text."""
    if not isinstance(value, str) or "string" in kinds:
        return value
    if kinds == {"boolean"}:
        return {"1": True, "true": True, "0": False, "false": False}.get(value.lower(), value)
    try:
        return json.loads(value)
    except ValueError:
        return value
