"""Forms as modals: inputs filled with the current values; what was typed read back; refused values named by their field."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bot.slack.render import VIEW_BLOCKS, context, section
from bot.slack.text import Json, literal, plain, shortened, unescape
from core.tasks.hyperparameters import FieldError
from core.tuning.search import TYPED_FIELDS, typed_product, typed_refusals
from core.wizard.screens import Field, Form

CALLBACK = "stationmaster"
TITLE = 24
LABEL = 2000
METADATA = 3000
INPUT_LENGTH = 3000
ON = ("on", "true", "yes", "1")
FIELD = "field:"  # before a field's name in the id of its block
FILES = "files"
VALUE = "value"
PRODUCT = "product"


def form_view(
    form: Form, metadata: Mapping[str, Any], *, upload: str = "", error: str = "", values: Mapping[str, str] | None = None
) -> Json:
    """A form as a modal.

    `upload` asks for a file too, under that label; `error` stands above the fields; `values` are what was typed before.
    """
    blocks = [section(f"⛔ {literal(error)}")] if error else []
    blocks += [input_block(field, (values or {}).get(field.name)) for field in form.fields]
    product = typed_product({field.name: (values or {}).get(field.name, field.value) for field in form.fields})
    if product is not None:
        blocks = [told_of_typing(block) for block in blocks] + [product_block(product)]
    if upload:
        element = {"type": "file_input", "action_id": VALUE, "max_files": 1}
        blocks.append(
            {"type": "input", "block_id": FIELD + FILES, "label": plain(upload, LABEL), "element": element, "optional": bool(form.fields)}
        )
    return view(form.title, blocks, metadata, submit=form.submit)


def view(title: str, blocks: Sequence[Json], metadata: Mapping[str, Any], *, submit: str = "", close: str = "Close") -> Json:
    """A modal."""
    carried = json.dumps(metadata, separators=(",", ":"))
    if len(carried) > METADATA:
        raise ValueError("too much to carry in a modal")
    drawn: Json = {
        "type": "modal",
        "callback_id": CALLBACK,
        "title": plain(title, TITLE),
        "blocks": list(blocks)[:VIEW_BLOCKS],
        "close": plain("Cancel" if submit else close, TITLE),
        "private_metadata": carried,
    }
    if submit:
        drawn["submit"] = plain(submit, TITLE)
    return drawn


def told_of_typing(block: Json) -> Json:
    """An input block of which Slack tells each character that is typed; others as they are."""
    if block.get("element", {}).get("type") != "plain_text_input":
        return block
    config = {"trigger_actions_on": ["on_character_entered"]}
    return block | {"dispatch_action": True, "element": block["element"] | {"dispatch_action_config": config}}


def product_block(product: str) -> Json:
    """How many training jobs what is typed comes to."""
    return context(literal(product or "Numbers, separated by commas.")) | {"block_id": PRODUCT}


def counted_view(view: Mapping[str, Any]) -> Json | None:
    """A grid's modal as it stands with its product brought up to date; None where nothing has changed, or it is another modal."""
    product = typed_product(typed_values(view)[0])
    shown = next((block for block in view.get("blocks") or () if block.get("block_id") == PRODUCT), None)
    if product is None or shown is None:
        return None
    counted = product_block(product)
    if unescape(shown["elements"][0]["text"]) == unescape(counted["elements"][0]["text"]):
        return None
    kept = {key: view[key] for key in ("type", "callback_id", "title", "submit", "close", "private_metadata") if view.get(key)}
    # What was typed stays: Slack keeps it for inputs whose ids stay.
    return kept | {"blocks": [counted if block is shown else block for block in view["blocks"]]}


def notice_view(title: str, text: str, metadata: Mapping[str, Any] | None = None) -> Json:
    """A modal that only says something."""
    return view(title, [section(text)], metadata or {})


def input_block(field: Field, typed: str | None = None) -> Json:
    """One field, filled with its value, or with what was `typed` before."""
    value = field.value if typed is None else typed
    hint = ". ".join(filter(None, (field.error.rstrip("."), field.hint)))
    block: Json = {
        "type": "input",
        "block_id": FIELD + field.name,
        "label": plain(field.label, LABEL),
        "element": {"action_id": VALUE} | _element(field, value),
        # An unticked box is an answer too.
        "optional": not field.required or field.kind == "toggle",
    }
    if hint:
        block["hint"] = plain(hint, LABEL)
    return block


def _element(field: Field, value: str) -> Json:
    if field.kind == "toggle":
        ticked: Json = {"text": plain("On", 75), "value": "on"}
        chosen = {"initial_options": [ticked]} if value.lower() in ON else {}
        return {"type": "checkboxes", "options": [ticked]} | chosen
    if field.kind == "choice":
        offered = [{"text": plain(item, 75), "value": item} for item in field.choices]
        current = next((item for item in offered if item["value"] == value), None)
        return {"type": "static_select", "options": offered} | ({"initial_option": current} if current else {})
    if field.kind in ("integer", "number"):
        element: Json = {"type": "number_input", "is_decimal_allowed": field.kind == "number"}
        known = TYPED_FIELDS.get(field.name)
        if known is not None and known.minimum is not None and known.maximum is not None:
            element |= {"min_value": _number(known.minimum), "max_value": _number(known.maximum)}
        filled = _filled_number(value, whole=field.kind == "integer")
        return element | ({"initial_value": filled} if filled else {})
    most = min(field.max_length, INPUT_LENGTH)
    element = {"type": "plain_text_input", "max_length": most, "multiline": field.kind == "paragraph"}
    return element | ({"initial_value": shortened(value, most)} if value else {})


def _number(number: float) -> str:
    """Digits without an exponent, as Slack wants them."""
    return f"{number:.10f}".rstrip("0").rstrip(".") if isinstance(number, float) else str(number)


def _filled_number(text: str, *, whole: bool) -> str:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        return ""
    return _number(number) if math.isfinite(number) else ""


def metadata_of(view: Mapping[str, Any]) -> dict[str, Any]:
    """What a modal carries; empty where it is none of ours."""
    try:
        carried = json.loads(view.get("private_metadata") or "{}")
    except ValueError:
        return {}
    return carried if isinstance(carried, dict) else {}


def typed_values(view: Mapping[str, Any]) -> tuple[dict[str, str], list[Json]]:
    """The typed values of a sent modal by field name, and the files."""
    values: dict[str, str] = {}
    files: list[Json] = []
    for block_id, elements in (view.get("state") or {}).get("values", {}).items():
        name = block_id.removeprefix(FIELD)
        for element in elements.values():
            if "files" in element:
                files += element.get("files") or []
            elif element.get("type") == "checkboxes":
                values[name] = "on" if element.get("selected_options") else "off"
            elif "selected_option" in element:
                values[name] = (element.get("selected_option") or {}).get("value", "")
            else:
                values[name] = str(element.get("value") or "")
    return values, files


def refused_values(view: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with typed values, by block id as Slack wants it: known without looking anything up, so in time."""
    wrong: dict[str, str] = {}
    for block in view.get("blocks") or ():
        name = str(block.get("block_id", "")).removeprefix(FIELD)
        if block.get("type") != "input" or name not in values:
            continue
        value, element = values[name], block.get("element") or {}
        label = unescape((block.get("label") or {}).get("text", name))
        most = element.get("max_length")
        if name in TYPED_FIELDS:
            try:
                TYPED_FIELDS[name].parse(value)
            except FieldError as error:
                wrong[block["block_id"]] = error.what
        elif not block.get("optional") and not value.strip():
            wrong[block["block_id"]] = f"{label} must not be empty."
        elif isinstance(most, int) and len(value) > most:
            wrong[block["block_id"]] = f"{label} takes up to {most:,} characters; {len(value):,} were given."
        elif name == "confirmation" and value.strip() != "DELETE":
            wrong[block["block_id"]] = "Type DELETE, in capital letters."
    wrong |= {FIELD + name: refusal for name, refusal in typed_refusals(values).items()}
    # Errors of a modal are plain text, shown to the one who typed.
    return {block_id: text[:300] for block_id, text in wrong.items()}


def working_view(title: str, metadata: Mapping[str, Any]) -> Json:
    """What stands in a modal while its content is made."""
    return view(title, [context("One moment …")], metadata)
