"""Runs the two halves of a cut network in two processes over a loopback link, and compares delays with the model's.

``python -m coinfer_gym.models.demo``: the device process sends the activation to the server process at a given rate;
its measured delays stand beside those of Lyu et al., eqs. 4, 6 and 8, with the workload of the same network.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, PreTrainedModel

from coinfer_gym.checks import is_number
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.workload import Workload
from coinfer_gym.models.blocks import check_positive, raw_sample
from coinfer_gym.models.build import workload_from_model
from coinfer_gym.models.link import VALUE_BITS, pack, payload_bits, unpack
from coinfer_gym.models.load import load_model
from coinfer_gym.models.split import check_cut, split
from coinfer_gym.physics import compute_delay, upload_delay

TINY = "tiny-bert"
_ADDRESS = "127.0.0.1"
_TIMEOUT = 120.0  # s: a large network takes this long to load on a slow machine
_CHUNK_SECONDS, _DEPTH_SECONDS = 0.001, 0.02
_RECEIVED = b"\x06"
_NUMBER = struct.Struct("<q")
_SECONDS = struct.Struct("<d")


class LinkError(ConnectionError):
    """The link to the server process broke, or never came about."""


@dataclass(frozen=True)
class Delays:
    """Delays of one task in s: on the device, on the link, on the server, and all in all."""

    device: float
    upload: float
    server: float
    total: float


@dataclass(frozen=True)
class Comparison:
    """One cut, measured and modelled.

    Attributes
    ----------
    cut : int
        The cut.
    payload_bits, message_bits : int
        What went over the link, without and with names, shapes and scales.
    measured, modelled : Delays
        The least over the rounds, since what other processes add is no part of the network, and the model's. The
        measured total holds packing and unpacking too.
    deviation : float
        Largest difference of the answer to that of the uncut network; 0 in fp32.
    """

    cut: int
    payload_bits: int
    message_bits: int
    measured: Delays
    modelled: Delays
    deviation: float


class TokenBucket:
    """Shapes a sender to a rate: tokens of one bit arrive steadily, up to the bucket's depth, and each bit takes one.

    Parameters
    ----------
    rate : float
        In bit/s.
    depth : float
        Most tokens that wait; the bucket begins empty.
    """

    def __init__(self, rate: float, depth: float) -> None:
        self.rate = rate
        self.depth = depth
        self._tokens = 0.0
        self._last = time.perf_counter()

    def take(self, bits: float) -> None:
        """Wait until there are as many tokens, and take them."""
        while True:
            now = time.perf_counter()
            self._tokens = min(self._tokens + (now - self._last) * self.rate, max(self.depth, bits))
            self._last = now
            if self._tokens >= bits:
                self._tokens -= bits
                return
            time.sleep((bits - self._tokens) / self.rate)


def send_shaped(link: socket.socket, data: bytes, rate: float) -> None:
    """Send data at `rate` bit/s: the last byte leaves ``len(data) * 8 / rate`` seconds after the call."""
    bucket = TokenBucket(rate, rate * _DEPTH_SECONDS)
    chunk = max(1, int(rate * _CHUNK_SECONDS / 8))
    for start in range(0, len(data), chunk):
        piece = data[start : start + chunk]
        bucket.take(8 * len(piece))
        link.sendall(piece)


def compare(
    model_name: str = TINY,
    cuts: Sequence[int] | None = None,
    *,
    rate: float = 2e7,
    precision: str = "fp32",
    tokens: int = 128,
    rounds: int = 5,
) -> list[Comparison]:
    """Measure and model the delays of a network at some cuts.

    Parameters
    ----------
    model_name : str
        ``"tiny-bert"``, a random BERT of 4 blocks, or what `coinfer_gym.models.load.load_model` takes.
    cuts : sequence of int, optional
        All cuts when left out.
    rate : float
        Rate of the link in bit/s.
    precision : {"fp32", "fp16", "int8"}
        Of the activation on the link.
    tokens : int
        Length of the text in tokens; ignored for image models.
    rounds : int
        Tasks measured at each cut, after one that warms up.

    Returns
    -------
    list of Comparison
        The model's clock is calibrated: FLOPs over the FLOP rate that the uncut network reaches in this process.

    Raises
    ------
    InvalidInputError
        If an argument is out of range.
    LinkError
        If the link to the server process fails.
    """
    if not is_number(rate) or not rate > 0.0:
        raise InvalidInputError("rate", rate, "Give a positive number of bit/s.")
    if precision not in VALUE_BITS:
        raise InvalidInputError("precision", precision, f"Known are: {', '.join(VALUE_BITS)}.")
    check_positive("rounds", rounds)
    torch.set_num_threads(1)
    model = _load(model_name)
    workload = workload_from_model(model, tokens=tokens, bits_per_value=VALUE_BITS[precision])
    chosen = list(range(workload.cuts)) if cuts is None else list(cuts)
    for cut in chosen:
        check_cut(cut, workload.cuts - 1)
    inputs = _inputs(model, tokens)
    speed, answer = _calibrate(model, inputs, workload, rounds)
    with _server(model_name) as link:
        device = _DeviceEnd(link, inputs, answer, rate, precision)
        return [device.compare(model, cut, workload, speed, rounds) for cut in chosen]


@dataclass
class _DeviceEnd:
    """The device's end of the link."""

    link: socket.socket
    inputs: Mapping[str, Tensor]
    answer: Mapping[str, Tensor]
    rate: float
    precision: str

    def compare(self, model: PreTrainedModel, cut: int, workload: Workload, speed: float, rounds: int) -> Comparison:
        """Measure one cut and put the model's delays beside it."""
        front = split(model, cut).device
        last = cut == workload.cuts - 1
        if not last:
            self.link.sendall(_NUMBER.pack(cut))
            _receive(self.link, len(_RECEIVED))
        results = [self._task(front, last) for _ in range(rounds + 1)][1:]
        if not last:
            self.link.sendall(_NUMBER.pack(0))
        least = (min(column) for column in zip(*(astuple(delays) for delays, *_ in results), strict=True))
        _, message, answer = results[-1]
        modelled = _modelled(workload, cut, speed, self.rate)
        deviation = max(float((answer[name] - value).abs().max()) for name, value in self.answer.items())
        bits = payload_bits(message) if message else 0
        return Comparison(cut, bits, 8 * len(message), Delays(*least), modelled, deviation)

    def _task(self, front: nn.Module, last: bool) -> tuple[Delays, bytes, dict[str, Tensor]]:
        start = time.perf_counter()
        with torch.no_grad():
            activations = front(**self.inputs)
        computed = time.perf_counter()
        if last:
            return Delays(computed - start, 0.0, 0.0, computed - start), b"", activations
        message = pack(activations, self.precision)
        self.link.sendall(_NUMBER.pack(len(message)))
        sending = time.perf_counter()
        send_shaped(self.link, message, self.rate)
        _receive(self.link, len(_RECEIVED))
        sent = time.perf_counter()
        (served,) = _SECONDS.unpack(_receive(self.link, _SECONDS.size))
        answer = unpack(_receive_message(self.link))
        return Delays(computed - start, sent - sending, served, time.perf_counter() - start), message, answer


def _modelled(workload: Workload, cut: int, speed: float, rate: float) -> Delays:
    # One FLOP a cycle, so that the clock is the measured FLOP rate.
    device = compute_delay(1.0, float(workload.flops_device[cut]), speed, 1.0)
    server = compute_delay(1.0, float(workload.flops_server[cut]), speed, 1.0)
    upload = upload_delay(float(workload.upload_bits[cut]), rate)
    return Delays(device, upload, server, device + upload + server)


def _calibrate(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], workload: Workload, rounds: int
) -> tuple[float, dict[str, Tensor]]:
    """FLOP/s of the uncut network, and its answer."""
    whole = split(model, workload.cuts - 1).device
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        with torch.no_grad():
            answer = whole(**inputs)
        times.append(time.perf_counter() - start)
    return workload.flops / min(times[1:]), answer


@contextmanager
def _server(model_name: str) -> Iterator[socket.socket]:
    """Connection to a server process of its own, which ends with it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, model_name), daemon=True)
    process.start()
    theirs.close()
    try:
        with socket.create_connection((_ADDRESS, _port(ours)), timeout=_TIMEOUT) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield link
    except OSError as error:
        raise LinkError(
            f"The link to the server process failed: {error!r}. Check that processes may "
            "connect over the loopback interface, and that there is memory for two copies of the network."
        ) from error
    finally:
        ours.close()
        process.join(timeout=5.0)
        if process.is_alive():
            process.terminate()
            process.join()


def _port(pipe: Connection) -> int:
    if not pipe.poll(_TIMEOUT):
        raise TimeoutError(f"the server process did not start within {_TIMEOUT:.0f} s")
    try:
        port: int | str = pipe.recv()
    except EOFError as error:
        raise ConnectionError("the server process ended before it listened") from error
    if isinstance(port, str):
        raise ConnectionError(port)
    return port


def _serve(pipe: Connection, model_name: str) -> None:
    """Server process: cuts as it is told, answers every message, ends when the device hangs up."""
    torch.set_num_threads(1)
    try:
        model = _load(model_name)
        listener = socket.create_server((_ADDRESS, 0))
    except Exception as error:  # the device's process tells the user, whatever it is
        pipe.send(f"{type(error).__name__}: {error}")
        return
    with listener:
        listener.settimeout(_TIMEOUT)
        pipe.send(listener.getsockname()[1])
        link, _ = listener.accept()
    with link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (cut := _receive_number(link)) is not None:
            back = split(model, cut).server
            link.sendall(_RECEIVED)
            while length := _receive_number(link):
                message = _receive(link, length)
                link.sendall(_RECEIVED)
                _answer(link, back, message)


def _answer(link: socket.socket, back: nn.Module, message: bytes) -> None:
    activations = unpack(message)
    start = time.perf_counter()
    with torch.no_grad():
        output = back(activations)
    served = time.perf_counter() - start
    reply = pack({name: value for name, value in output.items() if isinstance(value, Tensor)})
    link.sendall(_SECONDS.pack(served) + _NUMBER.pack(len(reply)) + reply)


def _receive(link: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        got = link.recv_into(view)
        if got == 0:
            raise ConnectionError("the other process hung up")
        view = view[got:]
    return bytes(data)


def _receive_number(link: socket.socket) -> int | None:
    """Number, or None where the other process has hung up."""
    try:
        return int(_NUMBER.unpack(_receive(link, _NUMBER.size))[0])
    except OSError:
        return None


def _receive_message(link: socket.socket) -> bytes:
    return _receive(link, int(_NUMBER.unpack(_receive(link, _NUMBER.size))[0]))


def _load(model_name: str) -> PreTrainedModel:
    if model_name != TINY:
        return load_model(model_name)
    # Both processes draw the same weights.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto_class: Any = AutoModel
        config = BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=2, intermediate_size=512)
        model: PreTrainedModel = auto_class.from_config(config).eval()
    return model


def _inputs(model: PreTrainedModel, tokens: int) -> dict[str, Tensor]:
    """One random sample."""
    generator = torch.Generator().manual_seed(0)
    embedding: Any = model.get_input_embeddings()
    draw: dict[bool, Callable[[Tensor], Tensor]] = {
        True: lambda value: torch.rand(value.shape, generator=generator, dtype=value.dtype),
        False: lambda value: torch.randint(embedding.num_embeddings, value.shape, generator=generator),
    }
    sample = raw_sample(model, tokens, None)
    return {name: draw[value.is_floating_point()](value) for name, value in sample.inputs.items()}


def _show(comparisons: Sequence[Comparison], rate: float, precision: str) -> None:
    print(f"link {rate / 1e6:g} Mbit/s, {precision}; delays in ms, least of all rounds")
    print("total: with packing, unpacking and the way back of the answer, where it is not the model's\n")
    names = ("device", "upload", "server", "total")
    print(f"{'cut':>3}  {'payload bit':>11}  {'':8}" + "".join(f"{name:>10}" for name in names) + "  largest deviation")
    for row in comparisons:
        for label, delays in (("measured", row.measured), ("model", row.modelled)):
            head = f"{row.cut:>3}  {row.payload_bits:>11}" if label == "measured" else " " * 16
            figures = "".join(f"{1e3 * value:10.2f}" for value in astuple(delays))
            print(f"{head}  {label:8}{figures}" + (f"  {row.deviation:.3g}" if label == "measured" else ""))


@command("coinfer_gym.models.demo", errors=(LinkError,))
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m coinfer_gym.models.demo",
        description="Run the halves of a network in two processes, joined by a link.",
    )
    parser.add_argument("--model", default=TINY, help=f"{TINY} (default), a folder, or a name that load_model takes")
    parser.add_argument("--cut", type=int, nargs="+", help="cuts to measure (default: all)")
    parser.add_argument("--rate", type=float, default=2e7, help="rate of the link in bit/s (default: 2e7)")
    parser.add_argument(
        "--precision", choices=VALUE_BITS, default="fp32", help="precision of the activation (default: fp32)"
    )
    parser.add_argument("--tokens", type=int, default=128, help="length of the text in tokens (default: 128)")
    parser.add_argument("--rounds", type=int, default=5, help="number of tasks per cut (default: 5)")
    options = parser.parse_args(arguments)
    settings = {name: getattr(options, name) for name in ("rate", "precision", "tokens", "rounds")}
    _show(compare(options.model, options.cut, **settings), options.rate, options.precision)
    return 0


if __name__ == "__main__":
    sys.exit(main())
