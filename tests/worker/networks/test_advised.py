"""What is advised where only the packages' weights are at hand can be built with them, for every task type, kind of images and preference."""

import pytest

from core.settings import Settings
from core.vocabulary import DataType, TaskType
from core.zoo.facts import DatasetFacts, DeviceFacts
from core.zoo.recommend import PREFERENCES, recommend
from worker.networks import build

FACTS = [DatasetFacts(171, 2, 512, 512, 0.1), DatasetFacts(5_000, 3, 28, 28, 0.6)]


@pytest.mark.parametrize(("task_type", "instances"), [(kind, False) for kind in TaskType] + [(TaskType.OBJECT_SEGMENTATION, True)])
def test_the_first_suggestion_can_be_built(tmp_path, task_type, instances):
    settings = Settings(home=tmp_path, offline=True, _env_file=None)
    suggested = {
        (item.spec, item.image_size, facts.classes)
        for facts in FACTS
        for data_type in DataType
        for preference in PREFERENCES
        for item in recommend(task_type, data_type, preference, facts, DeviceFacts(), settings, instances=instances, count=1)
    }
    assert suggested
    for spec, image_size, classes in suggested:
        assert build(spec, task_type, classes, settings=settings, image_size=image_size)
