"""The command: what can be served, where, and what it says when it cannot."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from bakeoff import cli
from bakeoff.files import read_json, write_json
from bakeoff.serve import server

from .conftest import Folders


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_what_is_no_finished_study_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("serve", tmp_path) == 2
    assert "no study is there" in capsys.readouterr().err
    (tmp_path / "study.toml").write_text("")
    assert call("serve", tmp_path) == 2
    assert "is not finished; run `bakeoff run" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert call("serve", folders("semantic").path, "--port", port, "--no-open") == 5
    assert f"port {port} is taken" in capsys.readouterr().err
    assert call("serve", folders("semantic").path, "--port", 70_000, "--no-open") == 2
    assert "0 to 65535" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "uvicorn" else True)
    assert call("serve", tmp_path) == 2
    assert "serve needs uvicorn: pip install 'bakeoff[serve]'" in capsys.readouterr().err


def test_it_listens_on_this_machine_alone_and_prints_the_address(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import uvicorn

    bound: list[tuple[str, int]] = []
    opened: list[str] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: bound.append(sockets[0].getsockname()))
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert call("serve", folders("semantic").path, "--port", 0, "--json", "--open") == 0
    shown = json.loads(capsys.readouterr().out)
    assert bound == [("127.0.0.1", shown["port"])]
    assert opened == [shown["url"]]
    assert shown["url"].startswith(f"http://127.0.0.1:{shown['port']}/?token=")


def test_a_study_of_another_version_is_told(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    file = folders("semantic").comparison
    whole = read_json(file)
    try:
        write_json(file, {"task": "semantic"})
        assert call("serve", folders("semantic").path) == 3
    finally:
        write_json(file, whole)
    assert "not a comparison of this version" in capsys.readouterr().err
