#!/usr/bin/env python3
"""Pins what Slack publishes of its API as a JSON schema that the tests hold everything against that the bot sends.

    python tools/pin_slack_schema.py             # needs node, npm and the npm registry; writes tests/fakes/slack_api.json

Slack has no JSON schema of its Web API, but it publishes TypeScript types of the arguments and results of each method, of blocks, views and
manifests, of the events and payloads that it sends and of the answers to them (`@slack/web-api`, `@slack/types`, `@slack/bolt`, MIT), with the
longest texts and lists in their comments. `ts-json-schema-generator` (MIT) turns the types into a schema that takes no other properties. Here the
limits of the comments become `maxLength` and the like, unions told apart by `type` are written so that checking them is quick and says what is
wrong, and whatever is not for checking is left out. A comment with a limit that was not understood is printed: one to read when the versions below
go up.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINNED = ROOT / "tests" / "fakes" / "slack_api.json"
PACKAGES = {"@slack/bolt": "5.1.0", "@slack/web-api": "8.2.0", "@slack/types": "3.2.0"}
GENERATOR = {"ts-json-schema-generator": "2.4.0"}
METHODS = {  # of the Web API that the bot calls: the type of their arguments
    "apps.connections.open": "AppsConnectionsOpenArguments",
    "auth.test": "AuthTestArguments",
    "chat.delete": "ChatDeleteArguments",
    "chat.getPermalink": "ChatGetPermalinkArguments",
    "chat.postEphemeral": "ChatPostEphemeralArguments",
    "chat.postMessage": "ChatPostMessageArguments",
    "chat.update": "ChatUpdateArguments",
    "conversations.history": "ConversationsHistoryArguments",
    "conversations.open": "ConversationsOpenArguments",
    "conversations.replies": "ConversationsRepliesArguments",
    "files.completeUploadExternal": "FilesCompleteUploadExternalArguments",
    "files.getUploadURLExternal": "FilesGetUploadURLExternalArguments",
    "files.info": "FilesInfoArguments",
    "oauth.v2.access": "OAuthV2AccessArguments",
    "users.info": "UsersInfoArguments",
    "views.open": "ViewsOpenArguments",
    "views.publish": "ViewsPublishArguments",
    "views.update": "ViewsUpdateArguments",
}
PAYLOADS = {  # that Slack sends when somebody does something, by their `type`
    "block_actions": "BlockActions",
    "block_suggestion": "BlockSuggestion",
    "message_action": "MessageShortcut",
    "shortcut": "GlobalShortcut",
    "slash_commands": "SlashCommand",
    "view_submission": "ViewSubmitAction",
}
EVENTS = {  # that Slack tells the bot of
    "app_home_opened": "AppHomeOpenedEvent",
    "app_mention": "AppMentionEvent",
    "app_uninstalled": "AppUninstalledEvent",
    "message": "MessageEvent",
    "tokens_revoked": "TokensRevokedEvent",
}
ANSWERS = {  # of the bot: what it acknowledges a payload with, and what it sends to a payload's response_url
    "block_suggestion": "BlockOptions",
    "response_url": "RespondArguments",
    "view_submission": "ViewResponseAction",
}
OTHERS = {"block": "KnownBlock", "manifest": "AppManifest", "option": "PlainTextOption", "view": "View"}
CHECKED_APART = {"blocks", "view"}  # of a method
# Of a method's results: what was sent and has been checked, and what the bot has no use for.
NOT_OF_RESULTS = {"attachments", "blocks", "bot_profile", "description_blocks", "event_payload", "root", "title_blocks", "view"}
NOT_OF_RESULTS |= {"assistant_app_thread", "latest", "list_metadata", "room"}
ENTRY = """
export * from "@slack/web-api";
export * from "@slack/types";
export type { BlockOptions, BlockSuggestion, GlobalShortcut, MessageShortcut, RespondArguments, SlashCommand } from "@slack/bolt";
export type { ViewResponseAction, ViewSubmitAction } from "@slack/bolt";
import type { AppsManifestCreateArguments } from "@slack/web-api";
import type { BlockAction, BlockElementAction } from "@slack/bolt";
export type AppManifest = AppsManifestCreateArguments["manifest"];
export type BlockActions = BlockAction<BlockElementAction>;
"""

LONGEST = re.compile(r"max(?:imum)?\s+length\s+(?P<where>[^.]*?)\s*(?:is|of)\s+(?P<number>[\d,]+)\s+characters", re.IGNORECASE)
SHORTEST = re.compile(r"minimum\s+length\s+[^.]*?is\s+(?P<number>\d+)", re.IGNORECASE)
MOST = re.compile(
    r"(?:max(?:imum)?(?:\s+number)?(?:\s+of)?(?:\s+(?:items|options|option\s+groups))?(?:\s+is)?|up\s+to)\s+(?P<number>\d+)", re.IGNORECASE
)
GREATEST = re.compile(r"max(?:imum)?\s+(?:value\s+is|of)\s+`?(?P<number>\d+)", re.IGNORECASE)
SPEAKS_OF_LIMITS = re.compile(r"\b(max|maximum|at most|up to|no more than)\b", re.IGNORECASE)
NOT_FOR_CHECKING = {"description", "examples", "default", "deprecated", "$comment", "title"}


def result_of(method: str) -> str:
    """The type of what a method answers."""
    return "".join(part[0].upper() + part[1:] for part in method.split(".")) + "Response"


def generated(folder: Path) -> dict[str, Any]:
    """The schemas of all types, by their names, as the generator makes them; and, under an empty name, the packages' licences."""
    wanted = [f"{name}@{version}" for name, version in (PACKAGES | GENERATOR).items()]
    (folder / "package.json").write_text('{"private": true}')
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--save-exact", *wanted], cwd=folder, check=True)
    (folder / "entry.ts").write_text(ENTRY)
    shutil.copy(ROOT / "tools" / "slack_schema.mjs", folder)
    types = sorted({*METHODS.values(), *map(result_of, METHODS), *PAYLOADS.values(), *EVENTS.values(), *ANSWERS.values(), *OTHERS.values()})
    made = subprocess.run(["node", "slack_schema.mjs", "entry.ts", *types], cwd=folder, check=True, stdout=subprocess.PIPE)
    licences = {(folder / "node_modules" / name / "LICENSE").read_text().strip() for name in PACKAGES}
    return {"": "\n\n".join(sorted(licences)), **json.loads(made.stdout)}


def of_text(schema: dict[str, Any]) -> bool:
    """Whether this is a text object, or a choice of such."""
    names = [schema.get("$ref", "")] + [item.get("$ref", "") for item in schema.get("anyOf", ())]
    return any(name.rpartition("/")[2] in ("PlainTextElement", "MrkdwnElement", "TextObject") for name in names)


def limits_of(comment: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What a property's comment says of its size, in the words of JSON schema."""
    said: dict[str, Any] = {}
    longest, shortest, most = LONGEST.search(comment), SHORTEST.search(comment), MOST.search(comment)
    lengths = {"maxLength": int(longest["number"].replace(",", ""))} if longest else {}
    lengths |= {"minLength": int(shortest["number"])} if shortest else {}
    kind = schema.get("type")
    if kind == "string":
        return lengths
    if of_text(schema) and lengths:
        return {"properties": {"text": lengths}}
    if kind == "array":
        if longest and "each item" in longest["where"] and of_text(schema["items"]):
            said["items"] = {**schema["items"], "properties": {"text": lengths}}
        if most:
            said["maxItems"] = int(most["number"])
    elif kind == "number" and (greatest := GREATEST.search(comment)):
        said["maximum"] = int(greatest["number"])
    return said


def schemas(value: Any, *, names: bool = False) -> Iterator[dict[str, Any]]:
    """Every schema within one; `names`: the keys of this are names of properties or definitions, not words of JSON schema."""
    if isinstance(value, list):
        for item in value:
            yield from schemas(item)
    elif isinstance(value, dict):
        if not names:
            yield value
        for key, item in list(value.items()):
            yield from schemas(item, names=not names and key in ("properties", "definitions"))


def read_limits(definitions: dict[str, Any]) -> None:
    """Write down the limits that comments tell, and print comments that were not understood."""
    for schema in schemas(definitions, names=True):
        for name, property_ in (schema.get("properties") or {}).items():
            comment = " ".join(property_["description"].split()) if "description" in property_ else ""
            found = limits_of(comment, property_)
            if not found and SPEAKS_OF_LIMITS.search(comment):
                sys.stderr.write(f"not understood: {name}: {comment}\n")
            property_ |= found


def leave_out(definitions: dict[str, Any]) -> None:
    """Take away what is there to be read only; and in JSON nothing is both demanded and undefined."""
    for schema in schemas(definitions, names=True):
        for key in NOT_FOR_CHECKING & set(schema):
            del schema[key]
        if "required" in schema and "properties" in schema:
            schema["required"] = [name for name in schema["required"] if schema["properties"].get(name) != {"not": {}}]


def without_unknown_blocks(definitions: dict[str, Any]) -> None:
    """Slack's types let any other block through that has but a `type`; the bot has no business with such."""
    for schema in schemas(definitions, names=True):
        left = [item for item in schema.get("anyOf", ()) if item != {"$ref": "#/definitions/Block"}]
        if len(left) < len(schema.get("anyOf", ())):
            del schema["anyOf"]
            schema |= left[0] if len(left) == 1 else {"anyOf": left}


def alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The alternatives of a union, those of unions within it too."""
    for item in schema["anyOf"]:
        target = definitions[item["$ref"].rpartition("/")[2]] if set(item) == {"$ref"} else item
        if "anyOf" in target:
            yield from alternatives(target, definitions)
        else:
            yield item


def told_apart(value: Any, definitions: dict[str, Any]) -> Any:
    """Unions of objects that each have a `type` of their own, as a choice by that type: the same is taken, and errors are told of the one meant."""
    if isinstance(value, list):
        return [told_apart(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: told_apart(item, definitions) for key, item in value.items()}
    if "anyOf" not in value:
        return changed
    by_type: dict[str, list[dict[str, Any]]] = {}
    for item in alternatives(value, definitions):
        target = definitions[item["$ref"].rpartition("/")[2]] if "$ref" in item else item
        kind = (target.get("properties") or {}).get("type", {}).get("const") if isinstance(target, dict) else None
        if kind is None or "type" not in target.get("required", ()):
            return changed
        by_type.setdefault(kind, []).append(told_apart(item, definitions))
    if len(by_type) < 2:
        return changed
    choice = [
        {"if": {"properties": {"type": {"const": kind}}}, "then": items[0] if len(items) == 1 else {"anyOf": items}}
        for kind, items in by_type.items()
    ]
    return {
        **{key: item for key, item in changed.items() if key != "anyOf"},
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(by_type)}} | changed.get("properties", {}),
        "allOf": choice,
    }


def shared_first(schema: dict[str, Any]) -> dict[str, Any]:
    """A method's alternatives without the properties that all of them describe alike: those stand once, and are checked once.

    Blocks and views are checked apart from the methods.
    """
    if "anyOf" not in schema:
        properties = {name: name in CHECKED_APART or found for name, found in schema["properties"].items()}
        return schema | {"properties": properties}
    if not all("properties" in item for item in schema["anyOf"]):
        return schema
    described: dict[str, list[Any]] = {}
    for item in schema["anyOf"]:
        for name, property_ in item["properties"].items():
            described.setdefault(name, []).append(property_)
    alike = {
        name: True if name in CHECKED_APART else found[0] for name, found in described.items() if all(item == found[0] for item in found)
    }
    return {
        "type": "object",
        "properties": alike,
        "anyOf": [
            item | {"properties": {name: name in alike or found for name, found in item["properties"].items()}} for item in schema["anyOf"]
        ],
    }


def described(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A definition itself, where it only leads to another one."""
    schema = definitions[name]
    return described(schema["$ref"].rpartition("/")[2], definitions) if set(schema) == {"$ref"} else schema


def reached(schema: Any, definitions: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The definitions that a schema leads to."""
    for name in re.findall(r'"#/definitions/([^"]+)"', json.dumps(schema, ensure_ascii=False)):
        if name not in found:
            found[name] = definitions[name]
            reached(definitions[name], definitions, found)
    return found


def results(made: dict[str, Any]) -> dict[str, Any]:
    """The types of all answers, taken out of `made`, and the definitions they need under names of their own: each answer has another `File`."""
    found: dict[str, Any] = {}
    for name in map(result_of, METHODS):
        definitions = made.pop(name)["definitions"]
        for schema in schemas(definitions, names=True):
            for property_ in NOT_OF_RESULTS & set(schema.get("properties", ())):
                schema["properties"][property_] = True
        leave_out(definitions)
        text = re.sub(r'"#/definitions/([^"]+)"', rf'"#/definitions/{name}.\1"', json.dumps(definitions))
        found |= {f"{name}.{inner}": definition for inner, definition in json.loads(text).items()}
    return found


def pinned(made: dict[str, Any]) -> dict[str, Any]:
    """One schema: methods, their results, payloads, events, answers and the others by name, with the definitions they need."""
    licences = made.pop("")
    definitions: dict[str, Any] = {}
    answered = results(made)
    for schema in made.values():
        for name, definition in schema["definitions"].items():
            if definitions.setdefault(name, definition) != definition:
                raise SystemExit(f"two definitions of {name}")
    # What is pressed in a dialog or a home has no message to answer to, whatever the type says.
    definitions["BlockAction<BlockElementAction>"]["required"].remove("response_url")
    # The generator joins the alternatives of this type into one that demands what each of them does.
    del definitions["RespondArguments"]["required"]
    read_limits(definitions)
    leave_out(definitions)
    for schema in schemas(definitions, names=True):
        if "url_private" in schema.get("properties", ()):  # a file that somebody sent: each type of it knows other properties of the same
            schema.pop("additionalProperties", None)
    without_unknown_blocks(definitions)
    definitions = {name: told_apart(definition, definitions) for name, definition in definitions.items()}

    def group(names: dict[str, str]) -> dict[str, Any]:
        return {called: described(name, definitions) for called, name in names.items()}

    definitions |= answered
    methods = {method: shared_first(schema) for method, schema in group(METHODS).items()}
    roots = {
        "methods": methods,
        "results": group({method: f"{result_of(method)}.{result_of(method)}" for method in METHODS}),
        "payloads": group(PAYLOADS),
        "events": group(EVENTS),
        "answers": group(ANSWERS),
        **group(OTHERS),
    }
    source = ", ".join(f"{name} {version}" for name, version in PACKAGES.items())
    return {
        "$comment": f"Made by tools/pin_slack_schema.py from Slack's published TypeScript types, {source}. Their licences: {licences}",
        **roots,
        "definitions": dict(sorted(reached(roots, definitions, {}).items())),
    }


def main() -> None:
    """Make the schema and write it down."""
    with tempfile.TemporaryDirectory() as folder:
        schema = pinned(generated(Path(folder)))
    PINNED.write_text(json.dumps(schema, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.write(f"{PINNED}: {PINNED.stat().st_size} bytes, {len(schema['definitions'])} definitions\n")


if __name__ == "__main__":
    main()
