"""What the world is made of: shapes, colours, backgrounds, letters, places and the features of its faces."""

RGB = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star")
OUTLINE = " outline"
OUTLINES = tuple(shape + OUTLINE for shape in SHAPES)  # drawn in black, in outline drawings only
COLORS: dict[str, RGB] = {
    "red": (220, 35, 40),
    "yellow": (250, 205, 20),
    "green": (25, 150, 60),
    "cyan": (0, 180, 205),
    "blue": (40, 70, 215),
    "purple": (150, 45, 185),
}
BACKGROUNDS: dict[str, RGB] = {
    "white": (250, 250, 250),
    "grey": (165, 165, 165),
    "pink": (250, 190, 205),
    "mint": (190, 238, 205),
}
INK: RGB = (20, 20, 20)
PAINTS = COLORS | {"black": INK}
# Twelve letters whose drawn masks overlap little with one another.
ALPHABET = "AFIKLMOSTUVZ"
LAYOUT_WORDS = (
    "MILK", "SALT", "FILM", "MAIL", "SAIL", "SILK", "TALK", "TAIL",
    "FAST", "LAST", "MIST", "OAK", "SKI", "VISIT", "SOLO", "ATLAS",
    "TAXI", "KIT", "FLUTE", "MUSIC", "TOAST", "LIMIT", "MOSS", "VAULT",
)  # fmt: skip
NUMBERS = {2: "two", 3: "three", 4: "four"}
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

HAIR: dict[str, RGB] = {"black": (35, 30, 30), "brown": (120, 70, 30), "blond": (240, 205, 95), "orange": (230, 110, 30)}
SKIN: dict[str, RGB] = {"light": (250, 215, 185), "medium": (205, 150, 105), "dark": (120, 78, 52)}
EXPRESSIONS = ("smiling", "neutral", "sad")

TEXTURES = ("plain", "stripes", "dots", "gradient")
DAMAGES = ("blur", "noise", "small", "hole")

_ROWS = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
_COLUMNS = {2: ("left", "right"), 3: ("left", "centre", "right")}


def place(row: int, col: int, grid: tuple[int, int]) -> str:
    """The name of a cell, e.g. ``top left`` or ``centre``; grids have two or three rows and columns."""
    row_name, col_name = _ROWS[grid[0]][row], _COLUMNS[grid[1]][col]
    return "centre" if (row_name, col_name) == ("middle", "centre") else f"{row_name} {col_name}"


def half(row: int, grid: tuple[int, int]) -> str:
    """The name of a row of cells, e.g. ``top``."""
    return _ROWS[grid[0]][row]
