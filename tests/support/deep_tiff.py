"""TIFF files of 16 bits a channel and other kinds that Pillow cannot write."""

import struct
import zlib

import numpy as np

RAW, LZW, DEFLATE = 1, 5, 8


def deep_tiff(
    values: np.ndarray,
    order: str = "<",
    compression: int = RAW,
    *,
    differences: bool = False,
    apart: bool = False,
    extra: int = 2,
    orientation: int = 1,
) -> bytes:
    """Of values [height, width, channels] in their own type: RGB from three channels on, else grey, what is more of the kind `extra` (2 = alpha).

    `order` is < or >, as NumPy has it; with `differences` each pixel is told by how much it differs from the one before, as a predictor does;
    `apart` puts each channel into a plane of its own.
    """
    height, width, channels = values.shape
    stored = np.diff(values, axis=1, prepend=0).astype(values.dtype) if differences else values
    planes = np.moveaxis(stored, 2, 0) if apart else stored[None]
    pack = {RAW: bytes, LZW: lzw, DEFLATE: zlib.compress}[compression]
    strips = [pack(plane.astype(values.dtype.newbyteorder(order)).tobytes()) for plane in planes]
    offsets = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    colours = 3 if channels >= 3 else 1
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [values.dtype.itemsize * 8] * channels),
        259: ("H", [compression]),
        262: ("H", [2 if colours == 3 else 1]),
        273: ("I", offsets),
        274: ("H", [orientation]),
        277: ("H", [channels]),
        278: ("H", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [1 + apart]),
        317: ("H", [1 + differences]),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    }
    if channels > colours:
        tags[338] = ("H", [extra] * (channels - colours))
    body, entries = b"".join(strips), b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(packed) > 4:
            body += b"\0" * (len(body) % 2)
            place, body = struct.pack(f"{order}I", 8 + len(body)), body + packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + place
    body += b"\0" * (len(body) % 2)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def lzw(data: bytes) -> bytes:
    """Codes of nine bits that pack nothing: the table is cleared before it would need a tenth."""
    codes = [code for start in range(0, len(data), 250) for code in (256, *data[start : start + 250])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
