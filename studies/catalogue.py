"""The figures: which module makes each, what of the papers it redoes, and roughly how long it takes."""

from __future__ import annotations

from typing import NamedTuple

from coinfer_gym.layerwise.scenario import DEVICES_TODAY, shipped_layerwise_scenarios


class Entry(NamedTuple):
    """One figure."""

    module: str  # its `STUDIES` hold the figure
    paper: str  # what it redoes; empty if the papers have no such figure
    claims: tuple[str, ...]  # rows of ``docs/claims.md`` that it judges
    time: str  # rough duration on two cores
    scenarios: tuple[str, ...] = ()  # shipped scenarios and workloads that it rests on, their variants included
    needs_data: bool = False  # whether it needs the extra ``models`` and networks or images that may be missing


LYU, MU = "Lyu et al.", "Mu et al."
PAPER, DEFAULT, MEASURED = ("paper-lyu",), ("bert-multimodal",), ("paper-lyu", "minilm-squad")
BOTH = ("paper-lyu", "bart-base")
GENERATION = ("phone-llama-2026", "mpnet-base", "vit-large-336", "llama-1b", "llama-3b", "llama-8b")
TODAY = tuple(name for name in shipped_layerwise_scenarios() if name.split("-")[1] in DEVICES_TODAY)
LAYERWISE = tuple(name for name in shipped_layerwise_scenarios() if name not in TODAY)
CATALOGUE = {
    "sca_convergence": Entry("studies.lyu.sca_convergence", "", ("L5",), "30 s", PAPER),
    "sca_methods": Entry("studies.lyu.sca_methods", "", ("L5",), "20 s", PAPER),
    "schemes_delay": Entry("studies.lyu.schemes", f"{LYU}, Fig. 4", ("L6", "L7"), "1 min", BOTH),
    "schemes_energy": Entry("studies.lyu.schemes", f"{LYU}, Fig. 5", ("L8", "L9"), "1 min", BOTH),
    "other_budget": Entry("studies.lyu.other_budget", "", ("L7", "L9"), "10 s", BOTH),
    "cuts": Entry("studies.lyu.cuts", f"{LYU}, Fig. 6", ("L10",), "1 min", BOTH),
    "regimes": Entry("studies.lyu.regimes", "", ("L10",), "10 s", PAPER),
    "where": Entry("studies.lyu.where", "", (), "1 min", GENERATION),
    "accuracy_budgets": Entry("studies.lyu.accuracy", f"{LYU}, Figs. 4 and 5 in F1", ("L11",), "20 s", MEASURED),
    "accuracy_cuts": Entry("studies.lyu.accuracy", f"{LYU}, Fig. 6 in F1", ("L11",), "20 s", MEASURED),
    "criteria": Entry("studies.lyu.criteria", "", ("L11",), "10 s", MEASURED),
    "search": Entry("studies.mu.search", "", ("M8",), "2 min", PAPER),
    "load": Entry("studies.agents.load", "", (), "10 min", DEFAULT),
    "cell_load": Entry("studies.agents.cell_load", "", (), "5 min", ("cell-16",)),
    "cell_headroom": Entry("studies.agents.cell_headroom", "", (), "5 min", ("cell-4", "cell-16")),
    "decision_time": Entry("studies.agents.decision_time", "", (), "1 min", DEFAULT),
    "layerwise_partition": Entry("studies.mu.partition", f"{MU}, Fig. 6", ("M3",), "10 s", LAYERWISE),
    "layerwise_rates": Entry("studies.mu.rates", f"{MU}, Figs. 7 and 8", ("M4", "M5"), "15 min", LAYERWISE),
    "layerwise_tradeoff": Entry("studies.mu.tradeoff", f"{MU}, Figs. 9 and 10", ("M6",), "2 min", LAYERWISE),
    "layerwise_noise": Entry("studies.mu.noise", f"{MU}, Fig. 11", ("M7",), "3 min", LAYERWISE),
    "layerwise_today": Entry("studies.mu.today", "", (), "1 min", (*LAYERWISE, *TODAY)),
    "layerwise_optimizer": Entry("studies.mu.optimizer", "", (), "5 min", LAYERWISE),
    "layerwise_accuracy": Entry("studies.mu.accuracy", f"{MU}, Table IV", ("M1", "M2"), "1 min", needs_data=True),
    "layerwise_confirmed": Entry("studies.mu.confirmed", "", (), "5 s", LAYERWISE, needs_data=True),
    "weights": Entry("studies.lyu.weights", f"{LYU}, Fig. 2", ("L1",), "10 min", needs_data=True),
    "output_distortion": Entry(
        "studies.lyu.output_distortion", f"{LYU}, Fig. 3", ("L2", "L3"), "10 min", needs_data=True
    ),
    "pruned_weights": Entry("studies.lyu.pruned_weights", "", ("L4",), "10 min", needs_data=True),
}
"""Figures by name, which is also the stem of their files."""
