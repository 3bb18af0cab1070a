"""What people say in a few words: `/train detection cells`, `@Stationmaster tasks`."""

import re
from dataclasses import dataclass

from bot.slack.text import unescape
from core.vocabulary import TaskType

TASK_TYPE_WORDS = {
    TaskType.SINGLE_LABEL: ("single-label", "single label", "singlelabel", "single", "classification", "classify"),
    TaskType.MULTI_LABEL: ("multi-label", "multi label", "multilabel", "multi", "tagging", "tags"),
    TaskType.OBJECT_DETECTION: ("object-detection", "object detection", "detection", "detect", "boxes"),
    TaskType.OBJECT_SEGMENTATION: ("object-segmentation", "object segmentation", "segmentation", "segment", "masks"),
}
# The longest first, so that "object detection cells" is not taken for the dataset "detection cells".
_WORDS = sorted(((word, kind) for kind, words in TASK_TYPE_WORDS.items() for word in words), key=lambda pair: -len(pair[0]))
_FILLERS = re.compile(r"^(?:(?:a|an|the|me|on|with|for|model|please)\b\s*)+", re.IGNORECASE)
ACTIONS = {"tasks": "tasks:list", "datasets": "datasets:list", "models": "models:list", "help": "help:show", "train-help": "help:show"}
HELP = "help:show"


@dataclass(frozen=True)
class Wish:
    """What somebody wants to train, as far as they said."""

    task_type: TaskType | None = None
    dataset: str = ""


def read_wish(text: str) -> Wish:
    """The task type and the dataset of `detection cells`, each where it was said."""
    text = " ".join(unescape(text).split())
    for word, kind in _WORDS:
        rest = text[len(word) :]
        if text.lower().startswith(word) and (not rest or not (rest[0].isalnum() or rest[0] in "-_")):
            return Wish(kind, _FILLERS.sub("", rest.strip(" :,–-")).strip())
    return Wish(None, text)


def read_order(text: str) -> tuple[str, str]:
    """What somebody tells the bot: a verb (`train`, an action of the desk) and the rest."""
    text = " ".join(re.sub(r"<@[A-Z0-9]+(?:\|[^>]*)?>", " ", text).split())
    verb, _, rest = text.partition(" ")
    verb = verb.lower().strip("/,:!.")
    if verb == "train":
        return "train", rest
    return ACTIONS.get(verb, HELP), rest if verb in ACTIONS else ""
