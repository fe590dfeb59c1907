"""Packages of any size for the benchmarks of the static auditor: classes that derive from one another, functions that call across
modules, tables, callbacks and a training step, in the proportions of a library that trains networks."""

from __future__ import annotations

import random
from pathlib import Path

MODULE = '''\
"""Part {n} of a generated package."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

{imports}


@dataclass(frozen=True)
class Settings{n}:
    """What the layers of this module need."""

    width: int = {width}
    rate: float = 0.5
    names: tuple[str, ...] = ("plain", "scaled")
    extra: dict[str, float] = field(default_factory=dict)
'''
LAYER = '''

class Layer{n}_{k}({base}):
    """One layer."""

    def __init__(self, settings: Settings{n}) -> None:
        super().__init__({argument})
        self.settings = settings
        self.inner = nn.Linear(settings.width, settings.width)
        self.scale = nn.Parameter(torch.ones(settings.width))
        self.activate = partial(scaled_{n}_{k}, rate=settings.rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        y = self.inner(x) * self.scale
        if self.training:
            y = self.activate(y)
        return self.combine(y, x)

    def combine(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Join what the layer made with what it got."""
        return {call}(y) + x

    @property
    def size(self) -> int:
        """How many numbers the layer holds."""
        return sum(p.numel() for p in self.parameters())


def scaled_{n}_{k}(x: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
    """Scale and clip."""
    limit = math.sqrt(abs(rate)) + {k}
    values = [x * rate, x.clamp(-limit, limit)]
    for index, value in enumerate(values):
        if index > 0 and value.ndim > 1:
            x = x + value.mean(dim=-1, keepdim=True)
    return {call}(x)


def table_{n}_{k}(name: str, x: torch.Tensor) -> torch.Tensor:
    """Look a function up and call it."""
    table = {{"plain": scaled_{n}_{k}, "other": {call}}}
    found = table.get(name)
    if found is None:
        raise KeyError(f"unknown function {{name!r}}, expected one of {{sorted(table)}}")
    return found(x)


def describe_{n}_{k}(layers: list[Layer{n}_{k}], settings: Settings{n}) -> dict[str, float]:
    """Counts for the log."""
    counts: dict[str, float] = {{}}
    for index, layer in enumerate(layers):
        name = f"{{type(layer).__name__}}-{{index}}"
        counts[name] = layer.size / settings.width
    counts["total"] = sum(counts.values())
    return {{key: round(value, 3) for key, value in counts.items() if value > 0}}
'''
STEP = '''\
"""The training step."""

import torch

{imports}


def step(x: torch.Tensor) -> torch.Tensor:
    """Run every part once."""
    out = x
{calls}
    return out
'''
TABLE = '[tool.audits]\npackages = ["generated"]\n[tool.audits.hot-path]\nentry-points = ["generated.step:step"]\n'
LAYERS_PER_MODULE = 4


def write_package(folder: Path, lines: int, *, solver: bool = False, seed: int = 0) -> int:
    """Write a package of about `lines` lines with its `[tool.audits]` table, and return how many it has.

    With `solver`, the last function of the deepest module solves a system.
    """
    draw = random.Random(seed)
    package = folder / "generated"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    written = number = 0
    while written < lines:
        text = _module(number, draw)
        if solver and number == 0:
            text += "\n\ndef base(x: torch.Tensor) -> torch.Tensor:\n    return torch.linalg.solve(x, x)\n"
        elif number == 0:
            text += "\n\ndef base(x: torch.Tensor) -> torch.Tensor:\n    return x * 2\n"
        (package / f"part_{number}.py").write_text(text, encoding="utf-8")
        written += text.count("\n")
        number += 1
    names = [(n, draw.randrange(LAYERS_PER_MODULE)) for n in range(number)]
    imports = "\n".join(f"from generated.part_{n} import Layer{n}_{k}, Settings{n}, table_{n}_{k}" for n, k in names)
    calls = "\n".join(f"    out = Layer{n}_{k}(Settings{n}())(out) + table_{n}_{k}('plain', out)" for n, k in names)
    text = STEP.format(imports=imports, calls=calls)
    (package / "step.py").write_text(text, encoding="utf-8")
    (folder / "pyproject.toml").write_text(TABLE, encoding="utf-8")
    return written + text.count("\n")


def _module(number: int, draw: random.Random) -> str:
    earlier = sorted(draw.sample(range(number), min(3, number)))
    parts = [(n, draw.randrange(LAYERS_PER_MODULE)) for n in earlier]
    imports = "\n".join(f"from generated.part_{n} import Layer{n}_{k}, Settings{n}, scaled_{n}_{k}" for n, k in parts)
    out = MODULE.format(n=number, imports=imports, width=draw.choice([16, 32, 64]))
    for k in range(LAYERS_PER_MODULE):
        parent = parts[0] if parts and k == 0 else None
        base, argument = ("nn.Module", "") if parent is None else (f"Layer{parent[0]}_{parent[1]}", f"Settings{parent[0]}()")
        called = draw.choice(parts) if parts else None
        out += LAYER.format(
            n=number, k=k, base=base, argument=argument, call="base" if called is None else f"scaled_{called[0]}_{called[1]}"
        )
    return out
