"""The row of a finished model, whose files lie in models/m1, as the benches of the worker's tests make them."""

from typing import Any

from core.db.tables import Model


def stripes_model(**otherwise: Any) -> Model:
    """One that tells two directions of stripes apart; `otherwise` are columns that are not as usual."""
    usual: dict[str, Any] = {
        "workspace": "default",
        "name": "Stripes",
        "task_type": "single-label",
        "network": "test_resnet",
        "pretraining": "none",
        "classes": ["direction 0", "direction 1"],
        "metrics": {},
        "key": "models/m1",
        "created_by": "cli:test",
    }
    return Model(**usual | otherwise)
