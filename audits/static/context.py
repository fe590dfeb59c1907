"""What a rule may look at."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from audits.static.analysis.engine import Analysis
from audits.static.analysis.reach import Reach, entry_functions, reach, symbol_at
from audits.static.dataflow.flow import Flow
from audits.static.dataflow.origins import Origins
from audits.static.findings import Finding, Step
from audits.static.settings import Settings
from audits.static.source import ir
from audits.static.source.project import FunctionInfo, ModuleInfo, Project


class Context:
    """What a rule may look at: the settings, the project and the finished analysis."""

    def __init__(self, settings: Settings, project: Project, analysis: Analysis) -> None:
        self.settings = settings
        self.project = project
        self.analysis = analysis
        self.shared: dict[str, Any] = {}

    @cached_property
    def flow(self) -> Flow:
        """Data flow read backwards, indexed once for all rules."""
        return Flow(self.analysis)

    @cached_property
    def reaches(self) -> list[Reach]:
        """What each entry point reaches, in the order of the configuration; the hot path is analysed here."""
        roots = {e: entry_functions(self.analysis, e) for e in self.settings.entry_points}
        self.analysis.heat(fn for found in roots.values() for fn in found)
        return [reach(self.analysis, e, found) for e, found in roots.items()]

    @cached_property
    def origins(self) -> Origins:
        """Where values come from."""
        return Origins(self.flow)

    def offline(self, module: ModuleInfo) -> bool:
        """Whether the module is declared as offline."""
        return any(module.name == m or module.name.startswith(m + ".") for m in self.settings.offline_modules)

    def finding(
        self,
        rule: str,
        module: ModuleInfo,
        node: ir.Node,
        message: str,
        *,
        fn: FunctionInfo | None = None,
        entry_point: str = "",
        call_path: tuple[Step, ...] = (),
    ) -> Finding:
        """A finding at a node."""
        symbol = fn.symbol if fn is not None else symbol_at(module, node.line)
        end = node.end_column if node.end_line == node.line else 0
        return Finding(rule, module.relative, node.line, node.column, message, symbol, entry_point, call_path, end_column=end)

    def config_finding(self, rule: str, key: str, message: str, *, entry_point: str = "") -> Finding:
        """A finding about the configuration itself."""
        line = self.settings.lines.get(key, 1)
        return Finding(rule, self.settings.source, line, 1, message, entry_point=entry_point)
