"""What a server inherits from the last one of its state folder."""

from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.serving import serve
from scripts.torchserve import server
from scripts.torchserve.server import remembered_key, start


def test_the_key_of_the_last_server_is_that_of_the_next(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is on record before there is a process that could be killed."""

    def no_process(_: object) -> list[str]:
        raise UserError("no process here")

    monkeypatch.setattr(server, "_checked", lambda *_: tmp_path)
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert remembered_key(tmp_path) is None
    with pytest.raises(UserError, match="no process here"):
        start({}, [], tmp_path, command=no_process, public_key=Path("keys/public.pem"))
    assert list(temporary.iterdir()) == []
    assert remembered_key(tmp_path) == Path("keys/public.pem").resolve()
    with pytest.raises(UserError, match=r"PUBLIC_KEY=.*keys/public\.pem: No such file"):
        serve.serve({}, tmp_path, None, foreground=False)
    assert "as for the last server; to end that, remove" in capsys.readouterr().out


def test_the_form_of_the_answers_is_that_of_the_last_server_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve._chosen_form(None, tmp_path) is None
    assert [serve._chosen_form(said, tmp_path) for said in ("full", "stock", "recipe")] == ["full", "stock", None]
    serve._remember_form("stock", tmp_path)
    assert capsys.readouterr().out == ""
    assert serve._chosen_form(None, tmp_path) == "stock"
    assert "`stock`, as the last server's; ANSWERS=recipe ends that" in capsys.readouterr().out
    assert serve._chosen_form("recipe", tmp_path) is None
    serve._remember_form(None, tmp_path)
    assert serve._chosen_form(None, tmp_path) is None


def test_a_damaged_record_of_the_form_is_said(tmp_path: Path) -> None:
    (tmp_path / server.ANSWERS).write_text("sto")
    with pytest.raises(UserError, match=r"answers has 'sto', which is no form"):
        serve._chosen_form(None, tmp_path)


@pytest.mark.parametrize("envelope", ["kserve", "kservev2", "json"])
def test_an_envelope_is_refused_before_there_is_a_server_that_answers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, envelope: str
) -> None:
    with pytest.raises(UserError, match=f"service_envelope={envelope}: .*leave it out"):
        serve.serve({"service_envelope": envelope}, tmp_path, None, foreground=False)
    monkeypatch.setenv("TS_SERVICE_ENVELOPE", envelope)
    with pytest.raises(UserError, match=f"TS_SERVICE_ENVELOPE={envelope}: .*leave it out"):
        serve.serve({"service_envelope": ""}, tmp_path, None, foreground=False)
