"""Whether splitting pays: ends and round trips reckoned by hand, and verdicts that can fail."""

import pytest

from coinfer_gym.layerwise.designs import make_designs
from studies.mu import today as figure
from studies.mu.schemes import ALL, problem_at
from tests.studies.made import failures, make_and_read


def test_ends_and_what_lies_between(tmp_path):
    summary, rows = make_and_read(figure.STUDIES[0], tmp_path, networks=("alexnet",), worlds=("today",))
    assert [(row["device"], row["link"]) for row in rows] == [
        (device, link) for device in ("phone", "orin") for link in ("5gtoday", "wifi6")
    ]
    for row in rows:
        problem = problem_at("alexnet", row["device"], float(row["rate"]), row["link"], ALL)
        last = problem.network.cuts - 1
        unpruned = make_designs(
            problem.network, [[cut, *[1.0] * 8, problem.power_max, problem.frequency_device_max] for cut in (0, last)]
        )
        server, device = problem.evaluate(unpruned).delay
        image = problem.network.input_values * 32.0 / float(row["rate"])
        assert image <= float(row["server_alone"]) <= server
        assert 0.0 < float(row["device_alone"]) <= device
        assert 0 < int(row["cut"]) < last
        assert float(row["bound"]) <= float(row["between"])
        assert float(row["gain"]) == pytest.approx(
            min(float(row["device_alone"]), float(row["server_alone"])) / float(row["between"]), rel=1e-6
        )
    assert {row["link"]: row["round_trip"] for row in rows} == {"5gtoday": "0.03", "wifi6": "0.004"}
    assert summary["measured"]["AlexNet, today"]["gain"]["alexnet-orin-wifi6"] == pytest.approx(
        float(rows[-1]["gain"]), rel=1e-6
    )


def test_verdict_can_fail():
    def ends(device, server, between):
        return {("alexnet", "phone", "wifi6"): figure.Ends(device, server, between, between, 3, 0.5)}

    pays = "AlexNet, today: splitting pays in some scenario"
    later = "AlexNet, today, with the round trip: splitting pays in some scenario"
    for data, expected in (
        (ends(3.0, 3.0, 1.0), []),  # 3 and (3 or 3.5) / 1.5
        (ends(1.2, 3.0, 1.0), [later]),  # 1.2 and 1.2 / 1.5
        (ends(0.9, 3.0, 1.0), [pays, later]),
        (ends(9.0, 1.0, 1.0), [pays, later]),
    ):
        assert failures(figure.verdict(data)) == expected
