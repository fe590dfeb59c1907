"""Settings of the whole test run: shape checks in the library, one thread for torch, profiles of hypothesis."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from jaxtyping import install_import_hook

UNHOOKED = {
    "config",  # pydantic validates its values, and beartype cannot resolve Self in a method
}


def library_modules() -> list[str]:
    """Every module of the library that the hook checks, found without importing one."""
    spec = find_spec("ris_pipeline")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    names = {".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py") if not path.name.startswith("__")}
    assert names >= UNHOOKED
    return [f"ris_pipeline.{name}" for name in sorted(names - UNHOOKED)]


# Annotated functions and dataclasses of the library check their shapes and types in this process. The hook must stand before the
# first import of the library, and it does not reach the child processes that tests start.
install_import_hook(library_modules(), "beartype.beartype")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

settings.register_profile("local", deadline=None, max_examples=30)
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
