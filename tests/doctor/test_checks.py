"""What the doctor makes of what it sees, where no service is needed for it; the rest is in test_doctor.py."""

from __future__ import annotations

import pytest

from sync.doctor.checks import judge_handshake
from sync.doctor.findings import State
from sync.doctor.probes import Answer


@pytest.mark.parametrize(("seconds", "state"), [(2.9, State.OK), (3.1, State.WARNING)])
def test_a_handshake_is_as_slow_as_notifications_must_not_be(seconds: float, state: State) -> None:
    assert judge_handshake(Answer(200, "text/plain", b"t", seconds), "t").state is state
