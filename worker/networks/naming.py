"""How the libraries' names become the catalogue's: families, pre-training names, licences."""

import re

# What a weight has seen, by the tokens of timm's tags: slug, and name as people read it.
DATA = {
    "in1k": ("imagenet-1k", "ImageNet-1k"),
    "in12k": ("imagenet-12k", "ImageNet-12k"),
    "in21k": ("imagenet-21k", "ImageNet-21k"),
    "inw21k": ("imagenet-21k", "ImageNet-21k"),
    "in22k": ("imagenet-22k", "ImageNet-22k"),
    "laion2b": ("laion-2b", "LAION-2B (image and text)"),
    "laion400m": ("laion-400m", "LAION-400M (image and text)"),
    "laiona": ("laion-a", "LAION Aesthetic (image and text)"),
    "openai": ("clip-wit", "OpenAI CLIP (image and text)"),
    "webli": ("webli", "WebLI (image and text)"),
    "metaclip": ("metaclip", "MetaCLIP (image and text)"),
    "merged2b": ("merged-2b", "Merged-2B (image and text)"),
    "datacompxl": ("datacomp-xl", "DataComp-XL (image and text)"),
    "datacomp1b": ("datacomp-1b", "DataComp-1B (image and text)"),
    "dfn2b": ("dfn-2b", "DFN-2B (image and text)"),
    "dfn5b": ("dfn-5b", "DFN-5B (image and text)"),
    "dfndr2b": ("dfndr-2b", "DFN-DR-2B (image and text)"),
    "yfcc15m": ("yfcc-15m", "YFCC-15M (image and text)"),
    "yfcc100m": ("yfcc-100m", "YFCC-100M"),
    "cc12m": ("cc-12m", "CC-12M (image and text)"),
    "ig1b": ("instagram-1b", "Instagram-1B"),
    "swag": ("instagram-3.6b", "Instagram-3.6B (SWAG)"),
    "jft": ("jft-300m", "JFT-300M"),
    "lvd142m": ("lvd-142m", "LVD-142M (self-supervised)"),
    "lvd1689m": ("lvd-1689m", "LVD-1689M (self-supervised)"),
    "sat493m": ("sat-493m", "SAT-493M (satellite images)"),
    "sa1b": ("sa-1b", "SA-1B (Segment Anything)"),
    "m30m": ("merged-30m", "Merged-30M"),
    "m38m": ("merged-38m", "Merged-38M"),
    "bamboo": ("bamboo", "Bamboo"),
}

# Families as the reference flow groups them; first match wins, then timm's module.
FAMILY_BY_NAME = (
    (r"^(se_?resnet|seresnet|seresnext|legacy_se|senet|legacy_senet|skresn|seresnextaa)", "SENet"),
    (r"^(tv_)?(tf_)?efficientnetv2|^efficientnet_v2", "EfficientNetV2"),
    (r"^(tf_|gc_)?efficientnet|^tv_efficientnet_b|^efficientnet", "EfficientNet"),
    (r"^mobilenetv4", "MobileNetV4"),
    (r"^(tf_)?(tv_)?mobilenet", "MobileNet"),
    (r"spnasnet", "SPNASNet"),
    (r"mnasnet", "MNASNet"),
    (r"mixnet", "MixNet"),
    (r"^fbnetc", "FBNet"),
    (r"^tinynet", "TinyNet"),
    (r"^convnextv2", "ConvNeXt V2"),
    (r"^convnext|^tv_convnext", "ConvNeXt"),
    (r"^densenet|^tv_densenet", "DenseNet"),
    (r"^inception_next", "InceptionNeXt"),
    (r"inception|^googlenet", "Inception"),
    (r"^shufflenet", "ShuffleNet"),
    (r"^swinv2|^swin_v2", "Swin Transformer V2"),
    (r"^swin", "Swin Transformer"),
    (r"^(tv_)?vgg", "VGG"),
    (r"^eva02", "EVA-02"),
    (r"^eva", "EVA"),
    (r"dinov2|^vit_.*_reg4_dinov2", "DINOv2"),
    (r"dinov3", "DINOv3"),
    (r"siglip", "SigLIP"),
    (r"_clip|clip_", "CLIP"),
    (r"^fastvit", "FastViT"),
    (r"^resnetv2|^resnetaa|^ecaresne|^resnet_blur|^resnetblur|^resnetrs|^(wide_)?resne(x)?t|^tv_resn|^tv_wide", "ResNet"),
    (r"^vit_b_|^vit_l_|^vit_h_", "ViT"),
    (r"^regnet|^tv_regnet", "RegNet"),
)

FAMILY_BY_MODULE = {
    "vision_transformer": "ViT",
    "vision_transformer_hybrid": "ViT hybrid",
    "vision_transformer_relpos": "ViT relative position",
    "vision_transformer_sam": "SAM ViT",
    "hieradet_sam2": "SAM 2 Hiera",
    "maxxvit": "MaxViT and CoAtNet",
    "metaformer": "MetaFormer",
    "byobnet": "ByobNet",
    "byoanet": "ByoaNet",
    "beit": "BEiT",
    "deit": "DeiT",
    "cait": "CaiT",
    "xcit": "XCiT",
    "efficientvit_mit": "EfficientViT (MIT)",
    "efficientvit_msra": "EfficientViT (MSRA)",
    "mlp_mixer": "MLP-Mixer",
    "hrnet": "HRNet",
    "hgnet": "HGNet",
    "dla": "DLA",
    "dpn": "DPN",
    "nfnet": "NFNet",
    "cspnet": "CSPNet",
    "mobilenetv3": "MobileNet",
    "mobilenetv5": "MobileNetV5",
    "pvt_v2": "PVT v2",
    "qwen3_vit": "Qwen3 ViT",
    "deepseek_vit": "DeepSeek ViT",
    "gemma4_vit": "Gemma 4 ViT",
    "naflexvit": "NaFlexViT",
    "tresnet": "TResNet",
    "coat": "CoaT",
    "convit": "ConViT",
    "convmixer": "ConvMixer",
    "cpubone": "CPUBone",
    "crossvit": "CrossViT",
    "csatv2": "CSATv2",
    "cspnext": "CSPNeXt",
    "davit": "DaViT",
    "edgenext": "EdgeNeXt",
    "efficientformer": "EfficientFormer",
    "efficientformer_v2": "EfficientFormerV2",
    "efficientvim": "EfficientViM",
    "eva": "EVA",
    "fasternet": "FasterNet",
    "focalnet": "FocalNet",
    "gcvit": "GCViT",
    "hardcorenas": "HardCoRe-NAS",
    "iformer": "iFormer",
    "lcnetv2": "LCNetV2",
    "levit": "LeViT",
    "lowformer": "LowFormer",
    "mambaout": "MambaOut",
    "mobilevit": "MobileViT",
    "mvitv2": "MViTv2",
    "nasnet": "NASNet",
    "nest": "NesT",
    "nextvit": "Next-ViT",
    "pit": "PiT",
    "pnasnet": "PNASNet",
    "repvit": "RepViT",
    "resnest": "ResNeSt",
    "tiny_vit": "TinyViT",
    "vovnet": "VoVNet",
    "xception_aligned": "Xception",
}

# Modules of timm whose networks train like transformers (AdamW, layer-wise decay); the others are convolutional.
TRANSFORMER_MODULES = frozenset(
    [
        "beit",
        "cait",
        "coat",
        "convit",
        "crossvit",
        "davit",
        "deepseek_vit",
        "deit",
        "efficientformer",
        "efficientformer_v2",
        "efficientvit_msra",
        "eva",
        "gcvit",
        "gemma4_vit",
        "hiera",
        "hieradet_sam2",
        "iformer",
        "levit",
        "maxxvit",
        "metaformer",
        "mlp_mixer",
        "mvitv2",
        "naflexvit",
        "nest",
        "nextvit",
        "pit",
        "pvt_v2",
        "qwen3_vit",
        "sequencer",
        "swin_transformer",
        "swin_transformer_v2",
        "swin_transformer_v2_cr",
        "tiny_vit",
        "tnt",
        "twins",
        "vision_transformer",
        "vision_transformer_hybrid",
        "vision_transformer_relpos",
        "vision_transformer_sam",
        "visformer",
        "vitamin",
        "volo",
        "xcit",
    ]
)
# Convolutional, but with layer norms and few of the habits of ResNet: AdamW with a low rate.
# Of before batch normalisation, and SqueezeNet.
WITHOUT_NORMALISATION = frozenset({"alexnet", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg13", "vgg16", "vgg19"})
MODERN_MODULES = frozenset(
    [
        "convnext",
        "convmixer",
        "csatv2",
        "edgenext",
        "efficientvim",
        "efficientvit_mit",
        "fastvit",
        "focalnet",
        "inception_next",
        "mambaout",
        "rdnet",
        "repvit",
        "shvit",
        "starnet",
        "swiftformer",
    ]
)

SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-4.0": "CC-BY-4.0",
}
UNKNOWN_LICENCE = "NOASSERTION"  # SPDX for: nobody has said


def licence(text: str | None) -> str:
    """The SPDX identifier of a library's licence text; LicenseRef-… for licences that SPDX does not list."""
    if not text or text == "unknown":
        return UNKNOWN_LICENCE
    return SPDX.get(text, f"LicenseRef-{text}")


def family(network: str, module: str) -> str:
    """The family a network is listed under."""
    for pattern, name in FAMILY_BY_NAME:
        if re.search(pattern, network):
            return name
    return FAMILY_BY_MODULE.get(module, module.replace("_", " ").title().replace(" ", "") if module else "Others")


def recipe(module: str, network: str) -> str:
    """The key of `core.zoo.recipes.RECIPES` for a network of this module of timm's."""
    if network in WITHOUT_NORMALISATION:
        return "plain-convolutional"
    if module in TRANSFORMER_MODULES:
        return "transformer"
    if module in MODERN_MODULES:
        return "modern-convolutional"
    return "convolutional"


def pretraining(tag: str) -> tuple[str, str, str]:
    """Of timm's tag (`fb_in22k_ft_in1k`): name of the data (`imagenet-22k-to-1k`), the rest (`fb`), and the data as people read it."""
    data: list[tuple[str, str]] = []
    rest: list[str] = []
    for token in tag.split("_"):
        if token in DATA:
            if DATA[token] not in data:
                data.append(DATA[token])
        elif token != "ft":  # noqa: S105 - a word of a tag
            rest.append(token)
    if not data:
        return tag.replace("_", "-"), "", f"“{tag}”"
    first, *later = (slug for slug, _ in data)
    slug = "-to-".join([first, *(name.removeprefix("imagenet-") if first.startswith("imagenet") else name for name in later)])
    return slug, "-".join(rest), ", then ".join(title for _, title in data)
