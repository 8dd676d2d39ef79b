"""From the words of a query about time to its syntax tree. docs/temporal.md shows the grammar to people; a test holds both to be one."""

from __future__ import annotations

import re
from functools import cache, reduce
from typing import Any, NoReturn, cast

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from vlm.errors import GrammarError
from vlm.temporal.tree import Both, Comparison, Count, Either, Lasting, Node, Not, Placed, Sentence, Then

# The rules as errors show them, from the loosest to the tightest.
RULES = {
    "query": 'query: both ("or" both)*',
    "both": 'both: order ("and" order)*',
    "order": 'order: during ("then" during ("within" TIME)?)*',
    "during": 'during: opposite ("while" opposite)*',
    "opposite": 'opposite: "not" opposite | limited',
    "limited": 'limited: thing ("for" COMPARISON TIME | "before" TIME | "after" TIME | "between" TIME "and" TIME)*',
    "thing": 'thing: SENTENCE | "count" "(" query ")" COMPARISON NUMBER | "(" query ")"',
    "SENTENCE": 'SENTENCE: words in double quotes, as in "a dog jumps"',
    "TIME": "TIME: 30s, 1.5s, 2min, 1h, 1:00 or 1:02:03",
    "COMPARISON": 'COMPARISON: ">" | ">=" | "<" | "<=" | "=="',
    "NUMBER": "NUMBER: a whole number, as in 3",
}
_GRAMMAR = r"""
    query: both ("or"i both)*
    both: order ("and"i order)*
    order: during later*
    later: "then"i during ["within"i TIME]
    during: opposite ("while"i opposite)*
    ?opposite: "not"i opposite -> denied
        | limited
    limited: thing limit*
    limit: "for"i COMPARISON TIME -> lasting
        | "before"i TIME -> before
        | "after"i TIME -> after
        | "between"i TIME "and"i TIME -> between
    ?thing: SENTENCE -> sentence
        | "count"i "(" query ")" COMPARISON NUMBER -> counted
        | "(" query ")"
    SENTENCE: /"(?:[^"\\]|\\.)*"/s
    COMPARISON: ">=" | "<=" | "==" | ">" | "<"
    TIME: /[-+]?[0-9][0-9:.]*[ \t]*(?:(?:s|secs?|seconds?|min|minutes?|h|hours?)(?![A-Za-z0-9]))?/i
    NUMBER: /[-+]?[0-9][0-9.]*/
    %ignore /\s+/
"""
# Which rule a token belongs to, where it was expected.
_RULE_OF = {
    "SENTENCE": "thing",
    "COUNT": "thing",
    "LPAR": "thing",
    "NOT": "opposite",
    "TIME": "TIME",
    "NUMBER": "NUMBER",
    "COMPARISON": "COMPARISON",
    "WHILE": "during",
    "THEN": "order",
    "WITHIN": "order",
    "AND": "both",
    "OR": "query",
    "FOR": "limited",
    "BEFORE": "limited",
    "AFTER": "limited",
    "BETWEEN": "limited",
    "RPAR": "thing",
}
# What tokens are called; the others by their word.
_SIGNS = {
    "LPAR": '"("',
    "RPAR": '")"',
    "$END": "the end",
    "SENTENCE": "a sentence",
    "TIME": "a time",
    "NUMBER": "a whole number",
    "COMPARISON": "a comparison",
}
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]\d(?:\.\d+)?)")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# Deeper queries would end Python's own stack before they meant anything to anybody.
MOST_CHARACTERS = 2000
_MOST_DEEP = 50


def parse(query: str) -> Node:
    """The tree of a query.

    Raises:
        GrammarError: it is none; the error knows the character and the rule that was expected there.
    """
    if len(query) > MOST_CHARACTERS:
        raise GrammarError(f"a query has at most {MOST_CHARACTERS} characters, got {len(query)}", query, MOST_CHARACTERS, RULES["query"])
    _check_depth(query)
    try:
        read = _parser().parse(query)
    except UnexpectedInput as error:
        _tell(query, error)
    try:
        return _Reader(query).transform(read)
    except VisitError as error:
        raise error.orig_exc from None


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, start="query", parser="lalr", propagate_positions=False)


def _check_depth(query: str) -> None:
    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[()]|\bnot\b', query, re.DOTALL | re.IGNORECASE):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth > _MOST_DEEP:
            raise GrammarError(f"parentheses go at most {_MOST_DEEP} deep", query, found.start(), RULES["thing"])
    if len(re.findall(r"\bnot\b", query, re.IGNORECASE)) > _MOST_DEEP * 4:
        raise GrammarError(f'a query has at most {_MOST_DEEP * 4} times "not"', query, 0, RULES["opposite"])


def _tell(query: str, error: UnexpectedInput) -> NoReturn:
    """The error for people."""
    if isinstance(error, UnexpectedToken):
        is_end = error.token.type == "$END"
        at = len(query.rstrip()) if is_end else int(error.token.start_pos or 0)
        got = "the end" if is_end else repr(str(error.token))
        expected = set(error.accepts or error.expected)
    else:
        assert isinstance(error, UnexpectedCharacters)
        at, expected = int(error.pos_in_stream or 0), set(error.allowed or ())
        got = repr(query[at])
        if query[at] == '"':
            raise GrammarError("this quote is never closed", query, at, RULES["SENTENCE"]) from None
    known = [name for name in (*_RULE_OF, "$END") if name in (expected or {"$END"})]
    names = [_SIGNS.get(name, f'"{name.lower()}"') for name in known]
    told = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    raise GrammarError(f"{told} was expected here, got {got}", query, at, RULES[_RULE_OF.get(known[0], "query")]) from None


@v_args(inline=True)
class _Reader(Transformer[Token, Node]):
    """Makes nodes, and refuses what is grammatical and says nothing."""

    def __init__(self, query: str) -> None:
        super().__init__()
        self._query = query

    def query(self, *parts: Node) -> Node:
        return reduce(Either, parts)

    def both(self, *parts: Node) -> Node:
        return reduce(Both, parts)

    during = both

    def order(self, first: Node, *rest: tuple[Node, float | None]) -> Node:
        return reduce(lambda one, later: Then(one, *later), rest, first)

    def later(self, node: Node, within: Token | None) -> tuple[Node, float | None]:
        if within is not None and not self._seconds(within):
            self._refuse(within, "within 0 s nothing can follow: give a longer time", "order")
        return node, None if within is None else self._seconds(within)

    def denied(self, node: Node) -> Node:
        return Not(node)

    def limited(self, node: Node, *limits: Any) -> Node:
        return reduce(lambda inner, limit: limit[0](inner, *limit[1:]), limits, node)

    def lasting(self, comparison: Token, time: Token) -> tuple[Any, ...]:
        seconds = self._seconds(time)
        if str(comparison) == "<" and not seconds:
            self._refuse(time, "nothing lasts for less than 0 s: give a longer time", "limited")
        return Lasting, str(comparison), seconds

    def before(self, time: Token) -> tuple[Any, ...]:
        if not self._seconds(time):
            self._refuse(time, "nothing is before 0 s: give a later time", "limited")
        return Placed, 0.0, self._seconds(time)

    def after(self, time: Token) -> tuple[Any, ...]:
        return Placed, self._seconds(time), None

    def between(self, start: Token, end: Token) -> tuple[Any, ...]:
        if self._seconds(end) <= self._seconds(start):
            self._refuse(end, f"between {start.strip()} and {end.strip()} lies nothing: the second time must be later", "limited")
        return Placed, self._seconds(start), self._seconds(end)

    def counted(self, node: Node, comparison: Token, number: Token) -> Node:
        if not number.isdecimal():
            self._refuse(number, f"a count is a whole number of at least 0, got {str(number)!r}", "NUMBER")
        return Count(node, cast(Comparison, str(comparison)), int(number))

    def sentence(self, quoted: Token) -> Node:
        text = re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL).strip()
        if not text:
            self._refuse(quoted, "an empty sentence says nothing: put what is to be seen between the quotes", "SENTENCE")
        return Sentence(text)

    def _seconds(self, token: Token) -> float:
        text = token.strip().lower()
        if text.startswith(("-", "+")):
            self._refuse(token, f"a time counts from the start of the video and has no sign, got {str(token).strip()!r}", "TIME")
        if (clock := _CLOCK.fullmatch(text)) is not None and (clock[1] is None or int(clock[2]) < 60):
            return 3600.0 * int(clock[1] or 0) + 60.0 * int(clock[2]) + float(clock[3])
        if (amount := _AMOUNT.fullmatch(text)) is not None:
            return float(amount[1]) * _UNITS[amount[2][0]]
        return self._refuse(token, f"{str(token).strip()!r} is no time", "TIME")

    def _refuse(self, token: Token, message: str, rule: str) -> NoReturn:
        raise GrammarError(message, self._query, int(token.start_pos or 0), RULES[rule])
