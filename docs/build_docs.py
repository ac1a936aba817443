"""Write the reference pages from the code: `python docs/build_docs.py [--check]`.

`docs/environment.md` comes from the docstrings of the environments and the keys of their infos, `docs/scenarios.md`
from the fields of `Scenario` and `LayerwiseScenario`, the shipped files and the parts that scenarios are put together
of.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coinfer_gym import load_scenario, shipped_scenarios
from coinfer_gym.laim import dynamics
from coinfer_gym.laim.env import LAIMEnv
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.layerwise import dynamics as layerwise_dynamics
from coinfer_gym.layerwise.env import LayerwiseEnv
from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.scenario import DEVICES, LINKS, NETWORKS, LayerwiseScenario, shipped_layerwise_scenarios
from coinfer_gym.scenario import WorldScenario

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTE = "<!-- Made by: python docs/build_docs.py (change the code it reads, not this file). -->\n"


def environment_page() -> str:
    """The environments' docstrings as a page, with the keys of ``info``."""
    lines = [NOTE, "# coinfer_gym/LAIM-v0", "", inspect.cleandoc(LAIMEnv.__doc__ or ""), "", "## Info", ""]
    lines += [inspect.cleandoc(_docstring_after(dynamics, "INFO_NAMES")), ""]
    lines += [f"- `{name}`" for name in dynamics.INFO_NAMES]
    lines += ["", "# coinfer_gym/Layerwise-v0", "", inspect.cleandoc(LayerwiseEnv.__doc__ or ""), "", "## Info", ""]
    lines += [inspect.cleandoc(layerwise_dynamics.info_names.__doc__ or ""), ""]
    for name in NETWORKS:
        lines += [f"With the network `{name}`:", ""]
        lines += [f"- `{key}`" for key in layerwise_dynamics.info_names(load_network(name))] + [""]
    return "\n".join(lines)


def scenarios_page() -> str:
    """Every field of a scenario, and what each shipped one sets."""
    lines = [NOTE, "# Scenarios of LAIM-v0", "", "## Fields", ""]
    lines += [
        "Each is a key of a YAML file and a keyword of `gym.make`. `extends:` takes the others from a shipped one.",
        "",
    ]
    lines += [*_fields(Scenario), "", "## Shipped", ""]
    base = load_scenario("bert-multimodal").model_dump()
    for name in shipped_scenarios():
        scenario = load_scenario(name)
        lines += [f"### {name}", "", scenario.description, ""]
        different = {key: value for key, value in scenario.model_dump().items() if value != base[key]}
        if name == "bert-multimodal":
            lines += ["The default; its file says where each constant comes from.", ""]
            different = base
        shown = {key: value for key, value in different.items() if key not in ("name", "description")}
        lines += [f"- `{_alias(key)}`: {value}" for key, value in shown.items()] + [""]
    return "\n".join([*lines, *_layerwise_scenarios()])


def _layerwise_scenarios() -> list[str]:
    """Every field that Layerwise-v0 has beside those of the world, and the parts of the shipped scenarios."""
    lines = ["# Scenarios of Layerwise-v0", "", "## Fields", ""]
    lines += [f"Those of LAIM-v0 from `bandwidth` to `{list(WorldScenario.model_fields)[-1]}`, and:", ""]
    lines += [*_fields(LayerwiseScenario, without=WorldScenario), "", "## Shipped", ""]
    count = len(shipped_layerwise_scenarios())
    lines += [f"{count} scenarios `network-device-link`, each put together of three parts and what all share:", ""]
    for title, names in (("network", NETWORKS), ("device", DEVICES), ("link", LINKS)):
        lines.append(f"- {title}: {', '.join(f'`{name}`' for name in names)}")
    for part in (*NETWORKS, *DEVICES, *LINKS, "base"):
        lines += ["", f"### {'What all share' if part == 'base' else part}", ""]
        text = resources.files("coinfer_gym").joinpath("layerwise", "parts", f"{part}.yaml").read_text("utf-8")
        if part != "base":  # the first line of each other file says what it is
            lines += [text.splitlines()[0].removeprefix("# "), ""]
        lines += [f"- `{key}`: {value}" for key, value in yaml.safe_load(text).items()]
    return [*lines, ""]


def _fields(model: type[WorldScenario], without: type[WorldScenario] | None = None) -> list[str]:
    """Table of the fields of a scenario, those of another class left out."""
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
            "needed" if info.is_required() else f"`{info.default!r}`",
            info.description or "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _alias(name: str) -> str:
    return Scenario.model_fields[name].alias or name


def _range(metadata: list[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [f"{sign} {getattr(item, key):g}" for item in metadata for key, sign in signs.items() if hasattr(item, key)]
    return ", ".join(parts)


def _docstring_after(module: Any, name: str) -> str:
    """The string that stands below an assignment in a module's source."""
    source = inspect.getsource(module)
    after = source[source.index(f"\n{name} = ") :]
    return after.split('"""')[1]


def main() -> int:
    """Write the pages, or say which differ from what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    check = parser.parse_args().check
    stale = []
    for name, text in (("environment.md", environment_page()), ("scenarios.md", scenarios_page())):
        path = DOCS / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
    for name in stale:
        print(f"docs/{name} {'is out of date: run python docs/build_docs.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
