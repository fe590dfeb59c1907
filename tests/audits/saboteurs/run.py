"""The saboteur suite: each defect is planted in a copy of the packages, and the checks that should see it are run there.

A saboteur is a small patch in one of the TOML files beside this one: ``name``, ``defect``, ``edits`` (file, old, new; old occurs once) and
``checks``, the codes that are run on the copy. At least one of them must fail. The clean tree must pass them all, and every run-time check
must catch somebody. Results are kept in a file, so that an interrupted run continues; a saboteur is run anew when its patch or a source
changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGES = ("ris_pipeline", "audits")
CLEAN = "clean tree"


@dataclass(frozen=True)
class Saboteur:
    """One defect."""

    name: str
    defect: str
    checks: tuple[str, ...]
    edits: tuple[tuple[str, str, str], ...]


def catalogue(folder: Path = HERE) -> list[Saboteur]:
    """All saboteurs, in the order of their files."""
    entries = [entry for file in sorted(folder.glob("*.toml")) for entry in tomllib.loads(file.read_text())["saboteur"]]
    return [
        Saboteur(e["name"], e["defect"], tuple(e["checks"]), tuple((d["file"], d["old"], d["new"]) for d in e["edits"])) for e in entries
    ]


def plant(saboteur: Saboteur, root: Path) -> None:
    """Copy the packages to ``root`` and apply the patch; each piece to be replaced must be there exactly once."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for file, old, new in saboteur.edits:
        path = root / "ris_pipeline" / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{saboteur.name}: expected the piece to be replaced once in {file}, found it {text.count(old)} times")
        path.write_text(text.replace(old, new))


def tried(saboteur: Saboteur, checks: tuple[str, ...]) -> dict[str, object]:
    """Run ``checks`` on a copy with the defect and say which of them failed."""
    with tempfile.TemporaryDirectory(prefix="ris-saboteur-") as name:
        root = Path(name)
        plant(saboteur, root)
        out = root / "report.json"
        command = [sys.executable, "-m", "audits", "runtime", f"--format=json={out}"]
        command += ["--select", ",".join(checks)] if checks else []
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1800, check=False)
        report = json.loads(out.read_text()) if out.exists() else {"results": [], "incomplete": {"start": done.stderr.strip()[-300:]}}
    failed: dict[str, str] = {}
    for result in report["results"]:
        if not result["passed"]:
            failed.setdefault(result["code"], f"{result['subject']}: {result['message']}")
    return {"exit": done.returncode, "caught by": failed, "incomplete": report["incomplete"], "checks": list(checks)}


def fingerprint(saboteur: Saboteur, checks: tuple[str, ...]) -> str:
    """What a stored result depends on."""
    content = hashlib.sha256(repr((saboteur, checks)).encode())
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".json")):
        content.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return content.hexdigest()


def main(argv: list[str] | None = None) -> int:
    """Run the suite and print its table; 0 when all were caught and the clean tree passed."""
    parser = argparse.ArgumentParser(prog="saboteurs", description="Plant defects and see which checks find them.")
    parser.add_argument("names", nargs="*", help="only these saboteurs (default: all, and the clean tree)")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "saboteurs.json", help="where results are kept")
    parser.add_argument(
        "--select", default="", metavar="CODES", help="run these checks on every saboteur instead of its own; 'all' runs all"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options = parser.parse_args(argv)
    known = {saboteur.name: saboteur for saboteur in catalogue()}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"unknown saboteur {unknown[0]!r}")
    chosen = [known[name] for name in options.names] or [*known.values(), Saboteur(CLEAN, "nothing is wrong", (), ())]
    stored = json.loads(options.results.read_text()) if options.results.exists() else {}
    options.results.parent.mkdir(parents=True, exist_ok=True)

    def work(saboteur: Saboteur) -> tuple[Saboteur, dict[str, object]]:
        wanted = () if options.select == "all" else tuple(options.select.replace(",", " ").split()) or saboteur.checks
        mark = fingerprint(saboteur, wanted)
        old = stored.get(saboteur.name)
        return saboteur, old if old and old["mark"] == mark else tried(saboteur, wanted) | {"mark": mark}

    survivors, caught_by = [], set()
    with ThreadPoolExecutor(options.jobs) as pool:
        for saboteur, result in pool.map(work, chosen):
            stored[saboteur.name] = result
            options.results.write_text(json.dumps(stored, indent=1) + "\n")
            codes = list(result["caught by"])
            fine = (not codes and not result["incomplete"]) if saboteur.name == CLEAN else bool(codes)
            caught_by.update(codes)
            survivors += [] if fine else [saboteur.name]
            words = ", ".join(codes) or ("passes" if fine else "NOT CAUGHT")
            broken = f"  (incomplete: {result['incomplete']})" if result["incomplete"] else ""
            print(f"{saboteur.name:34} {words:32} {saboteur.defect}{broken}", flush=True)
    idle = sorted(every_check() - caught_by) if not options.names else []
    print(f"{len(chosen)} tried, {len(survivors)} not as expected{': ' + ', '.join(survivors) if survivors else ''}")
    if idle:
        print(f"checks that caught nobody: {', '.join(idle)}")
    return 1 if survivors or idle else 0


def every_check() -> set[str]:
    """Codes of all run-time checks."""
    sys.path.insert(0, str(ROOT))
    from audits.runtime.manual import MANUAL

    return set(MANUAL)


if __name__ == "__main__":
    sys.exit(main())
