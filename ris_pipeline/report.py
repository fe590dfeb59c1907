"""Tables and figures for people: the terminal, Markdown and PNG."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich import box
from rich.table import Table

from ris_pipeline.attestation import sentence
from ris_pipeline.errors import DataError
from ris_pipeline.evaluation.counts import RULES
from ris_pipeline.model.weights import load_tensors
from ris_pipeline.training.checkpoint import LAST_NAME

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

_TERMINAL = {
    "success_rate": "scene\nsuccess",
    "source_success_rate": "source\nsuccess",
    "azimuth_rmse_deg": "az\n(deg)",
    "elevation_rmse_deg": "el\n(deg)",
    "range_rmse_m": "range\n(m)",
    "median_error_over_crb": "error\n/CRB",
    "ospa": "\nOSPA",
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
_RATIOS = {
    "median_error_over_crb": "all coordinates",
    "median_azimuth_error_over_crb": "azimuth",
    "median_elevation_error_over_crb": "elevation",
    "median_range_error_over_crb": "range",
    "azimuth_median_deg": "median azimuth error (deg)",
    "elevation_median_deg": "median elevation error (deg)",
    "range_median_m": "median range error (m)",
}
_COUNTS = {"scenes": "scenes", "k_acc": "K acc", "k_under": "under", "k_over": "over"}
_CURVES = {"azimuth_rmse_deg": "azimuth RMSE (deg)", "elevation_rmse_deg": "elevation RMSE (deg)", "range_rmse_m": "range RMSE (m)"}

_RATES = {"k_acc": "K accuracy", "success_rate": "scene success rate", "source_success_rate": "source success rate"}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#7F7F7F")
"""Okabe and Ito's colours, which most colour-blind people can tell apart; markers differ as well."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_BOUND_STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "crb": ("Cramér-Rao bound", {"color": "black", "linestyle": "--"}),
    "genie_ml": ("genie ML", {"color": "black", "linestyle": ":", "linewidth": 2}),
    "genie_stochastic": ("genie ML, power law", {"color": "black", "linestyle": "-", "linewidth": 1}),
    "detection": ("detection bound", {"color": "black", "linestyle": "-."}),
}


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
    caption = "az, el, range: clipped RMSE, a missed source counts as the clip\ngenies (the second with the power law), detection: bounds"
    everyone = [*document["methods"].items(), *_genies(document, ("genie", "genie, law"))]
    fewer = [f"{name} {figures['scenes']}" for name, figures in everyone if figures["scenes"] != document["scenes"]]
    if fewer:
        caption += f"\non fewer scenes: {', '.join(fewer)}"
    table = Table(title=f"{document['scenes']} scenes", caption=caption, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for header in ("method", "K acc\n(95 %)", *_TERMINAL.values()):
        table.add_column(header, no_wrap=True)
    for name, figures in everyone:
        low, high = figures["ci95"]["k_acc"]
        table.add_row(name, f"{figures['k_acc']:.2f} ±{(high - low) / 2:.2f}", *(_short(figures[column]) for column in _TERMINAL))
    table.add_row("detection", f"{document['bounds']['detection']['k_acc']:.2f}", *("-" for _ in _TERMINAL))
    return table


def _genies(document: dict[str, Any], names: tuple[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """The genies that the document holds, under the given names."""
    bounds = document["bounds"]
    return [(name, bounds[key]) for name, key in zip(names, ("genie_ml", "genie_stochastic"), strict=True) if key in bounds]


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


def counting_table(document: dict[str, Any]) -> Table:
    """The counting rules side by side, for the terminal."""
    caption = "mdl, aic: on the residuals of ml; *_covariance: textbook\nforms on eigenvalues, whose model does not hold here"
    table = Table(title="source count", caption=caption, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for header in ("rule", "scenes", "K acc (95 %)", "under", "over"):
        table.add_column(header, no_wrap=True)
    for name, figures in document.get("counting", {}).items():
        low, high = figures["ci95"]["k_acc"]
        accuracy = f"{figures['k_acc']:.2f} ±{(high - low) / 2:.2f}"
        table.add_row(name, str(figures["scenes"]), accuracy, f"{figures['k_under']:.2f}", f"{figures['k_over']:.2f}")
    return table


def write_report(document: dict[str, Any], out: Path, run: Path | None = None) -> list[Path]:
    """Write ``report.md`` and the figures into ``out``; return their paths.

    Confusions and the example are drawn where the document holds them.

    Raises:
        DataError: the run holds no readable checkpoint, or the folder cannot be written to.
    """
    history = None if run is None else load_tensors(run / LAST_NAME)[1]["state"]["history"]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from None
    drawn = {"rmse_vs_snr.png": rmse_figure(document), "count_and_success_vs_snr.png": success_figure(document)}
    if all("k_confusion" in figures for figures in document["methods"].values()):
        drawn["k_confusion.png"] = confusion_figure(document)
    if "example" in document:
        drawn["example_spectrum.png"] = example_figure(document)
    if history:
        drawn["training.png"] = training_figure(history)
    written = [_save(figure, out / name) for name, figure in drawn.items()]
    text = out / "report.md"
    text.write_text(markdown(document, list(drawn)) + attestation_markdown(document), encoding="utf-8")
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
    """All tables and the figures as Markdown."""
    everyone = [*document["methods"].items(), *_genies(document, ("genie ML (bound)", "genie ML with the power law (bound)"))]
    detection = document["bounds"]["detection"]
    lines = [
        f"# Evaluation on {document['scenes']} scenes",
        "",
        *_figures_table(everyone, COLUMNS),
        "",
        "Behind each figure stands the half-width of its 95 % bootstrap interval. Errors are root-mean-square over all true sources, "
        "clipped, a missed source counting as the clip. In the figures the bound is clipped alike; it does not know the field of view, in "
        "which every estimate stays, so that errors below it are no contradiction where it is wide.",
        "",
        f"Count ceiling (matched-subspace detection of the weakest source, false-alarm rate {detection['false_alarm']:g}): K accuracy "
        f"{detection['k_acc']:.3f} when positions are searched, {detection['k_acc_known_positions']:.3f} when they are known.",
        "",
        "## Errors over the Cramér-Rao bound",
        "",
        "Medians over the sources that were matched; 0.674 for Gaussian errors at the bound.",
        "",
        *_figures_table(everyone, _RATIOS),
        "",
    ]
    if document.get("counting"):
        rules = [(RULES[name], figures) for name, figures in document["counting"].items()]
        lines += ["## Source count", "", *_figures_table(rules, _COUNTS, first="rule"), ""]
    lines += ["## Source success by SNR", "", *_snr_table(document, "source_success_rate"), ""]
    lines += [line for name in figures for line in (f"![{name}]({name})", "")]
    return "\n".join(lines)


def rmse_figure(document: dict[str, Any]) -> Figure:
    """RMSE against SNR for every method, the genie and the Cramér-Rao bound."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    figure.suptitle(f"Clipped RMSE over all true sources, {document['scenes']} scenes")
    for axis, (key, label) in zip(axes, _CURVES.items(), strict=True):
        _curves(axis, document, key, label)
        axis.set_yscale("log")
        _plain_ticks(axis)
    _legend_below(figure, axes)
    return figure


def success_figure(document: dict[str, Any]) -> Figure:
    """K accuracy, scene success and source success against SNR, with the ceiling of the count and the genie."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    figure.suptitle(f"Count and success, {document['scenes']} scenes")
    for axis, (key, label) in zip(axes, _RATES.items(), strict=True):
        _curves(axis, document, key, label)
        axis.set_ylim(-0.02, 1.02)
    _legend_below(figure, axes)
    return figure


def confusion_figure(document: dict[str, Any]) -> Figure:
    """True against estimated K per method: the share of each row, in per cent."""
    methods = document["methods"]
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.2 * columns + 0.8, 3.0 * rows + 0.6), layout="constrained", squeeze=False)
    figure.suptitle("Estimated K by true K (% of the scenes with that true K)")
    for axis in axes.flat[len(methods) :]:
        axis.set_visible(False)
    for axis, (name, figures) in zip(axes.flat, methods.items(), strict=False):
        table = figures["k_confusion"]
        shares = [[100.0 * count / max(1, sum(row)) for count in row] for row in table["scenes"]]
        image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for y, row in enumerate(shares):
            for x, share in enumerate(row):
                axis.text(x, y, f"{share:.0f}", ha="center", va="center", fontsize=8, color="black" if share > 55 else "white")
        axis.set_xticks(range(len(table["k_hat"])), table["k_hat"])
        axis.set_yticks(range(len(table["k"])), table["k"])
        axis.set(title=f"{name}, K accuracy {figures['k_acc']:.2f}", xlabel="estimated K", ylabel="true K")
        axis.title.set_fontsize(10)
    figure.colorbar(image, ax=axes, label="share of the row (%)", shrink=0.8)
    return figure


def example_figure(document: dict[str, Any]) -> Figure:
    """The angle-range spectrum of one scene with its true sources and what each method found."""
    shown = document["example"]
    figure, axis = plt.subplots(figsize=(9.5, 6), layout="constrained")
    columns = [list(column) for column in zip(*shown["spectrum_db"], strict=True)]
    mesh = axis.pcolormesh(shown["azimuth_deg"], shown["range_m"], columns, cmap="cividis", shading="gouraud", vmin=-8, vmax=0)
    figure.colorbar(mesh, label="Bartlett spectrum of the sample covariance,\nbest elevation (dB relative to the highest)", extend="min")
    for number, source in enumerate(shown["truth"]):
        _mark_truth(axis, source, None if number else "truth")
    for number, (name, style) in enumerate(_styles(document).items()):
        found = shown["estimates"][name]
        # Sizes differ, so that estimates in one place can all be seen; a light rim sets them off the dark parts of the map.
        look = {"markersize": 14 - number, "markerfacecolor": "none", "markeredgewidth": 1.8, "linestyle": "none", "clip_on": False}
        look["path_effects"] = [withStroke(linewidth=3.4, foreground="white")]
        azimuth_deg, range_m = ([source[key] for source in found] for key in ("azimuth_deg", "range_m"))
        axis.plot(azimuth_deg, range_m, label=f"{name}, K = {len(found)}", **(style | look))
    axis.set_yscale("log")
    _plain_ticks(axis)
    title = f"Scene {shown['scene']}: {len(shown['truth'])} sources, SNR {shown['snr_db']:.1f} dB"
    axis.set(xlabel="azimuth (deg)", ylabel="range (m), log scale")
    axis.set_title(title, pad=14)
    figure.legend(loc="outside lower center", ncols=5, fontsize=9, facecolor="0.75", labelspacing=1.0, borderpad=0.8)
    return figure


def _mark_truth(axis: Any, source: dict[str, float], label: str | None) -> None:
    """A cross with the elevation beside it, on the side where there is room."""
    place = (source["azimuth_deg"], source["range_m"])
    axis.plot(*place, "x", color="white", markersize=16, markeredgewidth=2.5, clip_on=False, label=label)
    right = place[0] > sum(axis.get_xlim()) / 2
    text = f"elevation {source['elevation_deg']:.0f}°"
    look = {
        "color": "white",
        "fontsize": 9,
        "ha": "right" if right else "left",
        "path_effects": [withStroke(linewidth=2, foreground="black")],
    }
    axis.annotate(text, place, xytext=(-11 if right else 11, -13), textcoords="offset points", **look)


def _plain_ticks(axis: Any) -> None:
    """1, 2 and 5 of every decade on a logarithmic ordinate, written out."""
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def training_figure(history: list[dict[str, Any]]) -> Figure:
    """Objective and validation loss per epoch."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    axis.plot(epochs, [entry["objective"] for entry in history], "o-", color=_COLOURS[0], label="objective")
    axis.set(title="Training: objective and validation loss (lower is better)", xlabel="epoch", ylabel="objective")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    twin = axis.twinx()
    twin.plot(epochs, [entry["val_loss"] for entry in history], "s--", color=_COLOURS[1], label="validation loss")
    twin.set_ylabel("validation loss")
    figure.legend(loc="upper right", bbox_to_anchor=(1, 1), bbox_transform=axis.transAxes)
    return figure


def _styles(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of every method, the same in all figures; later ones are thinner, so that curves in one place show."""
    return {
        name: {
            "color": _COLOURS[number % len(_COLOURS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": "-",
            "linewidth": max(1.0, 3.0 - 0.25 * number),
        }
        for number, name in enumerate(document["methods"])
    }


def _curves(axis: Any, document: dict[str, Any], key: str, label: str) -> None:
    bins = [entry for entry in document["bins"] if entry["k"] is None and entry.get(key) is not None]
    styles = _styles(document)
    for name in dict.fromkeys(entry["method"] for entry in bins):
        if name.startswith("genie") and key == "k_acc":
            continue  # genies are told K
        points = [(sum(entry["snr_db"]) / 2, entry[key]) for entry in bins if entry["method"] == name]
        text, style = _BOUND_STYLES.get(name) or (name, styles[name])
        axis.plot(*zip(*points, strict=True), label=text, **style)
    axis.set_xlabel("SNR (dB)")
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)


def _legend_below(figure: Figure, axes: Any) -> None:
    """One legend for all axes, each label once."""
    handles = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=9)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _figures_table(rows: Iterable[tuple[str, dict[str, Any]]], columns: dict[str, str], first: str = "method") -> list[str]:
    head = [f"| {first} | " + " | ".join(columns.values()) + " |", "| --- |" + " --- |" * len(columns)]
    return head + [f"| {name} | " + " | ".join(_cell(figures, column) for column in columns) + " |" for name, figures in rows]


def _snr_table(document: dict[str, Any], key: str) -> list[str]:
    """One figure of every method, one column per SNR bin."""
    bins = [entry for entry in document["bins"] if entry["k"] is None and key in entry]
    edges = sorted({tuple(entry["snr_db"]) for entry in bins})
    values = {(entry["method"], tuple(entry["snr_db"])): entry[key] for entry in bins}
    head = ["| SNR (dB) | " + " | ".join(f"{low:g} to {high:g}" for low, high in edges) + " |", "| --- |" + " --- |" * len(edges)]
    names = dict.fromkeys(entry["method"] for entry in bins)
    cells = {_BOUND_STYLES.get(name, (name,))[0]: [values.get((name, edge)) for edge in edges] for name in names}
    return head + [f"| {name} | " + " | ".join("-" if v is None else f"{v:.3f}" for v in row) + " |" for name, row in cells.items()]


def _cell(figures: dict[str, Any], column: str) -> str:
    value, interval = figures.get(column), figures["ci95"].get(column, [None, None])
    if value is None:
        return "-"
    if column in {"scenes", "scenes_per_second"}:
        return _short(value)
    return f"{value:.3f}" if None in interval else f"{value:.3f} ± {(interval[1] - interval[0]) / 2:.3f}"


def _short(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _with_std(value: float, std: float | None) -> str:
    return f"{value:.2f}" if std is None else f"{value:.2f} ± {std:.2f}"
