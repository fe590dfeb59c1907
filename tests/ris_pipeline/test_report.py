"""Tables and figures say what the document says."""

from __future__ import annotations

import copy
import io
import json

import pytest
from matplotlib import pyplot as plt
from rich.console import Console

from ris_pipeline.errors import CheckpointError, DataError
from ris_pipeline.report import (
    COLUMNS,
    localization_table,
    markdown,
    methods_table,
    read_evaluation,
    rmse_figure,
    success_figure,
    training_figure,
    write_report,
)

PNG = b"\x89PNG\r\n\x1a\n"


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def printed(table):
    console = Console(file=io.StringIO(), width=250)
    console.print(table)
    return console.file.getvalue()


def test_report_and_figures_are_written(tiny_document, tiny_run, tmp_path):
    written = write_report(tiny_document, tmp_path / "deep" / "report", run=tiny_run.folder)
    names = ["report.md", "rmse_vs_snr.png", "count_and_success_vs_snr.png", "training.png"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "deep" / "report").iterdir()) == sorted(names)
    assert all(path.read_bytes().startswith(PNG) for path in written[1:])
    text = written[0].read_text(encoding="utf-8")
    assert all(f"![{name}]({name})" in text for name in names[1:])
    assert plt.get_fignums() == []


def test_without_a_run_there_is_no_training_figure(tiny_document, tmp_path):
    written = write_report(tiny_document, tmp_path)
    assert [path.name for path in written] == ["report.md", "rmse_vs_snr.png", "count_and_success_vs_snr.png"]
    assert "training.png" not in written[0].read_text(encoding="utf-8")


def test_the_numbers_in_the_table_are_those_of_the_document(tiny_document):
    lines = markdown(tiny_document, []).splitlines()
    assert lines[0] == "# Evaluation on 40 scenes"
    header = next(line for line in lines if line.startswith("| method"))
    assert cells(header) == ["method", *COLUMNS.values()]
    body = [cells(line) for line in lines[lines.index(header) + 2 :] if line.startswith("|")]
    documents = [*tiny_document["methods"].items(), ("genie ML (bound)", tiny_document["bounds"]["genie_ml"])]
    assert [row[0] for row in body] == [name for name, _ in documents]
    for row, (_, figures) in zip(body, documents, strict=True):
        for cell, name in zip(row[1:], COLUMNS, strict=True):
            value = figures[name]
            if name in ("scenes", "scenes_per_second"):
                assert float(cell) == pytest.approx(value, rel=6e-3)
            else:
                low, high = figures["ci95"][name]
                assert cell == f"{value:.3f} ± {(high - low) / 2:.3f}"


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


def test_curves_run_through_the_bins(tiny_document):
    """Every method, the genie and the bound, at the middle of each SNR bin, over all K."""
    figure = rmse_figure(tiny_document)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines.keys() == {*tiny_document["methods"], "genie ML", "Cramér-Rao bound"}
    for label, name in (("music", "music"), ("Cramér-Rao bound", "crb"), ("genie ML", "genie_ml")):
        bins = [entry for entry in tiny_document["bins"] if entry["method"] == name and entry["k"] is None]
        assert list(lines[label].get_xdata()) == [sum(entry["snr_db"]) / 2 for entry in bins]
        assert list(lines[label].get_ydata()) == [entry["azimuth_rmse_deg"] for entry in bins]
    assert [axis.get_ylabel() for axis in figure.axes] == ["azimuth RMSE (deg)", "elevation RMSE (deg)", "range RMSE (m)"]
    assert all(axis.get_xlabel() == "SNR (dB)" for axis in figure.axes)
    success = success_figure(tiny_document)
    assert "Cramér-Rao bound" not in {line.get_label() for line in success.axes[0].get_lines()}
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
