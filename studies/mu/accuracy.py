"""What compression costs in accuracy, and how well it is predicted (Mu et al., Sec. I and Table IV, claims M1 and M2).

The figure reads stored measurements of `studies.mu.cifar.sweep` and `fit`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baselines.output import BLACK, BLUE, GREY, ORANGE, VERMILION
from coinfer_gym import InvalidInputError
from coinfer_gym.files import read_csv
from studies.drawing import log_ticks, panels
from studies.figure import Floats, Pictures, Study, require
from studies.mu.schemes import NETWORKS

MEASUREMENTS = Path(__file__).parent / "measurements"
SUFFIX = "l1"
LAYERS = "alexnet-layers"
FIELDS = ("mse", "adjusted_r2", "aic", "bic")
TITLES = {"mse": "MSE", "adjusted_r2": "adj. R2", "aic": "AIC", "bic": "BIC"}
SCORED = {"cross_validation": "cross-validated", "in_sample": "in sample"}
BEST = "GradientBoosting"
EXTRA = "DistilledTrees"
"""The regressor that stands beside those of Table IV, see `studies.mu.cifar.teacher`."""

BAR = 0.832
"""Adjusted R2 of the paper's best regressor."""

TABLE_IV = {
    "GradientBoosting": (4.87e-5, 0.832, -3.90e3, -3.83e3),
    "Bagging": (5.69e-5, 0.723, -3.75e3, -3.69e3),
    "AdaBoost": (4.89e-5, 0.701, -3.72e3, -3.65e3),
    "RandomForest": (4.81e-5, 0.784, -3.81e3, -3.75e3),
    "DecisionTree": (7.56e-5, 0.543, -3.66e3, -3.60e3),
    "Linear": (5.14e-5, 0.700, -3.73e3, -3.67e3),
}

POINTS = {"conv2": ((0.26, 0.02), (0.11, 0.05)), "fc1": ((0.065, 0.02), (0.002, 0.07))}
"""Share that is left and accuracy lost, by curve, as the paper's Sec. I says."""

MARGIN = 0.01
"""Difference of accuracies that counts as none: about two standard errors on 5,000 images."""

_TUNINGS = {"": ("short tuning", BLUE, "--"), "_long": ("longer tuning", VERMILION, "-")}
_TICKS = {"conv2": (0.05, 0.1, 0.2, 0.5, 1.0), "fc1": (0.001, 0.01, 0.1, 0.5)}
_AXES = {"conv2": "share of conv2's parameters left", "fc1": "share of fc1's feature sent"}

Scores = dict[str, dict[str, dict[str, float]]]
"""Values by name: by kind of scoring, and by regressor."""


class Predictions(NamedTuple):
    """Designs of one network."""

    scores: Scores
    regressor: str  # the best in cross-validation
    # shape (n,): accuracy; each design is predicted by that regressor, fitted on others
    measured: Floats
    predicted: Floats


class Curve(NamedTuple):
    """Accuracy lost along one curve."""

    share: Floats  # shape (n,): of parameters or of the feature that is left, ascending
    loss: Floats  # shape (n,): accuracy of the unpruned network minus that of each point


class Data(NamedTuple):
    """Predictions by network, and curves of single layers by name."""

    predictions: dict[str, Predictions]
    curves: dict[str, Curve]


def compute(measurements: Path = MEASUREMENTS, networks: Sequence[str] = tuple(NETWORKS)) -> Data:
    """Read what was measured and stored in a folder; an error says how to measure what is missing."""
    predictions = {network: read_predictions(measurements, network) for network in networks}
    return Data(predictions, read_curves(measurements))


def read_predictions(folder: Path, network: str) -> Predictions:
    """Scores as stored, and each design as a regressor predicts it that was fitted on others."""
    from sklearn.model_selection import GroupKFold, cross_val_predict

    from coinfer_gym.models import regress
    from studies.mu.cifar import fit
    from studies.mu.cifar.teacher import DistilledTrees

    path = folder / f"{network}-{SUFFIX}.csv"
    stored = folder / f"{network}-{SUFFIX}-regressors.csv"
    require([path, stored], _commands(f"{network}-{SUFFIX}"))
    measured = fit.read_measurements(path)
    scores = read_scores(stored)
    regressor = rank(scores["cross_validation"], "adjusted_r2")[0]
    best = (
        DistilledTrees(network, measured.unpruned, measured.noisy)
        if regressor == EXTRA
        else regress.DEFAULTS[regressor](0)
    )
    # The first of the shuffles that the scores are means of.
    folds = GroupKFold(regress.FOLDS, shuffle=True, random_state=0)
    groups = measured.designs
    predicted = cross_val_predict(best, measured.features, measured.accuracy, cv=folds, groups=groups)
    return Predictions(scores, regressor, measured.accuracy, np.asarray(predicted))


def read_scores(path: Path) -> Scores:
    """Scores of all regressors as `studies.mu.cifar.fit` stores them."""
    scores: Scores = {}
    try:
        for row in read_csv(path):
            scores.setdefault(row["scored"], {})[row["regressor"]] = {field: float(row[field]) for field in FIELDS}
        if set(scores) != set(SCORED) or any(set(TABLE_IV) - set(part) for part in scores.values()):
            raise ValueError("rows are missing")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("measurements", str(path), f"The file is damaged: {error!r}") from error
    return scores


def _commands(stem: str, options: str = "") -> str:
    sweep = f"python -m studies.mu.cifar.sweep --weights FOLDER{options} --output {stem}.csv"
    return sweep if options else f"{sweep}; python -m studies.mu.cifar.fit {stem}.csv --output {stem}.json"


def read_curves(folder: Path) -> dict[str, Curve]:
    """Curves of single layers, by the name that the sweep gave them."""
    path = folder / f"{LAYERS}.csv"
    require([path, path.with_suffix(".json")], _commands(LAYERS, " --layers"))
    try:
        unpruned = float(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["accuracy"])
        points: dict[str, list[tuple[float, float]]] = {f"{name}{tuning}": [] for name in POINTS for tuning in _TUNINGS}
        for row in read_csv(path):
            share = float(row["compression"] if row["curve"].startswith("fc1") else row["retained_conv2"])
            points[row["curve"]].append((share, unpruned - float(row["accuracy"])))
        curves = {name: Curve(*np.array(sorted(part)).T) for name, part in points.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("measurements", str(path), f"The file is damaged: {error!r}") from error
    return curves


def loss_at(curve: Curve, share: float) -> float:
    """Accuracy lost at the point nearest to a share."""
    return float(curve.loss[np.abs(np.log(curve.share / share)).argmin()])


def verdict(data: Data) -> dict[str, Any]:
    """What was measured says about claims M1 and M2; the curves are judged after the longer tuning."""
    predictions, curves = data
    holds: dict[str, bool] = {}
    found = []
    losses: dict[str, Any] = {}
    for name, points in POINTS.items():
        for share, said in points:
            by_tuning = {title: loss_at(curves[name + tuning], share) for tuning, (title, *_) in _TUNINGS.items()}
            what = f"conv2 {1.0 - share:.0%} pruned" if name == "conv2" else f"fc1's feature to {share:.1%}"
            holds[f"M1: {what} costs no more than {100 * said:g} points"] = by_tuning["longer tuning"] <= said + MARGIN
            losses[what] = by_tuning | {"paper": said}
            texts = (f"{100 * value:.1f} points ({title})" for title, value in by_tuning.items())
            found.append(f"M1: {what}: {', '.join(texts)}; paper about {100 * said:g}.")
    for network, part in predictions.items():
        crossed = {name: part.scores["cross_validation"][name] for name in TABLE_IV}
        by_field = {field: rank(crossed, field) for field in FIELDS}
        holds[f"M2 ({NETWORKS[network]}): {BEST} is best by adjusted R2, AIC and BIC"] = all(
            by_field[field][0] == BEST for field in FIELDS[1:]
        )
        own = crossed[BEST]["adjusted_r2"]
        holds[f"M2 ({NETWORKS[network]}): its adjusted R2 reaches {BAR}"] = own >= BAR
        best = by_field["adjusted_r2"][0]
        found.append(
            f"M2 ({NETWORKS[network]}), cross-validated on {len(part.measured)} designs: best is {best} with adjusted "
            f"R2 {crossed[best]['adjusted_r2']:.3f}, MSE {crossed[best]['mse']:.2e}; {BEST} has {own:.3f}, "
            f"{crossed[BEST]['mse']:.2e} (paper {BAR}, {TABLE_IV[BEST][0]:.2e}); in sample "
            f"{part.scores['in_sample'][BEST]['adjusted_r2']:.3f}."
            + "".join(
                f" Beside the six: {name} {values['adjusted_r2']:.3f}, {values['mse']:.2e}."
                for name, values in part.scores["cross_validation"].items()
                if name not in TABLE_IV
            )
        )
    scores = {network: part.scores for network, part in predictions.items()}
    settings = {"designs": {network: len(part.measured) for network, part in predictions.items()}}
    about = {"limits": {"accuracy": MARGIN, "adjusted_r2": BAR}, "settings": settings}
    return {"holds": holds, "found": found, "measured": {"losses": losses, "scores": scores}, **about}


def rank(scores: Mapping[str, Mapping[str, float]], field: str) -> list[str]:
    """Regressors by one score, the best first."""
    sign = -1.0 if field == "adjusted_r2" else 1.0
    return sorted(scores, key=lambda name: sign * scores[name][field])


def table(data: Data) -> list[list[Any]]:
    """Scores, predictions and curves, the header first."""
    rows: list[list[Any]] = [["what", "of", "name", "x", "y"]]
    for network, part in data.predictions.items():
        for scored, scores in part.scores.items():
            for regressor, values in scores.items():
                rows += [[f"{scored} {field}", network, regressor, "", values[field]] for field in FIELDS]
        pairs = zip(part.measured, part.predicted, strict=True)
        rows += [["measured and predicted accuracy", network, part.regressor, *pair] for pair in pairs]
    for name, curve in data.curves.items():
        rows += [["share left and accuracy lost", "alexnet", name, *point] for point in zip(*curve, strict=True)]
    return rows


def draw(data: Data) -> Pictures:
    """Table IV above, predictions and the curves of single layers below."""
    title = "What compression costs, and how well it is predicted (after Mu et al., Table IV)"
    size, ratios = (12.6, 7.4), {"height_ratios": (1.0, 1.35), "width_ratios": (1.15, 1.0, 1.0)}
    figure, axes = panels(title, size, 2, 1 + len(POINTS), {"hspace": 0.05}, **ratios)
    for axis in axes[0]:
        axis.remove()
    _draw_table(figure.add_subplot(axes[0, 0].get_gridspec()[0, :]), data.predictions)
    _draw_predictions(axes[1, 0], data.predictions)
    for axis, (name, points) in zip(axes[1, 1:], POINTS.items(), strict=True):
        for tuning, (label, colour, line) in _TUNINGS.items():
            curve = data.curves[name + tuning]
            axis.plot(curve.share, 100.0 * curve.loss, line, color=colour, marker="o", markersize=4, label=label)
        shares, losses = np.array(points).T
        axis.plot(shares, 100.0 * losses, "*", color=BLACK, markersize=11, label="paper, about")
        log_ticks(axis, _TICKS[name])
        axis.set_xlabel(_AXES[name], fontsize=9)
        axis.set_ylabel("accuracy lost (points)", fontsize=9)
    for axis in axes[1]:
        axis.legend(frameon=False, fontsize=8.5)
    return {"": figure}


def _draw_predictions(axis: Any, predictions: Mapping[str, Predictions]) -> None:
    for (network, part), colour in zip(predictions.items(), (ORANGE, BLUE), strict=False):
        label = f"{NETWORKS[network]}, {part.regressor}"
        axis.plot(part.measured, part.predicted, ".", color=colour, markersize=4, alpha=0.7, label=label)
    ends = axis.get_xlim()
    axis.plot(ends, ends, color=GREY, linewidth=0.9, zorder=1)
    axis.set_xlabel("measured accuracy", fontsize=9)
    axis.set_ylabel("predicted, fitted on other designs", fontsize=9)


def _draw_table(axis: Any, predictions: Mapping[str, Predictions]) -> None:
    axis.set_axis_off()
    columns = ["Table IV", *(f"paper\n{TITLES[field]}" for field in FIELDS)]
    columns += [f"{NETWORKS[network]}\n{TITLES[field]}" for network in predictions for field in FIELDS]
    cells = []
    names = dict.fromkeys(name for part in predictions.values() for name in part.scores["cross_validation"])
    for regressor in names:
        said = TABLE_IV.get(regressor)
        line = [regressor, *(_texts(dict(zip(FIELDS, said, strict=True))) if said else [""] * len(FIELDS))]
        for part in predictions.values():
            line += _texts(part.scores["cross_validation"].get(regressor, dict.fromkeys(FIELDS, np.nan)))
        cells.append(line)
    drawn = axis.table(cells, colLabels=columns, loc="center", cellLoc="right")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.auto_set_column_width(range(len(columns)))
    drawn.scale(1.0, 1.35)
    for (row, _), cell in drawn.get_celld().items():
        cell.set_edgecolor("#dddddd")
        if row == 0:
            cell.set_height(1.7 * cell.get_height())
    axis.set_title("scores in cross-validation; the paper does not say how its scores were obtained", fontsize=9)


def _texts(values: Mapping[str, float]) -> list[str]:
    mse, r2, aic, bic = (values[field] for field in FIELDS)
    return [f"{mse:.2e}", f"{r2:.3f}", f"{aic:.0f}", f"{bic:.0f}"]


STUDIES = (Study("layerwise_accuracy", compute, table, verdict, draw),)
