"""The kinds of pages: one file and one line here each."""

from collections.abc import Callable

from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.book import draw_book
from qi2.data.pages.kinds.comic import draw_comic
from qi2.data.pages.kinds.infographic import draw_infographic
from qi2.data.pages.kinds.letter import draw_letter
from qi2.data.pages.kinds.paragraph import draw_paragraph
from qi2.data.pages.kinds.poster import draw_poster
from qi2.data.pages.kinds.receipt import draw_receipt
from qi2.data.pages.kinds.sign import draw_sign
from qi2.data.pages.kinds.slide import draw_slide

KINDS: dict[str, Callable[[Composer], None]] = {
    "slide": draw_slide,
    "poster": draw_poster,
    "comic": draw_comic,
    "infographic": draw_infographic,
    "receipt": draw_receipt,
    "sign": draw_sign,
    "paragraph": draw_paragraph,
    "letter": draw_letter,
    "book": draw_book,
}
VERTICAL = frozenset({"comic", "sign", "paragraph", "book"})  # kinds that Japanese also sets in columns
