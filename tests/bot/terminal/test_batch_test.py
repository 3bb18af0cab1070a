"""What `stationmaster model test` prints."""

import pytest

from bot.terminal.commands.batch_test import print_batch_test


def test_numbers_of_all_and_of_each_class(capsys: pytest.CaptureFixture[str]) -> None:
    result = {
        "model": "Cats and dogs",
        "dataset": "more-pets",
        "annotation_set": "labels",
        "images": 1200,
        "left_out_images": 7,
        "unknown_classes": ["ferret"],
        "learnt_from": True,
        "metrics": {"accuracy": 0.9},
        "per_class": {
            "cat": {"images": 700, "auroc": 0.97, "sensitivity": 0.92, "specificity": 0.88, "f1": 0.9, "diagnostic_odds_ratio": 84.3},
            "dog": {"images": 500, "auroc": None, "sensitivity": 0.5, "specificity": None, "f1": 0.4, "diagnostic_odds_ratio": None},
        },
    }
    print_batch_test(result, {"roc.png": "/tmp/roc.png"})
    printed = capsys.readouterr()
    text = printed.out + printed.err
    assert "1,200" in text and "7 images of classes that the model does not know" in text and "ferret" in text
    assert "Sensitivity" in text and "92.0 %" in text and "84.3" in text and "–" in text
    assert "/tmp/roc.png" in text and "has learnt from" in text


def test_f1_of_several_labels_counts_from_the_thresholds_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    """They were chosen on other images: nobody looked for the best on these."""
    result = dict.fromkeys(("model", "dataset", "annotation_set"), "x") | {"images": 9, "left_out_images": 0, "unknown_classes": []}
    metrics = {"macro_f1": 0.7, "label_accuracy": 0.9}
    print_batch_test(result | {"learnt_from": False, "metrics": metrics, "per_class": {}}, {})
    text = " ".join(capsys.readouterr().out.split())
    assert "Macro F1, at the model's thresholds 70.0 %" in text and "best" not in text
