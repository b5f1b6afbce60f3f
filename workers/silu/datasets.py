"""Data of the study: scikit-learn's two, CSV and NPZ; splits and scaling by the training part alone."""

import csv
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.jobs.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FEWEST = 20  # examples


class Data(NamedTuple):
    """x (N, features), labels 0 … classes − 1 (N,)."""

    name: str
    x: Floats
    y: Ints
    classes: int


class Split(NamedTuple):
    """Row numbers of one seed's parts: 70, 15 and 15 %."""

    train: Ints
    validation: Ints
    test: Ints


def built_in(name: str) -> Data:
    """What ships inside scikit-learn."""
    from sklearn import datasets

    loaded = datasets.load_digits() if name == "digits" else datasets.load_breast_cancer()
    return Data(name, loaded.data.astype(np.float64), loaded.target.astype(np.int64), len(set(loaded.target.tolist())))


def read_file(path: Path, name: str, label: str | None) -> Data:
    """CSV, or NPZ with x and y (or one array, label last). Raises InvalidInput."""
    if zipfile.is_zipfile(path):
        x, y = _npz(path, name)
    else:
        x, y = _csv(path, name, label)
    if len(x) < FEWEST:
        raise InvalidInput(f"{name} has {len(x)} examples; at least {FEWEST} are needed to split them")
    known, codes = np.unique(y, return_inverse=True)
    if len(known) < 2:
        raise InvalidInput(f"{name} has one class only, {known[0]}; a comparison needs two")
    return Data(name, x, codes.astype(np.int64), len(known))


def _npz(path: Path, name: str) -> tuple[Floats, Ints]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name} can't be read as NPZ: {error}; save plain arrays") from None
    lower = {key.lower(): value for key, value in arrays.items()}
    if "x" in lower and "y" in lower:
        x, y = lower["x"], lower["y"]
    elif len(arrays) == 1:
        (both,) = arrays.values()
        if both.ndim != 2 or both.shape[1] < 2:
            raise InvalidInput(f"{name} holds an array {both.shape}; expected (examples, features + 1), label last")
        x, y = both[:, :-1], both[:, -1]
    else:
        raise InvalidInput(f"{name} has no label column: it holds {sorted(arrays)}; expected x and y")
    if x.ndim != 2 or y.shape != (len(x),):
        raise InvalidInput(f"{name}: x is {x.shape} and y {y.shape}; expected (examples, features) and (examples,)")
    return _checked(np.asarray(x, np.float64), np.asarray(y, np.float64), name, 1)


def _csv(path: Path, name: str, label: str | None) -> tuple[Floats, Ints]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise InvalidInput(f"{name} is empty; give features first, integer label last")
    header = None if _is_number(rows[0][0]) else rows[0]
    column = _label_column(header, label, name, len(rows[0]))
    body = rows[1:] if header else rows
    if len(rows[0]) < 2:
        raise InvalidInput(f"{name} has no label column: one column only; give features first, integer label last")
    values = np.array([_numbers(row, len(rows[0]), f"{name} line {number}") for number, row in
                       enumerate(body, start=2 if header else 1)]).reshape(-1, len(rows[0]))  # fmt: skip
    return _checked(np.delete(values, column, axis=1), values[:, column], name, 2 if header else 1)


def _label_column(header: list[str] | None, label: str | None, name: str, columns: int) -> int:
    if label is None:
        return columns - 1
    if header is None:
        raise InvalidInput(f"label {label!r} names a column, but {name} has no header row")
    if label not in header:
        raise InvalidInput(f"{name} has no label column {label!r}; it has {', '.join(header)[:300]}")
    return header.index(label)


def _numbers(row: list[str], columns: int, where: str) -> list[float]:
    if len(row) != columns:
        raise InvalidInput(f"{where} has {len(row)} columns, the first line {columns}")
    try:
        return [float(cell) for cell in row]
    except ValueError:
        bad = next(cell for cell in row if not _is_number(cell))
        raise InvalidInput(f"{where} holds {bad[:40]!r}, which is no number; encode words as integers") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _checked(x: Floats, y: Floats, name: str, first_line: int) -> tuple[Floats, Ints]:
    """Raises InvalidInput for NaN, infinities and labels that are no integers, with the line."""
    if len(rows := np.flatnonzero(~np.isfinite(x).all(axis=1) | ~np.isfinite(y))):
        raise InvalidInput(f"{name} line {rows[0] + first_line} holds NaN or an infinity; fill in or drop the line")
    if len(rows := np.flatnonzero(y != np.round(y))):
        raise InvalidInput(
            f"{name} line {rows[0] + first_line}: label {y[rows[0]]:g} is no integer; name the label's column, or put "
            "it last"
        )
    return x, y.astype(np.int64)


def split(data: Data, seed: int) -> Split:
    """A seed's parts. Every class comes in training unless it is too rare."""
    order = np.random.default_rng([seed, 1]).permutation(len(data.x))
    train, validation = round(0.7 * len(order)), round(0.15 * len(order))
    return Split(order[:train], order[train : train + validation], order[train + validation :])


def scaled(data: Data, rows: Ints, scaling: str) -> Floats:
    """x by the training rows: one global scale, each feature standardised, or as it is.

    A feature that is constant in training is only centred: dividing by next to nothing would throw test inputs far out.
    """
    if scaling == "none":
        return data.x
    if scaling == "global" or (scaling == "auto" and data.name == "digits"):
        spread = float(data.x[rows].std())
        whole: Floats = (data.x - data.x[rows].mean()) / (spread if spread > 0 else 1.0)
        return whole
    sd = data.x[rows].std(axis=0)
    each: Floats = (data.x - data.x[rows].mean(axis=0)) / np.where(sd > 1e-12, sd, 1.0)
    return each
