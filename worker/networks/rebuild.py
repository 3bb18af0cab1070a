"""Rebuild the catalogue: `python -m worker.networks.rebuild [--tables FOLDER]`.

Networks, weights, preprocessing and licences come from the installed libraries; parameters, memory and accepted sizes are measured on the meta
device, and GMACs where nobody published them; those, accuracy and speed are the timm project's published tables (Apache-2.0), pinned in
`core/zoo/published.json` and renewed by `--tables`. Speeds that nobody published were measured by `worker.networks.speeds`.
"""

import argparse
import csv
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import core.zoo
from worker.networks import classification, detection, detection_transformers, segmentation
from worker.networks.measuring import Memory
from worker.networks.rows import ACCURACY_SOURCES, NETWORK_COLUMNS, SPEED_SOURCES, TASK_TYPES, WEIGHT_COLUMNS, NetworkRow, WeightRow

logger = logging.getLogger(__name__)

ZOO = Path(core.zoo.__file__).parent
TABLE_SPEED = "benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"
TABLE_WORK = "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv"
TABLE_ACCURACY = "results-imagenet.csv"
MEASURED_SPEEDS = ZOO / "measured_speeds.json"  # by `worker.networks.speeds`


def take_over(tables: Path) -> dict[str, Any]:
    """The facts that the catalogue uses out of timm's results folder."""
    with (tables / TABLE_ACCURACY).open(encoding="utf-8", newline="") as file:
        accuracy = {row["model"]: [round(float(row["top1"]) / 100, 5), int(row["img_size"])] for row in csv.DictReader(file)}
    with (tables / TABLE_SPEED).open(encoding="utf-8", newline="") as file:
        speed = {row["model"]: [float(row["train_samples_per_sec"]), int(row["train_img_size"])] for row in csv.DictReader(file)}
    with (tables / TABLE_WORK).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    work = {row["model"]: [float(row["infer_gmacs"]), int(row["infer_img_size"])] for row in rows}
    inference = {
        row["model"]: [float(row["infer_samples_per_sec"]), int(row["infer_img_size"])] for row in rows if row["model"] not in speed
    }
    return {"accuracy": accuracy, "speed": speed, "gmacs": work, "inference": inference}


def published() -> dict[str, Any]:
    """The pinned facts, and under `measured` the speeds that were measured because nobody published them."""
    facts: dict[str, Any] = json.loads((ZOO / "published.json").read_text(encoding="utf-8"))
    return facts | {"measured": json.loads(MEASURED_SPEEDS.read_text(encoding="utf-8"))}


def all_rows(facts: dict[str, Any], memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    """Every network with its weights, library after library."""
    for network, weights in _rows(facts, memory):
        speed, source = speed_of(network, facts)
        yield replace(network, images_per_second=speed, speed_source=source), weights


def _rows(facts: dict[str, Any], memory: Memory) -> Iterator[tuple[NetworkRow, list[WeightRow]]]:
    classified = {}
    for network, weights in classification.rows(facts, memory):
        classified[network.network] = (network, weights)
        yield network, weights
    yield from detection.rows(classified, memory)
    yield from detection_transformers.rows(memory)
    yield from segmentation.rows(classified, memory)


def speed_of(network: NetworkRow, facts: dict[str, Any]) -> tuple[float | None, str]:
    """Images a second at the network's input size and where that is from: published in training, else in inference, else measured."""
    for kind, table in (("training", "speed"), ("inference", "inference")):
        if found := facts[table].get(network.network):
            return round(found[0] * (found[1] / network.input_size) ** 2, 1), kind
    measured = facts["measured"]["images_per_second"].get(network.network)
    return measured, "measured" if measured else ""


def write_lines(path: Path, head: dict[str, Any], tables: dict[str, list[Any]]) -> None:
    """JSON with one row a line, so that differences between two versions can be read."""
    parts = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    for key, rows in tables.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
        parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Write the catalogue anew; says what it did on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.networks.rebuild", description="Rebuild the zoo's catalogue from the installed libraries."
    )
    parser.add_argument("--tables", type=Path, help="folder with timm's published results; renews the pinned facts")
    parser.add_argument("--measured", type=Path, help="file in which measured facts are kept from one rebuild to the next")
    parser.add_argument("--output", type=Path, default=ZOO / "catalogue.json")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore")
    if options.tables:
        (ZOO / "published.json").write_text(
            json.dumps(take_over(options.tables), separators=(",", ":")).replace("],", "],\n") + "\n", encoding="utf-8"
        )
    started = time.monotonic()
    networks: list[list[Any]] = []
    weights: list[list[Any]] = []
    facts = published()
    for network, its_weights in all_rows(facts, Memory(options.measured)):
        networks.append(network.values())
        weights.extend(weight.values() for weight in its_weights)
        if len(networks) % 50 == 0:
            logger.info("%d networks, %d weights, %.0f s", len(networks), len(weights), time.monotonic() - started)
    head = {
        "made_by": "python -m worker.networks.rebuild",
        "libraries": {name: version(name).split("+")[0] for name in ("timm", "torchvision", "transformers", "segmentation-models-pytorch")},
        "speed_sources": SPEED_SOURCES
        | {"measured": f"images/s in evaluation, one at a time, fp32, {facts['measured']['where']}; measured for this catalogue"},
        "accuracy_sources": ACCURACY_SOURCES,
        "task_types": TASK_TYPES,
        "normalisations": WeightRow.normalisations(),
        "network_columns": NETWORK_COLUMNS,
        "weight_columns": WEIGHT_COLUMNS,
    }
    write_lines(options.output, head, {"networks": networks, "weights": weights})
    logger.info("%d networks and %d weights written to %s", len(networks), len(weights), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
