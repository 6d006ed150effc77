"""Tables of pruning runs that any program wrote, read as a tidy table.

A table has a row for each sparsity (and seed), or for each of their epochs. Names of columns are matched by their
words: upper and lower case, order, signs and abbreviations do not matter. A column that could be two things, or whose
values could be percent as well as fractions, is refused by name.
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from dsdlib.analysis.curves import best_epochs
from dsdlib.config import ConfigError

Percent = bool | Collection[str] | None  # which columns are in percent: all, none, these; None: by their values

SHARES = ("sparsity", "density", "remaining_weights")  # any of these says how sparse a network is
ACCURACIES = ("test_accuracy", "validation_accuracy", "train_accuracy")
BEST_EPOCH = ("best_epoch", "best_epoch_validation_accuracy", "best_epoch_test_accuracy")  # in the study's own tables
# For each quantity, the names that a column may have; the first is the study's own.
NAMES = {
    "sparsity": ("sparsity", "pruned", "pruned weights"),
    "density": ("density", "remaining"),
    "remaining_weights": ("remaining_weights", "weights", "nonzero", "nonzero weights"),
    "test_accuracy": ("test_accuracy", "accuracy"),
    "validation_accuracy": ("validation_accuracy",),
    "train_accuracy": ("train_accuracy",),
    "seed": ("seed", "run", "repeat", "trial"),
    "epoch": ("epoch", "epochs"),
    "entropy": ("entropy",),
}
SAME_WORD = {"acc": "accuracy", "top1": "accuracy", "val": "validation", "valid": "validation", "training": "train"}
SAME_WORD |= {"left": "remaining", "kept": "remaining", "nnz": "nonzero", "seeds": "seed"}
SAME_WORD |= dict.fromkeys(("weight", "params", "param", "parameters", "nparams"), "weights")
UNITS = {"percent": True, "percentage": True, "pct": True, "fraction": False}
IDLE_WORDS = {"of", "in", "the", "num", "number", "share", "ratio", "level", "final", "global", "overall"}


def read_table(source: pd.DataFrame | Path | str, percent: Percent = None) -> pd.DataFrame:
    """A tidy table of one setting: a row for each seed and round, in ascending order of both.

    ``source`` is a data frame or the path of a CSV or parquet file. Its columns are the sparsity (or the density, or
    the weights left, as a share or as a number), ``test_accuracy`` and, if they are there, ``validation_accuracy``,
    ``train_accuracy``, ``seed``, ``epoch`` and ``entropy``. ``percent`` names the columns that are in percent, or says
    it of all; by default their values decide.

    The result has ``seed``, ``key``, ``round``, ``sparsity`` and the accuracies, as fractions. If the source has a row
    for each epoch, a round's row is that of its last epoch, and the ``best_epoch`` by validation accuracy, with its
    accuracies, stands in columns as in the study's own tables. Raises `ConfigError` for what cannot be read so.
    """
    table = _loaded(source)
    columns = _columns(table)
    if absent := [name for name in percent if name not in table] if isinstance(percent, Collection) else []:
        raise ConfigError(f"percent = {absent}: no such column; found: {', '.join(map(str, table))}")
    found = pd.DataFrame({"seed": table[columns["seed"]] if "seed" in columns else 0}, index=table.index)
    if found["seed"].isna().any():
        raise ConfigError(f"column {columns['seed']!r}: a value is missing in row {found['seed'].isna().argmax()}")
    share = next(name for name in SHARES if name in columns)
    found["sparsity"] = _sparsity(table[columns[share]], share, percent).round(12)  # equal up to rounding
    units = {name: _in_percent(table[columns[name]], percent) for name in ACCURACIES if name in columns}
    for name, unit in _decided(units, columns).items():
        found[name] = _numbers(table[columns[name]]) / (100 if unit else 1)
    for name in ("epoch", "entropy"):
        if name in columns:
            found[name] = _numbers(table[columns[name]])
    found = found.assign(**{name: table[name] for name in BEST_EPOCH if set(BEST_EPOCH) <= set(table)})
    found = found.dropna(axis=1, how="all")
    return _by_round(_checked(found, table))


def _loaded(source: pd.DataFrame | Path | str) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        table = source.reset_index(drop=True)
    else:
        path = Path(source).expanduser()
        readers = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": pd.read_parquet}
        if path.suffix.lower() not in readers:
            raise ConfigError(f"table = {str(path)!r}: unknown kind of file; allowed: {', '.join(readers)}")
        try:
            table = readers[path.suffix.lower()](path)
        except FileNotFoundError:
            raise ConfigError(f"table = {str(path)!r}: there is no such file") from None
        except Exception as error:  # a damaged file may raise anything
            raise ConfigError(f"table = {str(path)!r}: cannot be read ({error})") from None
    if table.empty:
        raise ConfigError("table: it has no rows")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep=None, engine="python", skipinitialspace=True)


def _words(column: object) -> frozenset[str]:
    """The words of a column's name that say what it is, spelled as in `NAMES`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(column)).lower()
    name = re.sub(r"\btop\W*_?1\b|\bacc_?@?1\b", "accuracy", name.replace("_", " "))
    words = (SAME_WORD.get(word, word) for word in re.findall(r"[a-z0-9]+", name))
    return frozenset(word for word in words if word not in IDLE_WORDS and word not in UNITS)


def _columns(table: pd.DataFrame) -> dict[str, object]:
    """The column of each quantity that the table has. Raises `ConfigError` if a choice would be a guess."""
    found = {}
    for quantity, names in NAMES.items():
        wanted = {_words(name) for name in names}
        own = [column for column in table if str(column) == quantity]
        matching = own or [column for column in table if _words(column) in wanted]
        if len(matching) > 1:
            raise ConfigError(f"columns {matching} could all be the {quantity}; rename the right one to {quantity!r}")
        if matching:
            found[quantity] = matching[0]
    shares = [found[name] for name in SHARES if name in found]
    own = [column for column in shares if column in SHARES][:1] or shares
    if len(own) > 1:
        raise ConfigError(f"columns {own} could all be the sparsity; rename the right one to 'sparsity'")
    for what, there in (("sparsity", own), ("test accuracy", "test_accuracy" in found)):
        if not there:
            raise ConfigError(f"no column of {what}; found: {', '.join(map(str, table))}; accepted: {_accepted()}")
    bare = "test" not in _words(found["test_accuracy"])
    if bare and "validation_accuracy" in found and "train_accuracy" not in found:
        raise ConfigError(
            f"column {found['test_accuracy']!r} could be train or test accuracy; rename it to 'train_accuracy' or "
            "'test_accuracy'"
        )
    return {name: column for name, column in found.items() if name not in SHARES or column is own[0]}


def _accepted() -> str:
    return "; ".join(
        f"{quantity} ({', '.join(names[1:])})" if names[1:] else quantity for quantity, names in NAMES.items()
    )


def _numbers(column: pd.Series) -> pd.Series:
    """The column as numbers; the percent sign after a number is left out."""
    text = column.astype(str).str.strip().str.removesuffix("%") if column.dtype.kind not in "iufb" else column
    numbers = pd.to_numeric(text, errors="coerce").astype(float)
    odd = numbers.isna() & column.notna()
    if odd.any() or np.isinf(numbers).any():
        raise ConfigError(f"column {column.name!r}: {column[odd | np.isinf(numbers)].iloc[0]!r} is not a number")
    return numbers


def _in_percent(column: pd.Series, percent: Percent) -> bool | None:
    """Whether the column is in percent; None if its largest value is exactly 1 and nothing else tells."""
    numbers, unit = _numbers(column), _declared(column, percent)
    limit = {True: 100, False: 1, None: 100}[unit]
    if (numbers < 0).any() or (numbers > limit).any():
        odd = numbers[(numbers < 0) | (numbers > limit)].iloc[0]
        unit_name = {True: "a percentage", False: "a fraction", None: "a fraction or a percentage"}[unit]
        raise ConfigError(f"column {column.name!r}: {odd:g} is not {unit_name}")
    if unit is None and numbers.max() != 1:
        return bool(numbers.max() > 1)
    return unit


def _declared(column: pd.Series, percent: Percent) -> bool | None:
    """Whether the caller, the name, or its values' signs say that the column is in percent."""
    if percent is not None:
        return percent if isinstance(percent, bool) else column.name in percent
    if "%" in str(column.name) or (column.dtype.kind not in "iufb" and column.astype(str).str.endswith("%").all()):
        return True
    return next((UNITS[word] for word in re.findall("[a-z]+", str(column.name).lower()) if word in UNITS), None)


def _decided(units: dict[str, bool | None], columns: dict[str, object]) -> dict[str, bool]:
    """The units of all accuracies: a column whose own values do not tell has the unit of the others."""
    known = {unit for unit in units.values() if unit is not None}
    for name in units:
        if units[name] is None and len(known) != 1:
            raise _ambiguous(columns[name])
    return {name: known.copy().pop() if unit is None else unit for name, unit in units.items()}


def _ambiguous(column: object) -> ConfigError:
    return ConfigError(
        f"column {column!r}: its largest value is 1, which is 100% as a fraction and 1% as a percentage; "
        "say percent=False, or percent=[the columns that are in percent]"
    )


def _sparsity(column: pd.Series, kind: str, percent: Percent) -> pd.Series:
    """Sparsity as a fraction, from a column of one of `SHARES`."""
    numbers, declared = _numbers(column), _declared(column, percent)
    if kind == "sparsity":
        if (unit := _in_percent(column, percent)) is None:
            raise _ambiguous(column.name)
        return numbers / (100 if unit else 1)
    counted = kind == "remaining_weights" and declared is None and (numbers.max() > 100 or not _says_left(column))
    if counted:
        if (numbers < 0).any() or numbers.max() == 0:
            raise ConfigError(f"column {column.name!r}: {numbers.min():g} is not a number of weights")
        return 1 - numbers / numbers.max()
    if declared is None and 1 < numbers.max() < 100 and kind == "remaining_weights":
        raise ConfigError(
            f"column {column.name!r}: {numbers.max():g} could be a number of weights or a percentage; "
            "say percent=True, or rename it to 'density' or 'params'"
        )
    unit = _in_percent(column, percent)  # a table of densities that begins at exactly 1 begins with the dense network
    return 1 - numbers / (100 if unit else 1)


def _says_left(column: pd.Series) -> bool:
    return "remaining" in _words(column.name)


def _checked(found: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The table, if each row is another seed, sparsity or epoch, and no value is missing."""
    if (found["sparsity"] >= 1).any():
        raise ConfigError("sparsity 100%: no weight would be left; rounded sparsities need more digits")
    for name in found:
        if found[name].isna().any():
            raise ConfigError(f"{name}: the value {_where(found[found[name].isna()])} is missing")
    rows = [name for name in ("seed", "sparsity", "epoch") if name in found]
    twice = found.duplicated(rows, keep=False)
    if twice.any():
        same = found[(found[rows] == found.loc[twice, rows].iloc[0]).all(axis=1)]
        differ = [str(name) for name in table if table.loc[same.index, name].astype(str).nunique() > 1]
        raise ConfigError(
            f"table: {len(same)} rows {_where(same)}; they differ in: {', '.join(differ) or 'nothing'}. "
            "Give one setting at a time, and a column 'seed' for repetitions"
        )
    return found


def _where(rows: pd.DataFrame) -> str:
    return f"of seed {rows['seed'].iloc[0]} at {rows['sparsity'].iloc[0]:.2%} sparsity"


def _by_round(found: pd.DataFrame) -> pd.DataFrame:
    """The rows with the number of their round, in order; of several epochs of a round, the last."""
    found = found.assign(key=found["seed"].astype(str))
    found["round"] = (found.groupby("key")["sparsity"].rank("dense") - 1).astype(int)
    found = _aligned(found).sort_values(["seed", "round"], kind="stable")
    if "epoch" not in found:
        return found.reset_index(drop=True)
    found, history = found.sort_values(["seed", "round", "epoch"]), found
    found = found.groupby(["key", "round"], sort=False).tail(1).drop(columns="epoch")
    if "validation_accuracy" in found and len(history) > len(found):
        best = best_epochs(history.sort_values(["seed", "round", "epoch"]), "validation_accuracy")
        best = best.set_index(["key", "round"])[["epoch", "validation_accuracy", "test_accuracy"]]
        best.columns = BEST_EPOCH
        found = found.join(best, on=["key", "round"])
    return found.reset_index(drop=True)


def _aligned(found: pd.DataFrame) -> pd.DataFrame:
    """The rows with one sparsity for each round, the mean over seeds.

    Raises `ConfigError` if the seeds do not have the same number of rounds, or if rounds of the same number are not
    closer to each other than to another round.
    """
    seeds = {seed: np.unique(rows["sparsity"]) for seed, rows in found.groupby("seed", sort=False)}
    most, fewest = (max(seeds, key=lambda seed: len(seeds[seed])), min(seeds, key=lambda seed: len(seeds[seed])))
    if len(seeds[most]) != len(seeds[fewest]):
        absent = [f"{s:.2%}" for s in seeds[most] if not np.isclose(seeds[fewest], s, atol=1e-3 * (1 - s)).any()]
        raise ConfigError(
            f"seed {fewest} has {len(seeds[fewest])} sparsities and seed {most} has {len(seeds[most])}; seed {fewest} "
            f"has none at {', '.join(absent)}. Leave these out, or the seed"
        )
    sparsities = np.array(list(seeds.values()))
    highest, next_lowest = sparsities.max(0)[:-1], sparsities.min(0)[1:]
    if (highest >= next_lowest).any():
        r = int(np.argmax(highest >= next_lowest))
        raise ConfigError(
            f"seeds have other sparsities: round {r} is at up to {highest[r]:.2%} sparsity, and round {r + 1} of "
            f"another seed at {next_lowest[r]:.2%}"
        )
    return found.assign(sparsity=sparsities.mean(0)[found["round"]])
