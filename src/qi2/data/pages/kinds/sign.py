"""A sign: a framed board on a wall with a title and sometimes a phrase and an arrow."""

from qi2.data.pages.compose import Composer
from qi2.data.pages.layout import Box


def draw_sign(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, c.margin
    c.rectangle((0, 0, width, height), c.theme.panel)
    if min(width, height) >= 160:
        _bricks(c)
    edge = m if min(width, height) < 120 else 2 * m
    board = (edge, edge, width - edge, height - edge)
    ground = c.theme.accent
    c.rectangle(board, c.theme.ink(ground), radius=m)
    line = max(1, m // 4)
    c.rectangle((board[0] + line, board[1] + line, board[2] - line, board[3] - line), ground, radius=m)
    inner = (board[0] + line + m // 2 + 1, board[1] + line + m // 2, board[2] - line - m // 2 - 1, board[3] - line - m // 2)
    arrow = height >= 160 and not c.vertical and c.rng.random() < 0.4
    _texts(c, inner if not arrow else (inner[0], inner[1], inner[2], inner[3] - height // 6), board)
    if arrow:
        _arrow(c, (inner[0] + (inner[2] - inner[0]) // 4, inner[3] - height // 7, inner[2] - (inner[2] - inner[0]) // 4, inner[3]))


def _texts(c: Composer, inner: Box, board: Box) -> None:
    ground = c.theme.accent
    more = min(c.size) >= 128 and not c.vertical and c.rng.random() < 0.7
    bottom = inner[1] + round(0.62 * (inner[3] - inner[1])) if more else inner[3]
    most = round(0.4 * min(board[2] - board[0], board[3] - board[1]))
    c.text("title", c.write.titles(), (inner[0], inner[1], inner[2], bottom), most, ground, align="centre", valign="middle", bold=True)
    if more:
        phrase = c.write.phrases(3)
        c.text("phrase", phrase, (inner[0], bottom + 2, inner[2], inner[3]), round(0.45 * most), ground, align="centre", valign="middle")


def _bricks(c: Composer) -> None:
    """Joints of a wall behind the board."""
    step = max(12, c.margin)
    color = tuple(value * 9 // 10 for value in c.theme.panel)
    for row in range(c.size[1] // step + 1):
        c.rectangle((0, row * step, c.size[0], row * step + 1), (color[0], color[1], color[2]))
        for x in range((row % 2) * step, c.size[0], 2 * step):
            c.rectangle((x, row * step, x + 1, (row + 1) * step), (color[0], color[1], color[2]))


def _arrow(c: Composer, box: Box) -> None:
    left, top, right, bottom = box
    middle, head, color = (top + bottom) / 2, (bottom - top) / 2, c.theme.ink(c.theme.accent)
    c.rectangle((left, round(middle - head / 4), round(right - head), round(middle + head / 4)), color)
    c.polygon([(right - head, top), (right, middle), (right - head, bottom)], color)
