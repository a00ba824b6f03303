"""The gallery: the images that an evaluation chose by its rules, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from carso.evaluation.records import Gallery, Records, RowRecord
from carso.report import charts, pictures, wording


@dataclass(frozen=True)
class GalleryImage:
    """One image: pictures as data URIs, what each column answered, and the vote."""

    rule: str
    index: int
    true: str
    clean: str
    attacked: str
    perturbation: str | None
    linf: float
    l2: float
    recalled: str | None
    shown: int
    mean: str | None
    averaged: int
    answers: tuple[tuple[str, str, bool], ...]
    votes: Markup | None
    samples: int | None


@dataclass(frozen=True)
class GalleryRow:
    """The images of one row."""

    heading: str
    aim: str
    images: tuple[GalleryImage, ...]


def gallery_rows(records: Records) -> list[GalleryRow]:
    """One wall per row that has a gallery."""
    found = []
    for record in records.rows.values():
        if record.gallery is not None:
            images = tuple(_image(records, record, record.gallery, i) for i in range(len(record.gallery.rules)))
            found.append(GalleryRow(wording.named(record.row), record.row.directed_at, images))
    return found


def _image(records: Records, record: RowRecord, gallery: Gallery, i: int) -> GalleryImage:
    index = int(gallery.index[i])
    true = int(records.labels[index])
    moved = float(gallery.linf[i]) > 0
    return GalleryImage(
        rule=gallery.rules[i],
        index=records.place(index),
        true=records.classes[true],
        clean=pictures.picture(gallery.clean[i]),
        attacked=pictures.picture(gallery.attacked[i]),
        perturbation=pictures.signed(gallery.attacked[i] - gallery.clean[i]) if moved else None,
        linf=float(gallery.linf[i]),
        l2=float(gallery.l2[i]),
        recalled=None if gallery.recalled is None else pictures.strip(gallery.recalled[i]),
        shown=0 if gallery.recalled is None else gallery.recalled.shape[1],
        mean=None if gallery.mean is None else pictures.picture(gallery.mean[i]),
        averaged=gallery.averaged,
        answers=_answers(records, record, gallery, index, true),
        votes=_votes(records, record, gallery, index, true),
        samples=_samples(record, gallery, index),
    )


def _answers(
    records: Records, record: RowRecord, gallery: Gallery, index: int, true: int
) -> tuple[tuple[str, str, bool], ...]:
    saw_it = [name for name in (gallery.classifier, gallery.column) if name is not None]
    said = [(name, int(record.outcomes[name].predicted[index])) for name in saw_it]
    return tuple(
        (wording.heading(name, records.adversarial), records.classes[answer], answer == true) for name, answer in said
    )


def _votes(records: Records, record: RowRecord, gallery: Gallery, index: int, true: int) -> Markup | None:
    outcome = record.outcomes[gallery.column]
    shares = outcome.shares()
    if shares is None:
        return None
    elected = int(outcome.predicted[index])
    title = f"Vote shares; {records.classes[elected]} is elected, {records.classes[true]} is true"
    return charts.votes(title, shares[index].tolist(), records.classes, elected, true)


def _samples(record: RowRecord, gallery: Gallery, index: int) -> int | None:
    samples = record.outcomes[gallery.column].samples
    return None if samples is None else int(samples[index])
