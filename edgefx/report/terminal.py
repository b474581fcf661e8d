"""Results as tables for people; readable at 80 columns, without colours, and through a pipe."""

from __future__ import annotations

from rich import box

SIMPLE = box.SIMPLE_HEAD
