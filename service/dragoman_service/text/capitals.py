"""Sentences in capitals: they are translated in lower case, and the translation is put in capitals.

A subword vocabulary has few pieces of capital letters. A model would read such a sentence nearly letter by letter and
translate it badly.

A row of acronyms is no such sentence. No list can tell acronyms from words, but their shape does: most are short, and
many have no vowels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from dragoman_service.text.characters import LETTER, word_set
from dragoman_service.text.spans import Span

_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_WORDS = 2
"""Words of two letters or more. A single word may be an acronym, such as NATO or SQL."""
_LONG = 5
"""Letters of a word that is hardly an acronym."""
_DOTTED_I = frozenset({"tr", "az"})
"""Languages in which the capital of i is not I, so that Python's case conversion is wrong."""
_KNOWN_SCRIPT = re.compile(f"[{LETTER}]+")
_VOWELS = frozenset("aeiouyæœøıаеиоуыэюяіїєαεηιουω")
_SHORT_WORDS = {
    language: word_set(frequent)
    for language, frequent in {
        "en": "all and any are ask at be but buy by call can come do dont done each end exit fire for from full get "
        "go good had has have he help her here him his how if in is it its just keep left let like look lost "
        "made make may me more must my name near need new next no not now of off old on one only open or our "
        "out over page push put read safe sale save see she show shut sign slow so some soon stay stop take "
        "tell than that the them then they this time to too turn two up us use very wait walk want was we "
        "well went were what when who why will with work yes you your",
        "de": "ab alle als am an auf aus bei bin bis das dem den der des die du ein eine er es für gibt gut hat "
        "hier ich ihr im in ist ja kein man mit nach nein neu nicht noch nun nur ob oder ohne sehr sei sich "
        "sie sind so tür über um und uns vom von vor war was wer wie wir wo zu zum zur",
        "fr": "au aux avec ce ces cet dans de des du elle en est et il je la le les leur lui ma mais mes moi mon ne "
        "non nos nous on ou oui par pas pour que qui sa sans se ses si son sont sur ta te tes toi ton tout tu "
        "un une vos vous",
        "es": "al con de del el en es hay la las lo los mas más muy no para pero por qué que se ser si sí sin su "
        "sus un una uno y ya yo",
        "it": "che chi come con da dal del di gli ha ho il in la le lo ma nel non per più se si sono sul un una uno",
        "pt": "ao com da das de do dos ela ele em eu mas na nas no nos o os para por que se sem são um uma",
        "nl": "dat de een en het hij ik in is je met niet of om ook op te uit van voor wat ze zijn",
        "pl": "ale co czy do i jak jest na nie od po się tak to ty w z za że",
        "ru": "без был вы для до его ее же за из или их как ко мы на не нет но об он от по при со так то ты что это",
    }.items()
}
"""Words of up to four letters that many sentences of a language have."""


def in_capitals(sentence: str, source_language: str, target_language: str, spans: Sequence[Span] = ()) -> bool:
    """Whether a sentence is in capitals outside its spans, and Python converts the case of both languages rightly.

    At least half of its words must be words by their shape: long, or short and frequent. "USB HDMI VGA" is not in
    capitals, and neither is "USA AND UK".
    """
    if _DOTTED_I & {language.split("-")[0] for language in (source_language, target_language)}:
        return False
    text = "".join(_outside(sentence, spans))
    words = _WORD.findall(text)
    # Each word is checked: `str.isupper` of the sentence ignores words without case, such as those in Chinese.
    if not (text.isupper() and len(words) >= _LEAST_WORDS and all(map(str.isupper, words))):
        return False
    short = _SHORT_WORDS.get(source_language.split("-", maxsplit=1)[0], frozenset())
    num_words = sum(word.lower() in short or (len(word) >= _LONG and not _is_unspeakable(word)) for word in words)
    return 2 * num_words >= len(words)


def in_small_letters(sentence: str, spans: Sequence[Span] = ()) -> str:
    """The sentence in lower case but for its first character, its spans and words without vowels.

    Names lose their capital.
    """
    parts: list[str] = []
    begin = 0
    for span in (*spans, None):
        end = len(sentence) if span is None else span.start
        parts.append(
            _WORD.sub(lambda match: match[0] if _is_unspeakable(match[0]) else match[0].lower(), sentence[begin:end])
        )
        if span is not None:
            parts.append(sentence[span.start : span.end])
            begin = span.end
    return sentence[:1] + "".join(parts)[1:]


def _outside(sentence: str, spans: Sequence[Span]) -> Iterator[str]:
    """The parts outside the spans, with a space for each span."""
    begin = 0
    for span in spans:
        yield sentence[begin : span.start]
        yield " "
        begin = span.end
    yield sentence[begin:]


def _is_unspeakable(word: str) -> bool:
    """Whether a word has no vowel, such as HTML. Only the vowels of Latin, Greek and Cyrillic are known."""
    return _KNOWN_SCRIPT.fullmatch(word) is not None and not _VOWELS & set(unicodedata.normalize("NFD", word.lower()))
