"""How well does a published model do on a dataset that it was never trained on? (notebook 03)"""

from pathlib import Path
from typing import Any

from varec_lib.data.manifest import read_rows
from varec_lib.errors import DataError
from varec_lib.evaluation.apply import Protocol, predict_table, published, split_table, views_of, workers_named
from varec_lib.evaluation.metrics import Predictions
from varec_lib.models.pretrained import kinetics_classes, load_pretrained


def read_label_map(file: Path | str, answers: list[str]) -> dict[str, str]:
    """From a dataset's labels to the `answers` that mean the same; a label without one maps to "".

    `file` is a CSV with the columns `label,kinetics_label`. Raises `DataError` that names file and row where a column
    or a value is missing or left over, a label comes twice, or an answer is unknown.
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"{file}: no such file. It needs the columns label and kinetics_label.")
    rows = read_rows(file)
    if list(rows.columns) != ["label", "kinetics_label"]:
        columns = ", ".join(rows.columns) or "none"
        raise DataError(f"{file}: the columns are {columns}, but must be label, kinetics_label.")
    mapped: dict[str, str] = {}
    for number, label, answer in rows.itertuples():
        if not isinstance(answer, str):
            raise DataError(f"{file}, row {number}: has 1 value, but there are 2 columns. Leave none of them out.")
        if not label or label in mapped:
            raise DataError(f"{file}, row {number}: {f'{label} comes twice' if label else 'label is empty'}.")
        if answer and answer not in answers:
            raise DataError(f"{file}, row {number}: {answer!r} is no class of Kinetics-400. Leave it empty for none.")
        mapped[label] = answer
    return mapped


def evaluate_zero_shot(
    model: str,
    data_dir: Path | str,
    label_map: Path | str,
    *,
    split: str = "test",
    strict: bool = False,
    ucf_split: int | None = None,
    protocol: Protocol = "own",
    precision: str = "auto",
    progress: bool = True,
    views: int | None = None,
    **options: Any,
) -> Predictions:
    """Predictions of a published Kinetics-400 model for the videos of a split whose label has a Kinetics name.

    The model may answer any of its 400 classes; labels are replaced by their Kinetics names. `options` are those of
    `predict_table`. Says which labels are left out. Raises `VarecError`.
    """
    mapped = read_label_map(label_map, kinetics_classes())
    loaded = load_pretrained(model).on_device(precision)
    loaded = published(loaded) if protocol == "published" else loaded
    table = split_table(data_dir, split, strict=strict, ucf_split=ucf_split or 1, progress=progress)
    kinetics = table["label"].map(mapped)
    if kinetics.isna().any():
        missing = ", ".join(sorted(set(table["label"][kinetics.isna()])))
        raise DataError(f"{label_map}: has no row for {missing}. Add one, with an empty kinetics_label for none.")
    left_out = sorted(set(table["label"][kinetics == ""]))
    if left_out:
        count = int((kinetics == "").sum())
        print(f"Left out {count} videos whose label has no Kinetics name: {', '.join(left_out)}")
    table = table.assign(label=kinetics)[kinetics != ""]
    if not len(table):
        raise DataError(f"{label_map}: no label of {data_dir} has a Kinetics name.")
    with workers_named():
        return predict_table(loaded, table, views=views_of(loaded, protocol, views), progress=progress, **options)
