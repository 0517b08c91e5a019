from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from chaos import history
from chaos.history import Content, History, Outcome
from deploy.client.files import recognise

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_ONE = Content("1.2.1", "1.2.840.10008.1.2.1", "aa", 10)
_OTHER = Content("1.2.2", "1.2.840.10008.1.2.1", "bb", 20)


def test_what_was_noted_is_read_again_with_its_times(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    times = iter(_NOON + timedelta(seconds=n) for n in range(4))
    with History(file, lambda: next(times)) as notes:
        first, second = notes.sent(_ONE), notes.sent(_OTHER)
        notes.ended(second, Outcome.REFUSED, "0xA700")
        notes.ended(first, Outcome.ACKNOWLEDGED)
    one, other = history.read(file)
    assert (one.content, one.outcome, one.sent_at) == (_ONE, Outcome.ACKNOWLEDGED, _NOON)
    assert (other.content, other.outcome, other.said) == (_OTHER, Outcome.REFUSED, "0xA700")
    assert other.ended_at == _NOON + timedelta(seconds=2)


def test_what_was_under_way_when_the_sender_died_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    notes = History(file)
    notes.sent(_ONE)
    # Not closed: what was noted is in the file at once.
    with file.open("a") as cut_short:
        cut_short.write('{"number": 0, "outc')
    (attempt,) = history.read(file)
    assert (attempt.outcome, attempt.ended_at) == (Outcome.UNKNOWN, None)
    notes.close()


def test_a_history_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    for content in (_ONE, _OTHER):
        with History(file) as notes:
            notes.ended(notes.sent(content), Outcome.ACKNOWLEDGED)
    assert [(attempt.number, attempt.content) for attempt in history.read(file)] == [(0, _ONE), (1, _OTHER)]


def test_a_history_that_was_cut_short_can_be_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    with History(file) as notes:
        notes.sent(_ONE)
    with file.open("a") as cut_short:
        cut_short.write('{"number": 0, "outc')
    with History(file) as notes:
        notes.ended(notes.sent(_OTHER), Outcome.ACKNOWLEDGED)
    one, other = history.read(file)
    assert (one.outcome, other.outcome) == (Outcome.UNKNOWN, Outcome.ACKNOWLEDGED)


@pytest.mark.parametrize(
    "line", ["[]\n", '{"number": 3, "outcome": "refused"}\n', '{"content": {}}\n', "x\n"]
)
def test_what_is_no_history_is_told(tmp_path: Path, line: str) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(line)
    with pytest.raises(ValueError, match="no history"):
        history.read(file)


def test_a_content_is_that_of_the_data_set_alone(tmp_path: Path) -> None:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    whole = Path(path).read_bytes()
    other = tmp_path / "other_preamble.dcm"
    other.write_bytes(b"\1" * 128 + whole[128:])
    assert Content.of(recognise(other)) == Content.of(recognise(Path(path)))
    changed = tmp_path / "changed.dcm"
    changed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert Content.of(recognise(changed)) != Content.of(recognise(Path(path)))
