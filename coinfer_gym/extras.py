"""Where a package is missing that an extra of the installation brings: which one to install."""

from importlib.util import find_spec

_PACKAGES = {
    "baselines": ("clarabel", "cma", "cvxpy", "joblib", "matplotlib", "pymoo", "rich", "scipy", "tqdm"),
    "agents": ("onnx", "onnxruntime", "optuna", "rliable", "sb3_contrib", "stable_baselines3", "tensorboard"),
    "multiagent": ("pettingzoo",),
    "offline": ("minari",),
    "models": ("accelerate", "gguf", "rouge_score", "safetensors", "sklearn", "threadpoolctl", "torch", "transformers"),
    "render": ("PIL", "pygame"),
}
"""What can be imported with each extra; what several bring stands at one of them."""


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'coinfer-gym[{extra}]' (in a checkout: pip install '.[{extra}]')"


def explain(error: ImportError) -> str | None:
    """What to install after a failed import; None if no missing extra is its cause."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in _PACKAGES.items():
        if package in packages and find_spec(package) is None:
            return f"{package} is missing: {install(extra)}"
    return str(error) if "pip install" in str(error) else None
