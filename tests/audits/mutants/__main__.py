"""``python -m tests.audits.mutants``: plant violations and their twins, audit them, and report recall and false alarms per rule."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from audits.static.rules import all_rules
from tests.audits.mutants import live, runner
from tests.audits.mutants.blocks import BLOCKS, RULES
from tests.audits.mutants.compose import Planting
from tests.audits.mutants.model import Mutant, sample, seeded
from tests.audits.mutants.runner import Outcome
from tests.audits.mutants.score import score, table

CHUNK = 12
"""Mutants that a process takes at a time; their twins are planted together."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.audits.mutants", description=__doc__)
    parser.add_argument("--rules", default=",".join(RULES), help="codes, separated by commas (default: all)")
    parser.add_argument("--sample", type=int, default=30, help="mutants of each rule (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="append each result to FILE, and skip those that it holds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write scores and results")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--off", action="store_true", help="switch each mutant's rule off: all must be missed (tests this harness)")
    parser.add_argument("--show", metavar="KEY", help="print the source of one mutant and its twin, and stop")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return 0 where every rule meets its goals, else 1; 2 for an unknown rule."""
    options = _parser().parse_args(argv)
    rules = [r for r in options.rules.split(",") if r]
    unknown = sorted(set(rules) - set(RULES))
    if unknown:
        sys.stderr.write(f"mutants: unknown rule {unknown[0]!r}; expected some of {', '.join(RULES)}.\n")
        return 2
    mutants = sample(BLOCKS, rules, options.sample, options.seed)
    if options.show:
        return _show([m for m in mutants if m.key == options.show])
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    known = _read(options.resume)
    pending = [m for m in mutants if m.key not in known]
    for outcome in track(_outcomes(pending, options), "planting", total=len(pending), console=console, disable=not console.is_terminal):
        known[outcome.key] = outcome
        if options.resume:
            with options.resume.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(outcome.record()) + "\n")
    outcomes = [known[m.key] for m in mutants]
    with runner.planted(Planting({}, ())) as root:
        verdict = runner.audit(root)
    clean = tuple(f"{rule} {text}" for rule, text in verdict.findings) + ((verdict.error,) if verdict.error else ())
    scores = [score(rule, outcomes) for rule in rules]
    console.print(table(scores, clean))
    for line in _complaints(outcomes, clean):
        console.print(line, markup=False, soft_wrap=True)
    missing = [r for r in rules if r not in all_rules()]
    if missing:
        console.print(f"no such rule in this auditor: {', '.join(missing)}")
    if options.json:
        document = {"seed": options.seed, "sample": options.sample, "clean": clean, "scores": [s.record() for s in scores]}
        options.json.write_text(json.dumps({**document, "outcomes": [o.record() for o in outcomes]}, indent=1), encoding="utf-8")
    return 0 if scores and not clean and all(s.good for s in scores) else 1


def _read(path: Path | None) -> dict[str, Outcome]:
    if path is None or not path.is_file():
        return {}
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {r["key"]: Outcome(**{**r, "alarms": tuple(r["alarms"])}) for r in records}


def _complaints(outcomes: Sequence[Outcome], clean: Sequence[str]) -> Iterator[str]:
    yield from (f"finding in the package as it is: {text}" for text in clean)
    for outcome in outcomes:
        if not outcome.alive:
            yield f"dead: {outcome.key}: {outcome.note[-300:]}"
        elif not outcome.direct:
            yield f"{'unresolved' if outcome.unresolved else 'missed'}: {outcome.key}"
        for alarm in outcome.alarms:
            yield f"false alarm on the twin of {outcome.key}: {alarm}"


def _outcomes(mutants: Sequence[Mutant], options: argparse.Namespace) -> Iterator[Outcome]:
    if not mutants:
        return
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        work = Path(folder)
        live.preload()
        made = live.observe(runner.ROOT, "generate", (), work, work)
        if made.error:
            raise RuntimeError(f"the clean package cannot write its data: {made.trace}")
        order = [m.key for m in mutants]
        seeded(options.seed, "order").shuffle(order)
        calls = [(tuple(order[at : at + CHUNK]), work, options.off) for at in range(0, len(order), CHUNK)]
        _Worker.mutants = {m.key: m for m in mutants}
        _Worker.texts = runner.sources()
        if options.processes < 2:
            runner.remember_parses()
            for call in calls:
                yield from _Worker.run(call)
            return
        # Forked, so that a worker starts with the libraries imported and forks its own children in milliseconds.
        context = multiprocessing.get_context("fork")
        with context.Pool(options.processes, initializer=runner.remember_parses) as pool:
            for outcomes in pool.imap_unordered(_Worker.run, calls):
                yield from outcomes


class _Worker:
    """What the processes share."""

    mutants: dict[str, Mutant]
    texts: dict[str, str]

    @classmethod
    def run(cls, call: tuple[tuple[str, ...], Path, bool]) -> list[Outcome]:
        keys, work, off = call
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            return runner.judge([cls.mutants[key] for key in keys], cls.texts, work / "data", Path(scratch), off=off)


def _show(chosen: Sequence[Mutant]) -> int:
    if not chosen:
        sys.stderr.write("mutants: no such key in this sample; give the same --rules, --sample and --seed.\n")
        return 2
    texts = runner.sources()
    for title, harmless in (("mutant", False), ("harmless twin", True)):
        sys.stdout.write(f"==== {title} of {chosen[0].key}\n{runner.shown(chosen[0], texts, harmless=harmless)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
