"""Figure 6 of Mu et al.: delays from FLOPs counted by hand, its files, and verdicts that can fail."""

import pytest

from studies.mu import partition as figure
from studies.mu.schemes import LINKS
from tests.studies.made import make_and_read


@pytest.fixture(scope="module")
def times():
    return figure.compute()


def test_wide_network_by_hand(times):
    # 2 H W (C_i K^2 + 1) C_o, ReLU and pooling one operation a value and four, (2 C_i - 1) C_o.
    convolutions = 2 * 64 * (3 * 121 + 1) * 64, 2 * 16 * (64 * 25 + 1) * 192, 8 * (192 * 9 + 1) * 384
    convolutions += 8 * (384 * 9 + 1) * 256, 8 * (256 * 9 + 1) * 256
    relus = 64 * 64, 16 * 192, 4 * 384, 4 * 256, 4 * 256
    pools = 4 * 16 * 64, 4 * 4 * 192, 4 * 256
    flops = sum(convolutions) + sum(relus) + sum(pools) + (2 * 256 - 1) * 10
    delays = times["wide", "rpi3b", "3g"].delays
    assert delays["All_Local"] == pytest.approx(flops / 0.2e9, rel=1e-5)
    assert delays["All_Server"] == pytest.approx(3072 * 32 / LINKS["3g"] + flops / 10.6e12, rel=1e-4)
    first = convolutions[0] + relus[0] + pools[0]
    split = first / 0.2e9 + 1024 * 32 / LINKS["3g"] + (flops - first) / 10.6e12
    assert delays["Partition"] == pytest.approx(split, rel=1e-4)
    assert times["wide", "rpi3b", "3g"].cuts["Partition"] == 2


def test_files_and_verdict(times, tmp_path):
    summary, _ = make_and_read(figure.STUDIES[0]._replace(compute=lambda: times), tmp_path)
    holds = summary["holds"]
    assert holds == figure.verdict(times)["holds"]
    pi = [part for part in holds if "11 x 11" in part and "Raspberry Pi 3B+" in part]
    assert len(pi) == 2
    assert all(holds[part] for part in pi)
    key = ("wide", "rpi3b", "3g")
    slower = times[key]._replace(delays=times[key].delays | {"Partition": 0.08})
    broken = figure.verdict({**times, key: slower})["holds"]
    assert [part for part in holds if holds[part] != broken[part]] == [part for part in pi if "3G" in part]
