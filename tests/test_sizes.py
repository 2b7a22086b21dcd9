"""The size of what is installed."""

import subprocess

import pytest

from benchmarks import sizes


def test_size_counts_every_file_once(tmp_path):
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / "package" / "module.py").write_bytes(bytes(1000))
    (tmp_path / "package" / "__pycache__" / "module.pyc").write_bytes(bytes(500))
    (tmp_path / "top.py").write_bytes(bytes(30))
    assert sizes.size(tmp_path) == 1530


def test_what_cannot_be_installed_is_named(monkeypatch, capsys):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(sizes.subprocess, "run", fail)
    assert sizes.main(["--set", "fastembed"]) == 1
    assert "expected pip to install fastembed, found exit code 1" in capsys.readouterr().err


def test_unknown_sets_are_refused():
    with pytest.raises(SystemExit, match="2"):
        sizes.main(["--set", "rowboat"])
