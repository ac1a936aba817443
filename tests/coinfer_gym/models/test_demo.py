"""The demonstration: a link that keeps its rate, two processes that answer as one, and clear errors."""

import math
import multiprocessing
import re
import socket
import threading
import time
from typing import Any

import pytest
import torch
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models import demo


@pytest.fixture
def ends() -> Any:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def test_the_sender_keeps_to_the_rate(ends: Any) -> None:
    sender, receiver = ends
    data = bytes(range(256)) * 40
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(demo._read(receiver, len(data))))
    reader.start()
    start = time.perf_counter()
    demo.send_shaped(sender, data, rate=8e5)
    elapsed = time.perf_counter() - start
    reader.join()
    assert got == [data]
    # It may be late on a busy machine, never early.
    assert elapsed >= 8 * len(data) / 8e5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_of_images_needs_no_embedding(dtype: torch.dtype) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    inputs = demo._inputs(transformers.ResNetModel(config).to(dtype), 5)
    assert {name: (value.shape, value.dtype) for name, value in inputs.items()} == {
        "pixel_values": ((1, 3, 224, 224), dtype)
    }


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


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (demo._HEADER.pack(b"c", 4 << 30), "4294967296 bytes, where at most"),
        (demo._HEADER.pack(b"a", -1), "-1 bytes"),
        (demo._HEADER.pack(b"c", 20) + b"-4000000000000000000", "cut: got -4000000000000000000"),
        (demo._HEADER.pack(b"a", 3) + b"xyz", "message: got '3 bytes'"),
        (demo._HEADER.pack(b"?", 0), "unknown kind"),
        (b"half", "timed out"),
        (demo._HEADER.pack(b"a", 1 << 30) + b"half", "timed out"),
    ],
)
def test_the_server_refuses_what_it_does_not_understand(
    ends: Any, sent: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, server = ends
    monkeypatch.setattr(demo, "_TIMEOUT", 0.2)
    serving = threading.Thread(target=demo._serve, args=(server, demo.TINY))
    serving.start()
    demo._receive(device, demo._READY)
    device.sendall(sent)
    with pytest.raises(demo.LinkError, match=re.escape(told)):  # noqa: PT012
        while True:  # what came whole is acknowledged first
            demo._receive(device, demo._READY)
    serving.join()


def test_a_server_that_ends_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Process:
        def __init__(self, **_options: Any) -> None: ...

        start = join = terminate = lambda self, timeout=None: None
        is_alive = lambda self: False  # noqa: E731

    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(type(context), "Process", Process)
    assert demo.main(["--cut", "1", "--tokens", "4", "--rounds", "1"]) == 2
    assert capsys.readouterr().err.endswith("The link to the server process failed: it ended.\n")


def test_a_server_that_fails_is_not_blamed_on_the_link(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Process:
        def __init__(self, args: Any, **_options: Any) -> None:
            self.link = args[0]

        def start(self) -> None:
            demo._send(self.link, demo._ERROR, b"InvalidInputError: no such weights")

        join = terminate = lambda self, timeout=None: None
        is_alive = lambda self: False  # noqa: E731

    monkeypatch.setattr(type(multiprocessing.get_context("spawn")), "Process", Process)
    assert demo.main(["--cut", "1", "--tokens", "4", "--rounds", "1"]) == 2
    told = capsys.readouterr().err
    assert told.endswith("The server process failed: InvalidInputError: no such weights.\n")
    assert "The link" not in told


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"rate": 0.0}, "rate"),
        ({"rate": math.inf}, "rate"),
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
