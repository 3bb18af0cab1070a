"""Networks that answer with places: they learn from boxes and masks, and their backbones carry the weights that they say."""

import pytest
import timm
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.ops import box_convert
from transformers.loss import loss_d_fine
from transformers.models.d_fine import modeling_d_fine

from core.settings import Settings
from core.vocabulary import TaskType
from core.zoo import catalogue
from worker.networks import build, detection, detection_transformers

SIDE = 96


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", offline=True, _env_file=None)


def targets(*, with_masks: bool) -> list[dict[str, torch.Tensor]]:
    """Of two images: one with two objects, one with none."""
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    masks[0, 10:50, 10:50] = 1
    masks[1, 40:80, 30:90] = 1
    full = {"boxes": torch.tensor([[10.0, 10, 50, 50], [30, 40, 90, 80]]), "labels": torch.tensor([0, 2])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    if with_masks:
        full["masks"], empty["masks"] = masks, masks[:0]
    return [full, empty]


@pytest.mark.parametrize("head", ["faster_rcnn", "retinanet", "fcos", "mask_rcnn"])
def test_detectors_over_the_packaged_backbone(settings, head):
    spec = catalogue.find_spec(f"{head}-tf_efficientnet_lite0", settings=settings)
    assert spec.pretraining == "imagenet-1k"
    detector = build(spec, spec.task_types[0], 3, settings=settings).train()
    package = catalogue.find_spec("tf_efficientnet_lite0", settings=settings)
    classifier = build(package, TaskType.SINGLE_LABEL, 2, settings=settings)
    body = detector.get_submodule("inner.backbone.body")
    assert torch.equal(body.state_dict()["conv_stem.weight"], classifier.state_dict()["conv_stem.weight"])

    images = torch.randn(2, 3, SIDE, SIDE)
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    losses = detector(images, targets(with_masks=spec.instances_only))
    sum(losses.values()).backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())

    with torch.no_grad():
        found = detector.eval()(images)
    assert len(found) == 2
    for one in found:
        assert one["boxes"].shape == (len(one["labels"]), 4)
        assert ((one["labels"] >= 0) & (one["labels"] < 3)).all()
        assert torch.equal(one["scores"], one["scores"].sort(descending=True).values)
        assert not spec.instances_only or one["masks"].shape == (len(one["labels"]), 1, SIDE, SIDE)


@pytest.mark.parametrize("decoder", ["unet", "fpn", "deeplabv3plus", "segformer"])
def test_segmenters_over_the_packaged_encoder(settings, decoder):
    spec = catalogue.find_spec(f"{decoder}-tf_efficientnet_lite1", settings=settings)
    assert spec.pretraining == "imagenet-1k"
    network = build(spec, TaskType.OBJECT_SEGMENTATION, 3, settings=settings)
    package = catalogue.find_spec("tf_efficientnet_lite1", settings=settings)
    classifier = build(package, TaskType.SINGLE_LABEL, 2, settings=settings)
    assert torch.equal(network.state_dict()["encoder.model.conv_stem.weight"], classifier.state_dict()["conv_stem.weight"])
    assert network(torch.randn(2, 3, 128, 128)).shape == (2, 3, 128, 128)


def test_whole_detectors_take_over_everything_but_the_classes(settings, tmp_path):
    """torchvision's COCO checkpoint has 91 classes; three are asked for."""
    spec = catalogue.find_spec("ssdlite320_mobilenet_v3_large", "coco", settings)
    from worker.networks import detection

    source = detection.build_whole(spec.network, 90, pretrained=True)
    torch.save(source.state_dict(), tmp_path / "coco.pth")
    detector = detection.build(spec, 3)
    detection.load(detector, spec, tmp_path / "coco.pth")
    mine, theirs = detector.get_submodule("inner").state_dict(), source.state_dict()
    changed = [name for name in mine if mine[name].shape != theirs[name].shape]
    assert changed
    assert all(name.startswith("head.classification_head") for name in changed)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine if not name.startswith("head.classification_head"))


@pytest.mark.parametrize("pretraining", ["coco", "none"])
def test_the_first_stage_of_a_whole_pretrained_detector_stays_as_torchvision_s_does(settings, pretraining):
    from worker.networks import detection

    detector = detection.build(catalogue.find_spec("fasterrcnn_resnet50_fpn", pretraining, settings), 3)
    for name, parameter in detector.get_submodule("inner").named_parameters():
        first = name.startswith(("backbone.body.conv1", "backbone.body.bn1", "backbone.body.layer1"))
        assert parameter.requires_grad is not (first and pretraining == "coco")


def test_a_detector_over_a_backbone_is_as_large_as_the_catalogue_says(settings):
    spec = catalogue.find_spec("retinanet-tf_efficientnet_lite0", settings=settings)
    detector = build(spec, TaskType.OBJECT_DETECTION, 7, pretrained=False, settings=settings)
    assert sum(parameter.numel() for parameter in detector.parameters()) == spec.parameters
    backbone = timm.create_model("tf_efficientnet_lite0", features_only=True)
    assert spec.parameters > sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize(("head", "part"), [("faster_rcnn", "rpn.head"), ("retinanet", "head"), ("fcos", "head")])
def test_offsets_of_boxes_are_exact_under_autocast(settings, head, part):
    """In bfloat16 a place near 500 px would be known to 2 px only."""
    detector = build(
        catalogue.find_spec(f"{head}-tf_efficientnet_lite0", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings
    )
    inner = detector.eval().get_submodule("inner")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        levels = list(inner.backbone(torch.randn(1, 3, SIDE, SIDE)).values())
        given = inner.get_submodule(part)(levels)
    assert levels[0].dtype == torch.bfloat16
    flat = given.values() if isinstance(given, dict) else [tensor for many in given for tensor in many]
    assert {tensor.dtype for tensor in flat} == {torch.float32}


@pytest.mark.parametrize(
    "network", [*(f"{head}-test_resnet" for head in ("faster_rcnn", "retinanet", "fcos", "mask_rcnn")), "ssdlite320_mobilenet_v3_large"]
)
def test_anchors_lie_at_the_same_places_under_autocast(settings, network):
    """torchvision makes them in the type of the features: a model trained so would be off by pixels wherever it is used without autocast."""
    head, _, backbone = network.partition("-")
    built = detection.build_whole(head, 3, pretrained=False) if not backbone else getattr(detection, f"build_{head}")(backbone, 3)
    detector = detection.Detector(built).eval()
    places: list[torch.Tensor] = []
    generator = next(part for part in detector.modules() if isinstance(part, (AnchorGenerator, DefaultBoxGenerator)))
    generator.register_forward_hook(lambda _module, _inputs, anchors: places.append(anchors[0]))
    images = torch.randn(1, 3, 320, 320)
    with torch.inference_mode():
        detector(images)
        with torch.autocast("cpu", torch.bfloat16):
            detector(images)
    exact, under_autocast = places
    assert exact.dtype == under_autocast.dtype == torch.float32 and torch.equal(exact, under_autocast)


def test_sides_that_fcos_has_lost_come_back(settings):
    """torchvision's ReLU gives no gradient where a distance is below 0: all boxes would lack that side for ever."""
    spec = catalogue.find_spec("fcos-tf_efficientnet_lite0", settings=settings)
    detector = build(spec, TaskType.OBJECT_DETECTION, 1, pretrained=False, settings=settings).train()
    outputs = detector.inner.head.regression_head.bbox_reg
    with torch.no_grad():
        outputs.weight.zero_()
        outputs.bias.copy_(torch.tensor([2.0, 2.0, 2.0, -0.5]))
    target = {"boxes": torch.tensor([[20.0, 20.0, 80.0, 90.0]]), "labels": torch.tensor([0])}
    sum(detector(torch.randn(2, 3, SIDE, SIDE), [target, target]).values()).backward()
    assert float(outputs.bias.grad[3]) < 0, "the side is moved outwards"
    with torch.inference_mode():
        given = outputs(torch.zeros(1, outputs.in_channels, 2, 2))[0, :, 0, 0].tolist()
    assert given[:3] == pytest.approx([2.0] * 3, abs=1e-3) and 0 < given[3] < 0.1


@pytest.mark.parametrize(
    ("network", "does"),
    [
        ("fasterrcnn_resnet50_fpn", False),
        ("fasterrcnn_resnet50_fpn_v2", True),
        ("mask_rcnn-test_resnet", True),
        ("fcos_resnet50_fpn", False),
    ],
)
def test_which_detectors_convolve_each_region(settings, network, does):
    """For them a GPU must not look for the fastest convolution of each number of regions anew."""
    head, _, backbone = network.partition("-")
    with torch.device("meta"):
        built = detection.build_mask_rcnn(backbone, 2) if backbone else detection.build_whole(head, 2, pretrained=False)
        assert detection.convolves_regions(detection.Detector(built)) is does


@pytest.mark.parametrize("network", ["rtdetr_v2_r18vd", "dfine-nano"])
def test_detection_transformers_place_boxes_in_single_precision_under_autocast(settings, network):
    detector = build(catalogue.find_spec(f"{network}.none", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings).eval()
    places: list[torch.Tensor] = []
    anchors_of = detector.inner.model.generate_anchors
    detector.inner.model.generate_anchors = lambda *shapes, **named: places.append(made := anchors_of(*shapes, **named)) or made
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        boxes = detector.inner(torch.randn(1, 3, 320, 320)).pred_boxes
    assert not torch.equal(boxes, boxes.bfloat16().float()), "all of them lie on the grid of bfloat16"
    ((anchors, _),) = places
    assert anchors.dtype == torch.float32, "nor do the places that they begin at"


@pytest.mark.parametrize("network", ["rtdetr_v2_r18vd", "dfine-nano", "rf-detr-nano"])
def test_detection_transformers_say_little_at_first(settings, network):
    """Of one class, too: else the first steps are spent on learning that most queries show nothing."""
    spec = catalogue.find_spec(f"{network}.none", settings=settings)
    detector = build(spec, TaskType.OBJECT_DETECTION, 1, settings=settings).eval()
    side = 384 if network.startswith("rf") else 320
    with torch.inference_mode():
        assert float(detector(torch.randn(1, 3, side, side))[0]["scores"].mean()) < 0.3


def test_a_sure_answer_costs_no_infinite_loss_under_autocast(settings):
    """RF-DETR's loss takes the logarithm of 1 − p, which in bfloat16 is 0 for all that is surer than 0.998."""
    detector = build(catalogue.find_spec("rf-detr-nano.none", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings).train()
    heads = [detector.inner.class_embed, *detector.inner.model.enc_out_class_embed]
    for head in heads:
        torch.nn.init.constant_(head.bias, 9.0)
    target = {"boxes": torch.tensor([[20.0, 20.0, 280.0, 290.0]]), "labels": torch.tensor([0])}
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(detector(torch.rand(2, 3, 288, 288), [target, target]).values())
    assert torch.isfinite(loss)


@pytest.mark.parametrize("network", ["rtdetr_v2_r18vd", "dfine-nano", "rf-detr-nano"])
def test_the_loss_says_so_where_places_are_no_numbers_any_more(settings, network):
    """The library's matching would end the training with an error of its own, without a remedy, and without the best epoch."""
    spec = catalogue.find_spec(f"{network}.none", settings=settings)
    detector = build(spec, TaskType.OBJECT_DETECTION, 3, settings=settings).train()
    side = 288 if network.startswith("rf") else 256
    target = {"boxes": torch.tensor([[20.0, 20.0, 80.0, 90.0]]), "labels": torch.tensor([0])}
    with torch.no_grad():
        next(weight for name, weight in detector.named_parameters() if "decoder" in name and weight.ndim > 1).fill_(torch.nan)
    loss = sum(detector(torch.rand(2, 3, side, side), [target, target]).values())
    assert torch.isnan(loss)
    loss.backward()
    upside_down = {"boxes": torch.tensor([[80.0, 90.0, 20.0, 20.0]]), "labels": torch.tensor([0])}
    detector = build(spec, TaskType.OBJECT_DETECTION, 3, settings=settings).train()
    with pytest.raises(ValueError, match="boxes2"):
        detector(torch.rand(1, 3, side, side), [upside_down])


def test_rf_detr_draws_nothing_at_random_when_it_is_judged(settings):
    """As its authors train it; the library would drop a tenth, in the validation loss, too."""
    spec = catalogue.find_spec("rf-detr-nano.none", settings=settings)
    detector = build(spec, TaskType.OBJECT_DETECTION, 1, settings=settings).eval()
    image = torch.rand(1, 3, 288, 288)
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        detector.train()
        target = {"boxes": torch.tensor([[9.0, 9.0, 90.0, 90.0]]), "labels": torch.tensor([0])}
        losses.append(sum(detector(image, [target]).values()).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("network", "scale"), [("dfine-nano", 4.0), ("dfine-xlarge", 8.0)])
def test_distances_are_reckoned_in_the_loss_as_they_are_decoded(network, scale):
    """The decoder's scale comes with the published weights, the loss's out of the configuration; D-FINE-X has another than its siblings."""
    config = detection_transformers.configuration(network, 3)
    bins, published, up = config.max_num_bins, torch.tensor([scale]), torch.tensor([config.up])
    reference, box = torch.tensor([[0.5, 0.5, 0.2, 0.3]]), torch.tensor([[0.38, 0.33, 0.63, 0.7]])
    left, weight_right, weight_left = loss_d_fine.bbox2distance(reference, box, bins, config.reg_scale, up)
    values = modeling_d_fine.weighting_function(bins, up, published)
    distances = values[left.long()] * weight_left + values[left.long() + 1] * weight_right
    decoded = modeling_d_fine.distance2bbox(reference, distances.reshape(1, 4), published)
    torch.testing.assert_close(box_convert(decoded, "cxcywh", "xyxy"), box, atol=1e-4, rtol=0)


def test_every_detector_tells_what_it_is_hardly_sure_of(settings):
    """Curves and thresholds rest on it; torchvision's own FCOS would say nothing below 0.2."""
    for network in ("fcos_resnet50_fpn", "fcos-tf_efficientnet_lite0", "retinanet_resnet50_fpn"):
        detector = build(catalogue.find_spec(f"{network}.none", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings)
        assert detector.inner.score_thresh <= 0.05, network
    for network in ("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn", "faster_rcnn-tf_efficientnet_lite0"):
        detector = build(catalogue.find_spec(f"{network}.none", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings)
        assert detector.inner.rpn.score_thresh == 0 and detector.inner.rpn.post_nms_top_n() >= 300, network


def test_no_loss_waits_for_other_processes(settings, monkeypatch):
    """They do not take their losses equally often: of the last images one has some, another none. RF-DETR's would ask all how many objects they have."""
    detector = build(catalogue.find_spec("rf-detr-nano.none", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings).train()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: pytest.fail("it waits for the others"))
    target = {"boxes": torch.tensor([[20.0, 20.0, 280.0, 290.0]]), "labels": torch.tensor([0])}
    assert all(torch.isfinite(loss) for loss in detector(torch.rand(1, 3, 288, 288), [target]).values())


@pytest.mark.parametrize("network", ["rtdetr_v2_r18vd", "dfine-nano"])
def test_from_scratch_batch_norms_let_through_what_they_get(settings, network):
    """The library has those of RT-DETRv2 begin around 0: after a few layers nothing would be left of an image."""
    detector = build(catalogue.find_spec(f"{network}.none", settings=settings), TaskType.OBJECT_DETECTION, 3, settings=settings)
    norms = [part for part in detector.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert norms and all((part.weight == 1).all() and (part.bias == 0).all() for part in norms)
