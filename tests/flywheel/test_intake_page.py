"""The feedback form in a real browser: asked for consent, stored as said, refused without the link, and sent again after the server was away."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qi2.flywheel.intake.web import IntakeServer
from qi2.flywheel.store import SignalStore
from tests.flywheel.serving import Started, blank, running

pytest.importorskip("websockets.sync.client", reason="the browser is driven over a websocket: pip install websockets")
from tests.arena.browser import Browser, executable  # noqa: E402

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium or Chrome is installed (QI2_CHROME names one)")

MESSAGE = "document.querySelector('#message').textContent"


@pytest.fixture(name="browser")
def fixture_browser() -> Iterator[Browser]:
    with Browser() as browser:
        browser.window(1000, 900)
        yield browser


def fill(browser: Browser, picture: Path, prompt: str, references: tuple[Path, ...] = (), **chosen: str) -> None:
    """Choose files and type, as a person does."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    for selector, files in (("#image", [picture]), ("#references", references)):
        node = browser.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])
    for name, text in (("prompt", prompt), ("why", "it is wrong"), ("subject", "anna")):
        browser.run(f"document.querySelector('#{name}').value = {text!r}")
    for name, value in ({"verdict": "bad"} | chosen).items():
        browser.run(f"document.querySelector('[name={name}][value={value}]').click()")
    browser.until("!document.querySelector('#shown').hidden && document.querySelector('#shown').naturalWidth > 0")


def submit(browser: Browser, told: str) -> Any:
    browser.run("document.querySelector('button[type=submit]').click()")
    browser.until(f"{MESSAGE}.includes({told!r})")
    return browser.run(MESSAGE)


def shot(browser: Browser, name: str) -> None:
    """For people to look at, where QI2_SHOTS names a folder."""
    if folder := os.environ.get("QI2_SHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


def test_what_the_form_says_is_stored_for_no_more_than_was_allowed(browser: Browser, tmp_path: Path) -> None:
    blank().save(tmp_path / "a.png")
    with running(IntakeServer(SignalStore(tmp_path / "s"))) as server:
        browser.open(server.address())
        fill(browser, tmp_path / "a.png", "a <b>cat</b>")
        shot(browser, "form")
        assert "anna" in submit(browser, "Stored")
        fill(browser, tmp_path / "a.png", "make it blue", (tmp_path / "a.png",), consent="training")
        submit(browser, "Stored")
        first, second = server.store.all()
    assert first.prompt == "a <b>cat</b>" and first.consent == "diagnosis" and first.subject == "anna" and first.verdict["words"] == "it is wrong"
    assert second.consent == "training" and second.task == "ti2i" and browser.errors == []


def test_the_form_fits_a_phone_and_needs_its_link(browser: Browser, tmp_path: Path) -> None:
    browser.window(390, 760, phone=True)
    blank().save(tmp_path / "a.png")
    (tmp_path / "no.png").write_text("no picture")
    with running(IntakeServer(SignalStore(tmp_path / "s"))) as server:
        browser.open(server.address().partition("#")[0])
        fill(browser, tmp_path / "a.png", "a cat")
        shot(browser, "form-phone")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        submit(browser, "whole link")
        assert server.store.all() == []


def test_a_server_that_was_away_gets_it_when_it_is_sent_again(browser: Browser, tmp_path: Path) -> None:
    blank().save(tmp_path / "a.png")
    server = Started("intake", "--store", str(tmp_path / "s"), "--port", "0")
    token = server.said.split("the token ")[1].split()[0]
    browser.open(f"http://127.0.0.1:{server.port}/#{token}")
    fill(browser, tmp_path / "a.png", "a cat")
    server.end(signal.SIGKILL)
    submit(browser, "send it again")
    again = Started("intake", "--store", str(tmp_path / "s"), "--port", str(server.port))
    submit(browser, "Stored")
    again.end(signal.SIGINT)
    assert [one.prompt for one in SignalStore(tmp_path / "s").all()] == ["a cat"]
