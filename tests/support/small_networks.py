"""Networks small enough that a test trains them in seconds; the zoo does not offer them."""

from dataclasses import replace

from core.vocabulary import TaskType
from core.zoo.spec import ModelSpec

CLASSIFIER = ModelSpec(
    network="test_resnet",
    pretraining="none",
    library="timm",
    family="test",
    variation="test",
    task_types=(TaskType.SINGLE_LABEL, TaskType.MULTI_LABEL),
    recipe="convolutional",
    parameters=470_000,
    gmacs=0.02,
    input_size=160,
    licence="",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
BOXES = ModelSpec(
    network="faster_rcnn-test_resnet",
    pretraining="none",
    library="torchvision over timm",
    family="test",
    variation="test",
    task_types=(TaskType.OBJECT_DETECTION,),
    recipe="detector",
    parameters=1_000_000,
    gmacs=0.1,
    input_size=64,
    licence="",
)
ANCHORLESS_BOXES = replace(BOXES, network="fcos-test_resnet")
INSTANCES = replace(BOXES, network="mask_rcnn-test_resnet", task_types=(TaskType.OBJECT_SEGMENTATION,), instances_only=True)
REGIONS = replace(
    BOXES,
    network="unet-test_resnet",
    library="segmentation-models-pytorch",
    task_types=(TaskType.OBJECT_SEGMENTATION,),
    recipe="segmenter",
    mean=CLASSIFIER.mean,
    std=CLASSIFIER.std,
)
