"""Faults as they are ordered, counted down and called off."""

from __future__ import annotations

import random

from sandbox.faults import Fault, Faults


def test_one_fault_is_called_off_and_the_others_strike_on():
    faults = Faults(random.Random(1))
    one, other = faults.order(Fault(status=500, times=None)), faults.order(Fault(status=503, times=None))
    assert faults.take("graph", "GET", "/") is one
    faults.cancel(one)
    faults.cancel(one)
    assert faults.take("graph", "GET", "/") is other
