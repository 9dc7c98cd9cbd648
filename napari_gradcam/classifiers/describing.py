"""A preprocessing as it is in memory, in words and numbers that a record can hold."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.transforms import Transform

from napari_gradcam.classifiers.preprocessing import steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_NUMBERS, _MOST_ENTRIES, _DEEPEST = 64, 256, 6
"""Longer arrays are told by their hash; so many entries of a list, and lists in lists, are told."""

_CHANCE = (np.random.RandomState, np.random.Generator, torch.Generator)


def described(preprocess: Any) -> tuple[Mapping[str, Any], ...]:
    """Describe the steps of a preprocessing.

    Parameters
    ----------
    preprocess
        MONAI's transforms, or any function.

    Returns
    -------
    tuple of dict
        One for each step, ``{"name": its class or function, …its settings}``: what it was built with and keeps in
        public attributes; steps that it is made of are described in the same way. Everything is JSON's.
    """
    return tuple(_step(step, 0) for step in steps_of(preprocess))


def _step(step: Any, depth: int) -> dict[str, Any]:
    name = getattr(step, "__qualname__", None) or type(step).__qualname__
    settings = vars(step) if isinstance(step, Transform) else {}
    told = {key: _value(value, depth + 1) for key, value in settings.items() if _is_setting(key, value)}
    return {"name": name, **dict(sorted(told.items()))}


def _is_setting(key: str, value: Any) -> bool:
    return not key.startswith("_") and key != "name" and not isinstance(value, _CHANCE)


def _value(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.number):
        number = float(value)
        return number if np.isfinite(number) else str(number)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return _array(value, depth)
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {str(key): _value(one, depth + 1) for key, one in list(value.items())[:_MOST_ENTRIES]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(one, depth + 1) for one in list(value)[:_MOST_ENTRIES]]
    if isinstance(value, Transform):
        return _step(value, depth)
    return getattr(value, "__qualname__", None) or (
        str(value) if isinstance(value, torch.dtype | np.dtype | torch.device) else type(value).__qualname__
    )


def _array(value: Any, depth: int) -> Any:
    if value.size <= _MOST_NUMBERS:
        return _value(value.tolist(), depth)
    digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
    return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
