"""From measurements to a world: fits accuracy predictors and writes them with the workload and a scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, write_text
from coinfer_gym.laim.predictor import LEVELS, AccuracyPredictor
from coinfer_gym.laim.workload import Workload
from coinfer_gym.models import regress, tables

_POINTS = 20_000
_BASE = "minilm-squad"


@dataclass(frozen=True)
class Measurements:
    """Measured configurations of one network."""

    workload: Workload  # the network; its name is that of the predictor and the scenario
    metric: str  # column that is predicted
    rows: Sequence[Mapping[str, Any]]  # those of `coinfer_gym.models.measure.measure`, all on the same samples
    methods: Sequence[str]  # kinds of pruning, one predictor each; the scenario takes the first
    precision: str  # of the activation that the predictors assume


def make_predictor(measured: Measurements, method: str, seed: int = 0) -> tuple[AccuracyPredictor, list[regress.Score]]:
    """Predictor of one kind of pruning, the table of the regressor that errs least; and the scores of all regressors.

    Its errors: ``cross_validation`` and ``cross_validation_95``, root mean square and 95 % quantile between regressor
    and measurements left out; ``monotone``, what making the table monotone moved at most; ``table_mean`` and
    ``table_largest``, between table and regressor. The seed is that of cross-validation and regressors.

    Raises
    ------
    InvalidInputError
        If the unpruned network was not measured, there are too few rows, or they are of different samples.
    """
    workload, metric = measured.workload, measured.metric
    blocks = workload.cuts - 1
    if not measured.rows:
        raise InvalidInputError("rows", [], "Give at least one measured configuration.")
    counts = sorted({int(row["samples"]) for row in measured.rows})
    if len(counts) > 1:
        raise InvalidInputError("rows: samples", counts, "Give configurations that were measured on the same samples.")
    unpruned = [float(row[metric]) for row in measured.rows if _is_unpruned(row)]
    if not unpruned or unpruned[0] <= 0.0:
        raise InvalidInputError("rows", unpruned, f"Measure the unpruned network: its {metric} is the unit.")
    chosen = [row for row in measured.rows if row["method"] == method or _is_unpruned(row)]
    X, names = tables.features([{**row, "method": method} for row in chosen], blocks)
    y = tables.column(chosen, metric) / unpruned[0]
    scores = regress.compare_regressors(X, y, names, groups=tables.design_groups(chosen), seed=seed)
    best = min(scores, key=lambda score: score.mse)
    regressor = regress.fit(best.regressor, X, y, names, seed=seed)
    predict = tables.on_configurations(regressor, names, blocks, method=method, precision=measured.precision)
    grid = np.linspace(0.0, 1.0, LEVELS)
    table, moved = tables.make_monotone(tables.tabulate(predict, workload.cuts, grid))
    table = np.clip(table, 0.0, 1.0)
    table[:, -1, -1] = 1.0  # measured, whatever the regressor says
    largest, mean = tables.table_error(predict, table, grid, _POINTS, seed=seed)
    errors = {
        "cross_validation": best.rmse,
        "cross_validation_95": best.error_95,
        "monotone": moved,
        "table_mean": mean,
        "table_largest": largest,
    }
    description = (
        f"{best.regressor} regressor on {len(chosen)} configurations of {workload.name}, {method} pruning, activations "
        f"in {measured.precision}, {metric} on {counts[0]} samples."
    )
    return (
        AccuracyPredictor(
            f"{workload.name}-{method}",
            metric,
            unpruned[0],
            np.round(table, 6),
            {name: round(value, 6) for name, value in errors.items()},
            description,
        ),
        scores,
    )


def write_scenario(measured: Measurements, folder: Path, seed: int = 0) -> str:
    """Write predictors, the regressors' scores, the workload and a scenario; returns a text that shows the scores.

    ``scenario.yaml`` in the folder is for ``gym.make("coinfer_gym/LAIM-v0", scenario=...)``.
    """
    lines, table = [], []
    for method in measured.methods:
        predictor, scores = make_predictor(measured, method, seed)
        write_text(folder / f"predictor-{method}.json", json.dumps(predictor.to_dict()) + "\n")
        lines.append(f"{predictor.description} Errors: {predictor.errors}")
        for score in scores:
            table.append({"method": method, **score.__dict__})
            lines.append(
                f"  {score.regressor:<17} MSE {score.mse:.2e}  adjusted R2 {score.adjusted_r2:.3f}  "
                f"AIC {score.aic:.0f}  BIC {score.bic:.0f}"
            )
    write_text(folder / "regressors.csv", csv_text(table))
    measured.workload.save(folder / "workload.yaml")
    scenario = {
        "extends": _BASE,
        "name": measured.workload.name,
        "description": f"{measured.workload.name} in the world of {_BASE}.",
        "workload": "workload.yaml",
        "input_bits": None,
        "predictor": f"predictor-{measured.methods[0]}.json",
        "quality": "accuracy",
    }
    text = yaml.safe_dump(scenario, sort_keys=False)
    text = text.replace("input_bits: null", "input_bits: null  # the token ids alone; give the size of your raw sample")
    write_text(folder / "scenario.yaml", text)
    return "\n".join([*lines, f"wrote {folder / 'scenario.yaml'}"])


def _is_unpruned(row: Mapping[str, Any]) -> bool:
    return float(row["retained_device"]) == 1.0 and float(row["retained_server"]) == 1.0
