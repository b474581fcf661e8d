"""Limits are finite numbers that something can reach; anything else is a usage error, wherever it is said."""

from __future__ import annotations

import click
import pytest
from pydantic import TypeAdapter, ValidationError

from edgefx.cache import settings
from edgefx.cli.options import PositiveNumber
from edgefx.errors import UsageError
from edgefx.recipe.machines import BenchmarkSection
from edgefx.recipe.schema import QatSection
from edgefx.units import parse_drop, parse_ms, parse_size

MANY = "9" * 400


@pytest.mark.parametrize(
    "text", ["infpp", "nanpp", "100.1pp", "1000%", f"{MANY}pp", f"{MANY}%", MANY, "1e3pp"]
)
def test_drops(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_drop(text)
    assert caught.value.hint
    assert "inf" not in caught.value.hint


def test_all_may_be_lost() -> None:
    assert parse_drop("100pp").value == 100


@pytest.mark.parametrize(
    "text", ["infMB", "nanMB", f"{MANY}MB", f"{MANY}B", MANY, "9999999999GB", "9223372036854775808000B"]
)
def test_sizes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert len(caught.value.message) < 100
    monkeypatch.setenv(settings.SIZE_VARIABLE, text)
    with pytest.raises(UsageError, match=settings.SIZE_VARIABLE):
        settings.from_environment()


@pytest.mark.parametrize("text", ["inf", "nan", "infms", MANY, "1000000001", f"{MANY}ms"])
def test_times(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ms(text)


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "0", "-1", "1e400"])
def test_options(text: str) -> None:
    with pytest.raises(click.BadParameter):
        PositiveNumber().convert(text, None, None)
    with pytest.raises(ValidationError):
        TypeAdapter(QatSection).validate_python({"method": "qat", "learning_rate": float(text)})
    with pytest.raises(ValidationError):
        TypeAdapter(BenchmarkSection).validate_python({"seconds": float(text)})


def test_a_number() -> None:
    assert PositiveNumber().convert("0.25", None, None) == 0.25
