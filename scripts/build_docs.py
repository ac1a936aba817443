"""Write the reference pages from the code: `python scripts/build_docs.py [--check]`.

`docs/environment.md` comes from the docstring of LAIM-v0 and the keys of its infos, `docs/scenarios.md` from the fields
of `Scenario` and the shipped files.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coinfer_gym import load_scenario, shipped_scenarios
from coinfer_gym.envs import dynamics
from coinfer_gym.envs.laim import LAIMEnv
from coinfer_gym.scenario import Scenario

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTE = "<!-- Made by: python scripts/build_docs.py (change the code it reads, not this file). -->\n"


def environment_page() -> str:
    """The environment's docstring as a page, with the keys of ``info``."""
    lines = [NOTE, "# coinfer_gym/LAIM-v0", "", inspect.cleandoc(LAIMEnv.__doc__ or ""), "", "## Info", ""]
    lines += [inspect.cleandoc(_docstring_after(dynamics, "INFO_NAMES")), ""]
    lines += [f"- `{name}`" for name in dynamics.INFO_NAMES]
    return "\n".join(lines) + "\n"


def scenarios_page() -> str:
    """Every field of a scenario, and what each shipped one sets."""
    lines = [NOTE, "# Scenarios", "", "## Fields", ""]
    lines += [
        "Each is a key of a YAML file and a keyword of `gym.make`. `extends:` takes the others from a shipped one.",
        "",
    ]
    lines += ["| field | symbol | unit | range | default | meaning |", "|---|---|---|---|---|---|"]
    for name, info in Scenario.model_fields.items():
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
    lines += ["", "## Shipped", ""]
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
    return "\n".join(lines)


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
        print(f"docs/{name} {'is out of date: run python scripts/build_docs.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
