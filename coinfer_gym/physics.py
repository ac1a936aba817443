"""Delay and energy of one co-inference task: Lyu et al., eqs. 1-11, as compiled scalar functions in SI units."""

from __future__ import annotations

import math
from typing import Any

from coinfer_gym._compile import kernel


def from_db(level_db: Any) -> Any:
    """Power ratio of a level in dB, ``10^(L / 10)``; numbers and arrays. Compiled code wraps it by `kernel`."""
    return 10.0 ** (level_db / 10.0)


@kernel
def rate_of_snr(snr: float, bandwidth: float) -> float:
    """Rate ``B log2(1 + SNR)`` in bit/s of a link with a bandwidth in Hz and a signal-to-noise ratio."""
    return bandwidth * math.log1p(snr) / math.log(2.0)


@kernel
def snr_of_rate(rate: float, bandwidth: float) -> float:
    """Signal-to-noise ratio ``2^(r/B) - 1`` at which a link has a rate in bit/s, the inverse of `rate_of_snr`."""
    return math.expm1(rate / bandwidth * math.log(2.0))


@kernel
def transmission_rate(power: float, gain: float, bandwidth: float, noise_density: float) -> float:
    """Uplink rate ``B log2(1 + p g / (N0 B))`` in bit/s (eq. 2).

    Parameters
    ----------
    power : float
        Transmit power `p` in W, at least 0.
    gain : float
        Channel power gain `g`, at least 0.
    bandwidth : float
        Bandwidth `B` in Hz, positive.
    noise_density : float
        Noise power spectral density `N0` in W/Hz, positive.
    """
    return rate_of_snr(power * gain / (noise_density * bandwidth), bandwidth)


@kernel
def power_at(nats: float, gain: float, bandwidth: float, noise_density: float) -> float:
    """Transmit power in W at which ``ln(1 + SNR)`` is `nats`, that is, at which the rate is ``B nats / ln 2``."""
    return math.expm1(nats) * noise_density * bandwidth / gain


@kernel
def compute_delay(retained: float, flops: float, frequency: float, flops_per_cycle: float) -> float:
    """Time to run a pruned sub-model, ``rho L / (f c)`` in s (eqs. 4 and 8); 0 where there is nothing to run.

    Parameters
    ----------
    retained : float
        Retained ratio `rho` in (0, 1].
    flops : float
        FLOPs `L` of the unpruned sub-model.
    frequency : float
        Clock frequency `f` in Hz, positive where `flops` is.
    flops_per_cycle : float
        FLOPs per cycle `c`.
    """
    if flops == 0.0:
        return 0.0
    return retained * flops / (frequency * flops_per_cycle)


@kernel
def compute_energy(
    retained: float, flops: float, frequency: float, flops_per_cycle: float, pue: float, kappa: float
) -> float:
    """Energy to run a pruned sub-model, ``eta kappa f^2 rho L / c`` in J (eqs. 5 and 9).

    Parameters
    ----------
    retained, flops, frequency, flops_per_cycle : float
        As in `compute_delay`.
    pue : float
        Power usage effectiveness `eta`.
    kappa : float
        Power coefficient of the chip in W/Hz^3.
    """
    return pue * kappa * frequency * frequency * retained * flops / flops_per_cycle


@kernel
def upload_delay(bits: float, rate: float) -> float:
    """Time to send the activation, ``S / r`` in s (eq. 6); 0 where nothing is sent, infinite at rate 0."""
    if bits == 0.0:
        return 0.0
    if rate == 0.0:
        return math.inf
    return bits / rate


@kernel
def energy_at(power: float, delay: float) -> float:
    """Energy ``P t`` in J of a constant power (eq. 7 for that of the transmitter); 0 where either is 0."""
    if power == 0.0 or delay == 0.0:
        return 0.0
    return power * delay


@kernel
def executed_share(retained: float, sparsity_gain: float) -> float:
    """Share of a sub-model that is run and read, ``1 - gamma (1 - rho)``: of the zeros, a share `gamma` is skipped."""
    return (1.0 - sparsity_gain) + sparsity_gain * retained


@kernel
def path_gain(reference_gain: float, distance: float, exponent: float) -> float:
    """Distance-dependent power gain ``g0 d^-alpha`` (Sec. VI-B), `distance` in units of the reference distance 1 m."""
    gain: float = reference_gain * distance**-exponent
    return gain
