"""The pages in a real Chromium: nothing in the console, nothing fetched, nothing wider than the window, in both themes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import chromium
from support.sweeps_in_a_store import DRAWN, SETTLED, by_rate, write_sweep

from jobs.reports.write import compare, report
from service.records.run_record import RunRecord
from service.storage.local import LocalStore

WriteRun = Callable[..., RunRecord]

# Elements that stick out of the window, beside those within a box that scrolls by itself.
WIDER = """
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.right > document.documentElement.clientWidth + 0.5 || box.left < -0.5) && !element.closest('.wide');
}).map(element => element.tagName + ' ' + element.className).slice(0, 5)
"""
SCROLLS = (
    "[document.scrollingElement, ...document.querySelectorAll('.wide')].filter(box => box.scrollWidth > box.clientWidth).length"
)
PICTURES = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
CONTRAST = """
(() => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(part => {
    const value = part / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }).reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const paper = light(getComputedStyle(document.documentElement).backgroundColor);
  const faint = [];
  for (const element of document.querySelectorAll('p, td, th, dd, dt, h1, h2, h3, a, li, span.state, figcaption, svg text')) {
    const style = getComputedStyle(element);
    const ink = light(element.closest('svg') ? style.fill : style.color);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    // Numbers within the cells of the matrix stand on the cells' colours.
    if (ratio < 4.5 && !element.closest('[aria-label^=Confusion]')) faint.push(element.textContent.slice(0, 30) + ' ' + ratio);
  }
  return faint.slice(0, 5);
})()
"""


def pages(write_run: WriteRun, folder: Path) -> dict[str, Path]:
    """A page of each kind."""
    record = write_run("a-run")
    store = record.store
    assert isinstance(store, LocalStore)
    write_run(
        "a-run-of-quite-a-long-name-as-people-give-them", spec={"seed": 1, "optimizer": {"name": "sgd", "learning_rate": 0.1}}
    )
    made = {
        "run": report(record),
        "running": report(write_run("running", state="running")),
        "queued": report(write_run("queued", state="queued")),
        "failed": report(
            write_run("failed", state="failed", error={"kind": "user", "message": "x" * 300, "traceback": "y" * 900})
        ),
        "many": report(write_run("many", classes=[f"a class called {n}" for n in range(100)], examples=2000, shape=(32, 32, 3))),
        "compare": compare(store, ["a-run", "a-run-of-quite-a-long-name-as-people-give-them", "failed"]),
    }
    made |= {
        "sweep": report(write_sweep(store, "sweep", states={3: "failed", 8: "running", 9: "queued", 20: "cancelled"})),
        "random sweep": report(write_sweep(store, "random", DRAWN, by_rate, states=dict.fromkeys(range(10, 40, 3), "stopped"))),
        "sweep of words": report(write_sweep(store, "words", SETTLED, lambda trial: 0.9 + 0.01 * (trial["number"] % 5))),
        "queued sweep": report(write_sweep(store, "queued-sweep", state="queued")),
        "compared sweep": compare(store, ["sweep", "words-0003", "a-run"]),
    }
    files = {name: folder / f"{name}.html" for name in made}
    for name, page in made.items():
        files[name].write_text(page)
    return files


def test_every_page_in_both_themes_narrow_and_wide(write_run: WriteRun, tmp_path: Path, browser: chromium.Page) -> None:
    for name, file in pages(write_run, tmp_path).items():
        for width in (400, 1400):
            papers = set()
            browser.look(file.as_uri(), width, "light")
            for theme in ("light", "dark"):
                browser.media("screen", theme)
                where = f"{name} at {width} in {theme}"
                assert browser.errors == [], where
                assert browser.requests == [file.as_uri()], where
                assert browser.evaluate("innerWidth") == width
                assert browser.evaluate(WIDER) == [], where
                assert browser.evaluate(SCROLLS) == 0, where
                assert browser.evaluate(PICTURES), where
                assert browser.evaluate(CONTRAST) == [], where
                papers.add(browser.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
            assert len(papers) == 2, "both themes have the same paper"


def test_it_prints_on_white_paper_without_cutting_anything_off(
    write_run: WriteRun, tmp_path: Path, browser: chromium.Page
) -> None:
    file = tmp_path / "run.html"
    file.write_text(report(write_run("a-run")))
    browser.look(file.as_uri(), 794, "dark")
    browser.media("print", "dark")
    assert browser.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate(WIDER) == []
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/picture.png", "data:text/html,<p>other</p>"])
def test_the_page_itself_forbids_what_it_would_fetch(
    write_run: WriteRun, tmp_path: Path, browser: chromium.Page, address: str
) -> None:
    """That the checks above can fail, and that the page's policy holds."""
    element = f'<img src="{address}">' if address.startswith("http") else f'<iframe src="{address}"></iframe>'
    file = tmp_path / "page.html"
    file.write_text(report(write_run(state="queued")).replace("</main>", f"{element}</main>"))
    browser.look(file.as_uri(), 400, "light")
    assert any("Content Security Policy" in error for error in browser.errors)
