"""Training from end to end: learn, log, evaluate, be killed, go on, and end with an agent that can be loaded."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents import training
from agents.actors import find_actor
from agents.agent_file import read_agent, save_agent
from agents.callbacks import CheckpointCallback
from agents.checkpoints import find_checkpoints, restore_training, start_from, training_state
from agents.evaluations import Evaluations, read_evaluations
from agents.held_out import SELECTION_SEED, TEST_SEED, play
from agents.hyperparameters import ALGORITHMS
from agents.policy import load_agent
from agents.runs import RunConfig, build_env, build_model, open_folder, read_config_file
from agents.tensor_files import load_tensors, save_tensors
from agents.train import main
from agents.training import train
from baselines.laim import exact_actions, regrets
from baselines.rollout import measure
from baselines.rules import ConstantAction, MyopicExact, RandomPolicy
from coinfer_gym import InvalidInputError
from coinfer_gym.files import lock_folder
from coinfer_gym.sb3 import make_native
from tests.agents.models import LAIM, LISTED

ROOT = Path(__file__).resolve().parents[2]
WORLD = {"arrivals": "one_at_a_time", "tasks": 10}
ON_POLICY = {"n_envs": 4, "n_steps": 8, "batch_size": 32, "n_epochs": 2, "n_timesteps": 256}
OFF_POLICY = {"n_envs": 4, "learning_starts": 40, "batch_size": 16, "gradient_steps": 2, "n_timesteps": 160} | {
    "buffer_size": 1000
}
SMALL = {
    "ppo": ON_POLICY,
    "a2c": {"n_envs": 4, "n_steps": 8, "n_timesteps": 256},
    "recurrent_ppo": ON_POLICY,
    "maskable_ppo": ON_POLICY,
    "sac": OFF_POLICY,
    "tqc": OFF_POLICY,
    "td3": OFF_POLICY,
    "ddpg": OFF_POLICY,
    "dqn": OFF_POLICY | {"target_update_interval": 50},
}
WRAPPERS = {"dqn": ["KeepBudgets", *LISTED], "maskable_ppo": LISTED}


def config(folder, algo="ppo", **options):
    memory = {"lstm_hidden_size": 8} if algo == "recurrent_ppo" else {}
    hyperparams = SMALL[algo] | {"policy_kwargs": {"net_arch": [16]} | memory} | options.pop("hyperparams", {})
    small = {"eval_freq": 64, "eval_lanes": 3, "test_lanes": 3, "checkpoint_freq": 64, "env_kwargs": WORLD}
    small["wrapper"] = WRAPPERS.get(algo, [])
    return RunConfig(algo=algo, hyperparams=hyperparams, out=str(folder), **(small | options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a tiny run, to be read only."""
    return train(config(tmp_path_factory.mktemp("finished") / "run"))


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


def weights(folder):
    return load_tensors(find_checkpoints(folder / "checkpoints")[0], "")["parameters"]


def equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


class Kill(Exception):
    """Stands for a kill that leaves no time to save."""


def train_and_be_killed(given, monkeypatch, steps):
    """Train until just behind a checkpoint, and lose everything since."""
    flush = training.PhysicsCallback._on_step

    def fall(self):
        if self.model.num_timesteps > steps:
            raise Kill
        return flush(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.PhysicsCallback, "_on_step", fall)
        with pytest.raises(Kill):
            train(given)


def test_end_to_end_by_the_command_line(tmp_path, monkeypatch, capsys):
    options = [f"{key}={value}" for key, value in SMALL["sac"].items() if key != "n_timesteps"]
    arguments = ["--algo", "sac", "--env", LAIM, "--env-kwargs", "scenario=bert-multimodal", "arrivals=one_at_a_time"]
    arguments += ["tasks=10", "--hyperparams", *options, "--n-timesteps", "200", "--eval-freq", "100", "--wrapper"]
    arguments += ["--eval-lanes", "2", "--test-lanes", "2", "--checkpoint-freq", "100", "--seed", "3", "--out", "run"]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # no progress bar where there is no terminal
    assert "share: of the quality of myopic exact" in captured.out
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.yaml",
        "origin.yaml",
        "tensorboard",
        "checkpoints",
        "agent.safetensors",
        "evaluations.csv",
        "results.json",
        ".lock",
    }
    origin = yaml.safe_load((folder / "origin.yaml").read_text(encoding="utf-8"))
    assert origin["command"] == ["python", "-m", "agents.train", *arguments]
    assert set(origin["versions"]) >= {"stable-baselines3", "torch"}
    stored = read_config_file(folder / "config.yaml")
    assert stored.hyperparams["n_timesteps"] == 200
    assert stored.env_kwargs["tasks"] == 10
    assert load_agent(folder).predict(np.zeros(7))[0].shape == (6,)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["myopic exact"]["violated"] == 0.0
    assert results["agent"]["delivered"] < results["myopic exact"]["delivered"]


def test_tensorboard_has_the_physics(finished):
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    wanted = {f"laim/{name}" for name in ("delivered", "delay_s", "energy_j", "violated", "dropped", "regret")}
    wanted |= {f"eval/{name}" for name in ("delivered", "violated", "delay_s", "energy_j", "dropped", "return")}
    wanted |= {"rollout/ep_rew_mean", "rollout/ep_len_mean", "train/learning_rate"}
    assert wanted <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("rollout/ep_len_mean")][-1] == 10.0
    rows = read_evaluations(finished / "evaluations.csv")
    assert [event.step for event in events.Scalars("eval/delivered")] == [row["timesteps"] for row in rows]
    values = [event.value for event in events.Scalars("eval/delivered")]
    assert values == pytest.approx([row["delivered"] for row in rows], abs=1e-6)


@pytest.mark.parametrize("algo", sorted(ALGORITHMS))
def test_every_algorithm_trains_an_agent_that_plays(tmp_path, algo):
    folder = train(config(tmp_path / "run", algo, hyperparams={"n_timesteps": 64}, checkpoint_freq=32))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["agent"]["delivered"] <= results["myopic exact"]["delivered"] + 1e-6
    env = gym.make(LAIM, **WORLD)
    agent = load_agent(folder).bind(env)
    assert (agent.algo, agent.config["env_kwargs"]) == (algo, WORLD)
    alone = np.mean([measure(env, agent, TEST_SEED + lane)["delivered"] for lane in range(3)])
    assert alone == pytest.approx(results["agent"]["delivered"], abs=1e-5)  # inside the wrappers and around the world


QUEUE = {"tasks": 15, "arrivals": "poisson", "arrival_rate": 3.0}
LAGRANGIAN = {"vec_env_wrapper": {"coinfer_gym.sb3_rewards.LagrangianPenalties": {"limit": 0.01, "rate": 0.01}}}


@pytest.mark.parametrize(
    ("algo", "world", "more"),
    [
        ("ppo", QUEUE, LAGRANGIAN | {"warmup": 120}),
        ("sac", WORLD, {"warmup": 120}),
        ("recurrent_ppo", QUEUE, {}),
        ("dqn", QUEUE, {}),
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch, algo, world, more):
    train(config(tmp_path / "whole", algo, env_kwargs=world, hyperparams=more))
    broken = config(tmp_path / "broken", algo, env_kwargs=world, hyperparams=more)
    train_and_be_killed(broken, monkeypatch, 100)
    assert find_checkpoints(tmp_path / "broken" / "checkpoints")
    train(broken, resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    texts = [(tmp_path / name / "evaluations.csv").read_text(encoding="utf-8") for name in ("whole", "broken")]
    assert texts[0] == texts[1]


def test_a_finished_run_can_be_prolonged(folder, capsys):
    own = ["--algo", "ppo", "--eval-lanes", "3", "--env-kwargs", "tasks=10", "--hyperparams", "n_epochs=2"]
    assert main(["--out", str(folder), "--resume", "--n-timesteps", "320", *own]) == 0
    assert read_config_file(folder / "config.yaml").hyperparams["n_timesteps"] == 320
    before = (folder / "evaluations.csv").read_text(encoding="utf-8")
    assert read_evaluations(folder / "evaluations.csv")[-1]["timesteps"] == 320
    assert main(["--out", str(folder), "--resume"]) == 0  # nothing is left to do
    assert (folder / "evaluations.csv").read_text(encoding="utf-8") == before
    assert "320 decisions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "field"),
    [
        (["--algo", "sac"], "algo"),
        (["--eval-lanes", "4"], "eval_lanes"),
        (["--violations", "0.5"], "violations"),
        (["--env-kwargs", "tasks=9"], "env_kwargs"),
        (["--hyperparams", "gamma=0.5"], "hyperparams: gamma"),
        (["--wrapper", "KeepBudgets"], "wrapper"),
        (["--conf-file", str(ROOT / "configs" / "agents" / "ppo.yml")], "hyperparams: "),
        (["--n-timesteps", "200"], "n_timesteps"),
        (["--config", "longer.yml"], "checkpoint_freq"),
    ],
)
def test_a_resumed_run_takes_no_other_options(finished, tmp_path, monkeypatch, capsys, option, field):
    monkeypatch.chdir(tmp_path)
    Path("longer.yml").write_text("checkpoint_freq: 100\n", encoding="utf-8")
    before = (finished / "config.yaml").read_bytes()
    assert main(["--out", str(finished), "--resume", *option]) == 2
    error = capsys.readouterr().err
    assert f"--resume: {field}" in error
    assert len(error.splitlines()) == 1
    assert (finished / "config.yaml").read_bytes() == before


def test_what_is_trained_is_recorded_once(tmp_path, monkeypatch):
    """The file of hyperparameters may change while a run goes on."""
    file = tmp_path / "ppo.yml"
    entry = SMALL["ppo"] | {"policy_kwargs": {"net_arch": [8]}, "env_wrapper": ["KeepBudgets"]}
    file.write_text(yaml.safe_dump({LAIM: entry}), encoding="utf-8")

    def build_and_edit(*arguments):
        model = build_model(*arguments)
        file.write_text(yaml.safe_dump({LAIM: entry | {"gamma": 0.1, "env_wrapper": []}}), encoding="utf-8")
        return model

    monkeypatch.setattr(training, "build_model", build_and_edit)
    folder = train(config(tmp_path / "run", conf_file=str(file), wrapper=None, hyperparams={"n_timesteps": 32}))
    stored = read_config_file(folder / "config.yaml")
    assert "gamma" not in stored.hyperparams
    assert stored.wrapper == load_agent(folder).config["wrapper"] == [{"coinfer_gym.laim.wrappers.KeepBudgets": {}}]


def test_one_command_at_a_time_works_in_a_folder(folder, capsys):
    with lock_folder(folder):
        assert main(["--out", str(folder), "--resume"]) == 2
    assert "Another command works there" in capsys.readouterr().err


def test_evaluations_that_are_damaged_are_named_and_empty_ones_begin_anew(folder, capsys):
    file = folder / "evaluations.csv"
    file.write_text("timesteps,delivered\n64,x\n", encoding="utf-8")
    assert main(["--out", str(folder), "--resume"]) == 2
    assert "evaluations.csv" in capsys.readouterr().err
    file.write_text("", encoding="utf-8")
    assert main(["--out", str(folder), "--resume"]) == 0
    assert [row["timesteps"] for row in read_evaluations(file)] == [256]


def test_time_is_limited(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()  # as a full disk left it
    folder = train(config(tmp_path / "run", max_minutes=1e-9))
    assert read_evaluations(folder / "evaluations.csv")[-1]["timesteps"] < 64
    assert "--resume" in capsys.readouterr().out
    assert find_checkpoints(folder / "checkpoints")


def test_an_interrupt_saves_and_stops(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    given = config(tmp_path / "run", hyperparams={"n_timesteps": 10_000_000}, eval_freq=10_000_000)

    def interrupt():
        while not (tmp_path / "run" / "evaluations.csv").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match=r"Stopped after .* resume by --resume"):
        train(given)
    thread.join()
    assert "Stopping after this rollout" in capsys.readouterr().err
    assert find_checkpoints(tmp_path / "run" / "checkpoints")
    assert (tmp_path / "run" / "agent.safetensors").exists()
    assert len(read_evaluations(tmp_path / "run" / "evaluations.csv")) == 1  # none that an unstopped run has not
    assert signal.getsignal(signal.SIGINT) is before


def test_only_the_newest_checkpoints_stay(finished):
    names = [path.name for path in find_checkpoints(finished / "checkpoints")]
    assert names == ["step_000000000256.pt", "step_000000000192.pt"]
    assert sorted(names) == sorted(path.name for path in (finished / "checkpoints").iterdir())  # no temporary file


def test_a_damaged_checkpoint_gives_way_to_the_one_before(folder, capsys):
    reference = weights(folder)
    newest, older = find_checkpoints(folder / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:1000])
    assert main(["--out", str(folder), "--resume"]) == 0
    captured = capsys.readouterr()
    assert newest.name in captured.err
    assert f"Resuming from {older.name} instead." in captured.err
    assert equal(reference, weights(folder))


def test_without_a_good_checkpoint_the_remedy_is_named(folder, capsys):
    for path in find_checkpoints(folder / "checkpoints"):
        path.write_bytes(b"")
    assert main(["--out", str(folder), "--resume"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "step_000000000192.pt" in error
    assert error.endswith("Train again.")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    given = config(tmp_path / "run")
    model = build_model(given, given.load_hyperparameters())
    model.learn(32)
    file = tmp_path / "state.pt"
    save_tensors(training_state(model, 1.0), file)
    for other in (config(tmp_path, "sac"), config(tmp_path, hyperparams={"policy_kwargs": {"net_arch": [8]}})):
        with pytest.raises(InvalidInputError, match="checkpoint"):
            restore_training(build_model(other, other.load_hyperparameters()), load_tensors(file, ""))


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    file = tmp_path / "x.pt"
    save_tensors({"format": 1, "array": np.arange(3)}, file)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_tensors({"format": 1, "array": np.arange(4)}, file)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    assert load_tensors(file, "")["array"].tolist() == [0, 1, 2]


def test_files_hold_structured_arrays_and_plain_values(tmp_path):
    array = np.array([(1.5, 2, True)], [("a", np.float64), ("b", np.uint64), ("c", np.bool_)])
    content = {"format": 1, "array": array, "none": None, "tuple": (1, "x", np.float32(2.0)), "empty": np.zeros((0, 2))}
    save_tensors(content, tmp_path / "x.pt")
    found = load_tensors(tmp_path / "x.pt", "")
    assert found["array"].dtype == array.dtype
    assert found["array"].tolist() == array.tolist()
    assert found["empty"].shape == (0, 2)
    assert (found["none"], found["tuple"]) == (None, (1, "x", 2.0))


def test_a_folder_is_not_overwritten_by_accident(folder):
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="--overwrite"):
        train(config(folder))
    train(config(folder, seed=1), overwrite=True)
    assert read_config_file(folder / "config.yaml").seed == 1
    assert (folder / "notes.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--algo", "pppo"], "ppo"),
        (["--env", "coinfer_gym/LAIM-v7"], "LAIM-v0"),
        (["--env", "CartPole-v1"], "LAIM-v0"),
        (["--env-kwargs", "arival_rate=2"], "arrival_rate"),
        (["--hyperparams", "gama=0.9"], "gamma"),
        (["--wrapper", "KeepBudget"], "KeepBudgets"),
        (["--wrapper", "DiscreteActions: {cut: [1]}"], "cuts"),
        (["--algo", "dqn", "--wrapper", "BudgetShareAction"], "DiscreteActions"),
        (["--start", "nowhere"], "nowhere"),
        (["--eval-freq", "0"], "eval_freq"),
        (["--seed", "-1"], "seed"),
        (["--conf-file", "nowhere.yml"], "nowhere.yml"),
        (["--config", "nowhere.yml"], "nowhere.yml"),
        (["--resume"], "config.yaml"),
    ],
)
def test_mistakes_end_with_one_line(tmp_path, monkeypatch, capsys, arguments, hint):
    monkeypatch.chdir(tmp_path)
    assert main(["--out", "run", *arguments]) == 2
    error = capsys.readouterr().err
    assert hint in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("eval_frequency: 3", "eval_freq"),
        ("algo: 3", "algo"),
        ("start: true", "start"),
        ("out: 3", "out"),
        ("seed: true", "seed"),
        ("seed: '1_000'", "seed"),
        (f"seed: 1{'0' * 400}", "seed"),
        ("max_minutes: .inf", "max_minutes"),
        ("violations: .nan", "violations"),
        ("n_timesteps: 1e30", "n_timesteps"),
        ("eval_lanes: 1e9", "eval_lanes"),
        ("env_kwargs: 3", "env_kwargs"),
        ("wrapper: [3]", "wrapper"),
        ("hyperparams: {n_epochs: 0}", "n_epochs"),
    ],
)
def test_mistakes_in_a_file_name_it(tmp_path, capsys, content, field):
    file = tmp_path / "run.yml"
    file.write_text(f"{content}\n", encoding="utf-8")
    assert main(["--config", str(file), "--algo", "ppo"] if "algo" not in content else ["--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert field in error
    assert len(error.splitlines()) == 1
    assert len(error) < 600


def test_the_command_line_stands_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "run.yml"
    file.write_text("algo: ppo\nseed: 4\nenv_kwargs: {tasks: 3, arrivals: periodic}\n", encoding="utf-8")
    found = []
    monkeypatch.setattr(training, "train", lambda config, *_: found.append(config))
    assert main(["--config", str(file), "--seed", "5", "--env-kwargs", "tasks=9"]) == 0
    assert (found[0].algo, found[0].seed) == ("ppo", 5)
    assert found[0].env_kwargs == {"tasks": 9, "arrivals": "periodic"}


def test_the_multiplier_is_logged(tmp_path):
    train(config(tmp_path / "run", hyperparams=LAGRANGIAN))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert events.Scalars("laim/multiplier")[-1].value > 1.5  # nearly every random decision misses a budget


def parts(algo, model):
    """Copies of the actor's tensors of a model, and of all others that learn."""
    named = {name: value.clone() for name, value in model.policy.state_dict().items()}
    rest = {name: value for name, value in named.items() if not name.startswith(find_actor(algo).parts)}
    return {name: named[name] for name in named if name not in rest}, rest


@pytest.mark.parametrize("algo", ["ppo", "sac", "td3"])
def test_the_actor_rests_during_warmup(tmp_path, monkeypatch, algo):
    """Only values learn until then; afterwards the actor does, too."""
    seen = []
    build = training.build_model

    def build_and_note(*arguments):
        model = build(*arguments)
        seen.append((model, *parts(algo, model), None))
        return model

    class Noting(training.WarmupCallback):
        def _on_rollout_start(self):
            entropy = getattr(self.model, "log_ent_coef", None)
            entropy = None if entropy is None else entropy.item()
            seen.append((self.model.num_timesteps, *parts(algo, self.model), entropy))

    monkeypatch.setattr(training, "build_model", build_and_note)
    monkeypatch.setattr(training, "WarmupCallback", Noting)
    train(config(tmp_path / "run", algo, hyperparams={"warmup": 96}))
    (model, actor, rest, _), *later = seen
    resting = [entry for entry in later if 0 < entry[0] <= 96]
    assert all(equal(actor, entry[1]) for entry in resting)
    assert len({entry[3] for entry in resting}) == 1  # the entropy coefficient, where there is one
    assert not equal(rest, resting[-1][2])
    learned, _ = parts(algo, model)
    assert all(not torch.equal(actor[name], learned[name]) for name in actor)


def test_a_run_in_the_folder_is_told_before_torch_is_imported(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "agents.training", None)
    assert main(["--algo", "sac", "--out", str(folder)]) == 2
    assert "There is a run already" in capsys.readouterr().err


def test_paths_count_from_the_file_that_names_them(tmp_path, monkeypatch):
    trace = tmp_path / "worlds" / "t.csv"
    trace.parent.mkdir()
    trace.write_text("time_s,gain_db\n0,-80\n1,-90\n", encoding="utf-8")
    text = "{algo: ppo, out: run, env_kwargs: {channel: trace, channel_trace: t.csv}}"
    trace.with_name("run.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = read_config_file("worlds/run.yaml")
    open_folder(given, [], overwrite=False)
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert (tmp_path / "run" / stored["env_kwargs"]["channel_trace"]).resolve() == trace
    assert read_config_file("run/config.yaml").model_dump() == given.resolve().model_dump()
    monkeypatch.chdir(trace.parent)
    assert Path(read_config_file("../run/config.yaml").env_kwargs["channel_trace"]).resolve() == trace


@pytest.mark.parametrize("algo", ["td3", "dqn"])
def test_a_run_starts_from_an_actor(tmp_path, algo):
    first = train(config(tmp_path / "first", algo))
    given = config(tmp_path / "second", algo, seed=8, start=str(first))
    hyperparameters = given.load_hyperparameters()
    model = build_model(given, hyperparameters)
    activation = read_agent(first)[1]["activation"]
    values = parts(algo, model)[1]
    start_from(model, algo, activation, str(first))
    weights = read_agent(first)[0]
    state = model.policy.state_dict()
    assert all(np.array_equal(weights[name], state[name].numpy()) for name in weights)
    for name in state:  # slow copies follow
        if name.partition(".")[0] in ("actor_target", "q_net_target"):
            assert np.array_equal(weights[name.replace("_target", "", 1)], state[name].numpy())
    assert equal(parts(algo, model)[1], values) or algo in ("td3", "dqn")
    check_first_evaluation(train(given), given, first)


def check_first_evaluation(folder, given, first):
    """At the beginning a run acts as the actor that it was given."""
    env = build_env(given, 3)
    row = read_evaluations(folder / "evaluations.csv")[0]
    assert row["timesteps"] == 0
    expected = play(env, load_agent(first), SELECTION_SEED)
    assert row["delay_s"] == pytest.approx(expected["delay_s"], rel=1e-4)


def test_an_actor_that_does_not_fit_is_refused(finished, tmp_path):
    first = finished
    for options, hint in [
        ({"algo": "sac"}, "sac has another form"),
        ({"hyperparams": {"policy_kwargs": {"net_arch": [8]}}}, "(6, 16)"),
        ({"hyperparams": {"policy_kwargs": {"net_arch": [16], "activation_fn": "relu"}}}, "activation_fn"),
        ({"start": str(tmp_path / "none")}, "no such file"),
    ]:
        with pytest.raises(InvalidInputError) as caught:
            train(config(tmp_path / "second", **({"start": str(first)} | options)), overwrite=True)
        assert hint in str(caught.value)
    kin = config(tmp_path / "third", "a2c", start=str(first / "agent.safetensors"), n_timesteps=1)
    check_first_evaluation(train(kin), kin, first)


def test_a_cloned_actor_starts_a_run(tmp_path):
    """Any file with the tensors of the actor will do."""
    weights = {
        "mlp_extractor.policy_net.0.weight": np.zeros((16, 7)),
        "mlp_extractor.policy_net.0.bias": np.zeros(16),
        "action_net.weight": np.zeros((6, 16)),
        "action_net.bias": np.full(6, 0.25),
        "log_std": np.full(6, -1.0),
    }
    save_agent(tmp_path / "clone.safetensors", "ppo", weights, {})
    given = config(tmp_path / "run", start=str(tmp_path / "clone.safetensors"), hyperparams={"warmup": 256})
    folder = train(given)
    assert np.allclose(load_agent(folder).predict(np.ones(7), deterministic=True)[0], 0.25)


def test_the_bench_is_a_run_that_can_be_built():
    given = read_config_file(ROOT / "configs" / "agents" / "bench.yml")
    hyperparameters = given.load_hyperparameters()
    assert hyperparameters.env_wrapper == [{"coinfer_gym.laim.wrappers.BudgetShareAction": {}}]
    assert build_env(given, 2).get_attr("scenario")[0].arrivals == "mmpp"  # tasks queue


def test_training_keywords_hold_in_training_only(tmp_path):
    given = config(tmp_path / "run", train_kwargs={"weight_delay": 7.0})
    model = build_model(given, given.load_hyperparameters())
    assert model.env.get_attr("scenario")[0].weight_delay == 7.0
    assert build_env(given, 1).get_attr("scenario")[0].weight_delay == 0.25


def test_the_exact_optimum_is_that_of_single_environments():
    world = {"tasks": 20, "arrivals": "poisson", "arrival_rate": 2.0, "csi_noise_db": 1.0, "battery_capacity": 1.0}
    env = make_native(LAIM, 3, **world)
    env.seed(4)
    env.reset()
    singles = [gym.make(LAIM, **world) for _ in range(3)]
    observations = [single.reset(seed=4 + i)[0] for i, single in enumerate(singles)]
    policies = [MyopicExact(single) for single in singles]
    for _ in range(15):
        actions = exact_actions(env.env)
        expected = np.stack([policy.predict(seen)[0] for policy, seen in zip(policies, observations, strict=True)])
        assert np.array_equal(actions, expected)
        env.step(actions)
        observations = [single.step(action)[0] for single, action in zip(singles, actions, strict=True)]


def test_regret_of_the_exact_optimum_is_none():
    env = make_native(LAIM, 4, **WORLD)
    env.seed(0)
    env.reset()
    env.step(exact_actions(env.env))
    scenario = env.get_attr("scenario")[0]
    assert regrets(scenario, env.decisions) == pytest.approx(0.0, abs=1e-4)
    env.step(np.full((4, 6), -1.0, np.float32))
    assert (regrets(scenario, env.decisions) > 0.3).all()


def test_scores_are_means_over_whole_first_episodes():
    env = make_native(LAIM, 6, tasks=30, arrivals="poisson", arrival_rate=8.0)
    slow = ConstantAction([1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
    score = play(env, slow, TEST_SEED)
    assert score["dropped"] > 0.2
    assert score["violated"] > 0.9
    assert score == play(env, slow, TEST_SEED)


def test_the_best_agent_keeps_the_budgets_first(tmp_path):
    kept = []
    evaluations = Evaluations(tmp_path / "evaluations.csv", 0.02, kept.append)
    for steps, (quality, missed) in enumerate(
        [(0.5, 0.5), (0.9, 0.6), (0.3, 0.1), (0.2, 0.0), (0.4, 0.02), (0.9, 0.03)]
    ):
        evaluations.add(steps, {"delivered": quality, "violated": missed})
    assert kept == [0, 2, 3, 4]
    again = Evaluations(tmp_path / "evaluations.csv", 0.02, kept.append)
    again.resume(3)
    assert again.last == 3
    again.add(4, {"delivered": 0.1, "violated": 0.0})
    assert kept == [0, 2, 3, 4]
    assert [row["timesteps"] for row in read_evaluations(tmp_path / "evaluations.csv")] == [0, 1, 2, 3, 4]


def test_a_second_request_to_stop_is_harmless(tmp_path):
    callback = CheckpointCallback(tmp_path, 1, elapsed=5.0)
    assert callback.elapsed >= 5.0
    callback.ask_to_stop()
    callback.ask_to_stop()
    assert callback.asked
    assert not callback.stopped


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_agents_learn_one_fixed_task(tmp_path, algo):
    """A constant channel and one kind of task: a bandit with one state, whose optimum is known."""
    more = {
        "ppo": {"n_timesteps": 40_000, "n_envs": 64, "n_steps": 8, "batch_size": 128, "n_epochs": 6},
        "sac": {
            "n_timesteps": 6_000,
            "n_envs": 16,
            "learning_starts": 500,
            "batch_size": 64,
            "gradient_steps": 4,
            "learning_rate": 2e-3,
            "target_entropy": -12,
        },
    }[algo] | {"gamma": 0.0, "policy_kwargs": {"net_arch": [32]}}
    world = {"channel": "constant", "arrivals": "one_at_a_time", "tasks": 20}
    folder = train(
        config(
            tmp_path / "run",
            algo,
            hyperparams=more,
            env_kwargs=world,
            eval_freq=2000,
            eval_lanes=1,
            checkpoint_freq=10**6,
            test_lanes=1,
        )
    )
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    chance = play(make_native(LAIM, 8, **world), RandomPolicy(), 0)
    assert results["agent"]["delivered"] > chance["delivered"] + 0.3
    assert results["agent"]["violated"] == 0.0
