"""Datasets as JSON, for scripts."""

from typing import Any

from core.datasets.listing import task_types
from core.db.tables import AnnotationSet, Dataset, DatasetFinding


def finding_json(finding: DatasetFinding) -> dict[str, Any]:
    """One finding."""
    return {
        "severity": finding.severity,
        "code": finding.code,
        "file": finding.file,
        "line": finding.line,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def annotation_set_json(annotation_set: AnnotationSet) -> dict[str, Any]:
    """One annotation set; `class_counts` by class name."""
    return {
        "id": annotation_set.id,
        "name": annotation_set.name,
        "kind": annotation_set.kind,
        "classes": annotation_set.classes,
        "class_counts": annotation_set.class_counts,
        "images": annotation_set.image_count,
        "derived_from": annotation_set.derived_from,
    }


def dataset_json(dataset: Dataset, findings: list[DatasetFinding]) -> dict[str, Any]:
    """A dataset with its annotation sets and what its import noticed. `classes` are those of the first annotation set."""
    return {
        "id": dataset.id,
        "name": dataset.name,
        "images": dataset.image_count,
        "classes": list(dataset.annotation_sets[0].classes) if dataset.annotation_sets else [],
        "task_types": [task_type.value for task_type in task_types(dataset)],
        "annotation_sets": [annotation_set_json(one) for one in dataset.annotation_sets],
        "findings": [finding_json(one) for one in findings],
        "format": dataset.source_format,
        "bytes": dataset.bytes,
        "median_size": [dataset.median_width, dataset.median_height],
        "statistics": dataset.statistics,
        "fingerprint": dataset.fingerprint,
        "created_by": dataset.created_by,
        "created_at": dataset.created_at.isoformat(),
    }
