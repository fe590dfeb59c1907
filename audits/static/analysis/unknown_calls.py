"""Calls on the hot path of something that reading the packages does not identify."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from audits.static.analysis.engine import Issue, Unit
from audits.static.analysis.values import OUTSIDE, Ext, ExtInst, Named, Overrides, UnknownValue, Value, Values
from audits.static.source import ir

# Libraries whose solvers are listed, or that compute nothing on their callers' behalf: a call of one of their names says what runs.
_FAMILIES = frozenset(
    ["?", "outside()", "builtins", "torch", "numpy", "scipy", "functorch", "cupy", "cupyx", "jax", "autograd", "einops", "opt_einsum",
     "jaxtyping", "typing_extensions", "beartype", "attr", "attrs", "pydantic", "tqdm", "rich", "click", "loguru", "absl", "yaml",
     "omegaconf", "hydra", "optuna", "pandas", "matplotlib", "tensorboard", "tensorboardX", "wandb", "mlflow", "packaging", "psutil",
     "h5py", "msgpack", "safetensors", "huggingface_hub", "zarr", "PIL", "pytest", "hypothesis", "tomli", "tomli_w", "tomlkit",
     "jsonschema"]
)  # fmt: skip
# Methods of modules, optimizers, schedulers, generators, loggers, files and processes, as one would find them on an untyped parameter.
_LIBRARY_METHODS = frozenset(
    ["train", "eval", "parameters", "named_parameters", "buffers", "named_buffers", "children", "modules", "named_children",
     "named_modules", "state_dict", "load_state_dict", "zero_grad", "step", "get_last_lr", "add_param_group", "no_sync", "forward",
     "register_buffer", "register_parameter", "apply", "to_empty", "get_parameter", "get_buffer", "get_submodule", "scale", "unscale_",
     "update", "manual_seed", "initial_seed", "get_state", "set_state", "integers", "standard_normal", "choice", "shuffle",
     "permutation", "debug", "info", "warning", "error", "exception", "log", "close", "flush", "write", "read", "readline", "readlines",
     "open", "exists", "mkdir", "record", "synchronize", "wait", "query", "elapsed_time", "acquire", "release", "put", "get_nowait",
     "submit", "result", "total_seconds", "group", "groups", "log_prob", "rsample", "entropy", "report", "should_prune", "set_postfix",
     "add_scalar", "add_scalars", "add_histogram", "isoformat", "timestamp", "save_for_backward", "save_for_forward", "mark_dirty",
     "mark_non_differentiable", "set_materialize_grads"]
)  # fmt: skip


@cache
def known_methods() -> frozenset[str]:
    """The methods that tensors, texts, numbers, containers, modules and their like have."""
    kinds = (str, bytes, list, tuple, dict, set, frozenset, int, float, complex, slice, range, deque)
    return _LIBRARY_METHODS.union(*(dir(k) for k in kinds), tensor_methods())


@cache
def tensor_methods() -> frozenset[str]:
    """The committed public names of a tensor; a test compares them with the installed library."""
    text = (Path(__file__).parents[1] / "libraries" / "methods.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)["torch.Tensor"])


@cache
def is_foreign(name: str) -> bool:
    """Whether a dotted outside name belongs to a library of which nothing is known."""
    root = name.partition(".")[0]
    return root not in _FAMILIES and root not in sys.stdlib_module_names


def unknown_calls(unit: Unit) -> Iterable[Issue]:
    """The calls of a unit whose callee is unknown, or is code of a library that nobody has described."""
    for call, callees in unit.calls.items():
        what = _spelled(call.func)
        foreign = sorted({c.name for c in callees if isinstance(c, (Ext, ExtInst)) and is_foreign(c.name)})
        if foreign:
            yield Issue(call.func, f"{foreign[0]} is code of a library that is not known to run no solver")
        elif isinstance(call.func, ir.Attribute) and any(_by_name(c) for c in callees):
            if _unknown_method(unit, call.func, callees):
                yield Issue(call.func, f"{what} is a method of something that nothing in the packages identifies")
        elif any(isinstance(c, UnknownValue) for c in callees) or (callees and callees <= {OUTSIDE}):
            yield Issue(call.func, f"{what} is called, and nothing in the packages says what it is")


def _spelled(func: ir.Expr) -> str:
    return repr(ir.last_name(func)) if ir.last_name(func) else "the result of an expression"


_RUNNING = frozenset({"apply", "apply_", "map_", "map2_", "register_hook", "register_post_accumulate_grad_hook", "sort", "submit", "group"})
_INERT = frozenset(
    ["builtins.type", "builtins.vars", "builtins.getattr", "builtins.setattr", "builtins.delattr", "builtins.dir", "builtins.super",
     "builtins.list", "builtins.tuple", "builtins.set", "builtins.frozenset", "builtins.dict", "builtins.zip", "builtins.enumerate",
     "builtins.reversed", "builtins.len", "builtins.isinstance", "builtins.issubclass", "builtins.id", "builtins.hash", "builtins.bool",
     "builtins.str", "builtins.repr", "builtins.format", "builtins.print", "builtins.hasattr", "builtins.callable", "builtins.int",
     "builtins.float", "builtins.abs", "builtins.any", "builtins.all", "weakref.ref", "weakref.proxy", "copy.copy", "copy.deepcopy",
     "typing.cast", "dataclasses.replace", "dataclasses.asdict", "dataclasses.fields", "collections.deque"]
)  # fmt: skip


def may_call_arguments(callees: Values) -> bool:
    """Whether calling any of `callees` may call an object that it is given: not what the packages define, whose calls are seen."""
    by_name = any(_by_name(c) for c in callees)
    return any(_may_call(c) and not (by_name and isinstance(c, UnknownValue)) for c in callees)


def _may_call(callee: Value) -> bool:
    if isinstance(callee, Ext):
        last = callee.name.rsplit(".", 1)[-1]
        method = callee.name.startswith(("?.", "builtins.", "torch.Tensor.", "logging.")) and last in known_methods() - _RUNNING
        return not method and callee.name not in _INERT and last != "__init__"
    if isinstance(callee, ExtInst):
        return not callee.name.startswith(("torch.nn.", "builtins."))
    return isinstance(callee, (Named, Overrides, UnknownValue))


def _by_name(value: Value) -> bool:
    return isinstance(value, Named) or (isinstance(value, Ext) and value.name.startswith("?."))


def _unknown_method(unit: Unit, func: ir.Attribute, callees: Values) -> bool:
    # A method that the packages define, or that tensors, containers and modules have, is judged by its name.
    receivers = unit.receivers.get(func, frozenset())
    if any(isinstance(r, ExtInst) and is_foreign(r.name.removesuffix("()")) and r is not OUTSIDE for r in receivers):
        return True
    unknown = any(isinstance(r, UnknownValue) for r in receivers)
    defined = any(isinstance(c, Named) for c in callees) or not all(_by_name(c) or isinstance(c, UnknownValue) for c in callees)
    return unknown and not defined and func.attr not in known_methods()
