"""Files and errors: what YAML is read, what is refused, and how long an error may become."""

import time

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import LARGEST_YAML, parse_yaml, read_yaml


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
