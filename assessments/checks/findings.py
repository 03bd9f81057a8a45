"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that `check` has looked at.

    Attributes:
        subject: What it is about, such as ``"migrations"`` or ``"rights"``.
        level: ``"error"`` where calls fail or a promise is broken, ``"warning"`` where a promise
            is weaker or a query slow, ``"note"`` where it may be meant so, else ``"ok"``.
        message: One line in plain English. Names roles and objects of the database, no values.
        effect: What it hurts, in one line, where the message does not say it.
        queries: The named queries of ``sql/`` that it hurts, where it is about single ones.
        remedy: What to do about it, in one line, where there is one remedy.
    """

    subject: str
    level: Level
    message: str
    effect: str | None = None
    queries: tuple[str, ...] = ()
    remedy: str | None = None
