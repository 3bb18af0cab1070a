"""The fixed words of the product: slugs are the same in code, database, command line and JSON."""

from enum import StrEnum


class TaskType(StrEnum):
    """What is to be learnt, in the order in which it is offered."""

    SINGLE_LABEL = "single-label"
    MULTI_LABEL = "multi-label"
    OBJECT_DETECTION = "object-detection"
    OBJECT_SEGMENTATION = "object-segmentation"

    @property
    def title(self) -> str:  # type: ignore[override]  # the members are slugs: nobody capitalises them as strings
        """The name people read."""
        return TASK_TYPE_TEXTS[self][0]

    @property
    def explanation(self) -> str:
        """One line on what it is."""
        return TASK_TYPE_TEXTS[self][1]

    @property
    def kinds(self) -> "tuple[AnnotationKind, ...]":
        """The annotation kinds it can be trained on."""
        return TASK_TYPE_KINDS[self]


class Flow(StrEnum):
    """How much the person chooses."""

    GENERAL = "general"
    SPECIALIZED = "specialized"
    RETRAINING = "retraining"


class AnnotationKind(StrEnum):
    """What an annotation says of an image."""

    SINGLE_LABEL = "single-label"
    MULTI_LABEL = "multi-label"
    BOXES = "boxes"
    REGIONS = "regions"  # one mask per class
    INSTANCES = "instances"  # one mask per object

    @property
    def title(self) -> str:  # type: ignore[override]  # the members are slugs: nobody capitalises them as strings
        """The name people read."""
        return KIND_TITLES[self]


class Tuning(StrEnum):
    """How hyperparameters are found."""

    AUTO = "auto"
    MANUAL = "manual"
    GRID = "grid"
    RANDOM = "random"
    POPULATION = "population"


class DataType(StrEnum):
    """What the images show."""

    CT = "ct"
    MRI = "mri"
    X_RAY = "x-ray"
    FUNDUS = "fundus"
    PHOTO = "photo"
    MICROSCOPY = "microscopy"
    AERIAL = "aerial"
    DOCUMENT = "document"
    INDUSTRIAL = "industrial"
    OTHER = "other"

    @property
    def title(self) -> str:  # type: ignore[override]  # the members are slugs: nobody capitalises them as strings
        """The name people read."""
        return DATA_TYPE_TITLES[self]


TASK_TYPE_TEXTS = {
    TaskType.SINGLE_LABEL: ("Single-label classification", "images with a single label"),
    TaskType.MULTI_LABEL: ("Multi-label classification", "images with several labels"),
    TaskType.OBJECT_DETECTION: ("Object detection", "images with bounding boxes"),
    TaskType.OBJECT_SEGMENTATION: ("Object segmentation", "images with partitioned regions (masks)"),
}

TASK_TYPE_KINDS = {
    TaskType.SINGLE_LABEL: (AnnotationKind.SINGLE_LABEL,),
    TaskType.MULTI_LABEL: (AnnotationKind.MULTI_LABEL,),
    TaskType.OBJECT_DETECTION: (AnnotationKind.BOXES,),
    TaskType.OBJECT_SEGMENTATION: (AnnotationKind.REGIONS, AnnotationKind.INSTANCES),
}

KIND_TITLES = {
    AnnotationKind.SINGLE_LABEL: "single labels",
    AnnotationKind.MULTI_LABEL: "several labels",
    AnnotationKind.BOXES: "boxes",
    AnnotationKind.REGIONS: "regions per class",
    AnnotationKind.INSTANCES: "instances",
}

DATA_TYPE_TITLES = {
    DataType.CT: "CT",
    DataType.MRI: "MRI",
    DataType.X_RAY: "X-ray",
    DataType.FUNDUS: "Retinal fundus",
    DataType.PHOTO: "Photographs",
    DataType.MICROSCOPY: "Microscopy or pathology",
    DataType.AERIAL: "Aerial or satellite",
    DataType.DOCUMENT: "Documents",
    DataType.INDUSTRIAL: "Industrial inspection",
    DataType.OTHER: "Others",
}

FLOW_TEXTS = {
    Flow.GENERAL: ("General training", "You choose what is to be learnt, the data and, if you like, the network."),
    Flow.SPECIALIZED: ("Specialized training", "A prepared application: network and pre-training are fixed."),
    Flow.RETRAINING: ("Existing-model retraining", "One of your finished models learns on."),
}

# What people read of a metric; those named here are told in this order.
METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "map": "Mean average precision",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "auroc": "AUROC",
    "label_accuracy": "Share of labels judged right",
    "ap": "AP 50:95",
    "ap50": "AP 50",
    "ap75": "AP 75",
    "ap_small": "AP of small objects (up to 32² px)",
    "ap_medium": "AP of medium objects (up to 96² px)",
    "ap_large": "AP of large objects",
    "ar": "Average recall",
    "ar_1": "Average recall of 1 object an image",
    "ar_10": "Average recall of 10 objects an image",
    "ar_small": "Average recall of small objects",
    "ar_medium": "Average recall of medium objects",
    "ar_large": "Average recall of large objects",
    "box_ap": "AP 50:95 of the boxes",
    "box_ap50": "AP 50 of the boxes",
    "dice": "Dice",
    "iou": "IoU",
    "loss": "Loss",
}
