"""Sets of events as other libraries have them: enum.IntFlag, and plain numbers."""

from __future__ import annotations

import enum

from control import time_statement


class Flags(enum.IntFlag):
    DATA_AVAILABLE = 16
    END_OF_DATA = 128


def flag_test(_address: str) -> None:
    names = {"events": Flags.DATA_AVAILABLE | Flags.END_OF_DATA, "Flags": Flags}
    time_statement("events & Flags.DATA_AVAILABLE", names)


def number_test(_address: str) -> None:
    time_statement("events & DATA_AVAILABLE", {"events": 144, "DATA_AVAILABLE": 16})
