"""Tables and figures say what the document says."""

from __future__ import annotations

import copy
import io
import itertools
import json

import numpy as np
import pytest
from matplotlib import pyplot as plt
from rich.console import Console

from ris_pipeline.errors import CheckpointError, DataError
from ris_pipeline.evaluation.counts import RULES
from ris_pipeline.report import (
    COLUMNS,
    confusion_figure,
    counting_table,
    example_figure,
    localization_table,
    markdown,
    methods_table,
    read_evaluation,
    rmse_figure,
    success_figure,
    training_figure,
    write_report,
)

FIGURES = ["rmse_vs_snr.png", "count_and_success_vs_snr.png", "k_confusion.png", "example_spectrum.png"]
PNG = b"\x89PNG\r\n\x1a\n"


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table_below(lines, header):
    """Cells of the rows under a header and its rule."""
    return [cells(line) for line in itertools.takewhile(lambda line: line.startswith("|"), lines[header + 2 :])]


def printed(table):
    console = Console(file=io.StringIO(), width=250)
    console.print(table)
    return console.file.getvalue()


def test_report_and_figures_are_written(tiny_document, tiny_run, tmp_path):
    written = write_report(tiny_document, tmp_path / "deep" / "report", run=tiny_run.folder)
    names = ["report.md", *FIGURES, "training.png"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "deep" / "report").iterdir()) == sorted(names)
    assert all(path.read_bytes().startswith(PNG) for path in written[1:])
    text = written[0].read_text(encoding="utf-8")
    assert all(f"![{name}]({name})" in text for name in names[1:])
    assert plt.get_fignums() == []


def test_without_a_run_there_is_no_training_figure(tiny_document, tmp_path):
    written = write_report(tiny_document, tmp_path)
    assert [path.name for path in written] == ["report.md", *FIGURES]
    assert "training.png" not in written[0].read_text(encoding="utf-8")


def test_a_document_of_the_contract_alone_gives_what_it_holds(tiny_document, tmp_path):
    """Confusions, counting rules and the example are extensions of the schema."""
    document = copy.deepcopy(tiny_document)
    for name in ("counting", "by_k", "example"):
        del document[name]
    del document["bounds"]["genie_stochastic"]
    for figures in (*document["methods"].values(), document["bounds"]["genie_ml"]):
        for name in [key for key in figures if key == "k_confusion" or (key.startswith("median_") and key != "median_error_over_crb")]:
            del figures[name]
    written = write_report(document, tmp_path)
    assert [path.name for path in written] == ["report.md", *FIGURES[:2]]
    assert "Source count" not in written[0].read_text(encoding="utf-8")


def test_the_numbers_in_the_table_are_those_of_the_document(tiny_document):
    lines = markdown(tiny_document, []).splitlines()
    assert lines[0] == "# Evaluation on 40 scenes"
    header = next(line for line in lines if line.startswith("| method"))
    assert cells(header) == ["method", *COLUMNS.values()]
    body = table_below(lines, lines.index(header))
    genies = {"genie ML (bound)": "genie_ml", "genie ML with the power law (bound)": "genie_stochastic"}
    documents = [*tiny_document["methods"].items(), *((shown, tiny_document["bounds"][name]) for shown, name in genies.items())]
    assert [row[0] for row in body] == [name for name, _ in documents]
    for row, (_, figures) in zip(body, documents, strict=True):
        for cell, name in zip(row[1:], COLUMNS, strict=True):
            value = figures[name]
            if name in ("scenes", "scenes_per_second"):
                assert float(cell) == pytest.approx(value, rel=6e-3)
            else:
                low, high = figures["ci95"][name]
                assert cell == f"{value:.3f} ± {(high - low) / 2:.3f}"


def test_the_errors_over_the_bound_and_the_counting_rules_have_their_tables(tiny_document):
    lines = markdown(tiny_document, []).splitlines()
    ratios = table_below(lines, lines.index("## Errors over the Cramér-Rao bound") + 4)
    row = next(row for row in ratios if row[0] == "music")
    keys = ["median_error_over_crb", *(f"median_{name}_error_over_crb" for name in ("azimuth", "elevation", "range"))]
    assert [cell.split(" ")[0] for cell in row[1:5]] == [f"{tiny_document['methods']['music'][key]:.3f}" for key in keys]
    rules = table_below(lines, lines.index("| rule | scenes | K acc | under | over |"))
    assert [row[0] for row in rules] == list(RULES.values())
    for row, figures in zip(rules, tiny_document["counting"].values(), strict=True):
        assert row[1] == "40"
        assert [float(cell.split(" ")[0]) for cell in row[2:]] == pytest.approx(
            [figures[k] for k in ("k_acc", "k_under", "k_over")], abs=6e-4
        )


def test_success_by_snr_is_that_of_the_bins(tiny_document):
    lines = markdown(tiny_document, []).splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("| SNR (dB)"))
    assert cells(lines[header])[1:] == ["-5 to 0", "0 to 5", "5 to 10", "10 to 15", "15 to 20"]
    row = next(row for row in table_below(lines, header) if row[0] == "ml")
    bins = [e for e in tiny_document["bins"] if e["method"] == "ml" and e["k"] is None]
    assert row[1:] == [f"{entry['source_success_rate']:.3f}" for entry in bins]


def test_the_ceilings_of_the_count_are_in_the_text(tiny_document):
    detection = tiny_document["bounds"]["detection"]
    text = markdown(tiny_document, [])
    assert f"K accuracy {detection['k_acc']:.3f} when positions are searched" in text
    assert f"{detection['k_acc_known_positions']:.3f} when they are known" in text


def test_a_number_of_scenes_is_written_out(tiny_document):
    document = copy.deepcopy(tiny_document)
    document["methods"]["music"]["scenes"] = 10_000
    row = next(cells(line) for line in markdown(document, []).splitlines() if line.startswith("| music"))
    assert row[1 + list(COLUMNS).index("scenes")] == "10000"


def test_a_figure_that_does_not_exist_is_a_dash(tiny_document):
    document = copy.deepcopy(tiny_document)
    document["methods"]["music"]["ospa"] = None
    document["methods"]["music"]["ci95"]["ospa"] = [None, None]
    row = next(cells(line) for line in markdown(document, []).splitlines() if line.startswith("| music"))
    assert row[1 + list(COLUMNS).index("ospa")] == "-"


def test_the_terminal_table_has_every_method_and_both_bounds(tiny_document):
    text = printed(methods_table(tiny_document))
    for name, figures in tiny_document["methods"].items():
        low, high = figures["ci95"]["k_acc"]
        line = next(line for line in text.splitlines() if line.strip().startswith(name))
        assert f"{figures['k_acc']:.2f} ±{(high - low) / 2:.2f}" in line
        assert f"{figures['azimuth_rmse_deg']:.3g}" in line
    assert "genie" in text
    assert f"{tiny_document['bounds']['detection']['k_acc']:.2f}" in next(line for line in text.splitlines() if "detection" in line)


def test_the_terminal_lists_the_counting_rules(tiny_document):
    text = printed(counting_table(tiny_document))
    for name, figures in tiny_document["counting"].items():
        low, high = figures["ci95"]["k_acc"]
        line = next(line for line in text.splitlines() if line.split()[:1] == [name])
        assert f"{figures['k_acc']:.2f} ±{(high - low) / 2:.2f}" in line
        assert line.split()[-2:] == [f"{figures['k_under']:.2f}", f"{figures['k_over']:.2f}"]


def test_confusions_show_the_share_of_each_row(tiny_document):
    figure = confusion_figure(tiny_document)
    names = list(tiny_document["methods"])
    panels = [axis for axis in figure.axes if axis.get_visible() and axis.get_xlabel() == "estimated K"]
    assert [axis.get_title().split(",")[0] for axis in panels] == names
    for axis, name in zip(panels, names, strict=True):
        table = tiny_document["methods"][name]["k_confusion"]
        shown = axis.images[0].get_array()
        np.testing.assert_allclose(shown, [[100 * count / sum(row) for count in row] for row in table["scenes"]])
        assert axis.get_ylabel() == "true K"
        assert [text.get_text() for text in axis.texts] == [f"{share:.0f}" for share in np.asarray(shown).flatten()]
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1", "2", "3"]
    plt.close("all")


def test_the_example_shows_truth_and_estimates_on_the_map(tiny_document):
    shown = tiny_document["example"]
    figure = example_figure(tiny_document)
    axis = figure.axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    truths = [line for line in axis.get_lines() if line.get_marker() == "x" and line.get_color() == "white"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in truths] == [(s["azimuth_deg"], s["range_m"]) for s in shown["truth"]]
    for name, found in shown["estimates"].items():
        line = lines[f"{name}, K = {len(found)}"]
        assert list(line.get_xdata())[: len(found)] == [source["azimuth_deg"] for source in found]
        assert list(line.get_ydata())[: len(found)] == [source["range_m"] for source in found]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("azimuth (deg)", "range (m), log scale")
    assert f"Scene {shown['scene']}: {len(shown['truth'])} sources" in axis.get_title()
    plt.close("all")


def test_every_method_looks_different_and_the_same_in_all_figures(tiny_document):
    document = copy.deepcopy(tiny_document)
    document["methods"] = {f"method {number}": tiny_document["methods"]["music"] for number in range(8)}
    document["bins"] = [dict(e, method=name) for name in document["methods"] for e in tiny_document["bins"] if e["method"] == "music"]
    looks = []
    for figure in (rmse_figure(document), success_figure(document)):
        lines = {line.get_label(): (line.get_color(), line.get_marker()) for line in figure.axes[0].get_lines()}
        looks.append(lines)
        assert len({colour for colour, _ in lines.values()}) == len({marker for _, marker in lines.values()}) == 8
    assert looks[0] == looks[1]
    plt.close("all")


def test_curves_run_through_the_bins(tiny_document):
    """Every method, the genie and the bound, at the middle of each SNR bin, over all K."""
    figure = rmse_figure(tiny_document)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines.keys() == {*tiny_document["methods"], "genie ML", "genie ML, power law", "Cramér-Rao bound"}
    for label, name in (("music", "music"), ("Cramér-Rao bound", "crb"), ("genie ML", "genie_ml")):
        bins = [entry for entry in tiny_document["bins"] if entry["method"] == name and entry["k"] is None]
        assert list(lines[label].get_xdata()) == [sum(entry["snr_db"]) / 2 for entry in bins]
        assert list(lines[label].get_ydata()) == [entry["azimuth_rmse_deg"] for entry in bins]
    assert [axis.get_ylabel() for axis in figure.axes] == ["azimuth RMSE (deg)", "elevation RMSE (deg)", "range RMSE (m)"]
    assert all(axis.get_xlabel() == "SNR (dB)" for axis in figure.axes)
    success = success_figure(tiny_document)
    labels = [{line.get_label() for line in axis.get_lines()} for axis in success.axes]
    # The genies are told K, and the detection bound bounds nothing else.
    assert labels[0] == {*tiny_document["methods"], "detection bound"}
    assert labels[1] == labels[2] == {*tiny_document["methods"], "genie ML", "genie ML, power law"}
    plt.close("all")


def test_the_training_figure_shows_objective_and_loss(tiny_run):
    history = tiny_run.result.history
    figure = training_figure(history)
    objective, loss = (axis.get_lines()[0] for axis in figure.axes)
    assert list(objective.get_ydata()) == [entry["objective"] for entry in history]
    assert list(loss.get_ydata()) == [entry["val_loss"] for entry in history]
    assert (figure.axes[0].get_ylabel(), figure.axes[1].get_ylabel()) == ("objective", "validation loss")
    plt.close("all")


def test_localizations_are_listed_up_to_a_limit():
    source = dict.fromkeys(("azimuth_deg", "elevation_deg", "range_m", "power_db"), 1.5)
    source |= {"azimuth_std_deg": 0.25, "elevation_std_deg": None, "range_std_m": None}
    document = {"method": "music", "scenes": [{"k": 1, "k_confidence": None, "sources": [source]}] * 3}
    text = printed(localization_table(document, most=2))
    assert "music: 3 scenes, the first 2" in text
    assert text.count("1.50 ± 0.25") == 2


def test_a_document_survives_the_file(tiny_document, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(tiny_document), encoding="utf-8")
    assert read_evaluation(path) == tiny_document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^cannot read the evaluation .*x\.json: No such file or directory$"),
        ("{", r"x\.json is not JSON: "),
        ("\udcff", r"x\.json is not JSON: "),
        ("[]", r"x\.json is not an evaluation of schema 1 as `ris evaluate --json` writes it$"),
        ('{"methods": {}, "bounds": {}, "schema_version": 1}', r"is not an evaluation of schema 1"),
        ('{"methods": {}, "bounds": {}, "bins": [], "schema_version": 2}', r"is not an evaluation of schema 1"),
    ],
)
def test_what_is_no_evaluation_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_evaluation(path)


def test_a_run_without_a_checkpoint_is_refused_before_anything_is_written(tiny_document, tmp_path):
    with pytest.raises(CheckpointError, match=r"^expected a checkpoint, got .*last\.safetensors, which is not a file$"):
        write_report(tiny_document, tmp_path / "out", run=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_refused(tiny_document, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"^cannot write to .*file: "):
        write_report(tiny_document, tmp_path / "file")
