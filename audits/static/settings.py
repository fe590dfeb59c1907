"""The `[tool.audits]` table: closed, validated, one sentence for each mistake."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audits.static.errors import AuditInputError


@dataclass(frozen=True, slots=True)
class Settings:
    """What to audit. A table that is None makes its rules unconfigured."""

    packages: tuple[str, ...]
    tables: frozenset[str]
    source: str = "pyproject.toml"
    entry_points: tuple[str, ...] = ()
    offline_modules: tuple[str, ...] = ()
    builder: str = ""
    consumers: tuple[str, ...] = ()
    steering: str = ""
    config_roots: tuple[str, ...] = ()
    hpo_modules: tuple[str, ...] = ()
    size_arguments: tuple[str, ...] = ()
    objective: str = ""
    trainer: str = ""
    primary_key: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)


# table -> key -> (field of Settings, kind, required); "references" are module:qualname
_SCHEMA: dict[str, dict[str, tuple[str, str, bool]]] = {
    "hot-path": {
        "entry-points": ("entry_points", "references", True),
        "offline-modules": ("offline_modules", "list", False),
    },
    "covariance": {"builder": ("builder", "reference", True), "consumers": ("consumers", "references?", False)},
    "geometry": {"steering": ("steering", "reference", True)},
    "config": {"roots": ("config_roots", "list", True)},
    "hpo": {
        "modules": ("hpo_modules", "list", True),
        "size-arguments": ("size_arguments", "list", True),
        "objective": ("objective", "reference", True),
    },
    "selection": {"trainer": ("trainer", "reference", True), "primary-key": ("primary_key", "string", True)},
}


def load_settings(path: Path) -> Settings:
    """Read the table from a TOML file.

    Raises:
        AuditInputError: no such file, not TOML, no table, an unknown key or a value of the wrong kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise AuditInputError(f"{path}: expected a configuration file with a [tool.audits] table, found none.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AuditInputError(f"{path}: expected a readable UTF-8 file: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise AuditInputError(f"{path}: expected TOML: {error}.") from error
    tool = document.get("tool", {})
    table = tool.get("audits") if isinstance(tool, dict) else None
    if table is None:
        raise AuditInputError(f"{path}: nothing is configured; expected a [tool.audits] table with `packages`.")
    return parse_settings(table, source=path.name, lines=_key_lines(text))


def parse_settings(table: Any, *, source: str = "pyproject.toml", lines: Mapping[str, int] | None = None) -> Settings:
    """Validate a `[tool.audits]` table.

    Raises:
        AuditInputError: an unknown key or a value of the wrong kind.
    """
    if not isinstance(table, dict):
        raise AuditInputError(f"{source}: [tool.audits]: expected a table, got {_kind(table)}.")
    _refuse_unknown(table, ["packages", *_SCHEMA], f"{source}: [tool.audits]")
    if "packages" not in table:
        raise AuditInputError(f"{source}: [tool.audits]: expected `packages`, the packages to analyse, found none.")
    values: dict[str, Any] = {"packages": _packages(table["packages"], f"{source}: tool.audits.packages")}
    for name, keys in _SCHEMA.items():
        if name not in table:
            continue
        where = f"{source}: [tool.audits.{name}]"
        section = table[name]
        if not isinstance(section, dict):
            raise AuditInputError(f"{where}: expected a table, got {_kind(section)}.")
        _refuse_unknown(section, list(keys), where)
        for key, (attribute, kind, required) in keys.items():
            if key in section:
                values[attribute] = _value(section[key], kind, f"{source}: tool.audits.{name}.{key}")
            elif required:
                raise AuditInputError(f"{where}: expected `{key}`, found none.")
    return Settings(tables=frozenset(t for t in _SCHEMA if t in table), source=source, lines=lines or {}, **values)


def _refuse_unknown(section: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in section:
        if key not in known:
            raise AuditInputError(f"{where}: unknown key {key!r}; {suggestion(key, known)}.")


def suggestion(word: str, known: list[str]) -> str:
    """What to say of an unknown word: the one that was probably meant, else all there are."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"the nearest known one is {near[0]!r}" if near else f"expected one of {', '.join(known)}"


def suggest_rule(code: str, known: list[str]) -> str:
    """The same for the code of a rule; a check of another audit is explained there."""
    if re.fullmatch(r"(RUN|PATH|DATA)\d{3}", code):
        return f"it is a run-time check: python -m audits runtime --explain {code}"
    return suggestion(code, known)


def nearest(word: str, known: list[str]) -> str:
    """The known word that is most like `word`."""
    return difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]


def _value(value: Any, kind: str, where: str) -> str | tuple[str, ...]:
    if kind in ("string", "reference"):
        if not isinstance(value, str) or not value:
            raise AuditInputError(f"{where}: expected a non-empty string, got {_kind(value)}.")
        return _reference(value, where) if kind == "reference" else value
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise AuditInputError(f"{where}: expected a list of strings, got {_kind(value)}.")
    if not value and not kind.endswith("?") and not where.endswith("offline-modules"):
        raise AuditInputError(f"{where}: expected at least one entry, got an empty list.")
    return tuple(_reference(v, where) if kind.startswith("reference") else v for v in value)


def _packages(value: Any, where: str) -> tuple[str, ...]:
    names = _value(value, "list", where)
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise AuditInputError(f"{where}: expected names of packages, found under the root or its src folder, got {name!r}.")
    return tuple(names)


def _reference(value: str, where: str) -> str:
    module, colon, qualname = value.partition(":")
    parts = [*module.split("."), *qualname.replace("<locals>", "locals").split(".")]
    if not colon or not all(p.isidentifier() for p in parts):
        raise AuditInputError(f"{where}: expected `module:qualname`, got {value!r}.")
    return value


def _kind(value: Any) -> str:
    names = {dict: "a table", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return f"{names.get(type(value), type(value).__name__)} ({value!r})" if value != {} else "an empty table"


def _key_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("[") and "]" in stripped:
            table = stripped.strip("[]").split("]")[0].removeprefix("tool.audits").strip(".")
        elif "=" in stripped and not stripped.startswith("#"):
            lines.setdefault(f"{table}.{stripped.split('=')[0].strip()}", number)
    return lines
