"""Medians and powers of a feature take as long for large data as for small ones."""

import numpy as np
import pytest

from nanfix.records.features import CELLS, FEWEST, some_cells


@pytest.mark.parametrize("shape", [(50, 3), (4096, 256), (FEWEST, CELLS), (7,)])
def test_few_cells_are_all_taken(shape):
    array = np.broadcast_to(np.float32(1), shape)
    assert some_cells(array).shape == (shape if len(shape) > 1 else (7, 1))


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((400, 98, 400), CELLS // 400), ((200, CELLS // 10), FEWEST), ((CELLS * 3, 1), CELLS)],
    ids=["frames of sound", "sound", "column"],
)
def test_of_many_cells_rows_are_taken_from_all_over(shape, rows):
    assert some_cells(np.broadcast_to(np.float32(1), shape)).shape == (rows, shape[-1])


def test_rows_that_are_taken_are_not_all_of_the_same_frame():
    """Ten clips of as many frames as there are rows for one to be taken of each clip."""
    frames = CELLS // 1024
    clips = np.broadcast_to(np.arange(frames, dtype="int32")[:, None], (10, frames, 1024))
    taken = some_cells(clips)[:, 0]
    assert len(taken) == frames and len(np.unique(taken)) > frames / 2
    assert taken.mean() == pytest.approx(frames / 2, rel=0.1)
