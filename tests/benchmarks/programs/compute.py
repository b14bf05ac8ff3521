"""A program that only computes: a neighbour that wants all the time of a processor."""

from __future__ import annotations

from control import announce


def endlessly(_address: str) -> None:
    announce()
    while True:
        pass
