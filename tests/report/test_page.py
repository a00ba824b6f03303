from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.report.conftest import Element

from carso.audit import Audit, read_audit
from carso.errors import RunError
from carso.evaluation import read_records, read_results
from carso.evaluation.protocol import TABLE
from carso.evaluation.records import Gallery, RowRecord
from carso.evaluation.results import COLUMNS, Rate, write_results
from carso.report import figures
from carso.report.page import write_report
from carso.report.table import markdown

Reads = Callable[[str], Element]


@pytest.fixture(scope="module")
def text(finished: Path) -> str:
    return write_report(finished).read_text()


@pytest.fixture(scope="module")
def page(text: str, read: Reads) -> Element:
    return read(text)


def rows_of(element: Element) -> list[Element]:
    return [row for row in element.all("tr") if "data-attack" in row.attributes]


def test_every_figure_of_results_json_is_on_the_page_and_no_other(page: Element, finished: Path) -> None:
    fields = json.loads((finished / "results.json").read_text())
    expected = {}
    for row in fields["rows"]:
        key = (row["attack"], row["norm"] or "", row["eps"], row["directed_at"])
        for name, heading in (
            ("undefended", "Undefended"),
            ("adversarially_trained", "Adversarial training"),
            ("carso", "CARSO"),
        ):
            low, high = row[name]["ci95"]
            thesis = (row["thesis"] or {}).get(name)
            published = "" if thesis is None else f" · thesis {thesis:.2f}"
            expected[*key, heading] = (f"{row[name]['accuracy']:.2f}", f"[{low:.2f}, {high:.2f}]{published}")
    shown = {}
    for row in rows_of(page):
        at = row.attributes
        for cell in row.all("td"):
            key = (
                at["data-attack"],
                at["data-norm"],
                float(at["data-eps"]),
                at["data-aim"],
                cell.attributes["data-label"],
            )
            shown[key] = (cell.all("span", "figure")[0].text, cell.all("span", "beside")[0].text)
    assert shown == expected
    assert len(shown) == 6 * 3


def test_the_bars_are_the_intervals(page: Element, finished: Path) -> None:
    rates = [row.carso for row in read_results(finished).rows]
    drawn = {
        (match[1], match[2])
        for cell in page.all("td", "carso")
        for match in [re.match(r"--low:([\d.]+);--high:([\d.]+)", cell.all("span", "track")[0].attributes["style"])]
    }
    assert drawn == {(f"{rate.ci95[0]:.2f}", f"{rate.ci95[1]:.2f}") for rate in rates}


def test_the_embedded_results_equal_the_file(page: Element, finished: Path) -> None:
    embedded = json.loads("".join(page.get("results").pieces))
    assert embedded == json.loads((finished / "results.json").read_text())


def test_aims_stand_apart(page: Element) -> None:
    assert {row.attributes["data-aim"] for row in rows_of(page.get("table"))} == {"classifier"}
    assert {row.attributes["data-aim"] for row in rows_of(page.get("end-to-end"))} == {"defence"}
    assert "thesis 9" not in page.get("end-to-end").text


def test_foreseen_and_unforeseen_are_marked(page: Element) -> None:
    marks = {
        (row.attributes["data-attack"], row.attributes["data-eps"]): row.all("span", "chip")[0].text
        for row in rows_of(page.get("table"))
    }
    assert marks[("none", "0.0")] == "clean"
    assert marks[("pgd", "0.3")] == "foreseen in training"
    assert marks[("fgsm", "0.5")] == "unforeseen"


def test_the_page_stands_alone(text: str) -> None:
    references = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import""", text)
    assert references
    assert all((source or url).startswith(("data:", "#")) for source, url in references)
    assert "http://" not in text
    assert "https://" not in text


def test_every_picture_and_chart_is_said_in_words(page: Element) -> None:
    assert all(picture.attributes.get("alt") for picture in page.all("img"))
    assert all(chart.attributes.get("aria-label") for chart in page.all("svg"))
    identifiers = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(identifiers) == len(set(identifiers))
    targets = [link.attributes["href"][1:] for link in page.all("a")]
    assert set(targets) <= set(identifiers)


def test_the_gallery_shows_what_the_rules_picked(page: Element, finished: Path) -> None:
    records = read_records(finished)
    gallery_rows = page.get("gallery").all("details", "gallery_row")
    assert len(gallery_rows) == len(records.rows)
    for shown, record in zip(gallery_rows, records.rows.values(), strict=True):
        images = shown.all("article")
        assert [image.all("span", "chip")[0].text for image in images] == record.gallery.rules
        for image, index in zip(images, record.gallery.index.tolist(), strict=True):
            said = "abcd"[record.outcomes["carso"].predicted[index]]
            right = "right" if record.outcomes["carso"].predicted[index] == records.labels[index] else "wrong"
            assert image.all("li")[-1].text == f"CARSOsays {said}, {right}"


def test_votes_history_audit_and_recipe_are_shown(page: Element) -> None:
    assert "No attack" in page.get("votes").text
    assert [heading.text for heading in page.get("training").all("h3")] == [
        "N", "loss", "seconds", "Purifier", "loss", "seconds",
    ]  # fmt: skip
    audit = page.get("end-to-end")
    assert audit.all("span", "raised")[0].text == "raised"
    assert "The loss is flat." in audit.text
    assert "[0.00, 48.99]" in audit.text
    assert "4 images, seed 0, quick effort." in audit.text
    again = page.get("again").text
    assert "carso evaluate tiny" in again
    assert "name: tiny # <b>not bold</b>" in again


@pytest.mark.parametrize(
    ("column", "heading"),
    [
        ("carso", "Audit of CARSO"),
        ("adversarially_trained", "Audit of Adversarial training"),
        (None, "Audit of tiny"),
    ],
)
def test_an_audit_is_matched_by_its_weights(
    finished: Path, tmp_path: Path, read: Reads, audit: Audit, column: str, heading: str
) -> None:
    shutil.copy(finished / "results.json", tmp_path)
    weights = read_results(finished).weights
    audit.model_copy(update={"weights": weights[column] if column else "0" * 16}).write(tmp_path)
    page = read(write_report(tmp_path).read_text())
    part = page.get("end-to-end")
    assert heading in [element.text for element in part.all("h3")]
    assert ("left out: needs 'carso[audit]'" in part.text) == (column is not None)
    for text in (part.text, page.all("header")[0].text):
        assert ("its weights are those of no column" in text) == (column is None)
    assert ("The loss is flat." in part.text) == (column is not None)
    assert ("it keeps 0.0 % of 4 images" in page.all("h1")[0].text) == (column == "carso")


def test_the_audit_of_a_hardenings_classifier_stands_beside_that_of_the_whole(
    finished: Path, tmp_path: Path, read: Reads, audit: Audit
) -> None:
    shutil.copy(finished / "results.json", tmp_path)
    for column, folder in (("carso", tmp_path), ("adversarially_trained", tmp_path / "classifier")):
        folder.mkdir(exist_ok=True)
        audit.model_copy(update={"weights": read_results(finished).weights[column]}).write(folder)
    page = read(write_report(tmp_path).read_text())
    titles = [element.text for element in page.get("end-to-end").all("h3")]
    assert [title for title in titles if title.startswith("Audit of")] == [
        "Audit of CARSO", "Audit of Adversarial training",
    ]  # fmt: skip
    assert "not counted" not in page.text


def test_the_steps_of_a_curve_are_told_only_where_there_is_one(finished: Path, tmp_path: Path, read: Reads) -> None:
    assert "The step of PGD grows with eps" in read(write_report(finished).read_text()).get("curves").text
    shutil.copy(finished / "results.json", tmp_path)
    records = read_records(finished)
    records.curve = {}
    records.write(tmp_path)
    text = read(write_report(tmp_path).read_text()).get("curves").text
    assert "Bands are" in text
    assert "step" not in text


def test_the_page_of_corruptions_has_their_clean_row(finished: Path, tmp_path: Path, read: Reads) -> None:
    fields = json.loads((finished / "results.json").read_text())
    clean, fog = fields["rows"][0] | {"thesis": None}, fields["rows"][1] | {"attack": "fog", "norm": "severity"}
    fields["rows"] = [clean, fog | {"eps": 3, "thesis": None, "foreseen": False}]
    (tmp_path / "results.json").write_text(json.dumps(fields))
    table = read(write_report(tmp_path).read_text()).get("table")
    assert [row.attributes["data-attack"] for row in rows_of(table)] == ["none", "fog"]
    assert table.all("th")[0].text == "Corruption"


def test_bold_is_explained_only_where_columns_compete(finished: Path, tmp_path: Path, read: Reads) -> None:
    fields = json.loads((finished / "results.json").read_text())
    assert "best defended column" in read(write_report(finished).read_text()).get("table").text
    for row in fields["rows"]:
        row |= {"carso": None}
    (tmp_path / "results.json").write_text(json.dumps(fields))
    assert "best defended column" not in read(write_report(tmp_path).read_text()).get("table").text


def test_the_choice_of_a_hardening_is_shown(bare_run: Path, tmp_path: Path, read: Reads) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    rates = {name: Rate.of(right, 116).model_dump() for name, right in (("untrained", 114), ("hardened", 110))}
    (tmp_path / "choice.json").write_text(json.dumps({"kept": "untrained", "rates": rates}))
    lines = [row.text for row in read(write_report(tmp_path).read_text()).get("choice").all("tr")][1:]
    assert [
        line.startswith(said)
        for line, said in zip(lines, ("As it was before training, kept", "After its last"), strict=True)
    ]
    assert ["98.3 %" in lines[0], "94.8 %" in lines[1], "116" in lines[0]] == [True] * 3


def test_a_bare_run_says_what_it_lacks(bare_run: Path, read: Reads) -> None:
    page = read(write_report(bare_run).read_text())
    assert "No attack of this run was aimed at the whole defence" in page.get("end-to-end").text
    assert "no attack of this run was aimed at the whole defence" in page.all("h1")[0].text
    assert not [element for element in page.all("section") if element.attributes.get("id") == "training"]


def test_a_loss_that_is_no_number_is_left_out(bare_run: Path, tmp_path: Path, read: Reads) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    epochs = [
        {"stage": "N", "epoch": 1, "loss": 2.0, "validation_loss": float("nan")},
        {"stage": "N", "epoch": 2, "loss": 1.0},
    ]
    (tmp_path / "history.json").write_text(json.dumps(epochs))
    page = read(write_report(tmp_path).read_text())
    assert [heading.text for heading in page.get("training").all("h3")] == ["N", "loss"]


@pytest.mark.parametrize(
    ("losses", "drawn"),
    [
        ((0.0, 5e-324), ["N", "loss"]),
        ((1.0, 1.0 + 2**-52), ["N", "loss"]),
        ((1e-300, 2e-300), ["N", "loss"]),
        ((-1e29, 1e29), ["N", "loss"]),
        ((-1e308, 1e308), ["N"]),
        ((10**400, 10**400), ["N"]),
    ],
)
def test_losses_of_any_size_make_a_page(bare_run: Path, tmp_path: Path, read: Reads, losses: Any, drawn: Any) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    epochs = [{"stage": "N", "epoch": number, "loss": loss} for number, loss in enumerate(losses, 1)]
    (tmp_path / "history.json").write_text(json.dumps(epochs))
    page = read(write_report(tmp_path).read_text())
    assert [heading.text for heading in page.get("training").all("h3")] == drawn


@pytest.mark.parametrize("epoch", [-1, 10**31, 10**400])
def test_an_epoch_that_is_none_is_damage(bare_run: Path, tmp_path: Path, epoch: Any) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    (tmp_path / "history.json").write_text(json.dumps([{"stage": "N", "epoch": epoch, "loss": 1.0}]))
    with pytest.raises(RunError, match=r"history\.json: \[0\]\.epoch: Input should be"):
        write_report(tmp_path)


def test_votes_without_a_mean_are_left_open(bare_run: Path, tmp_path: Path, read: Reads) -> None:
    fields = json.loads((bare_run / "results.json").read_text())
    fields["rows"][0]["samples_used"] = {"median": 3.0}
    (tmp_path / "results.json").write_text(json.dumps(fields))
    again = read(write_report(tmp_path).read_text()).get("again")
    assert [row.all("td")[-1].text for row in again.all("tr") if row.all("td")][-len(fields["rows"])] == ""


def test_what_a_defence_turned_away_stands_beside_its_attack(bare_run: Path, tmp_path: Path, read: Reads) -> None:
    fields = json.loads((bare_run / "results.json").read_text())
    quarter = {"correct": 10, "total": 40, "accuracy": 25.0, "ci95": [14.2, 40.2]}
    fields["rows"][0]["believed"] = {"false_alarms": 0.01, "turned_away": quarter, "right": quarter}
    fields["rows"][1]["believed"] = {"false_alarms": 0.01, "turned_away": quarter, "right": None}
    (tmp_path / "results.json").write_text(json.dumps(fields))
    first, second, third = (row.all("th")[0].text for row in rows_of(read(write_report(tmp_path).read_text())))
    assert "25.00 % turned away, 25.00 % of the others right" in first
    assert "25.00 % turned away, no image believed" in second
    assert "turned away" not in third


SENTENCE = (
    "Counted as right: what is turned away. Clean: 0.0 [0.0, 49.0] % turned away, 75.0 [30.1, 95.4] % of the believed "
    "right. Worst images: 75.0 [30.1, 95.4] % turned away, none believed."
)


def test_what_an_audits_target_turned_away_stands_beside_its_budget(
    finished: Path, tmp_path: Path, turning: Audit
) -> None:
    for name in ("results.json", "audit.json"):
        shutil.copy(finished / name, tmp_path)
    plain = write_report(tmp_path).read_text()
    assert "right or turned away" not in plain.lower()
    turning.model_copy(update={"weights": read_audit(finished).weights}).write(tmp_path)
    page = write_report(tmp_path).read_text().replace("\u00a0", " ")
    assert SENTENCE in page
    assert '<th scope="col">right or turned away (%)' in page
    assert "Right or turned away, against L∞ budgets, n = 4" in page


def test_curves_show_what_is_right_or_turned_away(finished: Path) -> None:
    records = read_records(finished)
    record = max(records.curve.values(), key=lambda one: one.row.eps)
    outcome = record.outcomes["carso"]
    right = outcome.predicted == records.labels[: len(outcome.predicted)]
    assert not right.all()
    for one in records.curve.values():
        believed = torch.zeros(len(one.outcomes["carso"].predicted), dtype=torch.int32)
        one.outcomes["carso"] = one.outcomes["carso"].model_copy(update={"accepted": believed})
    assert records.unharmed(record.outcomes["carso"]).accuracy == 100
    shown = figures.against_eps(records)[0]
    assert shown.header[-2:] == ("CARSO", "CARSO, right or turned away")
    assert {row[-1].split(" ")[0] for row in shown.body} == {"100.00"}


@pytest.mark.parametrize("adversarial", [True, False])
def test_a_classifier_is_called_adversarially_trained_only_if_it_is_known_to_be(
    finished: Path, tmp_path: Path, read: Reads, adversarial: Any
) -> None:
    fields = json.loads((finished / "results.json").read_text()) | {"adversarial": adversarial}
    (tmp_path / "results.json").write_text(json.dumps(fields))
    records = read_records(finished)
    records.adversarial = adversarial
    records.write(tmp_path)
    page = read(write_report(tmp_path).read_text())
    shown = page.all("header")[0].text + page.get("main").text + markdown(read_results(tmp_path))
    assert ("dversarial" in shown) == adversarial
    assert ("Classifier alone" in shown) == (not adversarial)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            ("undefended", "adversarially_trained", "carso"),
            {"undefended column", "defended columns", "For CARSO", "purifier"},
        ),
        (("adversarially_trained", "carso"), {"defended columns", "For CARSO", "purifier"}),
        (("undefended",), {"undefended column"}),
        (("adversarially_trained",), set()),
    ],
)
def test_what_is_said_of_a_column_is_said_only_if_it_is_there(
    finished: Path, tmp_path: Path, read: Reads, columns: Any, said: Any
) -> None:
    fields = json.loads((finished / "results.json").read_text())
    for row in fields["rows"]:
        row |= {name: row[name] if name in columns else None for name in COLUMNS}
    (tmp_path / "results.json").write_text(json.dumps(fields))
    page = read(write_report(tmp_path).read_text())
    parts = page.get("table").all("p")[0].text + page.get("end-to-end").all("p")[0].text
    assert {
        text for text in ("undefended column", "defended columns", "For CARSO", "purifier") if text in parts
    } == said


@pytest.mark.parametrize("rows", ["none", "without rates"])
def test_results_of_nothing_are_named(finished: Path, tmp_path: Path, rows: Any) -> None:
    fields = json.loads((finished / "results.json").read_text())
    fields["rows"] = [row | dict.fromkeys(COLUMNS) for row in fields["rows"] if rows != "none"]
    (tmp_path / "results.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match=r"results\.json: rows: hold no accuracy of any column; evaluate again"):
        write_report(tmp_path)


def test_a_row_without_rates_among_others_is_shown_as_not_run(finished: Path, tmp_path: Path, read: Reads) -> None:
    fields = json.loads((finished / "results.json").read_text())
    fields["rows"][-1] |= dict.fromkeys(COLUMNS)
    (tmp_path / "results.json").write_text(json.dumps(fields))
    assert "not run" in rows_of(read(write_report(tmp_path).read_text()))[-1].text


def test_images_of_the_gallery_go_by_their_place_in_the_data_set(finished: Path, tmp_path: Path, read: Reads) -> None:
    shutil.copy(finished / "results.json", tmp_path)
    records = read_records(finished)
    records.places = torch.arange(len(records.labels)).flip(0) + 100
    records.write(tmp_path)
    images = read(write_report(tmp_path).read_text()).get("gallery").all("article")
    shown = [int(re.match(r"image (\d+)", image.all("span")[1].text)[1]) for image in images]
    held = [index for record in records.rows.values() for index in record.gallery.index.tolist()]
    assert shown == [records.places[index].item() for index in held]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n", 41, "another number of images"),
        ("seed", 7, "another seed"),
        ("dataset", "other", "other images"),
        ("weights", {"carso": "0" * 16}, "other weights"),
    ],
)
def test_records_of_another_run_are_left_out(
    bare_run: Path, tmp_path: Path, read: Reads, field: str, value: Any, said: Any
) -> None:
    fields = json.loads((bare_run / "results.json").read_text())
    shutil.copy(bare_run / "records.safetensors", tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(fields))
    assert read(write_report(tmp_path).read_text()).all("img")
    (tmp_path / "results.json").write_text(json.dumps(fields | {field: value}))
    text = write_report(tmp_path).read_text()
    assert f"The records beside these results are of another run, of {said}: what they show is left out." in text
    assert not read(text).all("img")
    assert "Run fingerprint" not in text


@pytest.mark.parametrize("field", ["dataset", "weights"])
def test_results_that_do_not_say_of_what_they_are_keep_their_records(
    bare_run: Path, tmp_path: Path, read: Reads, field: str
) -> None:
    fields = json.loads((bare_run / "results.json").read_text())
    fields.pop(field)
    shutil.copy(bare_run / "records.safetensors", tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(fields))
    assert read(write_report(tmp_path).read_text()).all("img")


def test_results_without_records_still_make_a_page(bare_run: Path, tmp_path: Path, read: Reads) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    page = read(write_report(tmp_path).read_text())
    assert len(rows_of(page)) == 3
    assert not page.all("img")


def test_names_from_outside_are_escaped(bare_run: Path, tmp_path: Path) -> None:
    fields = json.loads((bare_run / "results.json").read_text())
    fields["recipe"] = "</script><script>alert(1)</script>"
    (tmp_path / "results.json").write_text(json.dumps(fields))
    assert "<script>alert" not in write_report(tmp_path).read_text()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("audit.json", '{"target": "x"}', "audit.json: n: Field required"),
        ("audit.json", "{", "audit.json: is not JSON"),
        ("choice.json", '{"kept": "hardened"}', "choice.json: rates: Field required"),
        ("history.json", '[{"stage": "n"}]', "history.json: [0].epoch: Field required"),
        ("results.json", "{}", "results.json: recipe: Field required"),
    ],
)
def test_a_damaged_file_is_named(bare_run: Path, tmp_path: Path, name: str, content: Any, message: str) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=re.escape(message)):
        write_report(tmp_path)
    (tmp_path / name).unlink()


def test_damaged_records_are_named(bare_run: Path, tmp_path: Path) -> None:
    shutil.copy(bare_run / "results.json", tmp_path)
    (tmp_path / "records.safetensors").write_bytes((bare_run / "records.safetensors").read_bytes()[:500])
    with pytest.raises(RunError, match=r"records\.safetensors is truncated"):
        write_report(tmp_path)


def test_a_full_run_of_the_worst_pictures_stays_small(bare_run: Path, tmp_path: Path) -> None:
    """Thirteen rows of twelve images of noise, which no PNG can pack."""
    records = read_records(bare_run)
    template = next(iter(records.rows.values()))
    g, generator = 12, torch.Generator().manual_seed(0)
    noise = torch.rand(g, 1, 28, 28, generator=generator)
    gallery = Gallery(
        column="carso",
        classifier="adversarially_trained",
        rules=["random"] * g,
        index=torch.arange(g),
        clean=noise,
        attacked=noise.flip(0),
        linf=torch.ones(g),
        l2=torch.ones(g),
        recalled=(255 * torch.rand(g, 5, 1, 28, 28, generator=generator)).byte(),
        mean=(255 * noise).byte(),
        averaged=100,
    )
    records.rows = {
        row.key: RowRecord(row=row, outcomes=template.outcomes, seconds=1, gallery=gallery) for row in TABLE
    }
    records.write(tmp_path)
    shutil.copy(bare_run / "results.json", tmp_path)
    assert write_report(tmp_path).stat().st_size < 4e6


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_aa_contrast_in_both_schemes(text: str) -> None:
    blocks = re.findall(r"\{([^{}]*--paper: #\w{6}[^{}]*)\}", text)
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks]
    assert len(schemes) >= 3
    for scheme in schemes:
        for ink in ("ink", "soft", "accent", "warn"):
            for ground in ("paper", "wash"):
                bright, dark = sorted((luminance(scheme[ink]), luminance(scheme[ground])), reverse=True)
                assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground, scheme)


@pytest.mark.slow
def test_a_browser_has_nothing_to_complain_of(finished: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    page = write_report(finished)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr", "--dump-dom"]
    offline = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [browser, *flags, *offline, f"--user-data-dir={tmp_path}", Path(page).as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ">Dark</button>" in seen.stdout or ">Light</button>" in seen.stdout
    assert "CONSOLE" not in seen.stderr


@pytest.mark.parametrize("rest", [[], ["undefended", "adversarially_trained"]])
def test_a_page_of_hidden_columns_agrees_with_itself(
    bare_run: Path, tmp_path: Path, read: Reads, rest: list[str]
) -> None:
    records = read_records(bare_run)
    records.model_copy(update={"hidden": ["carso", *rest]}).write(tmp_path)
    results = read_results(bare_run).model_copy(update={"hidden": ["carso", *rest]})
    write_results(results, tmp_path)
    page = read(write_report(tmp_path).read_text())
    assert "crafted on the whole of it, CARSO is right on" in page.all("h1")[0].text
    assert "no attack of this run was aimed" not in page.all("h1")[0].text
    assert "the attacks above were crafted on the whole of it" in page.get("end-to-end").text
    assert "Nothing on this page says" not in page.text
    assert "transfer threat model" not in page.text
    seen = "bare classifier where one can be seen"
    assert ([seen in page.get(part).text for part in ("table", "curves")]) == [not rest] * 2
    assert "bare classifier, then" not in markdown(results)
