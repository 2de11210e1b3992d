"""Settings by dotted path (recipe.epochs=3), and TOML values: what study.toml and --set are written in."""

from __future__ import annotations

import tomllib
from typing import Any

from bakeoff.errors import UsageError


def parse_setting(setting: str) -> tuple[str, Any]:
    """Take `key.key=value` apart; the value is TOML or else a plain string."""
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {setting}: expected key=value, for instance recipe.epochs=3")
    return path.strip(), _value(text)


def set_value(content: dict[str, Any], path: str, value: Any) -> None:
    """Set a value by its dotted path in place; places in lists are numbers (recipe.stages.0.rate)."""
    *parents, last = path.split(".")
    place: Any = content
    for key in parents:
        if not isinstance(place, list | dict):
            break
        if isinstance(place, dict) and key.isdigit():
            whole = path.partition(f".{key}.")[0]
            raise UsageError(f"{path}: there is no list {whole} yet; give it whole: {whole}=[{{ {last} = ... }}]")
        place = place[_index(place, key, path)] if isinstance(place, list) else place.setdefault(key, {})
    if isinstance(place, list):
        place[_index(place, last, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise UsageError(f"{path}: {'.'.join(parents)} is a plain value, it has no keys")


def _index(place: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise UsageError(f"{path}: expected a place from 0 to {len(place) - 1}, got {key!r}")
    return int(key)


def _value(text: str) -> Any:
    """Read a value as TOML, else as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def toml_key(key: str) -> str:
    """Write a key, quoted where TOML asks for it."""
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else toml_value(key)


def toml_value(value: Any) -> str:
    """Write a JSON value as TOML (inline tables, basic strings)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, dict):
        filled = {key: entry for key, entry in value.items() if entry is not None}  # TOML has no null
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(entry)}" for key, entry in filled.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(entry) for entry in value) + "]"
    return repr(value)
