"""Datasets: readers into one internal type, checks, statistics, splits and annotated previews."""
