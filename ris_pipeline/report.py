"""Tables and figures for people: the terminal, Markdown and PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich import box
from rich.table import Table

from ris_pipeline.attestation import sentence
from ris_pipeline.errors import DataError
from ris_pipeline.model.weights import load_tensors
from ris_pipeline.training.checkpoint import LAST_NAME

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

_TERMINAL = {
    "scenes": "\nscenes",
    "success_rate": "scene\nsuccess",
    "source_success_rate": "source\nsuccess",
    "azimuth_rmse_deg": "az\n(deg)",
    "elevation_rmse_deg": "el\n(deg)",
    "range_rmse_m": "range\n(m)",
    "median_error_over_crb": "error\n/CRB",
    "scenes_per_second": "scenes\n/s",
}
COLUMNS = {
    "scenes": "scenes",
    "k_acc": "K acc",
    "success_rate": "success",
    "source_success_rate": "source success",
    "azimuth_rmse_deg": "az RMSE (deg)",
    "elevation_rmse_deg": "el RMSE (deg)",
    "range_rmse_m": "range RMSE (m)",
    "median_error_over_crb": "median error/CRB",
    "ospa": "OSPA",
    "scenes_per_second": "scenes/s",
}
_CURVES = {"azimuth_rmse_deg": "azimuth RMSE (deg)", "elevation_rmse_deg": "elevation RMSE (deg)", "range_rmse_m": "range RMSE (m)"}


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what ``ris evaluate --json`` wrote.

    Raises:
        DataError: the file is missing or is not such a document.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the evaluation {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    parts = {"scenes": int, "methods": dict, "bounds": dict, "bins": list}
    known = isinstance(document, dict) and document.get("schema_version") == 1
    if (
        not known
        or not all(isinstance(document.get(name), kind) for name, kind in parts.items())
        or not {
            "genie_ml",
            "detection",
        }
        <= document["bounds"].keys()
    ):
        raise DataError(f"{path} is not an evaluation of schema 1 as `ris evaluate --json` writes it")
    return document


def methods_table(document: dict[str, Any]) -> Table:
    """The methods with their bounds, for the terminal; K accuracy with its 95 % interval, the other intervals are in the JSON."""
    caption = "az, el, range: clipped RMSE, a missed source counts as the clip\ngenie, detection: bounds"
    table = Table(title=f"{document['scenes']} scenes", caption=caption, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for header in ("method", "K acc\n(95 %)", *_TERMINAL.values()):
        table.add_column(header, no_wrap=True)
    for name, figures in [*document["methods"].items(), ("genie", document["bounds"]["genie_ml"])]:
        low, high = figures["ci95"]["k_acc"]
        table.add_row(name, f"{figures['k_acc']:.2f} ±{(high - low) / 2:.2f}", *(_short(figures[column]) for column in _TERMINAL))
    table.add_row("detection", f"{document['bounds']['detection']['k_acc']:.2f}", *("-" for _ in _TERMINAL))
    return table


def localization_table(document: dict[str, Any], most: int = 20, *, k_given: bool = False) -> Table:
    """The first scenes of a localization, for the terminal."""
    scenes = document["scenes"]
    title = (
        f"{document['method']}: {len(scenes)} scenes"
        + (", K as given" if k_given else "")
        + (f", the first {most}" if len(scenes) > most else "")
    )
    table = Table("scene", "K", "azimuth (deg)", "elevation (deg)", "range (m)", "power (dB)", title=title)
    for number, scene in enumerate(scenes[:most]):
        for source in scene["sources"]:
            table.add_row(
                str(number),
                str(scene["k"]),
                _with_std(source["azimuth_deg"], source["azimuth_std_deg"]),
                _with_std(source["elevation_deg"], source["elevation_std_deg"]),
                _with_std(source["range_m"], source["range_std_m"]),
                f"{source['power_db']:.1f}",
            )
    return table


def write_report(document: dict[str, Any], out: Path, run: Path | None = None) -> list[Path]:
    """Write ``report.md`` and the figures into ``out``; return their paths.

    Raises:
        DataError: the run holds no readable checkpoint, or the folder cannot be written to.
    """
    history = None if run is None else load_tensors(run / LAST_NAME)[1]["state"]["history"]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from None
    written = [_save(rmse_figure(document), out / "rmse_vs_snr.png"), _save(success_figure(document), out / "count_and_success_vs_snr.png")]
    if history:
        written.append(_save(training_figure(history), out / "training.png"))
    text = out / "report.md"
    text.write_text(markdown(document, [path.name for path in written]) + attestation_markdown(document), encoding="utf-8")
    return [text, *written]


def attestation_markdown(document: dict[str, Any]) -> str:
    """Whether an audit vouches for the evaluation, and the digests behind it."""
    attestation = document.get("attestation")
    if attestation is None:
        return "\nThe evaluation says nothing about the source and the audits behind it.\n"
    made = attestation["subject"]
    rows = {name.replace("_", " "): value for name, value in made.items() if isinstance(value, str)} | made["versions"]
    lines = ["", "## Provenance", "", f"{sentence(attestation)}.", "", "| | |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | `{value}` |" for name, value in rows.items()), ""])


def markdown(document: dict[str, Any], figures: list[str]) -> str:
    """The methods table and the figures as Markdown."""
    lines = [f"# Evaluation on {document['scenes']} scenes", ""]
    lines.append("| method | " + " | ".join(COLUMNS.values()) + " |")
    lines.append("| --- |" + " --- |" * len(COLUMNS))
    for name, values in [*document["methods"].items(), ("genie ML (bound)", document["bounds"]["genie_ml"])]:
        lines.append(f"| {name} | " + " | ".join(_cell(values, column) for column in COLUMNS) + " |")
    detection = document["bounds"]["detection"]
    lines += [
        "",
        "Behind each figure stands the half-width of its 95 % bootstrap interval. Errors are root-mean-square over all true sources, "
        "clipped, a missed source counting as the clip.",
        "",
        f"Count ceiling (matched-subspace detection of the weakest source, false-alarm rate {detection['false_alarm']:g}): K accuracy "
        f"{detection['k_acc']:.3f} when positions are searched, {detection['k_acc_known_positions']:.3f} when they are known.",
        "",
        *(f"![{name}]({name})" for name in figures),
        "",
    ]
    return "\n".join(lines)


def rmse_figure(document: dict[str, Any]) -> Figure:
    """RMSE against SNR for every method, the genie and the Cramér-Rao bound."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, (key, label) in zip(axes, _CURVES.items(), strict=True):
        _curves(axis, document, key, label)
        axis.set_yscale("log")
    axes[-1].legend(fontsize=8)
    return figure


def success_figure(document: dict[str, Any]) -> Figure:
    """K accuracy and source success against SNR."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axis, key, label in zip(axes, ("k_acc", "source_success_rate"), ("K accuracy", "source success rate"), strict=True):
        _curves(axis, document, key, label)
        axis.set_ylim(0, 1)
    axes[-1].legend(fontsize=8)
    return figure


def training_figure(history: list[dict[str, Any]]) -> Figure:
    """Objective and validation loss per epoch."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    axis.plot(epochs, [entry["objective"] for entry in history], "o-", label="objective")
    axis.set_xlabel("epoch")
    axis.set_ylabel("objective")
    twin = axis.twinx()
    twin.plot(epochs, [entry["val_loss"] for entry in history], "s--", color="tab:grey", label="validation loss")
    twin.set_ylabel("validation loss")
    figure.legend(loc="upper right", bbox_to_anchor=(1, 1), bbox_transform=axis.transAxes)
    return figure


def _curves(axis: Any, document: dict[str, Any], key: str, label: str) -> None:
    bins = [entry for entry in document["bins"] if entry["k"] is None and entry.get(key) is not None]
    for name in dict.fromkeys(entry["method"] for entry in bins):
        points = [(sum(entry["snr_db"]) / 2, entry[key]) for entry in bins if entry["method"] == name]
        bound = name in {"crb", "genie_ml"}
        style = {"color": "black", "linestyle": "--" if name == "crb" else ":"} if bound else {"marker": "o"}
        axis.plot(*zip(*points, strict=True), label={"crb": "Cramér-Rao bound", "genie_ml": "genie ML"}.get(name, name), **style)
    axis.set_xlabel("SNR (dB)")
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _cell(figures: dict[str, Any], column: str) -> str:
    value, interval = figures[column], figures["ci95"].get(column, [None, None])
    if value is None:
        return "-"
    if column in {"scenes", "scenes_per_second"}:
        return _short(value)
    return f"{value:.3f}" if None in interval else f"{value:.3f} ± {(interval[1] - interval[0]) / 2:.3f}"


def _short(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _with_std(value: float, std: float | None) -> str:
    return f"{value:.2f}" if std is None else f"{value:.2f} ± {std:.2f}"
