"""Networks are built with new outputs, and their weights are really in them."""

import copy
import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.tasks.hyperparameters import TrainingPlan
from core.vocabulary import TaskType
from core.zoo import catalogue
from core.zoo.recipes import RECIPES
from worker.engine.schedule import build_optimizer
from worker.networks import backbone_of, build
from worker.networks.classification import outputs_of
from worker.networks.loading import put, restore
from worker.networks.mending import mend


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", weights_dir=tmp_path, offline=True, _env_file=None)


def test_lite0_has_the_weights_of_its_package(settings):
    spec = catalogue.find_spec("tf_efficientnet_lite0", settings=settings)
    network = build(spec, TaskType.SINGLE_LABEL, 10, settings=settings)
    file = torch.load(catalogue.weights.locate(spec, settings), weights_only=True)
    values = list(network.state_dict().values())
    assert torch.equal(values[0], next(iter(file.values())))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(values[:-2], list(file.values())[:-2], strict=True))
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_from_scratch_is_not_pretrained(settings):
    scratch = build(catalogue.find_spec("tf_efficientnet_lite0", "none", settings), TaskType.SINGLE_LABEL, 10, settings=settings)
    trained = build(catalogue.find_spec("tf_efficientnet_lite0", "imagenet-1k", settings), TaskType.SINGLE_LABEL, 10, settings=settings)
    assert not torch.equal(scratch.state_dict()["conv_stem.weight"], trained.state_dict()["conv_stem.weight"])


def test_weights_are_put_back_without_the_versions_of_their_modules(settings):
    """Files of models and checkpoints keep names and numbers only, and MNASNet asks for more."""
    spec = catalogue.find_spec("mnasnet0_5", "none", settings)
    source, target = (build(spec, TaskType.SINGLE_LABEL, 5, settings=settings) for _ in range(2))
    weights = dict(source.state_dict())
    restore(target, weights)
    assert all(torch.equal(value, weights[name]) for name, value in target.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing"):
        restore(target, {"classifier.1.bias": weights["classifier.1.bias"]})


@pytest.mark.parametrize(("network", "image_size"), [("resnet18", None), ("swin_tiny_patch4_window7_224", 96), ("shufflenet_v2_x0_5", 64)])
def test_weights_from_the_operators_folder(settings, tmp_path, network, image_size):
    spec = catalogue.find_spec(network, "imagenet-1k", settings)
    source = (
        timm.create_model(network, num_classes=1000)
        if spec.library == "timm"
        else build(catalogue.find_spec(network, "none", settings), TaskType.SINGLE_LABEL, 1000, settings=settings)
    )
    save_file({name: value.contiguous() for name, value in source.state_dict().items()}, tmp_path / f"{spec.name}.safetensors")
    if spec.sha256:
        with pytest.raises(UnavailableError, match="hash"):
            build(spec, TaskType.SINGLE_LABEL, 5, settings=settings)
        return
    found = build(spec, TaskType.SINGLE_LABEL, 5, settings=settings, image_size=image_size)
    first = next(name for name, _ in source.named_parameters())
    assert torch.equal(found.state_dict()[first], source.state_dict()[first])
    assert found(torch.zeros(2, 3, image_size or 64, image_size or 64)).shape == (2, 5)


@pytest.mark.parametrize("network", ["vit_b_16", "swin_v2_t", "maxvit_t", "tv_convnext_tiny", "vit_tiny_patch16_224"])
def test_the_recipe_s_layer_wise_decay_reaches_networks_of_each_library(settings, network):
    spec = catalogue.find_spec(network, "none", settings)
    plan = TrainingPlan(optimizer="adamw", layer_decay=RECIPES[spec.recipe].layer_decay)
    with torch.device("meta"):
        groups = build_optimizer(build(spec, TaskType.SINGLE_LABEL, 5, settings=settings), plan).param_groups
    scales = {group["lr_scale"] for group in groups}
    assert len(scales) > 10 and max(scales) == 1
    assert 0.02 < min(scales) < 0.1


@pytest.mark.parametrize(
    "network",
    ["dfine-nano", "rf-detr-nano", "faster_rcnn-resnet18", "fcos_resnet50_fpn", "fpn-resnet18", "lraspp_mobilenet_v3_large"],
)
def test_backbones_are_told_from_what_is_over_them(settings, network):
    spec = catalogue.find_spec(network, "none", settings)
    made = build(spec, spec.task_types[0], 5, settings=settings)
    below = {id(parameter) for parameter in backbone_of(made, spec).parameters()}
    over = [name for name, parameter in made.named_parameters() if id(parameter) not in below]
    assert below and over
    assert not any("stem" in name or "embeddings" in name or "patch_embed" in name for name in over)


def test_weights_of_another_network_are_refused(settings, tmp_path):
    spec = catalogue.find_spec("resnet34", "imagenet-1k", settings)
    save_file(
        {name: value.contiguous() for name, value in timm.create_model("resnet18").state_dict().items()},
        tmp_path / f"{spec.name}.safetensors",
    )
    with pytest.raises(UnavailableError, match=r"resnet34|lacks"):
        build(spec, TaskType.SINGLE_LABEL, 5, settings=settings)


# How torchvision named tensors when it published the weights, from how it names them now.
OLDER_NAMES = [
    (r"((?:inner|layer)_blocks\.\d+)\.0\.(weight|bias)$", r"\1.\2"),
    (r"(rpn\.head\.conv)\.0\.0\.(weight|bias)$", r"\1.\2"),
    (r"(mask_head)\.(\d+)\.0\.(weight|bias)$", lambda found: f"{found[1]}.mask_fcn{int(found[2]) + 1}.{found[3]}"),
    (r"(_head\.conv)\.(\d+)\.0\.(weight|bias)$", lambda found: f"{found[1]}.{2 * int(found[2])}.{found[3]}"),
    (r"mlp\.0\.", "mlp.linear_1."),
    (r"mlp\.3\.", "mlp.linear_2."),
]


@pytest.mark.parametrize(
    "network", ["vit_b_32", "fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"]
)
def test_weights_under_the_names_of_their_publication(settings, tmp_path, network):
    spec = catalogue.find_spec(network, "none", settings)
    made = build(spec, spec.task_types[0], 5, settings=settings)
    own = {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in made.state_dict().items()}
    older = {}
    for name, value in own.items():
        for pattern, before in OLDER_NAMES:
            name = re.sub(pattern, before, name)
        older[name] = value
    assert len(older.keys() - own.keys()) > 9
    copy.deepcopy(made).load_state_dict(older)  # the library itself knows them
    put(older, made, (), tmp_path / "weights.pth")
    assert all(torch.equal(value, own[name]) for name, value in made.state_dict().items())


def test_a_damaged_file_is_one_clear_answer(settings, tmp_path):
    spec = catalogue.find_spec("resnet18", "imagenet-1k", settings)
    (tmp_path / f"{spec.name}.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(UnavailableError, match="cannot be read as weights"):
        build(spec, TaskType.SINGLE_LABEL, 5, settings=settings)


def test_weights_that_are_nowhere_are_named_with_the_place_to_put_them(settings, tmp_path):
    spec = catalogue.find_spec("resnet18", "imagenet-1k", settings)
    with pytest.raises(UnavailableError) as caught:
        build(spec, TaskType.SINGLE_LABEL, 5, settings=settings)
    assert str(tmp_path) in caught.value.remedy
    assert "none" in caught.value.remedy


def test_a_network_is_not_built_for_what_it_cannot_do(settings):
    spec = catalogue.find_spec("resnet18", "none", settings)
    with pytest.raises(InvalidInputError, match="object detection"):
        build(spec, TaskType.OBJECT_DETECTION, 5, settings=settings)
    fixed = next(spec for spec in catalogue.entries() if spec.fixed_size)
    with pytest.raises(InvalidInputError, match="only"):
        build(fixed, fixed.task_types[0], 5, settings=settings, image_size=fixed.input_size + 32)


@pytest.mark.parametrize(
    ("network", "answers"),
    [
        ("resnet18", 1),
        ("tv_convnext_tiny", 1),
        ("squeezenet1_1", 1),
        ("deit_tiny_distilled_patch16_224", 2),
        ("levit_128s", 2),
        ("crossvit_tiny_240", 2),
        ("repvit_m0_9", 2),
        ("efficientvim_m1_dist", 8),
    ],
)
def test_all_layers_that_give_logits_are_known(settings, network, answers):
    spec = catalogue.find_spec(network, "none", settings)
    made = build(spec, TaskType.SINGLE_LABEL, 5, settings=settings, image_size=spec.input_size).eval()
    layers = outputs_of(made, spec, 5)
    assert len(layers) == answers
    with torch.no_grad():
        for layer in layers:
            for weight in layer.parameters():
                weight.zero_()
        assert not made(torch.randn(1, 3, spec.input_size, spec.input_size)).any()


def test_a_pointwise_convolution_that_skips_pixels_computes_the_same():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 8, 1, stride=2)
    mended = nn.Conv2d(3, 8, 1, stride=2)
    mended.load_state_dict(plain.state_dict())
    mend(mended)
    mend(mended)  # a second time changes nothing
    assert isinstance(mended, nn.Conv2d) and mended.state_dict().keys() == plain.state_dict().keys()
    for side in (12, 13):
        given = torch.randn(2, 3, side, side, requires_grad=True)
        last = given.detach().clone(memory_format=torch.channels_last).requires_grad_()
        found, expected = mended.to(memory_format=torch.channels_last)(last), plain(given)
        torch.testing.assert_close(found, expected)
        found.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(last.grad, given.grad)
        torch.testing.assert_close(mended.weight.grad, plain.weight.grad)


@pytest.mark.parametrize("network", ["fastvit_t8", "mobileone_s1", "repvgg_a0", "gernet_s"])
def test_no_network_skips_pixels_of_few_channels_while_it_computes(settings, network):
    """oneDNN writes beyond its memory as it learns from images with their channels last: the process dies, or learns nonsense."""
    spec = catalogue.find_spec(network, "none", settings)
    with torch.device("meta"):
        made = build(spec, spec.task_types[0], 5, settings=settings)
    kinds = [part for part in made.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.in_channels < 16]
    assert kinds and all(part.stride == (1, 1) for part in kinds)
