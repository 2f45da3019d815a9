"""The linear head on frozen features: what it predicts, how its penalty is chosen, and classes that hardly occur."""

from typing import Any

import numpy as np
import pytest

from jaxft.training import linear_head


def clusters(count: int, noise: float, classes: int = 3, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes around random centres, and the classes."""
    rng = np.random.default_rng(0)
    targets = np.arange(count, dtype=np.int32) % classes
    return (rng.normal(size=(classes, size))[targets] + noise * rng.normal(size=(count, size))).astype(
        np.float32
    ), targets


def solve_head(task: Any, features: np.ndarray, targets: np.ndarray, outputs: int, **options: Any) -> linear_head.Head:
    """The head, with the rows held out in turn."""
    folds = np.random.default_rng(0).permutation(np.arange(len(features)) % min(5, len(features)))
    return linear_head.solve_head(task, features, targets, outputs, folds, **options)


def accuracy(head: tuple[np.ndarray, np.ndarray], features: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean((features @ head[0] + head[1]).argmax(axis=1) == targets))


def test_classes_are_told_apart_whatever_the_scale_of_the_features():
    features, targets = clusters(160, 0.5)
    for scale, shift in ((1.0, 0.0), (1e-3, 5.0)):
        scaled = scale * features + np.float32(shift)
        assert accuracy(solve_head("classification", scaled[:80], targets[:80], 3), scaled[80:], targets[80:]) > 0.95


def test_a_feature_that_hardly_varies_gets_no_large_weight():
    """It would be large in the gradients of whatever makes the feature, too."""
    features, targets = clusters(200, 0.5)
    features = np.concatenate([features, 3 + 1e-7 * features[:, :1]], axis=1)
    kernel, _ = solve_head("classification", features, targets, 3)
    assert np.abs(kernel[-1]).max() < 1e-3 * np.abs(kernel).max()


def test_a_class_with_weight_is_predicted_more_often():
    features, targets = clusters(200, 3.0, classes=2)
    shares = []
    for weight in (1, 5):
        kernel, bias = solve_head("classification", features, targets, 2, class_weights=np.array([1, weight]))
        shares.append(np.mean((features @ kernel + bias).argmax(axis=1)))
    assert shares[1] > shares[0] + 0.1


def test_noise_gets_a_stronger_penalty_than_a_clear_difference():
    sizes = []
    for noise in (0.1, 30.0):
        features, targets = clusters(60, noise, classes=2)
        kernel, _ = solve_head("classification", features / features.std(axis=0), targets, 2)
        sizes.append(np.linalg.norm(kernel))
    assert sizes[1] < 0.5 * sizes[0]


def test_a_class_without_rows_is_unlikely_and_the_others_are_as_without_it():
    features, targets = clusters(60, 0.5, classes=2)
    kernel, bias = solve_head("classification", features, 2 * targets, 3)
    assert (features @ kernel + bias).argmax(axis=1).tolist() == (2 * targets).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, pytest.param(7, marks=pytest.mark.slow)])
def test_a_handful_of_texts_is_enough(count):
    features, targets = clusters(count, 0.1, classes=2)
    cases = [
        ("classification", targets, 2),
        ("multilabel", np.eye(2, dtype=np.float32)[targets], 2),
        ("regression", targets.astype(np.float32), 1),
    ]
    for task, labels, outputs in cases:
        kernel, bias = solve_head(task, features, labels, outputs)
        assert kernel.shape == (20, outputs)
        assert np.isfinite(kernel).all()
        assert np.isfinite(bias).all()


@pytest.mark.slow
def test_numbers_and_sets_of_labels_are_predicted():
    features, _ = clusters(160, 1.0)
    numbers = features @ np.linspace(-1, 1, 20).astype(np.float32) + 3
    kernel, bias = solve_head("regression", features[:120], numbers[:120], 1)
    np.testing.assert_allclose((features @ kernel + bias)[120:, 0], numbers[120:], atol=0.05)
    labels = (features[:, :3] > 0).astype(np.float32)
    kernel, bias = solve_head("multilabel", features[:120], labels[:120], 3)
    assert np.mean(((features @ kernel + bias) > 0)[120:] == labels[120:]) > 0.85
