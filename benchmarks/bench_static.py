"""The static auditor: this repository cold and unchanged, generated packages of three sizes, each against a named rival.

The rival is `libcst.parse_module` alone: the least that any analyser on LibCST has to do.
"""

from __future__ import annotations

import time
from pathlib import Path

import libcst
import pytest
from generated_packages import write_package

from audits.static.run import audit
from audits.static.settings import load_settings
from audits.static.source.cache import Cache
from audits.static.source.worker import cores

ROOT = Path(__file__).parents[1]


def run(root, folder):
    return audit(root, load_settings(root / "pyproject.toml"), cache=Cache.open(folder, required=True), processes=cores())


def parse_only(root):
    started = time.perf_counter()
    for path in sorted(root.rglob("*.py")):
        libcst.parse_module(path.read_bytes())
    return time.perf_counter() - started


def test_this_repository_cold(benchmark, tmp_path_factory):
    """No facts, no result: every file is lowered and analysed."""
    report = benchmark.pedantic(lambda folder: run(ROOT, folder), setup=lambda: ((tmp_path_factory.mktemp("cache"),), {}), rounds=3)
    assert report.findings == []
    assert {p.status for p in report.proofs} == {"proved"}
    benchmark.extra_info |= {"files": report.files, "times_of_parse_module": benchmark.stats["median"] / parse_only(ROOT / "ris_pipeline")}


def test_this_repository_unchanged(benchmark, tmp_path):
    """The stored result; the start of the interpreter comes on top."""
    first = run(ROOT, tmp_path)
    report = benchmark(run, ROOT, tmp_path)
    assert "cached" in report.timings_s
    assert report.proofs == first.proofs
    benchmark.extra_info["times_of_parse_module"] = benchmark.stats["median"] / parse_only(ROOT / "ris_pipeline")


@pytest.mark.parametrize("lines", [25_000, 50_000, 100_000])
def test_generated_package_cold(benchmark, tmp_path_factory, lines):
    """The solver in the deepest module is found; seconds per 1 000 lines stay the same as the package grows."""
    root = tmp_path_factory.mktemp("package")
    written = write_package(root, lines, solver=True)
    report = benchmark.pedantic(lambda folder: run(root, folder), setup=lambda: ((tmp_path_factory.mktemp("cache"),), {}), rounds=1)
    [finding] = [f for f in report.findings if f.rule != "HOT003"]  # branches of the generated code on tensors are as meant
    assert (finding.rule, finding.symbol) == ("HOT001", "generated.part_0:base")
    assert finding.call_path[0].symbol == "generated.step:step"
    seconds = benchmark.stats["median"]
    benchmark.extra_info |= {
        "lines": written,
        "seconds_per_1000_lines": 1000 * seconds / written,
        "times_of_parse_module": seconds / parse_only(root),
    }
