"""Traces: what a file means, and every way in which one is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.physics import transmission_rate
from coinfer_gym.world.traces import FLOOR_GAIN_DB, load_arrival_trace, load_channel_trace

LINK = {"power_max": 0.2, "bandwidth": 1e7, "noise_density": 4e-21}
WIDE = LINK | {"bandwidth": 1e8}
DATA = Path(os.environ.get("COINFER_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "traces"
REAL = sorted(file for file in DATA.glob("*.csv") if file.name != "traces_index.csv") if DATA.is_dir() else []


@pytest.fixture
def written(tmp_path):
    """Write a trace and return its path."""

    def write(text, name="trace.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def test_gain_column(written):
    time_s, gain = load_channel_trace(written("time_s,gain_db\n5,-80\n6,-95.5\n"), **LINK)
    assert time_s.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(gain, [1e-8, 10**-9.55], rtol=1e-12)


def test_snr_column_is_met_at_the_highest_power(written):
    _, gain = load_channel_trace(written("time_s,snr_db\n0,10\n1,-3\n"), **LINK)
    snr = LINK["power_max"] * gain / (LINK["noise_density"] * LINK["bandwidth"])
    np.testing.assert_allclose(10.0 * np.log10(snr), [10.0, -3.0], atol=1e-12)


def test_rate_column_is_met_at_the_highest_power(written):
    rates = [12.5, 0.001, 300.0]
    rows = "".join(f"{i},{rate}\n" for i, rate in enumerate(rates))
    _, gain = load_channel_trace(written("time_s,throughput_mbps\n" + rows), **LINK)
    for value, rate in zip(gain, rates, strict=True):
        got = transmission_rate(LINK["power_max"], value, LINK["bandwidth"], LINK["noise_density"])
        assert got == pytest.approx(rate * 1e6, rel=1e-12)


@pytest.mark.parametrize("row", ["0,0,-90,5", "1_0,-90", "0,-9_0", '"0,5",-90', '"1,000",-90'])
def test_separators_in_numbers_shift_no_column(written, row):
    with pytest.raises(InvalidInputError, match=r"trace.csv, row 2.*point"):
        load_channel_trace(written(f"time_s,gain_db\n{row}\n20,-80\n30,-80\n"), **LINK)


def test_empty_surplus_cells_are_fine(written):
    time_s, _ = load_channel_trace(written("time_s,gain_db\n0,-90,,\n1,-80,\n"), **LINK)
    assert time_s.tolist() == [0.0, 1.0]


def test_no_throughput_is_the_floor(written):
    _, gain = load_channel_trace(written("time_s,throughput_mbps\n0,0\n1,5\n"), **LINK)
    assert 10.0 * np.log10(gain[0]) == pytest.approx(FLOOR_GAIN_DB)


def test_gain_below_the_floor_is_raised_to_it(written):
    _, gain = load_channel_trace(written("time_s,gain_db\n0,-4000\n1,-90\n"), **LINK)
    assert 10.0 * np.log10(gain[0]) == pytest.approx(FLOOR_GAIN_DB)


BOTH = "time_s,throughput_mbps,snr_db\n0,1,10\n1,2,\n2,3,12\n"


def test_column_is_the_first_of_three_with_a_warning_or_the_one_asked_for(written):
    """One missing sample must not make the whole file be read from another column."""
    trace, by_snr = written(BOTH), written("time_s,snr_db\n0,10\n2,12\n", "snr.csv")
    with pytest.warns(UserWarning, match=r"snr_db is read.*throughput_mbps.*channel_trace_column"):
        found = load_channel_trace(trace, **LINK)
    wanted = load_channel_trace(by_snr, **LINK)
    assert [values.tolist() for values in found] == [values.tolist() for values in wanted]
    by_rate = load_channel_trace(written("time_s,throughput_mbps\n0,1\n1,2\n2,3\n", "rate.csv"), **LINK)
    found = load_channel_trace(trace, **LINK, column="throughput_mbps")
    assert [values.tolist() for values in found] == [values.tolist() for values in by_rate]
    with pytest.raises(InvalidInputError, match=r"channel_trace_column: got 'gain_db'\..*throughput_mbps,snr_db"):
        load_channel_trace(trace, **LINK, column="gain_db")


@pytest.mark.parametrize("missing", ["", "-", " - "])
def test_a_missing_sample_counts_as_left_out(written, missing):
    time_s, _ = load_channel_trace(written(f"time_s,gain_db\n0,-80\n1,{missing}\n2,-81\n"), **LINK)
    assert time_s.tolist() == [0.0, 2.0]
    rows = "".join(f"{t},{missing if 1 < t < 14 else -80}\n" for t in range(20))
    with pytest.raises(InvalidInputError, match=r"row 16, column time_s.*A gap of 13 s"):
        load_channel_trace(written("time_s,gain_db\n" + rows), **LINK)


def test_other_columns_blank_lines_spaces_and_a_byte_order_mark_do_not_matter(written):
    text = b"\xef\xbb\xbf mode , gain_db,time_s\r\nLTE, -80 ,0\r\n\r\n,-81,1\r\n"
    time_s, gain = load_channel_trace(written(text), **LINK)
    assert time_s.tolist() == [0.0, 1.0]
    assert gain.size == 2


def test_times_of_a_calendar_keep_their_steps(written):
    time_s, _ = load_channel_trace(written("time_s,gain_db\n1700000000.25,-80\n1700000000.75,-80\n"), **LINK)
    assert time_s.tolist() == [0.0, 0.5]


GAPPED = "time_s,gain_db\n" + "".join(f"{t},-80\n" for t in (0, 1, 2, 3, 15, 16))


@pytest.mark.parametrize(
    ("text", "where", "value", "remedy"),
    [
        ("", "trace.csv", "", "empty"),
        ("time_s,gain_db\n0,-80\n", "trace.csv", 1, "two samples"),
        ("t,gain_db\n0,-80\n1,-80\n", "trace.csv, row 1", "t,gain_db", "time_s is missing"),
        ("time_s,gain\n0,-80\n1,-80\n", "trace.csv, row 1", "time_s,gain", "gain_db, snr_db, throughput_mbps"),
        ("time_s,gain_db\n0,-80\n1,low\n", "trace.csv, row 3, column gain_db", "low", "number"),
        ("time_s,gain_db\n0,-80\n1,-\u0661\u0662\n", "trace.csv, row 3, column gain_db", "-\u0661\u0662", "number"),
        ("time_s,gain_db\n0,-80\nsoon,-80\n", "trace.csv, row 3, column time_s", "soon", "number"),
        ("time_s,gain_db\n0,-80\n\n1,nan\n", "trace.csv, row 4, column gain_db", "nan", "finite"),
        ("time_s,gain_db\n0,-80\n-,-80\n", "trace.csv, row 3, column time_s", "-", "empty"),
        ("time_s,gain_db\n0,-80\n1,\n", "trace.csv, column gain_db", 1, "two samples"),
        ("time_s,gain_db,gain_db\n0,-80,-90\n1,-80,-90\n", "trace.csv, row 1", None, "gain_db is there twice"),
        ("time_s;gain_db\n0;-80\n1;-80\n", "trace.csv, row 1", "time_s;gain_db", "separated by commas"),
        ("time_s,gain_db\n-1e308,-80\n1e308,-80\n", "trace.csv, row 3, column time_s", "1e308", "spans"),
        ("time_s,gain_db\n0,-80\n0,-80\n", "trace.csv, row 3, column time_s", "0", "increase"),
        (GAPPED, "trace.csv, row 6, column time_s", "15", "fill or split"),
        ("time_s,throughput_mbps\n0,1\n1,-2\n", "trace.csv, row 3, column throughput_mbps", "-2", "at least 0"),
        ("time_s,throughput_mbps\n0,1\n1,900\n", "trace.csv, row 3, column throughput_mbps", "900", "bit/s/Hz"),
        ("time_s,gain_db\n0,80\n1,81\n", "trace.csv, row 3, column gain_db", "81", "negative where"),
        ("time_s,snr_db\n0,8\n1,810\n", "trace.csv, row 3, column snr_db", "810", "at most 120 dB"),
        ("time_s,throughput_mbps\n0,0\n1,0\n", "trace.csv, column throughput_mbps", 0.0, "lets anything through"),
    ],
)
def test_bad_channel_traces_are_refused(written, text, where, value, remedy):
    with pytest.raises(InvalidInputError) as caught:
        load_channel_trace(written(text), **LINK)
    assert caught.value.field == f"channel_trace {where}"
    assert value is None or caught.value.value == value
    assert remedy in caught.value.remedy


def test_a_gap_within_ten_steps_is_fine_however_long(written):
    rows = "".join(f"{t},-80\n" for t in (0, 5, 10, 15, 60, 65))
    assert load_channel_trace(written("time_s,gain_db\n" + rows), **LINK)[0][-1] == 65.0


def test_files_that_cannot_be_read_are_refused_by_the_field(written, tmp_path):
    for path in (tmp_path / "no.csv", str(tmp_path / "no.csv"), tmp_path, written(b"\xff\xfe\x00")):
        with pytest.raises(InvalidInputError, match=r"^channel_trace: got .*(no such file|folder|UTF-8)"):
            load_channel_trace(path, **LINK)
        with pytest.raises(InvalidInputError, match=r"^arrival_trace: got .*(no such file|folder|UTF-8)"):
            load_arrival_trace(path)


def test_arrivals_may_coincide_and_pause(written):
    times = load_arrival_trace(written("who,time_s\na,7\nb,7\nc,8\nd,500\n"))
    assert times.tolist() == [0.0, 0.0, 1.0, 493.0]


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        ("", "trace.csv", "empty"),
        ("time_s\n4\n", "trace.csv", "two samples"),
        ("time\n1\n2\n", "trace.csv, row 1", "missing"),
        ("time_s\n1\nx\n", "trace.csv, row 3, column time_s", "number"),
        ("time_s,who\n1,a\n,b\n", "trace.csv, row 3, column time_s", "empty"),
        ("time_s\n1\n3\n2\n", "trace.csv, row 4, column time_s", "not decrease"),
        ("time_s\n1\n1\n1\n", "trace.csv, row 4, column time_s", "longer span"),
        ("time_s\n0\n1e-300\n", "trace.csv, row 3, column time_s", "longer span"),
        ("time_s\n0\n1e300\n", "trace.csv, row 3, column time_s", "seconds"),
    ],
)
def test_bad_arrival_traces_are_refused(written, text, where, remedy):
    with pytest.raises(InvalidInputError) as caught:
        load_arrival_trace(written(text))
    assert caught.value.field == f"arrival_trace {where}"
    assert remedy in caught.value.remedy


@pytest.mark.skipif(not REAL, reason="the recorded traces are not there")
@pytest.mark.parametrize("file", REAL, ids=lambda file: file.stem)
def test_recorded_traces_load_or_say_why_not(file):
    """At 100 MHz, the carrier of the fastest of them."""
    if file.stem == "3g_hsdpa_oslo_metro1_dl":  # 10.4 s without a sample, between steps of 1 s
        with pytest.raises(InvalidInputError, match=r"row \d+, column time_s.*fill or split"):
            load_channel_trace(file, **WIDE)
        return
    column = "snr_db" if "snr_db" in file.read_text(encoding="utf-8").splitlines()[0] else "throughput_mbps"
    time_s, gain = load_channel_trace(file, **WIDE, column=column)
    assert time_s[0] == 0.0
    assert np.all(np.diff(time_s) > 0.0)
    assert np.all(np.isfinite(10.0 * np.log10(gain)))
    assert gain.max() < 1.0
