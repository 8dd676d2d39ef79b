"""Recipes: complete, and all that is wrong told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vlm.errors import InputError
from vlm.models.adapter import AdapterConfig
from vlm.train.pocket import SECTIONS
from vlm.train.recipe import configs, read_recipe, recipe_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Soup:
    litres: float
    spoons: int = 2
    shares: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        if self.spoons < 1:
            raise InputError(f"spoons must be at least 1, got {self.spoons}")


def test_tables_become_configs() -> None:
    made = configs({"soup": {"litres": 2, "shares": [0.1, 0.9]}}, {"soup": Soup}, where="here")
    assert made == {"soup": Soup(litres=2, shares=(0.1, 0.9))}


def test_all_that_is_wrong_is_told_at_once() -> None:
    held = {"soup": {"liters": 2, "spoons": "many", "shares": 3}, "suop": {}}
    with pytest.raises(InputError) as caught:
        configs(held, {"soup": Soup}, where="lunch.toml")
    message = str(caught.value)
    assert "'lunch.toml' breaks 5 rules" in message
    for part in (
        "did you mean 'soup.litres'?",
        "did you mean 'soup'?",
        "soup.litres is missing",
        "soup.spoons must be a whole number, got 'many'",
        "soup.shares must be",
    ):
        assert part in message


def test_a_value_out_of_range_is_told_by_its_table() -> None:
    with pytest.raises(InputError, match="soup: spoons must be at least 1, got 0"):
        configs({"soup": {"litres": 1, "spoons": 0}}, {"soup": Soup}, where="x")


def test_a_word_must_be_one_that_is_known_and_what_may_be_left_out_may_be_given() -> None:
    held = {"adapter": {"dim": 4, "mixer": "vim", "expand": 2}}
    assert configs(held, {"adapter": AdapterConfig}, where="x")["adapter"] == AdapterConfig(dim=4, mixer="vim", expand=2)
    told = "adapter.mixer must be one of 'mamba', 'vim', 'dbm', 'attention', got 'vin'"
    for wrong, words in (({"mixer": "vin"}, told), ({"expand": "x"}, "adapter.expand must be")):
        with pytest.raises(InputError, match=words):
            configs({"adapter": {"dim": 4} | wrong}, {"adapter": AdapterConfig}, where="x")


def test_true_is_no_number() -> None:
    with pytest.raises(InputError, match="litres must be a number, got True"):
        configs({"soup": {"litres": True}}, {"soup": Soup}, where="x")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[soup\n")
    with pytest.raises(InputError, match=r"bad\.toml"):
        read_recipe(tmp_path / "bad.toml", {"soup": Soup})


def test_the_shipped_recipe_is_complete() -> None:
    """Every key is written out, so that a reader sees the whole training and a changed default does not change it."""
    path = recipe_path("pocket")
    made = read_recipe(path, SECTIONS)
    written = path.read_text()
    missing = [f"{name}.{key}" for name, config in made.items() for key in config.__dataclass_fields__ if f"\n{key} = " not in written]
    assert missing == ["model.vocabulary_size"]  # counted, not chosen


def test_an_unknown_recipe_names_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"'nothing'.*pocket"):
        recipe_path("nothing")
