"""Which of the files that people send are images."""

import pytest

from bot.slack.uploads import is_image


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ({"name": "cat.jpg", "mimetype": "image/jpeg"}, True),
        ({"name": "scan.dcm", "mimetype": "application/dicom"}, True),
        ({"name": "scan.DICOM"}, True),
        ({"name": "IM000001", "mimetype": "application/octet-stream"}, True),
        ({"name": "1.2.840.113", "mimetype": ""}, True),
        ({"name": "DICOMDIR", "mimetype": "application/octet-stream"}, False),
        ({"name": "Untitled", "mimetype": "text/plain"}, False),
        ({"name": "pets.zip", "mimetype": "application/zip"}, False),
        ({"name": "notes.txt"}, False),
    ],
)
def test_images_are_known_by_their_type_or_name(file: dict[str, str], image: bool) -> None:
    assert is_image(file) == image
