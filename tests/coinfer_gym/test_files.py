"""Files and errors: what YAML is read, what is refused, how long an error may become, and what a kill leaves."""

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import (
    LARGEST_YAML,
    lock_folder,
    parse_yaml,
    paths_from,
    paths_to,
    read_csv,
    read_json,
    read_text,
    read_yaml,
    write_text,
)


def bomb(levels, width):
    lines = [f"a0: &a0 [{', '.join(['1'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("-2.5E-3", -2.5e-3),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-.inf", -float("inf")),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("010", "010"),
        ("on", True),
        ("", None),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("{a: &x {b: 1}, c: {<<: *x, b: 2}}", {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_values(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is given twice"),
        ("a: {b: 1, b: 1}", "given twice"),
        ("a: [1, 2", "line 1"),
        ("a: !!int ''", "tag"),
        ("a: 2020-13-99", "month"),
        ("a: \0", "special characters"),
        ("- a", "mapping"),
        ("", "mapping"),
        ("[" * 5000, "nested"),
        (bomb(9, 9), "values"),
        ("a: &a [*a]", "values"),
        ("a: 1\n" + "#" * LARGEST_YAML, "shorter"),
        (b"a: \xff", "UTF-8"),
        (None, "no such file"),
    ],
)
def test_what_is_refused_in_one_short_line(tmp_path, text, cause):
    path = tmp_path / "file.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(InvalidInputError, match=cause) as error:
        read_yaml(path, "scenario")
    assert time.process_time() - start < 2.0
    assert str(error.value).startswith("scenario: got ")
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("read", [read_text, read_json, read_csv, read_yaml])
@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "device", "binary", "huge", "missing", "long name", "no name", "below a file"]
)
def test_what_is_no_text_file_is_refused_in_one_line(tmp_path, read, kind):
    path = tmp_path / "file.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "binary":
        path.write_bytes(bytes(range(256)))
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(10**12)  # a file with a hole, which takes no room
    others = {"folder": tmp_path, "device": Path("/dev/zero"), "long name": tmp_path / ("x" * 5000)}
    others |= {"no name": tmp_path / "a\0b", "below a file": Path(__file__) / "x"}
    with pytest.raises(InvalidInputError, match=r"^world: got ") as error:
        read(others.get(kind, path), "world")
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000, "{'a': 1}"])
def test_json_that_is_refused(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        read_json(path, "predictor")


def test_a_byte_order_mark_does_not_matter(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path, "predictor") == read_yaml(path, "scenario") == {"a": 1}


def test_an_error_shows_little_of_a_large_value():
    twice = [0]
    for _ in range(60):
        twice = [twice, twice]
    for value in ("x" * 100_000, list(range(100_000)), np.zeros((100, 100)), dict.fromkeys(range(50), "y" * 90), twice):
        error = InvalidInputError("field", value, "Give less.")
        assert len(str(error)) < 250
        assert str(error).endswith("Give less.")
        assert error.value is value
    assert str(InvalidInputError("a", "b" * 20, "c")) == f"a: got '{'b' * 20}'. c"


def test_an_error_is_one_line_however_long_its_parts_are():
    for value in (10**5000, "a\nb", np.zeros((3, 3)), b"x" * 10**6):
        text = str(InvalidInputError("field " * 1000 + "\nname", value, "remedy\n" * 1000))
        assert len(text.splitlines()) == 1
        assert len(text) < 620
        assert "name: got " in text
    remedy = " ".join(["word"] * 80)
    assert str(InvalidInputError("a", 1, remedy)).endswith(f"got 1. {remedy}")  # a short value leaves room
    assert set(str(InvalidInputError("a", "x" * 200, remedy)).split()[3:]) == {"word", "..."}
    assert nearest("bandwith", ["bandwidth"]) == "Did you mean 'bandwidth'?"
    assert nearest("x", ["a", "b"]) == "Known are: a, b."
    many = nearest("x" * 10**6, [f"field_{n}" for n in range(1000)])
    assert len(many) < 250
    assert re.fullmatch(r"Known are: (field_\d+, )+\.\.\. \(1000 in all\)\.", many)  # whole names


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    write_text(tmp_path / "x.csv", "old")

    def fill(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(InvalidInputError, match=r"x.csv.* cannot be written: No space left"):
        write_text(tmp_path / "x.csv", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "old"


def test_a_folder_serves_one_command_until_its_process_ends(tmp_path):
    hold = "import sys, coinfer_gym.files as files, pathlib\n"
    hold += "with files.lock_folder(pathlib.Path(sys.argv[1])): print('locked', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"locked"
        with pytest.raises(InvalidInputError, match="Another command works there"), lock_folder(tmp_path / "run"):
            pass
        holder.kill()
    with lock_folder(tmp_path / "run"):
        pass


def test_a_lock_clears_drafts_but_not_those_of_a_locked_folder_inside(tmp_path):
    for place in (tmp_path, tmp_path / "checkpoints", tmp_path / "seed_1"):
        place.mkdir(exist_ok=True)
        (place / ".x.pt.123.tmp").touch()
        (place / "mine.123.tmp").touch()
    with lock_folder(tmp_path / "seed_1"):
        (tmp_path / "seed_1" / ".x.pt.123.tmp").touch()
        with lock_folder(tmp_path):
            pass
        drafts = [path.parent.name for path in tmp_path.rglob(".x.pt.123.tmp")]
    assert drafts == ["seed_1"]
    assert len(list(tmp_path.rglob("mine.123.tmp"))) == 3


def test_paths_of_a_configuration_count_from_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = str(tmp_path / "x.csv")
    given = {
        "env": {"scenario": "bert-text", "workload": "../net", "channel_trace": "link", "arrival_trace": there},
        "agents": {"shipped": "any", "mine": "a/agent"},
        "policies": {"p": {"path": "../../agent", "label": "a/b"}, "axis": [{"predictor": "p.json"}]},
        "data": {"channel_trace": "${COINFER_DATA}/t.csv"},
        "start": "",
    }
    found = paths_from(given, "deep/er")
    assert found["env"] == given["env"] | {"workload": os.path.join("deep", "net"), "channel_trace": "deep/er/link"}
    assert found["agents"] == {"shipped": "any", "mine": "deep/er/a/agent"}
    assert found["policies"] == {"p": {"path": "agent", "label": "a/b"}, "axis": [{"predictor": "deep/er/p.json"}]}
    assert (found["data"], found["start"]) == (given["data"], "")
    assert paths_to(found, "deep/er") == given
    assert paths_from(found, "") == found
    assert paths_from({"workload": "../net"}, "deep") == {"workload": "./net"}  # not the shipped one of that name


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InvalidInputError("field", 3, "Give\n4."), 2, "name: field: got 3. Give 4."),
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), 1, "name: a.csv: No space left on device"),
        (TimeoutError("too late"), 1, "name: too late"),
        (ImportError("torch is missing"), 2, "name: torch is missing"),
        (KeyboardInterrupt(), 130, "name: interrupted"),
    ],
)
def test_a_command_ends_in_one_line(capsys, error, status, line):
    @command("name", errors=(ImportError,))
    def main(arguments=None):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(
    "module", ["coinfer_gym.models.measure", "baselines.compare", "agents.train", "studies", "benchmarks"]
)
def test_an_interrupt_of_the_imports_is_one_line(tmp_path, module):
    (tmp_path / "gymnasium.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True
    )
    assert done.returncode != 0
    assert done.stderr.decode().splitlines() == [f"{module}: interrupted"]


def test_output_that_nobody_reads_or_that_finds_no_room_leaves_no_traceback():
    script = "import sys; from coinfer_gym.command import command; "
    script += "sys.exit(command('name')(lambda arguments: int(bool(print('x'))))())"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as output:
            done = subprocess.run([sys.executable, "-c", script], stdout=output, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (1, b"name: No space left on device\n")
