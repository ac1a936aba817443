"""Plain use by id: runs that end are not done again."""

from studies.agents import plain_use


def test_a_finished_run_is_kept(tmp_path, monkeypatch):
    rows = plain_use.run(tmp_path, ["LAIMShares"], ["ppo"], [0], 2, steps=64)
    assert [(row["environment"], row["algo"]) for row in rows] == [("LAIM", "myopic"), ("LAIMShares", "ppo")]
    assert 0.0 < float(rows[1]["delivered"]) < 1.0
    monkeypatch.setattr(plain_use, "train", None)
    assert plain_use.run(tmp_path, ["LAIMShares"], ["ppo"], [0], 2, steps=64) == rows
    share = float(rows[1]["delivered"]) / float(rows[0]["delivered"])
    assert plain_use.table(rows)[-1].startswith(f"| `LAIMShares-v0` | PPO | 64 | 1 | {share:.3f}, {share:.3f} |")
