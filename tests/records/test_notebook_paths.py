"""Cells have paths of their own, from which that of the notebook follows."""

from nanfix.records.notebook_paths import cell_of, cell_path, file_of, is_notebook


def test_a_cell_is_known_by_its_notebook_and_its_number():
    path = cell_path("deep/my work.ipynb", 12)
    assert path == "deep/my work.ipynb, cell 12"
    assert (file_of(path), cell_of(path)) == ("deep/my work.ipynb", 12)
    assert is_notebook(file_of(path)) and not is_notebook(path)


def test_other_files_stay_what_they_are():
    for path in ("train.py", "train.ipynb", "a, cell 3", "train.ipynb, cell x"):
        assert (file_of(path), cell_of(path)) == (path, None)
