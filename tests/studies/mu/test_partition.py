"""Figure 6 of Mu et al.: delays from FLOPs counted by hand, its files, and verdicts that can fail."""

import pytest

from studies.mu import partition as figure
from studies.mu.schemes import LINKS
from tests.studies.made import make_and_read


@pytest.fixture(scope="module")
def times():
    return figure.compute()


def test_paper_network_by_hand(times):
    # 2 H W (C_i K^2 + 1) C_o, ReLU and dropout one operation a value, pooling nine, (2 C_i - 1) C_o.
    convolutions = 2 * 55**2 * (3 * 121 + 1) * 64, 2 * 27**2 * (64 * 25 + 1) * 192, 2 * 13**2 * (192 * 9 + 1) * 384
    convolutions += 2 * 13**2 * (384 * 9 + 1) * 256, 2 * 13**2 * (256 * 9 + 1) * 256
    relus = 55**2 * 64, 27**2 * 192, 13**2 * 384, 13**2 * 256, 13**2 * 256
    pools = 9 * 27**2 * 64, 9 * 13**2 * 192, 9 * 36 * 256
    dense = (2 * 9216 - 1) * 4096 + (2 * 4096 - 1) * 4096 + (2 * 4096 - 1) * 10 + 9216 + 4096 + 2 * 4096
    flops = sum(convolutions) + sum(relus) + sum(pools) + dense
    assert flops == pytest.approx(1.42e9, rel=0.01)  # two per multiplication of the 0.71e9 that are commonly told
    delays = times["paper", "rpi3b", "3g"].delays
    assert delays["All_Local"] == pytest.approx(flops / 0.2e9, rel=1e-5)
    assert delays["All_Server"] == pytest.approx(3 * 224**2 * 32 / LINKS["3g"] + flops / 10.6e12, rel=1e-4)
    first = convolutions[0] + relus[0] + pools[0]
    split = first / 0.2e9 + 27**2 * 64 * 32 / LINKS["3g"] + (flops - first) / 10.6e12
    assert delays["Partition"] == pytest.approx(split, rel=1e-4)
    assert times["paper", "rpi3b", "3g"].cuts["Partition"] == 2


def test_files_and_verdict(times, tmp_path):
    summary, _ = make_and_read(figure.STUDIES[0]._replace(compute=lambda: times), tmp_path)
    holds = summary["holds"]
    assert holds == figure.verdict(times)["holds"]
    printed = [part for part in holds if "224" in part and "as in the paper" in part]
    assert len(printed) == 4
    assert all(holds[part] for part in printed)
    key = ("paper", "rpi3b", "3g")
    slower = times[key]._replace(delays=times[key].delays | {"Partition": 4.0})
    broken = figure.verdict({**times, key: slower})["holds"]
    assert [part for part in holds if holds[part] != broken[part]] == [part for part in printed if "3B+, 3G" in part]
