"""All choices so far of a task being put together; stored as JSON in the draft's row, never in a process."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.vocabulary import DataType, Flow, TaskType, Tuning


class Selection(StrEnum):
    """How the network is found."""

    AUTO = "auto"
    MANUAL = "manual"


class Choices(BaseModel):
    """What the person has chosen and typed. Nothing is dropped when they go back; a later choice overrules only what it contradicts."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    step: str = "flow"
    flow: Flow | None = None
    task_type: TaskType | None = None
    preset: str = ""
    source_model_id: str = ""

    dataset_id: str = ""
    annotation_set_id: str = ""
    preview_page: int = 1

    selection: Selection = Selection.AUTO
    preference: int = Field(3, ge=1, le=5)
    data_type: DataType | None = None
    family: str = ""
    network: str = ""
    pretraining: str = ""
    from_scratch: bool = False  # an application whose weights cannot be had is trained without them
    suggest_pretraining: str = ""  # a script's: what auto select may choose among; empty: the best weights at hand
    suggestion: dict[str, Any] = Field(default_factory=dict)  # network, pretraining, reasons; and what it was made for

    evidence_job_id: str = ""  # of the light job that measures candidates on the chosen images

    tuning: Tuning = Tuning.AUTO
    hyperparameters: dict[str, Any] = Field(default_factory=dict)  # typed values that were accepted
    search: dict[str, dict[str, Any]] = Field(default_factory=dict)  # by tuning: accepted lists, ranges and numbers of jobs
    overrides_recipe: bool = False  # a script's: the values above overrule auto's recipe
    refused: dict[str, str] = Field(default_factory=dict)  # what was typed and not accepted, by field

    name: str = ""
    description: str = ""
    model_name: str = ""
