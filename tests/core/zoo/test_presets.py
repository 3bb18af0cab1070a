"""Prepared applications: data that can be used as they are, the operator's beside them, and datasets that do not match told what is missing."""

import pytest

from core.settings import Settings
from core.tasks.hyperparameters import parse_fields
from core.vocabulary import TaskType
from core.zoo import catalogue, presets, weights


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", presets_dir=tmp_path / "own", offline=True, _env_file=None)


def test_at_least_six_are_shipped_the_three_of_the_reference_among_them(settings):
    found = {preset.slug: preset for preset in presets.all_presets(settings)}
    assert len(found) >= 6
    bleeding = found["intracranial-haemorrhage"]
    assert (bleeding.task_type, bleeding.data_type) == (TaskType.MULTI_LABEL, "ct")
    assert set(bleeding.classes) == {"subarachnoid", "subdural", "epidural", "intraparenchymal", "intraventricular"}
    assert (found["pneumothorax"].task_type, found["pneumothorax"].data_type) == (TaskType.SINGLE_LABEL, "x-ray")
    assert set(found["pneumothorax"].classes) == {"PTX", "normal"}
    assert (found["pulmonary-embolism"].task_type, found["pulmonary-embolism"].data_type) == (TaskType.SINGLE_LABEL, "ct")
    assert set(found["pulmonary-embolism"].classes) == {"PE", "normal"}
    assert {preset.task_type for preset in found.values()} == set(TaskType)


def test_each_can_be_trained_with_what_the_packages_carry(settings):
    for preset in presets.all_presets(settings):
        spec = preset.spec(settings)
        assert preset.task_type in spec.task_types
        assert spec.pretraining != "none"
        assert weights.locate(spec, settings) is not None
        assert parse_fields(preset.recipe) is not None
        for name in preset.networks:
            assert weights.allowed(catalogue.find_spec(name), settings), f"{preset.slug} names weights that may not be used"


@pytest.mark.parametrize(
    ("classes", "lacking"),
    [
        (["PTX", "normal"], []),
        (["Pneumothorax", "no_finding"], []),
        (["normal", "ptx", "effusion"], []),
        (["normal", "effusion"], ["PTX"]),
        (["cat", "dog"], ["PTX", "normal"]),
    ],
)
def test_a_dataset_is_told_what_it_lacks(settings, classes, lacking):
    preset = presets.find("pneumothorax", settings)
    assert preset.lacking(classes) == lacking
    sentence = preset.mismatch(classes)
    assert bool(sentence) == bool(lacking)
    assert all(name in sentence for name in lacking)
    if lacking:
        assert classes[0] in sentence


def test_the_operators_own_join_them_and_go_before_those_of_the_same_name(settings):
    settings.presets_dir.mkdir()
    text = (
        'title = "Moles"\ndescription = "Which kind of mole."\ntask_type = "single-label"\ndata_type = "photo"\n'
        'classes = ["naevus", "melanoma"]\nnetworks = ["resnet18.none"]\n[recipe]\nepochs = 7\n'
    )
    (settings.presets_dir / "moles.toml").write_text(text)
    (settings.presets_dir / "pneumothorax.toml").write_text(text.replace("Moles", "Our pneumothorax"))
    assert presets.find("moles", settings).recipe == {"epochs": 7}
    assert presets.find("pneumothorax", settings).title == "Our pneumothorax"
    assert presets.problems(settings) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('title = "Moles"\n', ""), "title"),
        (("single-label", "guessing"), "task_type"),
        (("resnet18", "resnet1000"), "resnet1000"),
        (("resnet18", "faster_rcnn-resnet18"), "single-label"),
        (("epochs = 7", "epochs = 7000"), "7000"),
        (("epochs = 7", "epoch = 7"), "epoch"),
        (("[recipe]", "colour = 1\n[recipe]"), "colour"),
        (("[recipe]", "recipe"), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_fault_and_spoils_nothing(settings, change, said):
    settings.presets_dir.mkdir()
    text = (
        'title = "Moles"\ndescription = "Which kind of mole."\ntask_type = "single-label"\ndata_type = "photo"\n'
        'classes = ["naevus", "melanoma"]\nnetworks = ["resnet18.none"]\n[recipe]\nepochs = 7\n'
    )
    (settings.presets_dir / "moles.toml").write_text(text.replace(*change))
    assert presets.find("moles", settings) is None
    assert len(presets.all_presets(settings)) >= 6
    (problem,) = presets.problems(settings)
    assert "moles.toml" in problem
    assert said in problem.lower().replace("single-label classification", "single-label")
