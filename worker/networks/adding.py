"""An operator's weights: tried on their network before they are accepted, and kept as safetensors."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from core.zoo import added, catalogue
from core.zoo.added import AddedWeights
from worker.networks import build, library_of, loading

TRIED_CLASSES = 7  # outputs are replaced in every training: their number in the file does not matter


def add_weights(file: Path, wanted: AddedWeights, settings: Settings) -> AddedWeights:
    """Check `file` against its network, keep a copy under `home/zoo`, and list it.

    Raises:
        InvalidInputError: when the file is no such weights, naming what does not fit; or its name is taken.
    """
    catalogue.check_new_pretraining(wanted.network, wanted.pretraining, settings)
    base = catalogue.find_spec(wanted.network, catalogue.NONE)
    network = build(base, base.task_types[0], TRIED_CLASSES, pretrained=False, settings=settings)
    try:
        library_of(base).load(network, replace(base, pretraining=wanted.pretraining, source=f"file:{file}"), file, None)
        tensors = loading.read(file)
    except UnavailableError as error:
        what = error.what.replace(str(file), "The file")
        raise InvalidInputError(
            f"These are no weights for {wanted.network}. {what}", "Give a file of this network, or its right name."
        ) from error
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        raise InvalidInputError(f"The weights hold numbers that are not finite, for example in {broken[0]}.", "Train them again.")
    folder = added.folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{wanted.network}.{wanted.pretraining}.safetensors"
    part = target.with_suffix(".part")
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, part)
    with part.open("rb") as kept:
        sha256 = hashlib.file_digest(kept, "sha256").hexdigest()
    part.replace(target)
    row = replace(wanted, file=target.name, sha256=sha256)
    added.append(settings, row)
    return row
