"""Files are whole or not there, whatever happens while they are written."""

import os

import pytest

from nanfix.records.atomic import check_writable, replacing, write_bytes, write_text
from nanfix.records.errors import NanfixError


def test_a_file_is_replaced_with_the_permissions_of_another(tmp_path):
    like, path = tmp_path / "like.py", tmp_path / "new.py"
    like.write_text("")
    like.chmod(0o640)
    write_text(path, "old")
    write_bytes(path, b"new", like=like)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        assert temporary.suffix == ".keras" and temporary.parent == tmp_path
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == [
        "model.keras"
    ] and path.read_text() == "old"


def test_content_and_name_are_on_disk_in_that_order(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        os, "fsync", lambda number: seen.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    write_text(tmp_path / "fix.json", "{}")
    content, folder = seen
    assert os.path.dirname(content) == folder == str(tmp_path)
    assert not os.path.exists(content)  # it has its name by now


def test_checking_a_path_leaves_nothing_there(tmp_path):
    check_writable(tmp_path / "a.json")
    check_writable(tmp_path / "new" / "folder" / "a.json", folders=True)
    with pytest.raises(NanfixError, match="Cannot write to"):
        check_writable(tmp_path / "new" / "a.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(NanfixError, match="Cannot write to"):
        check_writable(tmp_path / "file" / "folder" / "a.json", folders=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.json", "new \ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]
