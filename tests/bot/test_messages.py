"""Metrics in words."""

from bot.messages import metric_rows


def test_of_several_labels_it_is_said_what_f1_counts_and_nothing_sounds_like_another_task_type() -> None:
    rows = dict(metric_rows({"map": 0.8, "macro_f1": 0.7, "micro_f1": 0.75, "label_accuracy": 0.9}))
    assert rows["Macro F1, at the best thresholds"] == "70.0 %" and rows["Micro F1, at the best thresholds"] == "75.0 %"
    assert rows["Share of labels judged right"] == "90.0 %"


def test_of_one_label_f1_has_no_threshold() -> None:
    assert "Macro F1" in dict(metric_rows({"accuracy": 0.8, "macro_f1": 0.7}))
