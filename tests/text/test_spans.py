"""What is kept, kind by kind. In a text of the table what stands between ⟦ and ⟧ is a span."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.text.characters import extends
from dragoman_service.text.spans import Kind, Span, find_spans
from support.texts import ATTACKS, TEXTS

KEPT = {
    Kind.URL: [
        "Download it from ⟦https://example.com/Files/Report.PDF⟧ today.",
        "See (⟦https://en.wikipedia.org/wiki/Foo_(bar)⟧). And <⟦https://x.org/z⟧>, “⟦http://a.example⟧”.",
        "⟦https://example.com/a?b=1&c=%20#d⟧, ⟦ftp://files.example.com/⟧; ⟦http://localhost:8080/x⟧!",
        "Besuchen Sie ⟦www.müller.de⟧, ⟦example.com/path?x=1⟧ oder ⟦Amazon.de⟧.",
        "请访问⟦https://example.com/path⟧下载。⟦https://例え.jp/パス⟧ を見て。",
        "또는 ⟦https://example.com⟧에서 받으세요.",
        "Voir ⟦https://fr.wikipedia.org/wiki/Été⟧ !",
        "Это ⟦https://пример.рф/путь⟧.",
        "Call ⟦tel:+49-30-1234⟧ or ⟦mailto:a@b.de⟧.",
        "⟦Booking.com⟧ is ⟦example.com:8080⟧.",
        "The address ⟦https://x.org/{id}/y⟧ is a pattern.",
    ],
    Kind.MAIL: [
        "Mail ⟦foo.bar+baz@mail.example.co.uk⟧.",
        "Schreiben Sie an <⟦info@müller.de⟧>, bitte.",
        "联系⟦foo@bar.com⟧吧。",
        "메일은 ⟦foo@bar.com⟧입니다.",
    ],
    Kind.FILE: [
        "Open ⟦README.MD⟧ and ⟦Report.PDF⟧, then ⟦foo.tar.gz⟧.",
        "Öffnen Sie ⟦C:\\x\\y.txt⟧ oder ⟦C:\\Program Files\\App\\a.exe⟧.",
        "In ⟦/etc/hosts⟧, ⟦./run.sh⟧, ⟦~/x/y⟧, ⟦../a⟧ and ⟦\\\\server\\share\\a.doc⟧.",
        "Die ⟦README.md⟧-Datei, ⟦src/main.py⟧ und ⟦.gitignore⟧.",
        "⟦libfoo.so⟧ and ⟦main.c⟧ and ⟦Node.js⟧",
        "⟦report.pdf⟧를 여세요.",
    ],
    Kind.IDENTIFIER: [
        "The ⟦snake_case⟧, ⟦camelCase⟧, ⟦getElementById⟧, ⟦MAX_SIZE⟧ and ⟦__init__⟧ names.",
        "⟦System.IO.File⟧ in ⟦ASP.NET⟧, ⟦java.util.List⟧, ⟦foo()⟧, ⟦os.path.join⟧(a) and ⟦std::vector⟧.",
        "Use ⟦--option=3⟧ or ⟦-x⟧ with ⟦$HOME⟧.",
        "⟦0xDEADBEEF⟧, ⟦550e8400-e29b-41d4-a716-446655440000⟧, ⟦3f2a9bc⟧, ⟦12:34:56:78:9a:bc⟧, ⟦192.168.0.1⟧",
        "Version ⟦v1.2.3⟧, ⟦v2.0-rc1⟧, ⟦2.0.0-beta1⟧.",
        "Der Befehl ⟦`rm -rf /`⟧ löscht alles.",
        "Die Bestellung ⟦RMA-2024-00017⟧ ist da.",
        "⟦```js⟧",
        "변수 ⟦foo_bar⟧를 보세요.",
    ],
    Kind.PLACEHOLDER: [
        "⟦%s⟧ of ⟦%1$s⟧ and ⟦%-5.2f⟧, ⟦%@⟧, ⟦%d⟧⟦%%⟧",
        "⟦{count}⟧ ⟦{0}⟧ ⟦{0:.2f}⟧ ⟦{}⟧ ⟦{user.name}⟧ ⟦{{x}}⟧ ⟦{{{x}}}⟧ ⟦${x}⟧ ⟦%{name}⟧ ⟦#{x}⟧",
        "⟦{count, plural, one {# file} other {# files}}⟧ and ⟦{when, date}⟧",
        "⟦%(name)s⟧ ⟦%NAME%⟧ ⟦:name⟧ ⟦[[x]]⟧ ⟦{% if x %}⟧",
        "Tom ⟦&amp;⟧ Jerry⟦&#39;⟧s ⟦&#x27;⟧",
        "Zeile⟦\\n⟧Zwei",
        "I am ⟦:smile:⟧ today.",
    ],
    Kind.TAG: [
        '⟦<b>⟧here⟦</b>⟧ and ⟦<br/>⟧ and ⟦<a href="x">⟧there⟦</a>⟧',
        "⟦<0>⟧hier⟦</0>⟧ ⟦<!-- x -->⟧ ⟦<?php x ?>⟧",
        "⟦**⟧bold⟦**⟧ and ⟦*⟧it⟦*⟧ and ⟦~~⟧no⟦~~⟧",
        '⟦[⟧a⟦](https://b.example/d_(e))⟧ and ⟦![⟧alt⟦](x.png "t")⟧',
    ],
    Kind.MENTION: [
        "⟦@name⟧ and ⟦@name@mastodon.social⟧ like ⟦#topic⟧.",
        "⟦#东京⟧ ⟦#서울⟧ ⟦#café⟧ ⟦#5G⟧",
    ],
    Kind.SYMBOL: [
        "Hello! ⟦😊⟧ How ⟦👩‍👩‍👧⟧ are ⟦🇩🇪🇫🇷⟧ you ⟦1️⃣⟧ ok ⟦👍🏽⟧? ⟦❤️⟧",
        "a ⟦→⟧ b ⟦≤⟧ c ⟦•⟧ One ⟦™⟧ ⟦🏴󠁧󠁢󠁥󠁮󠁧󠁿⟧ ⟦✔️⟧",
        "Nice ⟦:-)⟧ I ⟦<3⟧ it ⟦;)⟧",
    ],
    Kind.NUMBER: [
        "⟦10²⟧ is 100. The area is 5 ⟦m²⟧. ⟦½⟧ cup, ⟦1½⟧ cups.",
        "⟦CO₂⟧-Ausstoß, ⟦H₂SO₄⟧, ⟦10⁻³⟧, ⟦x²⟧+⟦y²⟧, ⟦①⟧",
        "Das ist ein Wort⟦²⟧ mit Fußnote.",
        "면적은 5 ⟦m²⟧입니다.",
    ],
    Kind.INVISIBLE: [
        "Good⟦\u2060⟧morning",
        "soft⟦\xad⟧hyphen",
        "⟦\u202e⟧abc⟦\u202c⟧",
        "a⟦\ufe0f⟧b",
        "a⟦\u200d⟧b",
        "a⟦\0\x01⟧b",
    ],
    Kind.SPACE: ["one⟦\r\n\t⟧two⟦\u2028⟧three"],
}

NOT_KEPT = [
    "e.g. this and/or that, i.e. the U.S. army at 5 p.m., C-3PO, don't, 3rd, U2, $5.00, 50 %, 50%, 24.12.2020, 12:30",
    "US$ 5, 5 $US, 1,250.00 €, +44 20 7946 0958, 1 000 000, -5, 24/7, km/h, TCP/IP, w/o, c/o, 5 km, 20 °C, 3 × 4",
    "Ph.D., J.R.R. Tolkien, D.C., U.S.A., a.m., St. James, Mr. Smith, No. 5",
    "O'Neill, rock'n'roll, AT&T, R&D, Q&A, C++, C#, F#",
    "iPhone, eBay, YouTube, McDonald, iOS, BahnCard, WiFi, COVID-19, F-16, MP3, H2O, UTF-8, 4K, B2B",
    "z.B. das, d.h. dies, u.a. auch, i.d.R. so, Dipl.-Ing., 100%ige, 50 %ige, Ein- und Ausgang, E-Mail",
    " Student_innen, jede_r, StudentInnen",
    "c.-à-d. l'eau, p.ex. aujourd'hui, J.-C., n° 5, 10 h 30, etc. M. Dupont a dit : « Non ! »",
    "그는 갔다. 3.5점을 받았다. 5월 3일에 1,000원을 냈다.",
    "他花了3.5元。（好的）",
    "The end.Next one. hello.how are you. Das ist gut.Aber nein.",
    "a < b and c > d, 2*3*4, f(x) = 3, {this is a text}, [note], (c), #1, No. #5, @ 5 pm, x_, _, 5'10\"",
    "He said -- and left. Yes - no – maybe — so. “Quoted” ‘text’ «ici» „hier“.",
    "Note:see below, ratio 1:2, he/she/it, input/output, user/repo, Straße/Platz, Hin-/Rückfahrt",
    "می‌خواهم क्‍ष",
    "don´t `quoted' word and `another' one",
]


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text of the table without its marks, and the ranges that it marks."""
    plain, ranges, start = "", [], 0
    for character in text:
        if character == "⟦":
            start = len(plain)
        elif character == "⟧":
            ranges.append((start, len(plain)))
        else:
            plain += character
    return plain, ranges


@pytest.mark.parametrize(("kind", "example"), [(kind, text) for kind, texts in KEPT.items() for text in texts])
def test_what_is_kept(kind: Kind, example: str) -> None:
    text, ranges = marked(example)
    spans = find_spans(text)
    assert [text[span.start : span.end] for span in spans] == [text[start:end] for start, end in ranges]
    assert [(span.start, span.end) for span in spans] == ranges
    assert {span.kind for span in spans} == {kind}


@pytest.mark.parametrize("text", NOT_KEPT)
def test_what_the_model_translates(text: str) -> None:
    assert [text[span.start : span.end] for span in find_spans(text)] == []


def test_every_kind_has_examples() -> None:
    assert set(KEPT) == set(Kind) - {Kind.MARKED}


def test_what_the_caller_marks_is_kept_before_all_else() -> None:
    text = "See https://example.com/a b now"
    start = text.index("example")
    assert [
        (text[s.start : s.end], s.kind) for s in find_spans(text, [(start, start + 13), (start + 2, start + 15)])
    ] == [("example.com/a b", Kind.MARKED)]
    assert find_spans(text, [(3, 3)]) == find_spans(text)
    assert [(span.start, span.end) for span in find_spans("foo_x()", [(5, 6)])] == [(0, 5), (5, 6)]


@pytest.mark.parametrize("bad", [(-1, 2), (0, 4), (2, 1)])
def test_marks_outside_the_text_are_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="marked"):
        find_spans("abc", [bad])


def check_spans(text: str, spans: list[Span]) -> None:
    """Spans are in order, disjoint, not empty, inside the text, and end with a grapheme cluster unless marks cut it."""
    marks = {span.start for span in spans if span.kind is Kind.MARKED}
    reached = 0
    for span in spans:
        assert reached <= span.start < span.end <= len(text)
        reached = span.end
        if span.kind not in (Kind.INVISIBLE, Kind.SPACE, Kind.MARKED) and reached not in {len(text), *marks}:
            assert not extends(text[reached])


@settings(max_examples=2_000, deadline=None)
@given(TEXTS)
def test_spans_of_any_text_are_in_order_and_disjoint(text: str) -> None:
    check_spans(text, find_spans(text))


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_a_span_alone_is_a_span(text: str) -> None:
    """What is kept in a sentence is kept alone: pieces may be looked at again."""
    for span in find_spans(text):
        if span.kind in (Kind.URL, Kind.MAIL, Kind.FILE, Kind.SYMBOL, Kind.NUMBER):
            alone = text[span.start : span.end]
            assert find_spans(alone)


@pytest.mark.parametrize("unit", ATTACKS)
def test_time_is_linear(unit: str) -> None:
    """With quadratic time the tests would exceed their limit of time."""
    text = (unit * 20_000)[:20_000]
    check_spans(text, find_spans(text))


@pytest.mark.slow
@pytest.mark.parametrize("unit", ATTACKS)
def test_time_is_linear_in_a_million_characters(unit: str) -> None:
    text = (unit * 1_000_000)[:1_000_000]
    check_spans(text, find_spans(text))


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.data())
def test_marked_ranges_are_spans(text: str, data: st.DataObject) -> None:
    index = st.integers(0, len(text))
    ranges = [tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(index, index), max_size=4))]
    spans = find_spans(text, ranges)
    check_spans(text, spans)
    kept = [(span.start, span.end) for span in spans if span.kind is Kind.MARKED]
    for start, end in ranges:
        assert start == end or any(a <= start and end <= b for a, b in kept)
