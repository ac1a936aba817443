"""Runs the two halves of a cut network in two processes with a link between them, and compares delays with the model's.

``python -m coinfer_gym.models.demo``: the device process sends the activation to the server process at a given rate;
its measured delays stand beside those of Lyu et al., eqs. 4, 6 and 8, with the workload of the same network.

The link is a pair of connected sockets that the server process inherits. It has no address, so that no other process
can connect to it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, PreTrainedModel

from coinfer_gym.checks import is_number
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.workload import Workload
from coinfer_gym.models.blocks import raw_sample
from coinfer_gym.models.build import workload_from_model
from coinfer_gym.models.inputs import check_choice, check_positive
from coinfer_gym.models.link import VALUE_BITS, pack, payload_bits, unpack
from coinfer_gym.models.load import load_model
from coinfer_gym.models.split import check_cut, split
from coinfer_gym.physics import compute_delay, upload_delay

TINY = "tiny-bert"

_SLOWEST, _FASTEST = 1e3, 1e12  # bit/s
_CHUNK_SECONDS = 0.001
_TIMEOUT = 120.0  # s: a large network takes this long to load on a slow machine
_LARGEST = 2**30  # bytes of a message

_HEADER = struct.Struct("<cq")  # kind of the message, length of its body
_READY, _CUT, _ACTIVATIONS, _ANSWER, _ERROR = b"r", b"c", b"a", b"w", b"e"
_SECONDS = struct.Struct("<d")


class LinkError(ConnectionError):
    """The link to the server process broke, or what came over it makes no sense."""


class ServerError(LinkError):
    """The server process told that it failed; the link is sound."""


@dataclass(frozen=True)
class Delays:
    """Delays of one task in s: on the device, on the link, on the server, and all in all."""

    device: float
    upload: float
    server: float
    total: float


@dataclass(frozen=True)
class Comparison:
    """One cut, measured and modelled."""

    cut: int
    payload_bits: int  # what went over the link, without names, shapes and scales
    measured: Delays  # the least of all rounds, as what other processes add is no part of the network; the total holds
    # packing and unpacking too
    modelled: Delays
    deviation: float  # largest difference of the answer to that of the uncut network; 0 in fp32


def send_shaped(link: socket.socket, data: bytes, rate: float) -> None:
    """Send data at `rate` bit/s: no byte leaves sooner than the rate allows."""
    start = time.perf_counter()
    chunk = max(1, int(rate * _CHUNK_SECONDS / 8))
    for first in range(0, len(data), chunk):
        piece = data[first : first + chunk]
        due = start + 8 * (first + len(piece)) / rate
        time.sleep(max(0.0, due - time.perf_counter()))
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
    if not is_number(rate) or not _SLOWEST <= rate <= _FASTEST:
        raise InvalidInputError("rate", rate, f"Give a number of bit/s from {_SLOWEST:g} to {_FASTEST:g}.")
    check_choice("precision", precision, VALUE_BITS)
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
            _send(self.link, _CUT, str(cut).encode())
            _receive(self.link, _READY)
        results = [self._task(front, last) for _ in range(rounds + 1)][1:]
        least = (min(column) for column in zip(*(astuple(delays) for delays, *_ in results), strict=True))
        _, message, answer = results[-1]
        modelled = _modelled(workload, cut, speed, self.rate)
        deviation = max(float((answer[name] - value).abs().max()) for name, value in self.answer.items())
        bits = payload_bits(message) if message else 0
        return Comparison(cut, bits, Delays(*least), modelled, deviation)

    def _task(self, front: nn.Module, last: bool) -> tuple[Delays, bytes, dict[str, Tensor]]:
        start = time.perf_counter()
        with torch.no_grad():
            activations = front(**self.inputs)
        computed = time.perf_counter()
        if last:
            return Delays(computed - start, 0.0, 0.0, computed - start), b"", activations
        message = pack(activations, self.precision)
        self.link.sendall(_HEADER.pack(_ACTIVATIONS, len(message)))
        sending = time.perf_counter()
        send_shaped(self.link, message, self.rate)
        _receive(self.link, _READY)
        sent = time.perf_counter()
        reply = _receive(self.link, _ANSWER)
        (served,) = _SECONDS.unpack_from(reply)
        answer = unpack(reply[_SECONDS.size :])
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
    """Link to a server process of its own, which ends with it."""
    link, theirs = socket.socketpair()
    with link:
        with theirs:
            _prepare(link)
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=_serve, args=(theirs, model_name), daemon=True)
            with _interrupts_ignored():
                process.start()
        try:
            _receive(link, _READY)
            yield link
        except ServerError:
            raise
        except OSError as error:
            raise LinkError(f"The link to the server process failed: {error}.") from error
        finally:
            link.close()
            process.join(timeout=5.0)
            if process.is_alive():
                process.terminate()
                process.join()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started here is not told of Ctrl-C: it ends when this one hangs up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _serve(link: socket.socket, model_name: str) -> None:
    """Server process: cuts as it is told, answers every message, ends when the device hangs up."""
    torch.set_num_threads(1)
    with link:
        _prepare(link)
        try:
            model, back = _load(model_name), nn.Module()
            _send(link, _READY)
            while message := _next_message(link):
                kind, content = message
                if kind == _CUT:
                    back = split(model, int(content)).server
                    _send(link, _READY)
                elif kind == _ACTIVATIONS:
                    _send(link, _READY)
                    _send(link, _ANSWER, _answer(back, content))
                else:
                    raise LinkError(f"a message of the unknown kind {kind!r}")
        except Exception as error:  # whatever it is, the device's process tells the user
            with suppress(OSError):
                _send(link, _ERROR, f"{type(error).__name__}: {error}".encode())


def _prepare(link: socket.socket) -> None:
    link.settimeout(_TIMEOUT)
    if link.family == socket.AF_INET:  # Windows knows no other pairs
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _answer(back: nn.Module, message: bytes) -> bytes:
    activations = unpack(message)
    start = time.perf_counter()
    with torch.no_grad():
        output = back(activations)
    served = time.perf_counter() - start
    return _SECONDS.pack(served) + pack({name: value for name, value in output.items() if isinstance(value, Tensor)})


def _send(link: socket.socket, kind: bytes, content: bytes = b"") -> None:
    link.sendall(_HEADER.pack(kind, len(content)) + content)


def _receive(link: socket.socket, kind: bytes) -> bytes:
    """Content of the next message, which must be of this kind."""
    message = _next_message(link)
    if message is None:
        raise LinkError("it ended")
    found, content = message
    if found == _ERROR:
        raise ServerError(f"The server process failed: {content.decode(errors='replace')}.")
    if found != kind:
        raise LinkError(f"a message of the kind {found!r}")
    return content


def _next_message(link: socket.socket) -> tuple[bytes, bytes] | None:
    """Kind and content of a message, or None where the other process has hung up."""
    first = link.recv(1)
    if not first:
        return None
    kind, length = _HEADER.unpack(first + _read(link, _HEADER.size - 1))
    if not 0 <= length <= _LARGEST:
        raise LinkError(f"a message of {length} bytes, where at most {_LARGEST} are taken")
    return kind, _read(link, length)


def _read(link: socket.socket, length: int) -> bytes:
    """So many bytes; memory is taken as they come, not as they are announced."""
    data = bytearray()
    while len(data) < length:
        piece = link.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise LinkError("the other process hung up in the middle of a message")
        data += piece
    return bytes(data)


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

    def draw(value: Tensor) -> Tensor:
        if value.is_floating_point():
            return torch.rand(value.shape, generator=generator, dtype=value.dtype)
        # Asked for here, for a convolutional network has no embedding.
        embedding: Any = model.get_input_embeddings()
        return torch.randint(embedding.num_embeddings, value.shape, generator=generator)

    return {name: draw(value) for name, value in raw_sample(model, tokens, None).inputs.items()}


def _show(comparisons: Sequence[Comparison], rate: float, precision: str) -> None:
    print(f"link {rate / 1e6:g} Mbit/s, {precision}; delays in ms, least of all rounds")
    print("the total of a run, unlike the model's, includes packing, unpacking and returning the answer\n")
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
