"""Numbers of models become bytes in one place, which lets neither NaN nor infinity through."""

from __future__ import annotations

import re
from pathlib import Path

import ddbench_plugins
import numpy as np
import pytest

from ddbench.errors import DivergedError

torch = pytest.importorskip("torch")

from ddbench_plugins.training.pixels import as_bytes, finite, to_bytes  # noqa: E402


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_pixels_are_clipped_and_cut_down(kind):
    values = as_bytes(kind([-3.0, 0.4, 127.6, 255.9, 1000.0]))
    assert str(values.dtype).endswith("uint8") and values.tolist() == [0, 0, 127, 255, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("function", [as_bytes, finite])
def test_what_is_not_finite_never_becomes_black(function, kind, bad):
    with pytest.raises(DivergedError, match="in decoded images, 2 numbers are NaN or infinite") as error:
        function(kind([0.0, bad, 1.0, bad]), "decoded images")
    assert "fp32" in error.value.hint


def test_stored_images_are_finite():
    images = torch.full((1, 3, 4, 4), 0.5)
    images[0, 1, 2, 3] = torch.nan
    with pytest.raises(DivergedError):
        to_bytes(images, truncate=True)


def test_no_other_place_casts_pixels():
    """What is cast elsewhere are whole numbers: shares of the embedded digits, and numbers of colours."""
    folder = Path(ddbench_plugins.__file__).parent
    cast = re.compile(r"astype\((np\.uint8|\"uint8\")|\.to\(torch\.uint8|\.byte\(\)")
    found = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if cast.search(path.read_text("utf-8"))
    }
    assert found == {"training/pixels.py", "datasets/digits.py", "captioners/colours.py"}
