"""The demonstration: a link that keeps its rate, two processes that answer as one, and clear errors."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from typing import Any

import pytest

from coinfer_gym.errors import InvalidInputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from coinfer_gym.models import demo  # noqa: E402


@pytest.fixture
def ends() -> Any:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def test_the_sender_keeps_to_the_rate(ends: Any) -> None:
    sender, receiver = ends
    data = bytes(range(256)) * 40
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(demo._receive(receiver, len(data))))
    reader.start()
    start = time.perf_counter()
    demo.send_shaped(sender, data, rate=8e5)
    elapsed = time.perf_counter() - start
    reader.join()
    assert got == [data]
    # It may be late on a busy machine, never early.
    assert elapsed >= 8 * len(data) / 8e5


def test_a_bucket_that_waited_holds_no_more_than_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(demo.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(demo.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    bucket = demo.TokenBucket(rate=100.0, depth=50.0)
    now[0] = 10.0
    bucket.take(50.0)
    assert now[0] == 10.0
    bucket.take(50.0)
    assert now[0] == pytest.approx(10.5)
    # More than the bucket holds still passes, in its time.
    bucket.take(200.0)
    assert now[0] == pytest.approx(12.5)


@pytest.mark.slow
def test_two_processes_answer_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(multiprocessing.active_children())
    command = ["--cut", "0", "2", "4", "--tokens", "8", "--rounds", "2", "--rate", "2e6"]
    assert demo.main(command) == 0
    assert set(multiprocessing.active_children()) == before
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "measured" in line]
    assert [row[0] for row in rows] == ["0", "2", "4"]
    assert {row[-1] for row in rows} == {"0"}  # fp32 changes nothing
    # 8 token ids of 16 bits; 8 x 128 values of 32 bits and the two numbers of a shape; nothing.
    assert [int(row[1]) for row in rows] == [8 * 16, 8 * 128 * 32 + 2 * 16, 0]
    uploads = [float(row[4]) for row in rows]
    assert uploads[1] >= 1e3 * 8 * 128 * 32 / 2e6
    assert uploads[2] == 0.0


def test_a_broken_link_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Process:
        def __init__(self, **_options: Any) -> None: ...

        start = join = terminate = lambda self, timeout=None: None
        is_alive = lambda self: False  # noqa: E731

    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(type(context), "Process", Process)
    # The server ends before it listens.
    assert demo.main(["--cut", "1", "--tokens", "4", "--rounds", "1"]) == 2
    assert "The link to the server process failed: ConnectionError('the server process ended" in capsys.readouterr().err
    # Nobody listens there.
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(demo, "_port", lambda _pipe: port)
    assert demo.main(["--cut", "1", "--tokens", "4", "--rounds", "1"]) == 2
    assert "Check that processes may connect over the loopback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"rate": 0.0}, "rate"),
        ({"precision": "fp8"}, "precision"),
        ({"rounds": 0}, "rounds"),
        ({"cuts": [5]}, "cut"),
        ({"tokens": 0}, "tokens"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        demo.compare(**options)
    assert caught.value.field == field
