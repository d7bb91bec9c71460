"""A poster: large title, slogan, a drawing, and a band with date and price."""

from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import emblem, title_height


def draw_poster(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, c.margin
    ground, band = c.theme.ground, height - max(round(0.14 * height), 2 * c.least + m) if height >= 160 else height
    top = title_height(c, 0.28) + m
    title = c.text("title", c.write.titles(), (m, m, width - m, top), round(0.16 * height), ground, c.theme.strong(ground), align="centre", bold=True)
    y = (title[3] if title else top) + m
    slogan = c.text("slogan", c.write.phrases(4), (m, y, width - m, min(band - m, y + 4 * c.body)), round(1.3 * c.body), ground, align="centre")
    y = (slogan[3] if slogan else y) + m
    if band - m - y >= 24:
        side = round(0.12 * width)
        emblem(c, (side, y, width - side, band - m))
    if band < height:
        c.rectangle((0, band, width, height), c.theme.accent)
        for role, text, box, align in (
            ("date", c.write.date(), (m, band + m // 2, round(0.58 * width), height - m // 2), "start"),
            ("price", c.write.price(100 * int(c.rng.integers(3, 90))), (round(0.6 * width), band + m // 2, width - m, height - m // 2), "end"),
        ):
            c.text(role, text, box, round(1.5 * c.body), c.theme.accent, align=align, valign="middle", bold=role == "price")
