"""Sentences for speech: a table of hard cases, and what holds for every text."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.text.cuts import is_cut
from gateway.text.sentences import LONGEST, split_sentences

# Sentences are divided by a bar.
CASES = [
    "今天天气很好。|我们去公园吧！|好吗？",
    "Hello there.| How are you?| Fine!",
    "他说 OK。|Then he left.|再见!",
    "好的.|下一句",
    "真的吗？！|是的。。。|嗯",
    # decimals, versions, times, prices
    "圆周率是3.14159。|对吗？",
    "It costs $3.50.| He paid 1,000.5 euros at 12.30.| Then he left.",
    "Version 2.0.1 is out.| See v1.2.3 for details。|完",
    "GDP rose 2.5%.| Good.",
    # abbreviations
    "Dr. Smith met Mrs. Jones.| They talked.",
    "At 5 p.m. in Washington, D.C. yesterday it rained.| He left.",
    "Mr. J. R. R. Tolkien wrote it.| Yes.",
    "The U.S. Senate met.| He lives in the U.S. |They do not.",
    "Use e.g. tea, i.e. Camellia sinensis.| It helps.",
    "Apples, pears, etc. |The rest is gone.| See fig. 3 and No. 5.| No.| I do not.",
    "1. First point.| 2. Second point.",
    # URLs, addresses, names of files
    "Visit https://example.com/a.b?c=1.2.| Then go.",
    "见 https://example.com/a?b=1。|然后走。",
    "https://x.org/?q=a!b. c",
    "Ask www.example.com!| Write to a.b@example.com.| Open main.py first.",
    "https://a.example/..!| Then on",
    # ellipses
    "Wait... what?| Yes...no.| Well… |Then he left.",
    "我……不知道。|嗯…… |好",
    # quotes and brackets that close after the stop
    "他说：“你好。”|然后走了。",
    "「第一句。」|（第二句。）|第三句",
    'He said "Stop!" and left.| "Go." |She went.| (Really.) |Yes.',
    '他说。|"你好。"|好',
    "'Go.' |'Why?' |It's 5 o'clock.",
    "Stop!'tis late",
    # other scripts
    "क्या?| हाँ।| ठीक",
    # lines
    "标题\n|内容。",
    "First line\r\n|Second line",
    "this line was wrapped by\nits writer.| Yes.",
    # nothing to split
    "no stop at all",
]


@pytest.mark.parametrize("case", CASES)
def test_a_hard_case_is_split_as_a_reader_would(case: str) -> None:
    assert split_sentences(case.replace("|", "")) == [part.strip() for part in case.split("|")]


@pytest.mark.parametrize("text", ["", " ", "\n \n", "\u3000"])
def test_nothing_has_no_sentences(text: str) -> None:
    assert split_sentences(text) == []


def test_what_is_too_long_is_cut_where_one_breathes() -> None:
    clause = "one two three four five six seven eight nine ten"
    parts = split_sentences(f"{clause}; {clause}, {clause} {clause}, {clause}.", 120)
    assert [len(part) for part in parts] == [99, 98, 49]
    assert [part[-4:] for part in parts] == ["ten,", "ten,", "ten."]
    chinese = split_sentences("春眠不觉晓，处处闻啼鸟，夜来风雨声，花落知多少" * 3, 16)
    assert all(part.endswith("，") for part in chinese[:1])
    assert all(len(part) <= 16 for part in chinese)


def test_a_long_sentence_is_not_cut_in_numbers_urls_abbreviations_and_graphemes() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for atom in ("3.14159265", "https://example.com/a,b", "Ph.D.", family, "1,000,000", "12:30"):
        for longest in range(12, 40):
            text = "字" * 9 + atom + "字" * 50 + f"好，{atom}，" + "x" * 70
            parts = split_sentences(text, longest)
            assert "".join(parts) == text
            assert sum(atom in part for part in parts) == 2, (atom, longest, parts)


def test_a_space_with_a_mark_upon_it_is_no_place_to_breathe() -> None:
    assert split_sentences("aaaaaa bb \u0301cc dddd", 12) == ["aaaaaa", "bb \u0301cc dddd"]


def test_what_cannot_be_cut_stays_whole_even_where_it_is_too_long() -> None:
    url = "https://example.com/" + "a" * 300
    assert split_sentences(f"{url} end", 50)[0] == url
    zalgo = "e" + "\u0301" * 300
    assert split_sentences(zalgo + "b" * 10, 50) == [zalgo, "b" * 10]


TEXTS = st.lists(
    st.sampled_from(
        [
            *"aB1 .!?,;:'\"()。！？，；：、“”「」…—\n中文字é",
            *("\u0301", "\u200d", "\U0001f468", "\U0001f1e9"),
            "Dr.",
            "U.S.",
            "e.g.",
            "3.14",
            "https://a.b/c?d",
            "www.a.b",
            "word ",
            "\r\n",
            "etc. ",
            "\u0915\u094d",
        ]
    )
    | st.characters(),
    max_size=80,
).map("".join)


@given(TEXTS, st.integers(1, 60))
@example("é" * 10 + "\u0301", 3)
@example("\u0915\u094d\r", 1)
@example("word \U0001133a", 1)
@example("a. \u0301b", 9)
def test_no_text_is_lost_and_no_grapheme_split(text: str, longest: int) -> None:
    parts = split_sentences(text, longest)
    assert "".join("".join(parts).split()) == "".join(text.split())
    at = 0
    for part in parts:
        found = text.index(part, at)
        assert not text[at:found].strip()
        assert is_cut(text, found)
        at = found + len(part)
        # White space is left out even where Unicode counts it to what is before it.
        assert is_cut(text, at) or text[at].isspace()


@given(TEXTS)
def test_sentences_of_usual_length_are_split_no_further(text: str) -> None:
    for sentence in split_sentences(text):
        assert sentence == sentence.rstrip() != ""
        assert not sentence[0].isspace() or not is_cut(sentence, 1)


HOSTILE = [
    "a.b.",
    "“",
    '. "',
    "www.",
    " \n",
    "\u0301.",
    "1.",
    "http://",
    "\U0001f1e9",
    "é, ",
    "。'\"",
    "…",
    "\r",
]


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_time_grows_with_the_text_whatever_it_is_made_of(piece: str) -> None:
    def took(text: str) -> float:
        began = time.process_time()
        split_sentences(text)
        return time.process_time() - began

    text = piece * (40_000 // len(piece))
    # Quadratic would be sixteen times; measured anew where something else had the processor.
    assert any(took(text * 4) < 9 * max(took(text), 0.002) for _ in range(3))


def test_the_bound_is_of_a_length_that_can_be_spoken() -> None:
    assert all(len(part) <= LONGEST for part in split_sentences("word " * 5_000))
