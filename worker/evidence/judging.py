"""Judges of frozen features: a linear probe, nearest neighbours, and LogME."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
NEIGHBOURS = 5

Features = NDArray[np.float64]
Labels = NDArray[np.int64]


def judged(found: Features, labels: Labels, groups: Labels | None = None) -> tuple[float, float]:
    """What a linear probe and the nearest neighbours make of features by cross-validation: accuracy, or mean average precision.

    Args:
        found: [samples, features].
        labels: [samples], or [samples, classes] of 0 and 1 where a sample has several.
        groups: [samples]; those of one group (places of one image) are never on both sides of a fold.
    """
    several = labels.ndim == 2
    smallest = len(labels) if several else int(np.unique(labels, return_counts=True)[1].min())
    folds = max(2, min(FOLDS, smallest))
    splits: KFold | StratifiedKFold | StratifiedGroupKFold
    if groups is not None:
        splits = StratifiedGroupKFold(max(2, min(FOLDS, len(np.unique(groups)))), shuffle=True, random_state=0)
    else:
        splits = KFold(folds, shuffle=True, random_state=0) if several else StratifiedKFold(folds, shuffle=True, random_state=0)
    linear = LogisticRegression(max_iter=300, C=0.1)
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(labels) // 2), metric="cosine", weights="distance")
    scores = []
    for judge in (linear, nearest):
        whole = make_pipeline(StandardScaler(), OneVsRestClassifier(judge) if several else judge)
        if several:
            said = cross_val_predict(whole, found, labels, cv=splits, method="predict_proba")
            scores.append(float(average_precision_score(labels, said, average="macro")))
        else:
            scores.append(float((cross_val_predict(whole, found, labels, groups=groups, cv=splits) == labels).mean()))
    return scores[0], scores[1]


def logme(found: Features, labels: Labels) -> float:
    """The logarithm of the maximum evidence of the labels given the features, for each image and class (You et al. 2021, algorithm 1)."""
    targets = labels if labels.ndim == 2 else (labels[:, None] == np.unique(labels)[None]).astype(np.int64)
    left, singular, _ = np.linalg.svd(found - found.mean(0), full_matrices=False)
    squares = singular**2
    images, width = found.shape
    total = 0.0
    for target in targets.T.astype(np.float64):
        target = target - target.mean()
        along = (left.T @ target) ** 2
        rest = max(float(target @ target - along.sum()), 0.0)
        alpha = beta = 1.0
        for _ in range(20):
            shrink = alpha + beta * squares
            weight = beta**2 * (squares * along / shrink**2).sum()
            residual = (along * (alpha / shrink) ** 2).sum() + rest
            gamma = (beta * squares / shrink).sum()
            before = alpha / beta
            alpha, beta = gamma / (weight + 1e-10), (images - gamma) / (residual + 1e-10)
            if abs(alpha / beta - before) < 1e-3 * before:
                break
        shrink = alpha + beta * squares
        weight = beta**2 * (squares * along / shrink**2).sum()
        residual = (along * (alpha / shrink) ** 2).sum() + rest
        determinant = np.log(shrink).sum() + (width - len(squares)) * np.log(alpha)
        evidence = (
            images / 2 * np.log(beta) + width / 2 * np.log(alpha) - images / 2 * np.log(2 * np.pi)
            - beta / 2 * residual - alpha / 2 * weight - determinant / 2
        )  # fmt: skip
        total += float(evidence / images)
    return float(total / targets.shape[1])
