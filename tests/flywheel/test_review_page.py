"""The review page in a real browser: by keyboard and by touch, on a phone, strangers' text as text, and when the server goes away."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from qi2.flywheel.review.queue import ReviewQueue
from qi2.flywheel.review.web import ReviewServer
from tests.flywheel.serving import Started, candidates, filled, running

pytest.importorskip("websockets.sync.client", reason="the browser is driven over a websocket: pip install websockets")
from tests.arena.browser import Browser, executable  # noqa: E402

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium or Chrome is installed (QI2_CHROME names one)")

READY = "document.querySelector('#review').getAttribute('aria-busy') === 'false'"
PROMPT = "document.querySelector('#prompt').textContent"
MESSAGE = "document.querySelector('#message').textContent"
SETTLED_MS = 300  # after which a key counts as a decision on the candidate that is shown
ATTACK = '<img src=x onerror="window.attacked=1"><script>window.attacked=1</script> "quoted" \u202e& more'


@pytest.fixture(name="browser")
def fixture_browser() -> Iterator[Browser]:
    with Browser() as browser:
        browser.window(1280, 800)
        yield browser


def settle(browser: Browser, prompt: str = "") -> None:
    browser.until(f"{READY}" + (f" && {PROMPT} === {prompt!r}" if prompt else ""))
    browser.run(f"new Promise((done) => setTimeout(done, {SETTLED_MS}))")


def shot(browser: Browser, name: str) -> None:
    """For people to look at, where QI2_SHOTS names a folder."""
    if folder := os.environ.get("QI2_SHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


def test_a_queue_is_reviewed_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", 6)
    prompts = [one.prompt for one in queue.pending()]
    with running(ReviewServer(queue)) as server:
        browser.open(server.address())
        settle(browser, prompts[0])
        browser.until("[...document.images].filter((image) => image.closest('#pictures')).every((image) => image.naturalWidth > 0)")
        shot(browser, "desktop")
        browser.key("a")
        settle(browser, prompts[1])
        browser.key("r")
        settle(browser, prompts[2])
        assert browser.run("document.querySelectorAll('#pictures figure').length") == 2  # an edit shows its reference
        shot(browser, "desktop-edit")
        browser.key("ArrowRight")
        settle(browser, prompts[3])
        browser.key("ArrowLeft")
        settle(browser, prompts[2])
        browser.key("u")
        settle(browser, prompts[1])
        browser.key("A")
        settle(browser, prompts[2])
        browser.key("e")
        browser.until("document.activeElement.id === 'text'")
        shot(browser, "desktop-editing")
        browser.run("document.querySelector('#text').value = 'a better instruction'")
        browser.key("a")  # typed into the text, no decision
        browser.key("Enter", modifiers=2)
        settle(browser, prompts[3])
        for prompt in prompts[4:]:
            browser.key("a")
            settle(browser, prompt)
        browser.key("a")
        browser.until(f"{MESSAGE}.startsWith('Everything is decided')")
    assert [(row["verdict"], row["id"]) for row in queue.decisions()] == [
        ("accept", "c0"),
        ("reject", "c1"),
        ("undo", "c1"),
        ("accept", "c1"),
        ("edit", "c2"),
        ("accept", "c3"),
        ("accept", "c4"),
        ("accept", "c5"),
    ]
    assert queue.accepted()[2].prompt == "a better instructiona" and browser.errors == []


def test_escape_leaves_the_prompt_and_a_held_key_decides_once(browser: Browser, tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", 3)
    with running(ReviewServer(queue)) as server:
        browser.open(server.address())
        settle(browser)
        browser.key("e")
        browser.until("document.activeElement.id === 'text'")
        browser.key("Escape")
        browser.until("document.querySelector('#editing').hidden")
        for modifiers in (2, 4):  # Ctrl, Meta: the browser's own
            browser.call("Input.dispatchKeyEvent", type="keyDown", key="a", modifiers=modifiers)
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="a", autoRepeat=True)
        browser.run(f"new Promise((done) => setTimeout(done, {SETTLED_MS}))")
        assert queue.decisions() == []
        browser.key("a")
        browser.key("a")  # too soon to be a decision on the next one
        settle(browser)
        assert len(queue.decisions()) == 1


def test_a_phone_shows_it_all_and_decides_by_touch(browser: Browser, tmp_path: Path) -> None:
    browser.window(390, 760, phone=True)
    queue = filled(tmp_path / "queue", 4)
    with running(ReviewServer(queue)) as server:
        browser.open(server.address())
        settle(browser)
        browser.until("[...document.images].filter((image) => image.closest('#pictures')).every((image) => image.naturalWidth > 0)")
        shot(browser, "phone")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        box = "(() => { const b = document.querySelector('[data-act=accept]').getBoundingClientRect(); return [b.bottom <= innerHeight, b.height >= 44] })()"
        assert browser.run(box) == [True, True]
        browser.tap("[data-act=accept]")
        settle(browser)
        browser.tap("[data-act=reject]")
        settle(browser)
        shot(browser, "phone-edit")
        browser.tap("[data-act=edit]")
        browser.until("!document.querySelector('#editing').hidden")
        shot(browser, "phone-editing")
        browser.run("document.querySelector('#text').value = 'shorter'")
        browser.run("document.querySelector('#editing button[type=submit]').scrollIntoView({block: 'center'})")
        browser.tap("#editing button[type=submit]")
        settle(browser)
        browser.tap("[data-act=undo]")
        settle(browser)
    assert [row["verdict"] for row in queue.decisions()] == ["accept", "reject", "edit", "undo"] and browser.errors == []


def test_what_a_stranger_wrote_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path / "queue")
    evil = [
        type(one)(
            one.id, one.task, ATTACK, one.target, one.references, {"how": ATTACK, "signal": ATTACK, "neighbours": [{"caption": ATTACK, "id": ATTACK}]}, ATTACK
        )
        for one in candidates(queue, 2)
    ]
    queue.put(evil)
    with running(ReviewServer(queue)) as server:
        browser.open(server.address())
        settle(browser)
        assert browser.run(PROMPT) == ATTACK and browser.run("window.attacked === undefined")
        assert browser.run("document.querySelectorAll('main script, main img[src=x]').length") == 0
        browser.key("e")
        browser.until("document.activeElement.id === 'text'")
        assert browser.run("document.querySelector('#text').value") == ATTACK and browser.run("window.attacked === undefined")
    assert browser.errors == []


def test_a_picture_is_enlarged_and_keys_wait_meanwhile(browser: Browser, tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", 2)
    with running(ReviewServer(queue)) as server:
        browser.open(server.address())
        settle(browser)
        browser.run("document.querySelector('.target button').click()")
        browser.until("document.querySelector('#large').open")
        browser.key("a")
        browser.run("document.querySelector('#large').click()")
        assert queue.decisions() == [] and browser.run("!document.querySelector('#large').open")


def test_a_decision_outlives_a_server_that_is_killed(browser: Browser, tmp_path: Path) -> None:
    filled(tmp_path / "queue", 3).close()
    server = Started("review", "--queue", str(tmp_path / "queue"), "--port", "0")
    browser.open(f"http://127.0.0.1:{server.port}/")
    settle(browser)
    server.end(signal.SIGKILL)
    browser.key("a")
    browser.until(f"{MESSAGE}.includes('cannot be reached')")
    again = Started("review", "--queue", str(tmp_path / "queue"), "--port", str(server.port))
    browser.run("document.querySelector('#again').click()")
    browser.until(f"{READY} && document.querySelector('#progress').textContent.startsWith('2 of 3 to look at')")
    assert again.end(signal.SIGINT) == 0
    assert [one.id for one in ReviewQueue(tmp_path / "queue").accepted()] == ["c0"]


def test_nothing_comes_from_elsewhere(browser: Browser, tmp_path: Path) -> None:
    with running(ReviewServer(filled(tmp_path / "queue", 2))) as server:
        browser.open(server.address())
        settle(browser)
        assert browser.run(
            "performance.getEntriesByType('resource').every((one) => new URL(one.name).origin === location.origin || one.name.startsWith('data:'))"
        )
        assert browser.run("fetch('https://example.org/').then(() => 'reached', () => 'blocked')") == "blocked"
