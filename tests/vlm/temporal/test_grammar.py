"""Queries about time: what they are read as, and at which character they go wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlm.errors import GrammarError
from vlm.temporal.grammar import MOST_CHARACTERS, RULES, parse
from vlm.temporal.tree import Both, Count, Either, Lasting, Node, Not, Placed, Sentence, Then, sentences

A, B, C = Sentence("A"), Sentence("B"), Sentence("C")


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ('"A"', A),
        ('"A" then "B" within 30s', Then(A, B, 30.0)),
        ('"A" then "B" then "C" within 2min', Then(Then(A, B, None), C, 120.0)),
        ('"A" while "B"', Both(A, B)),
        ('"A" while not "B"', Both(A, Not(B))),
        ('"A" for > 10s', Lasting(A, ">", 10.0)),
        ('"A" for <= 1.5 s before 1:00', Placed(Lasting(A, "<=", 1.5), 0.0, 60.0)),
        ('"A" after 90s', Placed(A, 90.0, None)),
        ('"A" between 1:00 and 1:02:03 and "B"', Both(Placed(A, 60.0, 3723.0), B)),
        ('count("A") >= 3', Count(A, ">=", 3)),
        ('count("A" then "B") == 0', Count(Then(A, B, None), "==", 0)),
        ('"A" or "B" and "C"', Either(A, Both(B, C))),
        ('("A" or "B") and "C"', Both(Either(A, B), C)),
        ('"A" and "B" then "C" while "A"', Both(A, Then(B, Both(C, A), None))),
        ('not "A" for > 1h', Not(Lasting(A, ">", 3600.0))),
        ('(not "A") for > 1h', Lasting(Not(A), ">", 3600.0)),
        ('NOT "A" OR "B" THEN "C" Within 5S', Either(Not(A), Then(B, C, 5.0))),
        (r'" a \"red\" car "', Sentence('a "red" car')),
        ('"not then and"', Sentence("not then and")),
    ],
)
def test_a_query_is_read_as_its_tree(query: str, tree: Node):
    assert parse(query) == tree


@pytest.mark.parametrize(
    ("query", "character", "rule", "told"),
    [
        ("", 1, "thing", 'a sentence, "count", "(" or "not" was expected here, got the end'),
        ('"A" then ', 9, "thing", "was expected here, got the end"),
        ('"A" then then "B"', 10, "thing", "got 'then'"),
        ('"A" within 3s', 5, "order", "got 'within'"),
        ('"A" "B"', 5, "during", "got '\"B\"'"),
        ("a dog", 1, "thing", "got 'a'"),
        ("'A'", 1, "thing", 'got "\'"'),
        ('"A', 1, "SENTENCE", "this quote is never closed"),
        ('("A"', 5, "thing", '")" was expected here, got the end'),
        ('"A")', 4, "query", "the end was expected here, got ')'"),
        ('""', 1, "SENTENCE", "an empty sentence says nothing"),
        ('"A" and "  "', 9, "SENTENCE", "an empty sentence says nothing"),
        ('"A" then "B" within 0s', 21, "order", "within 0 s nothing can follow"),
        ('"A" then "B" within -3s', 21, "TIME", "has no sign, got '-3s'"),
        ('"A" then "B" within', 20, "TIME", "a time was expected here, got the end"),
        ('"A" between 2:00 and 1:00', 22, "limited", "between 2:00 and 1:00 lies nothing"),
        ('"A" between 1:00 and 60s', 22, "limited", "between 1:00 and 60s lies nothing"),
        ('"A" before 0:00', 12, "limited", "nothing is before 0 s"),
        ('"A" before -5s', 12, "TIME", "has no sign, got '-5s'"),
        ('"A" before 90', 12, "TIME", "'90' is no time"),
        ('"A" before 1:75', 12, "TIME", "'1:75' is no time"),
        ('"A" before 1:75:00', 12, "TIME", "'1:75:00' is no time"),
        ('"A" before "B"', 12, "TIME", "a time was expected here"),
        ('"A" for 10s', 9, "COMPARISON", "a comparison was expected here, got '10s'"),
        ('"A" for < 0s', 11, "limited", "nothing lasts for less than 0 s"),
        ('count("A") >= 1.5', 15, "NUMBER", "a count is a whole number of at least 0, got '1.5'"),
        ('count("A") >= -1', 15, "NUMBER", "got '-1'"),
        ('count("A") >= many', 15, "NUMBER", "a whole number was expected here"),
        ('count("A")', 11, "COMPARISON", "a comparison was expected here, got the end"),
        ('count("A") = 3', 12, "COMPARISON", "a comparison was expected here"),
        ("(" * 60 + '"A"', 51, "thing", "parentheses go at most 50 deep"),
        ("not " * 201 + '"A"', 1, "opposite", 'a query has at most 200 times "not"'),
        ('"' + "A" * MOST_CHARACTERS + '"', 2001, "query", "a query has at most 2000 characters, got 2002"),
    ],
)
def test_an_error_points_at_the_character_and_shows_the_rule(query: str, character: int, rule: str, told: str):
    with pytest.raises(GrammarError, match=re.escape(told)) as caught:
        parse(query)
    assert (caught.value.position + 1, caught.value.rule) == (character, RULES[rule])
    assert str(caught.value).startswith(f"character {character} of the query: ")
    assert str(caught.value).endswith(f"(rule {RULES[rule]})")


def test_the_deepest_query_that_is_taken_can_be_read():
    assert sentences(parse("(" * 50 + '"A"' + ")" * 50)) == ["A"]
    assert sentences(parse("not " * 200 + '"A"')) == ["A"]
    assert sentences(parse(" or ".join(['"A"'] * 250))) == ["A"]


def test_sentences_are_listed_once_in_their_order():
    assert sentences(parse('"B" then ("A" or not "B") and count("C") >= 1')) == ["B", "A", "C"]


def test_the_page_shows_every_rule():
    page = (Path(__file__).resolve().parents[3] / "docs/temporal.md").read_text("utf-8")
    assert [rule for rule in RULES.values() if rule not in page] == []
