"""Sets that other libraries keep in memory: tensors, tables, `datasets` and torch data sets, brought to what is read here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from withheld.errors import InputError

Row = dict[str, Any]


def plain(data: Any) -> Any:
    """Tensors as arrays and Series as lists, also where labels come with them; everything else as it is.

    Raises:
        InputError: for what can be gone through once only, or has no length.
    """
    if isinstance(data, tuple) and len(data) == 2:
        return plain(data[0]), plain(data[1])
    if hasattr(data, "detach") and hasattr(data, "numpy"):
        data = data.detach().cpu()
        return (data.float() if str(data.dtype) == "torch.bfloat16" else data).numpy()
    if hasattr(data, "to_list") and hasattr(data, "dtype"):
        return data.to_list()
    if hasattr(data, "__iter__") and not hasattr(data, "__len__"):
        raise InputError(
            f"{type(data).__name__} has no length, and every item is asked for several times: give a list of the items, or where "
            "they lie"
        )
    return data


def splits_of(data: Any) -> dict[str, Any] | None:
    """The splits of a `datasets` Dataset or DatasetDict, by name; None of anything else."""
    if not _is_of(data, "datasets") or not hasattr(data, "column_names"):
        return None
    if isinstance(data, Mapping):
        return dict(data)
    return {str(data.split or "row"): data}


def rows_of(data: Any) -> list[Row] | None:
    """The rows of a table of pandas, polars or pyarrow, missing cells None; None of anything else."""
    if not is_frame(data):
        return None
    if _is_of(data, "pandas"):
        cells = data.astype(object).where(data.notna(), None)
        return [dict(zip(map(str, data.columns), row, strict=True)) for row in cells.itertuples(index=False, name=None)]
    return list(data.to_dicts() if hasattr(data, "to_dicts") else data.to_pylist())


def arrow_of(data: Any) -> Any:
    """A table of pandas, polars, pyarrow or `datasets` (its train split, if any) as one of pyarrow; None of anything else."""
    import pyarrow as pa

    if (splits := splits_of(data)) is not None:
        return splits.get("train", next(iter(splits.values()))).with_format("arrow")[:]
    if not is_frame(data):
        return None
    if _is_of(data, "pandas"):
        return pa.Table.from_pandas(data.rename(columns=str), preserve_index=False)
    return data.to_arrow() if hasattr(data, "to_arrow") else data


def is_frame(data: Any) -> bool:
    """Whether this is a table of pandas, polars or pyarrow."""
    return type(data).__name__ in ("DataFrame", "Table") and any(
        _is_of(data, one) for one in ("pandas", "polars", "pyarrow")
    )


def _is_of(data: Any, library: str) -> bool:
    return any(kind.__module__.split(".")[0] == library for kind in type(data).__mro__)
