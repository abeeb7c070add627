"""The inspector's page for every reader: in dark and in light, on a phone, without a mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from .browser import Page, browsing
from .inspected import HOSTILE, go, inspecting, press

CONTRAST_MIN = 4.5  # WCAG 2, level AA, text of usual size
PHONE_WIDTH = 360  # CSS pixels
TABS_MAX = 400
HOSTILE_OBJECT = f"#/object/Counter/{quote(HOSTILE, safe='')}"
# Each page, its heading, and an element that is there once it is drawn.
PAGES = {
    "#/": ("Overview", "polyline"),
    "#/class/Counter": ("Counter", "tbody tr"),
    "#/object/Counter/page 000": ("Counter page 000", "tbody tr"),
    HOSTILE_OBJECT: (f"Counter {HOSTILE}", "details"),
    "#/object/Counter/shop": ("Counter shop", "textarea"),
    "#/live": ("Live", "tbody tr"),
    "#/alarms": ("Alarms", "circle"),
    "#/processes": ("Processes", "tbody tr"),
}

CONTRASTS = Path(__file__).with_name("contrasts.js").read_text(encoding="utf-8")
COLORS = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"

# The controls that are seen; a dialog that is open has them all.
CONTROLS = """
[...(document.querySelector("dialog[open]") ?? document)
  .querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((each) => each.checkVisibility() && !each.disabled)
"""
# The overview draws some anew each second: those that are gone cannot be reached.
UNREACHED = "[...unreached].filter((each) => each.isConnected)"
BUSIEST = "section[aria-label] td.mono a"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a running program's store, with `--write`."""
    pytest.importorskip("apsw")
    pytest.importorskip("click")
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("reading")
    with (
        inspecting(folder / "store", "--write") as address,
        browsing(folder / "profile") as browser,
    ):
        opened = browser.open(address)
        opened.wait("document.querySelector('main table') !== null")
        yield opened


def visit(page: Page, place: str) -> None:
    """Go to a page of `PAGES`, and return when it is drawn."""
    heading, drawn = PAGES[place]
    go(page, place, f"document.querySelector('h1')?.textContent === {heading!r}")
    page.wait(f"document.querySelector('main {drawn}') !== null")


def open_all(page: Page) -> None:
    """Open each value, and those within it, which are drawn when they are opened."""
    values = "[...document.querySelectorAll('main details')]"
    page.wait(
        f"{values}.map((each) => (each.open = true, each.childElementCount > 1)).every(Boolean)"
    )


def prefer(page: Page, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.command("Emulation.setEmulatedMedia", features=features)


def test_the_page_is_dark_or_light_as_the_system_is(page: Page) -> None:
    """Every text of every page stands out from what is behind it, in both."""
    seen = {}
    try:
        for scheme in ("light", "dark"):
            prefer(page, scheme)
            for place in PAGES:
                visit(page, place)
                open_all(page)
                faint = [
                    (round(contrast, 2), text)
                    for contrast, text in page.evaluate(CONTRASTS)
                    if contrast < CONTRAST_MIN
                ]
                assert not faint, (scheme, place, faint)
            seen[scheme] = page.evaluate(COLORS)
    finally:
        prefer(page, "")

    (light_text, light_back), (dark_text, dark_back) = seen["light"], seen["dark"]
    assert light_text != dark_text
    assert light_back != dark_back


def test_a_dialog_is_dark_or_light_too(page: Page) -> None:
    """Its backdrop is no reason for faint text."""
    visit(page, HOSTILE_OBJECT)
    page.evaluate("document.querySelector('.row-tools button').click()")
    page.wait("document.querySelector('dialog[open]') !== null")
    try:
        for scheme in ("light", "dark"):
            prefer(page, scheme)
            assert min(contrast for contrast, _ in page.evaluate(CONTRASTS)) >= CONTRAST_MIN
    finally:
        prefer(page, "")
        page.evaluate("document.querySelector('dialog').close()")


def test_no_page_scrolls_sideways_on_a_phone(page: Page) -> None:
    """Only wide tables do, within themselves."""
    size = {"width": PHONE_WIDTH, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    page.command("Emulation.setDeviceMetricsOverride", **size)
    try:
        for place in PAGES:
            visit(page, place)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE_WIDTH, place
    finally:
        page.command("Emulation.clearDeviceMetricsOverride")


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the control that has the focus is as *wanted* says, an expression of `it`."""
    for _ in range(TABS_MAX):
        press(page, "Tab")
        if page.evaluate(f"((it) => {wanted})(document.activeElement)"):
            return
    raise AssertionError(f"Tab does not get to {wanted}")


def test_from_the_overview_to_a_value_by_tab_and_enter(page: Page) -> None:
    """A class, an object found by its name, a value opened, changed, and an order to the object."""
    visit(page, "#/")
    tab_to(page, "it.textContent === 'Counter'")
    press(page, "Enter")
    page.wait("document.querySelector('h1')?.textContent === 'Counter'")
    page.wait("document.querySelectorAll('tbody tr').length === 100")

    tab_to(page, "it.type === 'search'")
    page.command("Input.insertText", text=HOSTILE[:5])
    page.wait("document.querySelectorAll('tbody tr').length === 1")
    tab_to(page, f"it.textContent === {HOSTILE!r}")
    press(page, "Enter")
    page.wait("document.querySelector('main details') !== null")

    tab_to(page, "it.tagName === 'SUMMARY' && !it.parentElement.open")
    press(page, "Enter")
    page.wait("document.activeElement.nextElementSibling?.checkVisibility() === true")

    tab_to(page, "it.textContent === 'change'")
    press(page, "Enter")
    page.wait("document.activeElement.tagName === 'TEXTAREA'")
    page.evaluate("document.activeElement.select()")
    page.command("Input.insertText", text='{"nested": [2, {"a": [3]}]}')
    tab_to(page, "it.textContent === 'Store it'")
    press(page, "Enter")
    page.wait("document.querySelector('#result').textContent.startsWith('Stored')")


def test_every_control_is_reached_by_tab(page: Page) -> None:
    """In a dialog, those of the dialog only."""
    for place in PAGES:
        if place == "#/live":
            continue  # its links move on while one tabs through them; it can be paused
        visit(page, place)
        assert_all_reached(page, place)
    visit(page, HOSTILE_OBJECT)
    page.evaluate("document.querySelector('.row-tools button').click()")
    page.wait("document.activeElement.tagName === 'TEXTAREA'")
    assert_all_reached(page, "a dialog")
    press(page, "Escape")
    page.wait("document.querySelector('dialog') === null")


def assert_all_reached(page: Page, where: str) -> None:
    page.evaluate(f"window.unreached = new Set({CONTROLS})")
    count = page.evaluate("unreached.size")
    for _ in range(count + 20):
        press(page, "Tab")
        # A table that scrolls, and the page's end, may have the focus in between.
        if page.evaluate(f"(unreached.delete(document.activeElement), {UNREACHED}.length)") == 0:
            return
    missing = page.evaluate(f"{UNREACHED}.map((each) => each.outerHTML.slice(0, 80))")
    raise AssertionError(f"{where}: {missing}")


def test_a_link_keeps_the_focus_while_the_overview_is_drawn_anew(page: Page) -> None:
    """The list of the busiest objects stands still while one of its links has the focus."""
    visit(page, "#/")
    page.wait(f"document.querySelector('{BUSIEST}') !== null")
    # In one step, since a report may come between two.
    page.evaluate(f"window.focused = document.querySelector('{BUSIEST}'), focused.focus()")
    page.evaluate(
        "document.addEventListener('report', () => { window.drawn = (window.drawn ?? 0) + 1 })"
    )
    page.wait("window.drawn >= 2")
    assert page.evaluate("document.activeElement === focused")

    page.evaluate("focused.blur()")
    page.wait("!focused.isConnected")


def test_live_events_can_be_stopped_and_filtered_by_keys(page: Page) -> None:
    """So that a link among them can be followed."""
    visit(page, "#/live")
    tab_to(page, "it.textContent === 'Pause'")
    press(page, "Enter")
    page.wait("document.activeElement.getAttribute('aria-pressed') === 'true'")
    tab_to(page, "it.matches('tbody a')")
    press(page, "Enter")
    page.wait("location.hash.startsWith('#/object/')")
