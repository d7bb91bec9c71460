"""The languages of the pages and what is written in them: words, phrases, and sentences composed of subjects, predicates and times.

``texts/CODE.txt`` holds each language's own words in sections; entries end with a line or a semicolon. In a predicate ``|`` parts the verb from
the rest, for languages that put the subject between them.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.rng import key

HELDOUT_SHARE = 0.125  # of all titles
DIGITS = "0123456789"


@dataclass(frozen=True)
class Language:
    """How a language is written. ``date`` has slots d, m, y; ``price`` has the slot p; ``cents`` is the decimal mark, empty for whole amounts."""

    name: str
    script: str
    date: str
    price: str
    cents: str = ""
    direction: str = "ltr"
    spaced: bool = True  # words are parted by spaces
    letters_per_token: float = 4.0  # rough, to bound a page's text
    digits: str = DIGITS
    percent: str = "%"


LANGUAGES: dict[str, Language] = {
    "en": Language("English", "Latin", "{m}/{d}/{y}", "${p}", "."),
    "de": Language("German", "Latin", "{d}.{m}.{y}", "{p} €", ","),
    "fr": Language("French", "Latin", "{d:02}/{m:02}/{y}", "{p} €", ","),
    "es": Language("Spanish", "Latin", "{d}/{m}/{y}", "{p} €", ","),
    "it": Language("Italian", "Latin", "{d:02}/{m:02}/{y}", "€ {p}", ","),
    "pt": Language("Portuguese", "Latin", "{d:02}/{m:02}/{y}", "R$ {p}", ","),
    "pl": Language("Polish", "Latin", "{d:02}.{m:02}.{y}", "{p} zł", ",", letters_per_token=3),
    "tr": Language("Turkish", "Latin", "{d:02}.{m:02}.{y}", "{p} TL", ",", letters_per_token=3),
    "vi": Language("Vietnamese", "Latin", "{d}/{m}/{y}", "{p}.000 đ", letters_per_token=3),
    "ru": Language("Russian", "Cyrillic", "{d:02}.{m:02}.{y}", "{p} руб.", letters_per_token=3),
    "uk": Language("Ukrainian", "Cyrillic", "{d:02}.{m:02}.{y}", "{p} грн", letters_per_token=3),
    "el": Language("Greek", "Greek", "{d}/{m}/{y}", "{p} €", ",", letters_per_token=2),
    "ar": Language("Arabic", "Arabic", "{d}-{m}-{y}", "{p} ريال", direction="rtl", letters_per_token=2, digits="٠١٢٣٤٥٦٧٨٩", percent="٪"),
    "he": Language("Hebrew", "Hebrew", "{d}.{m}.{y}", "{p} ₪", direction="rtl", letters_per_token=2),
    "hi": Language("Hindi", "Devanagari", "{d}/{m}/{y}", "₹{p}", letters_per_token=2),
    "th": Language("Thai", "Thai", "{d}-{m}-{y}", "{p} บาท", spaced=False, letters_per_token=1.5, digits="๐๑๒๓๔๕๖๗๘๙", percent=""),
    "zh": Language("Chinese", "Han", "{y}年{m}月{d}日", "{p}元", spaced=False, letters_per_token=1),
    "ja": Language("Japanese", "Japanese", "{y}年{m}月{d}日", "{p}円", spaced=False, letters_per_token=1),
    "ko": Language("Korean", "Hangul", "{y}년 {m}월 {d}일", "{p}원", letters_per_token=1.5),
}
SECTIONS = ("templates", "titles", "subjects", "predicates", "times", "phrases", "nouns", "names", "labels")
LABELS = ("total", "chapter", "greeting", "closing")  # the entries of the section labels


def language(code: str) -> Language:
    """The language with this code; raises QI2Error for an unknown one."""
    if code not in LANGUAGES:
        raise QI2Error(f"no language {code!r} for pages; choose from {', '.join(LANGUAGES)}")
    return LANGUAGES[code]


@lru_cache(maxsize=64)
def texts(code: str) -> dict[str, tuple[str, ...]]:
    """The sections of the language's text file."""
    whole = (files("qi2.data.pages") / "texts" / f"{code}.txt").read_text("utf-8")
    parts = re.split(r"^\[(\w+)\]$", whole, flags=re.MULTILINE)[1:]
    found = {name: tuple(filter(None, map(str.strip, re.split(r"[;\n]", body)))) for name, body in zip(parts[::2], parts[1::2], strict=True)}
    if set(found) != set(SECTIONS):
        raise QI2Error(f"texts/{code}.txt needs exactly the sections {', '.join(SECTIONS)}")
    return found


@lru_cache(maxsize=64)
def alphabet(code: str) -> str:
    """Every character that a page of the language may show."""
    form = LANGUAGES[code]
    entries = [re.sub(r"{\w+}", "", entry) for part in texts(code).values() for entry in part]
    words = "".join(entries) + "".join(_capital(code, entry) for entry in entries if entry)
    frames = re.sub(r"{[^}]+}", "", form.date + form.price) + form.cents + form.percent
    return "".join(sorted(set(words + frames + form.digits) - set("| ")))


def title_split(title: str) -> str:
    """``train`` or ``heldout``, by a hash of the title: the same title is always on the same side."""
    return "heldout" if key(0, f"page-title-{title}") / 2**63 < HELDOUT_SHARE else "train"


class Writer:
    """Writes the strings of one page; no sentence comes twice. ``split`` is ``train``, ``heldout`` or ``any`` and bounds the titles."""

    def __init__(self, rng: np.random.Generator, code: str, split: str = "any") -> None:
        self.rng, self.code, self.form, self.split = rng, code, language(code), split
        self._texts, self._said = texts(code), set[str]()

    def pick(self, section: str) -> str:
        """A random entry of a section."""
        entries = self._texts[section]
        return entries[int(self.rng.integers(len(entries)))]

    def label(self, name: str, n: object = "") -> str:
        """A fixed text, one of ``LABELS``; ``n`` is the chapter's number or the name that is greeted."""
        return self._texts["labels"][LABELS.index(name)].format(n=self.number(n) if isinstance(n, int) else n)

    def titles(self) -> list[str]:
        """Titles of the split from long to short: a composed one, then single words, at last numbers, which fit everywhere."""
        nouns = sorted((_capital(self.code, noun) for noun in self._texts["nouns"]), key=len)
        numbers = [self.number(number) for number in self.rng.permutation(np.arange(10, 100))]
        shorter = [text for text in (*self.rng.permutation(nouns)[:6], *nouns, *numbers) if self._allowed(str(text))]
        return [self._composed_title(), *map(str, shorter)]

    def nouns(self, n: int) -> list[str]:
        """Up to ``n`` different nouns, capitalised."""
        entries = self._texts["nouns"]
        return [_capital(self.code, entries[int(i)]) for i in self.rng.permutation(len(entries))[:n]]

    def phrases(self, n: int) -> list[str]:
        """Up to ``n`` different short phrases."""
        entries = self._texts["phrases"]
        return [entries[int(i)] for i in self.rng.permutation(len(entries))[:n]]

    def sentence(self) -> str:
        """A sentence that this page does not have yet."""
        for _ in range(100):
            verb, _, rest = self.pick("predicates").partition("|")
            predicate = " ".join(filter(None, (verb.strip(), rest.strip())))
            slots = {"subject": self.pick("subjects"), "time": self.pick("times"), "predicate": predicate, "verb": verb, "rest": rest}
            text = _capital(self.code, " ".join(self.pick("templates").format(**slots).split()))
            if text not in self._said:
                self._said.add(text)
                return text
        raise QI2Error(f"texts/{self.code}.txt has too few sentences for one page; add subjects, predicates or times")

    def prose(self, tokens: int) -> list[str]:
        """Sentences of together roughly ``tokens`` tokens at most."""
        left, found = tokens * self.form.letters_per_token, list[str]()
        while left > 0:
            found.append(self.sentence())
            left -= len(found[-1])
        return found[:-1] or found

    def join(self, sentences: list[str]) -> str:
        """Sentences one after another as the language writes them."""
        return ("" if self.code in ("zh", "ja") else " ").join(sentences)

    def number(self, value: object) -> str:
        """A number, or a text with numbers, in the language's digits."""
        return str(value).translate(str.maketrans(DIGITS, self.form.digits))

    def price(self, amount: int) -> str:
        """``amount`` cents, or whole units where the language's money has none."""
        mark = self.form.cents
        return self.number(self.form.price.format(p=f"{amount // 100}{mark}{amount % 100:02}" if mark else amount))

    def date(self) -> str:
        """A date between 1990 and 2039."""
        day, month, year = (int(self.rng.integers(low, high)) for low, high in ((1, 29), (1, 13), (1990, 2040)))
        return self.number(self.form.date.format(d=day, m=month, y=year))

    def _composed_title(self) -> str:
        for _ in range(1000):
            first, second = map(str, self.rng.choice(self._texts["nouns"], 2, replace=False))
            text = self.pick("titles").format(a=_capital(self.code, first), b=second)
            if self._allowed(text):
                return text
        raise QI2Error(f"texts/{self.code}.txt has no title for the split {self.split}; add nouns")

    def _allowed(self, title: str) -> bool:
        return self.split in ("any", title_split(title))


def _capital(code: str, text: str) -> str:
    first = "İ" if code == "tr" and text[0] == "i" else text[0].upper()
    return first + text[1:]
