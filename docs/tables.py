"""Tables that the site takes from the code: a page asks for one by a line ``{{ table: NAME }}``; a hook of mkdocs."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from coinfer_gym import load_scenario, shipped_scenarios
from coinfer_gym.cell.scenario import CellScenario, load_cell_scenario, shipped_cell_scenarios
from coinfer_gym.files import read_csv, read_json
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.layerwise.scenario import (
    DEVICES,
    DEVICES_TODAY,
    LINKS,
    LINKS_TODAY,
    NETWORKS,
    SERVER_TODAY,
    LayerwiseScenario,
    shipped_layerwise_scenarios,
)
from coinfer_gym.scenario import WorldScenario

PUBLISHED = Path(__file__).parent / "figures"
RESULTS = Path(__file__).parent / "results"
CONFIGS = Path(__file__).parents[1] / "configs"
REQUEST = re.compile(r"^\{\{ table: ([a-z-]+) \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where a page asks for them."""
    return REQUEST.sub(lambda request: "\n".join(TABLES[request[1]]()), markdown)


def laim_scenarios() -> list[str]:
    """What each shipped scenario of LAIM-v0 sets."""
    lines = []
    base = load_scenario("bert-multimodal").model_dump()
    for name in ["bert-multimodal", *(name for name in shipped_scenarios() if name != "bert-multimodal")]:
        scenario = load_scenario(name)
        different = {key: value for key, value in scenario.model_dump().items() if value != base[key]}
        lines += [f"### {name}", "", scenario.description, ""]
        shown = base if name == "bert-multimodal" else different
        lines += _values({_alias(key): shown[key] for key in shown if key not in ("name", "description")})
    return lines


def cell_scenarios() -> list[str]:
    """What each shipped cell sets beside the world of LAIM-v0 that it begins with."""
    lines, base = [], load_cell_scenario("bert-multimodal").model_dump(by_alias=True)
    for name in shipped_cell_scenarios():
        values = load_cell_scenario(name).model_dump(by_alias=True)
        different = {key: value for key, value in values.items() if value != base[key]}
        kinds = different.pop("kinds", ())
        lines += [f"### {name}", "", different.pop("description"), ""]
        lines += _values({key: value for key, value in different.items() if key != "name"})
        for kind in kinds:
            lines += [f"Kind `{kind['name']}`:", "", *_values({key: kind[key] for key in kind if key != "name"})]
    return lines


def layerwise_scenarios() -> list[str]:
    """The parts that the shipped scenarios of Layerwise-v0 are made of."""
    lines = [f"The {len(shipped_layerwise_scenarios())} names are `network-device-link`:", ""]
    for title, names in (
        ("network", NETWORKS),
        ("device", DEVICES),
        ("link", LINKS),
        ("device of today, which goes with links of today", DEVICES_TODAY),
        ("link of today", LINKS_TODAY),
    ):
        lines.append(f"- {title}: {', '.join(f'`{name}`' for name in names)}")
    for part in (*NETWORKS, *DEVICES, *LINKS, *DEVICES_TODAY, SERVER_TODAY, *LINKS_TODAY, "base"):
        text = resources.files("coinfer_gym").joinpath("layerwise", "parts", f"{part}.yaml").read_text("utf-8")
        title = "What all share" if part == "base" else part
        meaning = "" if part == "base" else text.splitlines()[0].removeprefix("# ")
        lines += ["", f"### {title}", "", meaning, "", *_values(yaml.safe_load(text))]
    return lines


def fields(model: type[WorldScenario], without: type[WorldScenario] | None = None) -> list[str]:
    """The fields of a scenario, except those of another class."""
    lines = ["| field | symbol | unit | range | default | meaning |", "|---|---|---|---|---|---|"]
    for name, info in model.model_fields.items():
        if without is not None and name in without.model_fields:
            continue
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        cells = [
            f"`{info.alias or name}`",
            str(extra.get("symbol", "")),
            str(extra.get("unit", "")),
            _range(info.metadata),
            "required" if info.is_required() else f"`{info.default!r}`",
            info.description or "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sca_methods() -> list[str]:
    """The published comparison of both methods of successive convex approximation."""
    rows = read_csv(PUBLISHED / "sca_methods.csv")
    head = (
        "quality",
        "method",
        "iterations at a cut",
        "gap at a cut",
        "gap over all cuts",
        "ms of processor for all cuts",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            *(f"`{row[key]}`" for key in ("quality", "method")),
            *(
                f"{row[f'{part}_median']}, at most {row[f'{part}_max']}"
                for part in ("iterations", "gap", "gap_of_best", "ms_of_all_cuts")
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def criteria() -> list[str]:
    """The published comparison of what designs are chosen by."""
    head = ("pruning", "objective", "near", "near, cut free", "largest loss of F1", "cut free", "rank correlation")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in read_csv(PUBLISHED / "criteria.csv"):
        near = [f"{row[f'near_{split}']} of {row['budgets_each']}" for split in ("fixed", "free")]
        numbers = [f"{float(row[key]):.3f}" for key in ("largest_loss_fixed", "largest_loss_free", "rank_correlation")]
        lines.append("| " + " | ".join([row["method"], f"`{row['objective']}`", *near, *numbers]) + " |")
    return lines


def measured_designs() -> list[str]:
    """How far designs are from the best one, as measured, by what they were chosen for."""
    head = ("pruning", "designed by", "near", "near where the designs differ", "largest loss of F1: cut 4, cut free")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, found in read_json(PUBLISHED / "accuracy_budgets.json", "file")["measured"].items():
        method, _, told = name.partition(": ")
        for criterion, parts in found.items() if told.startswith("F1 below the best") else ():
            sums = {key: sum(part[key] for part in parts.values()) for key in parts["fixed"]}
            near = f"{sums['near']} of {sums['budgets']}"
            differ = f"{sums['near_where_designs_differ']} of {sums['where_designs_differ']}"
            losses = ", ".join(f"{part['largest_loss']:.3f}" for part in parts.values())
            lines.append("| " + " | ".join([method, criterion, near, differ, losses]) + " |")
    return lines


def cuts() -> list[str]:
    """What the published comparison in the default world found of single cuts, a constant action and foresight."""
    table = read_json(RESULTS / "full" / "summary.json", "file")
    reference = table["config"]["reference"]
    others = ("best constant", "on server", "on device", reference, "stochastic DP")
    delivered = {
        label: policy["metrics"]["delivered"]["mean"]
        for label, policy in table["policies"].items()
        if label in others or label.startswith("cut ")
    }
    lines = ["| policy | delivered quality | relative to the optimum of each task alone |", "|---|---|---|"]
    return lines + [
        f"| {label} | {mean:.4f} | {mean / delivered[reference]:.3f} |" for label, mean in delivered.items()
    ]


def suite() -> list[str]:
    """The tasks of the suite, with what the stored references reach there."""
    lines = ["| task | policy | delivered quality | of the bound | on time | delay in ms: p50, p95, p99 |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, task in read_json(CONFIGS / "suite" / "references.json", "file")["tasks"].items():
        bound = sum(task["bound"]) / len(task["bound"])
        for label, reference in task["references"].items():
            metrics = {key: value["mean"] for key, value in reference["metrics"].items()}
            first = f"`{name}`: {task['title'].lower()}" if label == next(iter(task["references"])) else ""
            delays = ", ".join(f"{1e3 * metrics[f'delay_p{percent}_s']:,.0f}" for percent in (50, 95, 99))
            cells = [first, label, f"{metrics['delivered']:.4f}", f"{metrics['delivered'] / bound:.3f}"]
            lines.append("| " + " | ".join([*cells, f"{metrics['on_time']:.1%}", delays]) + " |")
    return lines


def cell() -> list[str]:
    """What the stored comparison of rules and agents found in the cells."""
    config = yaml.safe_load((CONFIGS / "compare" / "cell.yaml").read_text("utf-8"))
    head = ["world", "policy", "worlds", "delivered quality", f"beside {config['reference']}"]
    head += [
        "of the ceiling",
        "lost tasks",
        "missed a budget",
        "had to wait for shares",
        "95 % of tasks are done within",
        "decision",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in config["comparisons"]:
        policies = read_json(RESULTS / "cell" / name / "summary.json", "file")["policies"]
        ceilings = [float(row["ceiling"]) for row in read_csv(RESULTS / "cell" / name / "ceilings.csv")]
        for label, policy in policies.items():
            mean = {key: value["mean"] for key, value in policy["metrics"].items()}
            quality = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**policy["metrics"]["delivered"])
            cells = [f"`{name}`" if label == next(iter(policies)) else "", label, str(policy["worlds"]), quality]
            lead = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**policy["difference"]["delivered"])
            cells.append(lead if label != config["reference"] else "")
            played = ceilings[: policy["worlds"]]
            cells.append(f"{mean['delivered'] * len(played) / sum(played):.1%}")
            cells += [f"{mean[key]:.1%}" for key in ("dropped", "violated", "blocked")]
            cells += [f"{mean['delay_p95_s']:.2f} s", f"{1e-3 * mean['decision_us']:.1f} ms"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def cell_agents() -> list[str]:
    """What ten seeds of each way to learn deliver in the cells, beside the rules."""
    head = ("world", "", "runs", "interquartile mean", "mean", "relative to one-device DP", "of the ceiling")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in ("cell-4", "cell-16"):
        folder = RESULTS / "agents" / name
        leads = {
            row["algorithm"]: "{difference} [{low}, {high}]".format(
                **{key: f"{float(row[key]):+.4f}" for key in ("difference", "low", "high")}
            )
            for row in read_csv(folder / "differences.csv")
            if row["reference"] == "one-device DP"
        }
        for k, row in enumerate(read_csv(folder / "summary.csv")):
            iqm = [f"{float(row[key]):.4f}" for key in ("iqm", "iqm_low", "iqm_high")]
            middle = f"{iqm[0]} [{iqm[1]}, {iqm[2]}]" if row["runs"] != "0" else iqm[0]
            cells = [
                "" if k else f"`{name}`",
                row["algorithm"],
                row["runs"].replace("0", "", row["runs"] == "0"),
                middle,
            ]
            cells += [f"{float(row['mean']):.4f}", leads.get(row["algorithm"], "")]
            lines.append("| " + " | ".join([*cells, f"{float(row['share_of_clairvoyant']):.1%}"]) + " |")
    return lines


def _values(values: dict[str, Any]) -> list[str]:
    rows = [f"| `{key}` | {'' if value is None else value} |" for key, value in values.items()]
    return ["| field | value |", "|---|---|", *rows, ""]


def _alias(name: str) -> str:
    return Scenario.model_fields[name].alias or name


def _range(metadata: list[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [f"{sign} {getattr(item, key):g}" for item in metadata for key, sign in signs.items() if hasattr(item, key)]
    return ", ".join(parts)


TABLES = {
    "world-fields": lambda: fields(WorldScenario),
    "laim-fields": lambda: fields(Scenario, without=WorldScenario),
    "cell-fields": lambda: fields(CellScenario, without=Scenario),
    "layerwise-fields": lambda: fields(LayerwiseScenario, without=WorldScenario),
    "laim-scenarios": laim_scenarios,
    "cell-scenarios": cell_scenarios,
    "layerwise-scenarios": layerwise_scenarios,
    "sca-methods": sca_methods,
    "criteria": criteria,
    "measured-designs": measured_designs,
    "cell": cell,
    "cell-agents": cell_agents,
    "cuts": cuts,
    "suite": suite,
}
