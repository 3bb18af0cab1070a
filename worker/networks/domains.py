"""Weights that have seen images of one domain, published apart from the libraries: chest X-rays, fundi, satellite images, organisms, tissue.

Licences are those their authors state beside the weights. Listed whatever the licence; whether they may be chosen is the allow-list's to say.
"""

from dataclasses import dataclass

from worker.networks.rows import WeightRow

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# torchxrayvision scales 0–255 to -1024–1024.
CHEST = ((0.5, 0.5, 0.5), (1 / 2048, 1 / 2048, 1 / 2048))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))


@dataclass(frozen=True)
class DomainWeights:
    """Weights of a timm network. `like` is the tag of timm's weights whose file has the same form, where it needs converting."""

    network: str
    pretraining: str
    pretrained_on: str
    licence: str
    source: str
    data_types: str = ""
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    sha256: str = ""
    like: str = ""

    def row(self) -> WeightRow:
        """The catalogue's row."""
        return WeightRow(
            network=self.network,
            pretraining=self.pretraining,
            pretrained_on=self.pretrained_on,
            licence=self.licence,
            source=self.source,
            sha256=self.sha256,
            normalisation=WeightRow.normalisation_of(*self.normalisation),
            data_types=self.data_types,
        )


DOMAINS = [
    # Cohen et al. 2022, torchxrayvision; one grey channel.
    DomainWeights(
        "densenet121",
        "chest-x-rays",
        "chest X-rays of seven collections (NIH, PadChest, CheXpert, MIMIC and others)",
        "Apache-2.0",
        "hub:torchxrayvision/densenet121-res224-all#model.pt",
        "x-ray",
        CHEST,
        "56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899",
    ),
    DomainWeights(
        "densenet121",
        "chest-x-rays-padchest",
        "chest X-rays of PadChest",
        "Apache-2.0",
        "hub:torchxrayvision/densenet121-res224-pc#model.pt",
        "x-ray",
        CHEST,
        "a9148ef62ae4e7a31a9bed8cef22811f39681cd61e4390398936efc6280af521",
    ),
    DomainWeights(
        "densenet121",
        "chest-x-rays-rsna",
        "chest X-rays of the RSNA pneumonia challenge",
        "Apache-2.0",
        "hub:torchxrayvision/densenet121-res224-rsna#model.pt",
        "x-ray",
        CHEST,
        "906a59f48cf09638b745d66848a6c6f9d741368c66244717a81207329d140268",
    ),
    # Stevens et al. 2024, BioCLIP.
    DomainWeights(
        "vit_base_patch16_clip_224",
        "tree-of-life-10m",
        "TreeOfLife-10M (animals, plants, fungi), by image and text",
        "MIT",
        "hub:imageomics/bioclip#open_clip_pytorch_model.bin",
        "",
        CLIP,
        like="openai",
    ),
    # Mañas et al. 2021, seasonal contrast; Wang et al. 2023, SSL4EO-S12. Files as torchgeo publishes them.
    DomainWeights(
        "resnet18",
        "sentinel-2",
        "Sentinel-2 satellite images (seasonal contrast, self-supervised)",
        "Apache-2.0",
        "hub:torchgeo/resnet18_sentinel2_rgb_seco#resnet18_sentinel2_rgb_seco-cefca942.pth",
        "aerial",
        sha256="cefca942",
    ),
    DomainWeights(
        "resnet50",
        "sentinel-2",
        "Sentinel-2 satellite images (seasonal contrast, self-supervised)",
        "Apache-2.0",
        "hub:torchgeo/resnet50_sentinel2_rgb_seco#resnet50_sentinel2_rgb_seco-018bf397.pth",
        "aerial",
        sha256="018bf397",
    ),
    DomainWeights(
        "resnet18",
        "sentinel-2-moco",
        "Sentinel-2 satellite images (SSL4EO-S12, self-supervised)",
        "CC-BY-4.0",
        "hub:torchgeo/resnet18_sentinel2_rgb_moco#resnet18_sentinel2_rgb_moco-e3a335e3.pth",
        "aerial",
        sha256="e3a335e3",
    ),
    DomainWeights(
        "resnet50",
        "sentinel-2-moco",
        "Sentinel-2 satellite images (SSL4EO-S12, self-supervised)",
        "CC-BY-4.0",
        "hub:torchgeo/resnet50_sentinel2_rgb_moco#resnet50_sentinel2_rgb_moco-2b57ba8b.pth",
        "aerial",
        sha256="2b57ba8b",
    ),
    # Zhou et al. 2023, RETFound.
    DomainWeights(
        "vit_large_patch16_224",
        "retina-1.6m",
        "1.6 million retinal photographs (RETFound, self-supervised)",
        "CC-BY-NC-4.0",
        "hub:YukunZhou/RETFound_mae_natureCFP#RETFound_mae_natureCFP.pth",
        "fundus",
    ),
    # Kang et al. 2023.
    DomainWeights(
        "vit_small_patch16_224",
        "tissue",
        "36,666 whole-slide images of tissue (DINO, self-supervised)",
        "LicenseRef-lunit-non-commercial",
        "hub:1aurent/vit_small_patch16_224.lunit_dino",
        "microscopy",
        LUNIT,
    ),
]


def of_network(network: str) -> list[DomainWeights]:
    """The domain weights of a timm network."""
    return [domain for domain in DOMAINS if domain.network == network]


def tag_like(source: str) -> str:
    """The tag of timm's weights that a source's file is like; empty where it needs no converting."""
    return next((domain.like for domain in DOMAINS if domain.source == source), "")
