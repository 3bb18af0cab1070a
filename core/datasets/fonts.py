"""The typeface of pictures: DejaVu Sans as matplotlib carries it, or a font of the host where names are written in other scripts."""

from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

# Where hosts keep fonts that know Chinese, Japanese and Korean; the first that is there is taken.
_WIDE = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
)


@cache
def _plain() -> str:
    import matplotlib  # here, because most commands draw nothing and it takes its time

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@cache
def wide_font() -> str:
    """The host's font for Chinese, Japanese and Korean, or nothing where it has none."""
    return next((path for path in _WIDE if Path(path).is_file()), "")


@lru_cache(maxsize=64)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of `size` px that can write `text`."""
    wide = any("\u1100" <= character <= "\uffdc" and not "\u2000" <= character <= "\u2bff" for character in text)
    return _font((wide_font() if wide else "") or _plain(), size)


@lru_cache(maxsize=4096)
def shortened(text: str, size: int, width: int) -> str:
    """`text`, or its beginning and `…`, so that it is at most `width` px wide."""
    font = font_for(text, size)
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"
