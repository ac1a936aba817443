"""Plain use by id: runs that ended are not done again, unless the scenario has changed."""

from studies.agents import plain_use


def test_a_finished_run_is_kept(tmp_path, monkeypatch):
    rows = plain_use.run(tmp_path, ["LAIMShares"], ["ppo"], [0], 2, steps=64)
    runs = [("LAIM", "myopic"), ("LAIMShares", "random"), ("LAIMShares", "ppo")]
    assert [(row["environment"], row["algo"]) for row in rows] == runs
    assert all(0.0 < float(row["delivered"]) < 1.0 for row in rows)
    monkeypatch.setattr(plain_use, "train", None)
    assert plain_use.run(tmp_path, ["LAIMShares"], ["ppo"], [0], 2, steps=64) == rows
    monkeypatch.setattr(plain_use, "digest_scenario", lambda scenario, learned: "changed")
    assert plain_use.run(tmp_path, [], [], [], 2) == []
    share = float(rows[2]["delivered"]) / float(rows[0]["delivered"])
    assert plain_use.table(rows)[2].startswith(f"| `LAIMShares-v0` | PPO | 64 | 1 | {share:.3f}, {share:.3f} |")
