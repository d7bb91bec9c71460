"""The page in a real browser: votes by keyboard and by touch, editing pairs with their source, on a phone, in the dark, and when the server goes away."""

import json
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from qi2.arena.votes import Votes
from tests.arena.conftest import MODELS, Process, served

pytest.importorskip("websockets.sync.client", reason="the browser is driven over a websocket: pip install websockets")
from tests.arena.browser import Browser, executable  # noqa: E402

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium or Chrome is installed (QI2_CHROME names one)")

READY = "document.querySelector('#vote').getAttribute('aria-busy') === 'false'"
COUNT = "document.querySelector('#count').textContent"
SETTLED_MS = 300  # after which a key counts as a judgement of the pair that is shown


@pytest.fixture(scope="module", name="browser")
def fixture_browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(name="server")
def fixture_server(evaluation: Path, tmp_path: Path) -> Iterator[Any]:
    with served([str(evaluation)], tmp_path / "v.sqlite") as server:
        yield server


def ready(browser: Browser) -> None:
    """Wait until a pair is shown and keys count."""
    browser.until(READY)
    browser.run(f"new Promise((done) => setTimeout(done, {SETTLED_MS}))")


def enter(browser: Browser, server: Any, width: int = 1280, height: int = 800, **window: Any) -> None:
    """Open the page as a new voter."""
    browser.errors.clear()
    browser.window(width, height, **window)
    browser.call("Network.clearBrowserCookies")
    browser.open(server.address() if hasattr(server, "address") else f"http://127.0.0.1:{server.port}/")
    browser.run("localStorage.clear()")
    ready(browser)


def go_on_to(browser: Browser, suite: str) -> None:
    """Skip until a pair of this suite is shown."""
    while browser.run("document.querySelector('#question').className") != suite:
        before = browser.run("document.querySelector('#left').src + document.querySelector('#right').src")
        browser.key("s")
        browser.until(f"document.querySelector('#left').src + document.querySelector('#right').src !== {before!r}")
        ready(browser)


def choices(server: Any) -> list[str]:
    return [row["choice"] for row in server.booth.votes.rows()]


def wait_for_votes(browser: Browser, text: str) -> None:
    browser.until(f"{COUNT}.startsWith({text!r})")
    ready(browser)


def test_votes_by_keyboard_are_stored_and_open_the_leaderboard(browser: Browser, server: Any) -> None:
    enter(browser, server)
    browser.key("s")
    browser.until(f"{COUNT}.startsWith('0 votes')")
    ready(browser)
    for number, (key, text) in enumerate({"ArrowLeft": "1 vote ", "ArrowDown": "2 votes", "ArrowRight": "3 votes"}.items()):
        browser.key(key)
        wait_for_votes(browser, text)
        assert choices(server) == ["skip", "left", "tie", "right"][: number + 2]
    pictures = browser.run("['left', 'right'].map((side) => document.getElementById(side).naturalWidth)")
    assert pictures == [64, 64] and not any(name in browser.run("document.documentElement.outerHTML") for name in MODELS)
    browser.run("document.querySelector('#show-board').click()")
    browser.until("document.querySelector('#table td.name')")
    assert set(browser.run("[...document.querySelectorAll('td.name')].map((cell) => cell.textContent)")) <= set(MODELS)
    browser.key("ArrowLeft")  # looking at the leaderboard is no voting
    assert choices(server) == ["skip", "left", "tie", "right"] and browser.errors == []


def test_the_leaderboard_says_how_far_it_is(browser: Browser, server: Any) -> None:
    enter(browser, server)
    browser.run("document.querySelector('#show-board').click()")
    browser.until("document.querySelector('#board-message').textContent.includes('opens after 3 votes')")


def test_a_key_held_down_and_shortcuts_are_no_votes(browser: Browser, server: Any) -> None:
    enter(browser, server)
    browser.key("ArrowLeft", autoRepeat=True)
    for modifier in (1, 2, 4):  # Alt, Control, Meta: browser's own shortcuts
        browser.call("Input.dispatchKeyEvent", type="rawKeyDown", key="ArrowLeft", modifiers=modifier)
    browser.key("x")
    assert choices(server) == []
    for key in ("ArrowLeft", "ArrowRight", "ArrowLeft"):
        browser.key(key)  # the second and third come before the next pair was seen
    wait_for_votes(browser, "1 vote ")
    assert choices(server) == ["left"]


def test_edits_show_their_source_and_pictures_enlarge(browser: Browser, server: Any) -> None:
    enter(browser, server)
    go_on_to(browser, "edit")
    assert browser.run("document.querySelector('#sources img').naturalWidth") == 64
    assert "source" in browser.run("document.querySelector('#asked').textContent")
    browser.run("document.querySelector('#sources button').click()")
    assert browser.run("document.querySelector('#large').open && document.querySelector('#large img').src === document.querySelector('#sources img').src")
    before = len(choices(server))
    browser.key("ArrowLeft")
    browser.run("document.querySelector('#large').click()")
    assert not browser.run("document.querySelector('#large').open") and len(choices(server)) == before
    go_on_to(browser, "t2i")
    assert browser.run("document.querySelector('#sources').childElementCount") == 0


@pytest.mark.parametrize("suite", ["t2i", "edit"])
def test_a_phone_shows_all_without_scrolling_aside_and_takes_touches(browser: Browser, server: Any, suite: str) -> None:
    enter(browser, server, 360, 740, phone=True)
    go_on_to(browser, suite)
    assert browser.run("document.documentElement.scrollWidth") == 360
    boxes = browser.run("['#prompt', '#left', '#right', '[data-choice=tie]'].map((s) => document.querySelector(s).getBoundingClientRect().toJSON())")
    assert all(box["left"] >= 0 and box["right"] <= 360 and box["top"] >= 0 and box["bottom"] <= 740 for box in boxes)
    assert boxes[1]["width"] >= 200 and boxes[2]["top"] >= boxes[1]["bottom"]
    heights = browser.run("[...document.querySelectorAll('[data-choice]:not(.quiet)')].map((button) => button.getBoundingClientRect().height)")
    assert min(heights) >= 44  # px, what a finger needs
    before = len(choices(server))
    browser.tap("[data-choice=right]")
    wait_for_votes(browser, "1 vote ")
    assert choices(server)[before:] == ["right"]


def test_the_page_can_be_used_without_seeing_it(browser: Browser, server: Any) -> None:
    enter(browser, server)
    assert browser.run("document.documentElement.lang") == "en" and browser.run("document.activeElement.id") == "prompt"
    nameless = "[...document.querySelectorAll('button, select')].filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).length"
    assert browser.run(nameless) == 0
    assert browser.run("[...document.images].filter((image) => !image.alt && image.closest('#question')).length") == 0
    for _ in range(6):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        if browser.run("document.activeElement.dataset.choice") == "tie":
            break
    assert browser.run("document.activeElement.dataset.choice") == "tie"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    wait_for_votes(browser, "1 vote ")
    assert choices(server) == ["tie"]


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_background(browser: Browser, server: Any, dark: bool) -> None:
    """Contrast of at least 4.5 (WCAG AA)."""
    enter(browser, server, dark=dark)
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    for selector in ("#prompt", "#asked", "#count", ".quiet", "#show-vote"):
        assert contrast(browser.run(f"getComputedStyle(document.querySelector('{selector}')).color"), background) >= 4.5, selector


def contrast(one: str, other: str) -> float:
    lights = []
    for text in (one, other):
        channels = [int(value) / 255 for value in text.removeprefix("rgb(").removesuffix(")").split(",")]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_vote_is_kept_while_the_server_is_dead_and_sent_when_it_is_back(browser: Browser, evaluation: Path, tmp_path: Path) -> None:
    """Killed, not stopped; the page's cookie, ticket and vote outlive it."""
    server = Process(evaluation, tmp_path / "v.sqlite")
    enter(browser, server)
    browser.key("ArrowRight")
    wait_for_votes(browser, "1 vote ")
    server.end(signal.SIGKILL)
    browser.key("ArrowLeft")
    browser.until("!document.querySelector('#again').hidden")
    assert "kept" in browser.run("document.querySelector('#message').textContent")
    again = Process(evaluation, tmp_path / "v.sqlite", server.port)
    browser.run("document.querySelector('#again').click()")
    wait_for_votes(browser, "2 votes")
    assert browser.run("localStorage.length") == 0 and again.end(signal.SIGINT) == 0
    assert [row["choice"] for row in Votes(tmp_path / "v.sqlite").rows()] == ["right", "left"]


def test_another_sites_page_cannot_vote_through_the_voters_browser(browser: Browser, server: Any, tmp_path: Path) -> None:
    """By script, with a ticket that it should not have, and by a form that sends itself: both requests arrive and are refused."""
    enter(browser, server)
    ticket = browser.run("fetch('pair').then((answer) => answer.json())")["ticket"]
    (tmp_path / "index.html").write_text("<!doctype html><title>another site</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        vote = json.dumps({"ticket": ticket, "choice": "left"})
        form = (
            f"const f = document.createElement('form'); f.method = 'post'; f.enctype = 'text/plain'; f.action = '{server.address()}vote'; f.target = '_self';"
        )
        for attack in (
            f"fetch('{server.address()}vote', {{method: 'POST', mode: 'no-cors', credentials: 'include', body: '{vote}'}}).catch(() => 0)",
            f"{form} const i = document.createElement('input'); i.name = '{vote}'; f.append(i); document.body.append(f); f.submit()",
        ):
            browser.open(f"http://localhost:{other.server_address[1]}/")
            browser.statuses.clear()
            browser.run(attack)
            browser.until_answered(403)
        other.shutdown()
    assert choices(server) == []


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_an_invitation_lets_in_and_leaves_the_address_bar(browser: Browser, evaluation: Path, tmp_path: Path) -> None:
    with served([str(evaluation)], tmp_path / "v.sqlite", host="0.0.0.0") as server:
        browser.call("Network.clearBrowserCookies")
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        browser.open(address)
        browser.until("document.querySelector('#message').textContent.includes('invitation')")
        browser.open("about:blank#")
        browser.open(address + "#" + server.door.invitation)
        ready(browser)
        assert browser.run("location.href") == address
        browser.open(address)  # known by the cookie
        ready(browser)
