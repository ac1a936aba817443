"""Values on the command line, written as in a YAML file."""

from __future__ import annotations

import argparse
from typing import Any

from coinfer_gym.files import parse_yaml

__all__ = ["key_and_value", "yaml_value"]


def yaml_value(text: str) -> Any:
    """Value of an argument."""
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a YAML value: {error}") from error


def key_and_value(text: str) -> tuple[str, Any]:
    """Key and value of an argument ``KEY=VALUE``."""
    key, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"give KEY=VALUE, not {text!r}")
    return key, yaml_value(value)
