"""What `stationmaster model test` prints: the numbers of a batch test, of all classes and of each."""

from collections.abc import Mapping
from typing import Any

from bot.messages import LEARNT_FROM, metric_rows, percent
from bot.terminal.commands.output import print_facts, print_table, say

# Column titles of the numbers that a class may have, in their order.
COLUMNS = {
    "images": "Images",
    "objects": "Objects",
    "auroc": "AUROC",
    "average_precision": "AP",
    "ap": "AP",
    "ap50": "AP 50",
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity",
    "recall": "Recall",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "diagnostic_odds_ratio": "Odds ratio",
    "threshold": "Counts from",
}


def print_batch_test(result: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Facts, a line per class, and where the pictures lie."""
    facts = [
        ("Model", str(result["model"])),
        ("Dataset", f"{result['dataset']}, {result['annotation_set']}"),
        ("Images", f"{result['images']:,}"),
    ]
    if result["left_out_images"]:
        facts.append(("Left out", f"{result['left_out_images']:,} images of classes that the model does not know"))
    if result["unknown_classes"]:
        facts.append(("Unknown to the model", ", ".join(result["unknown_classes"])))
    if result["learnt_from"]:
        facts.append(("Mind", LEARNT_FROM))
    facts += metric_rows(result["metrics"], thresholds="model's")
    if result.get("ap_by_overlap"):
        facts.append(("AP by overlap", ", ".join(f"{overlap}: {percent(value)}" for overlap, value in result["ap_by_overlap"].items())))
    print_facts(facts)
    print_classes(result["per_class"])
    for name, place in files.items():
        say(f"{name}: {place}")


def print_classes(per_class: Mapping[str, Mapping[str, Any]]) -> None:
    """A line of numbers for each class."""
    names = [name for name in COLUMNS if any(name in values for values in per_class.values())]
    lines = ((label, *(_shown(name, values.get(name)) for name in names)) for label, values in per_class.items())
    print_table(("Class", *(COLUMNS[name] for name in names)), lines, empty="The model knows no class.")


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in ("images", "objects"):
        return f"{value:,}"
    return f"{value:,.1f}" if name == "diagnostic_odds_ratio" else percent(value)
