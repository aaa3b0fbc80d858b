"""The page in a headless Chromium, from ``file://``: what readers do with it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, executable
from records import dataset_facts, make

from ddbench.figures import sheets
from ddbench.plugin.contracts import DistilledSet
from ddbench.results import schema as records
from ddbench.sets.folder import LoadedSet
from ddbench.site import build, page
from ddbench.site.data import page_data

HOSTILE = "<script>document.title='owned'</script>"
PROMPT = "a round zero </script><img src=x onerror=\"document.title='owned'\">"
ROWS = "[...document.querySelectorAll('#results-table tbody tr')]"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="no Chromium is installed (apt install chromium)"),
    pytest.mark.skipif(importlib.util.find_spec("websocket") is None, reason="websocket-client is not installed"),
]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()
    assert browser.problems == []
    assert [address for address in browser.requests if not address.startswith(("file:", "data:", "about:"))] == []


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small registry with two methods, three budgets, prompts, a hostile name, and its page."""
    registry = tmp_path / "registry"
    curve = [(epoch, 0.2 + epoch / 1000) for epoch in range(20, 301, 20)]
    found = [make("random", (0.3 + ipc / 100, 0.32 + ipc / 100), ipc=ipc) for ipc in (1, 5, 10)]
    found += [
        make("vlcp", (0.4 + ipc / 100, 0.42 + ipc / 100), ipc=ipc, seed=seed) for ipc in (1, 5, 10) for seed in (0, 1)
    ]
    found += [make(HOSTILE, (0.1,), network="convnet-4"), make("full", (0.95,), ipc=None)]
    found = [with_curve(record, curve) for record in found]
    for record in found:
        records.write(record, registry)
        if record.cell.ipc and record.cell.method.name == "vlcp":
            sheets.keep(sheets.make(distilled(record)), registry)
    built = build.build(registry, tmp_path)
    assert built.problems == () and built.sheets == 6
    path = tmp_path / "page.html"
    path.write_text(built.html, "utf-8")
    return path


def with_curve(record: records.Record, curve: list[tuple[int, float]]) -> records.Record:
    curves = [[*curve[:-1], (curve[-1][0], last)] for last in record.result.last]
    result = record.result.model_copy(update={"curves": curves})
    changed = record.model_copy(update={"result": result})
    return changed.model_copy(update={"digest": changed.computed_digest()})


def distilled(record: records.Record) -> LoadedSet:
    ipc = record.cell.ipc or 1
    rng = np.random.default_rng(record.cell.seed)
    images = rng.integers(0, 256, (2 * ipc, 16, 16, 1)).astype(np.uint8)
    content = DistilledSet(images, np.repeat([0, 1], ipc), prompts=tuple(f"{PROMPT} {i}" for i in range(2 * ipc)))
    return LoadedSet(content, ("zero", "one"), ("0", "1"), {"digest": record.distilled.digest}, Path())


def test_reading_a_page(browser: Browser, site: Path) -> None:
    browser.open(site)
    assert browser.run(f"{ROWS}.length") == 8
    # Sorting, by mouse and by keyboard, is announced to screen readers.
    heading = (
        "[...document.querySelectorAll('#results-table thead th')].find(th => th.textContent.startsWith('Accuracy'))"
    )
    browser.run(f"{heading}.click()")
    browser.settle()
    values = browser.run(f"{ROWS}.map(row => parseFloat(row.querySelector('.value').textContent))")
    assert values == sorted(values, reverse=True) and values[0] == 95.0
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser.run(f"{heading}.querySelector('[tabindex], [role=button]').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "ascending"
    # Filters and search narrow the table, and the address keeps the choice.
    browser.run(
        "{const s = document.getElementById('filter-ipc'); s.value = '5'; s.dispatchEvent(new Event('change'))}"
    )
    assert browser.run(f"{ROWS}.length") == 2
    browser.run(
        "{const q = document.getElementById('filter-q'); q.value = 'VLCP dig'; q.dispatchEvent(new Event('input'))}"
    )
    assert browser.run(f"{ROWS}.length") == 1
    assert "ipc=5" in browser.run("location.hash") and "1 result" in browser.run("document.body.innerText")
    # A record and its contact sheet.
    browser.run(f"{ROWS}[0].querySelector('.value').click()")
    browser.settle()
    assert browser.run("document.activeElement.tagName") == "H1"
    assert browser.run("document.querySelector('#view h1').textContent") == "vlcp on digits"
    browser.until("document.querySelector('img.atlas').complete")
    assert browser.run("document.querySelector('img.atlas').naturalWidth") == 5 * 16
    assert PROMPT in browser.run("document.querySelector('.prompts').textContent")
    assert browser.run("document.querySelector('.command code').textContent").startswith("ddbench run -m vlcp -e rded")
    assert browser.run("document.querySelectorAll('.panel svg [aria-label=line] path').length") >= 1
    # Back to the same choice.
    browser.run("history.back()")
    browser.until("!document.getElementById('results').hidden")
    browser.settle()
    assert browser.run(f"{ROWS}.length") == 1


def test_every_kind_of_page_opens_and_hostile_text_stays_text(browser: Browser, site: Path) -> None:
    from urllib.parse import quote

    browser.open(site)
    pages = {
        "#/boards": "Boards",
        "#/gallery": "Gallery",
        "#/methods": "Methods",
        "#/about": "About this page",
        f"#/method/{quote(HOSTILE, safe='')}": HOSTILE,
        "#/method/vlcp": "vlcp",
        "#/record/nothing": "No such record",
        "#/%E0%A4%A": "Dataset distillation, compared",
    }
    for fragment, heading in pages.items():
        browser.go(fragment)
        assert browser.run("[...document.querySelectorAll('h1')].filter(h => h.offsetParent)[0].textContent") == heading
        assert browser.run("document.title") != "owned"
    assert browser.run("document.querySelectorAll('script').length") == len(page.VENDOR) + 2
    for shape in ("ipc", "cost"):
        browser.go(f"#/?show={shape}")
        assert browser.run("document.querySelectorAll('.panel svg').length") >= 1
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0


def test_it_can_be_read_by_everyone(browser: Browser, site: Path) -> None:
    browser.open(site)
    assert browser.run("document.documentElement.lang") == "en"
    controls = "[...document.querySelectorAll('button, select, input, a')]"
    unnamed = f"{controls}.filter(e => !(e.textContent.trim() || e.labels?.length))"
    for fragment in ("#/", "#/boards", "#/gallery", "#/methods", "#/about"):
        browser.go(fragment)
        assert browser.run(f"{unnamed}.length") == 0
        assert browser.run(
            "[...document.querySelectorAll('table')].every(t => t.caption && t.tHead.querySelector('th'))"
        )
        assert browser.run("[...document.querySelectorAll('h1')].filter(h => h.offsetParent).length") == 1
    # The first tab stop is the link past the navigation, and it works.
    browser.open(site)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"
    browser.press("Enter", 13, "\r")
    assert browser.run("document.activeElement.id") == "content"
    # Nothing sticks out on a phone, in any view; dark colours follow the system.
    browser.size(390, 844, mobile=True, scale=2)
    key = browser.run("document.querySelector('#results-table .value').getAttribute('href')")
    for fragment in ("#/", "#/boards", "#/gallery", "#/methods", "#/about", "#/?show=ipc", key):
        browser.go(fragment)
        assert browser.run("document.documentElement.scrollWidth") <= 390, fragment
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.scheme("dark")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light


def test_ten_thousand_records(browser: Browser, tmp_path: Path) -> None:
    sets = [dataset_facts(name=f"set-{number}") for number in range(10)]
    methods = [f"method-{number:02d}" for number in range(20)]
    networks = ("convnet-3", "resnet-18", "resnet-ap-10", "vit", "densenet-121")
    found = [
        make(method, (0.2 + 0.005 * (index % 97), 0.25), dataset=facts, ipc=ipc, network=network)
        for index, (facts, method, network, ipc) in enumerate(product(sets, methods, networks, range(1, 11)))
    ]
    assert len(found) == 10_000
    path = tmp_path / "large.html"
    path.write_text(page.render(page_data(found)), "utf-8")
    browser.open(path)
    ready = browser.run("performance.getEntriesByName('ddbench-ready')[0].startTime")
    sorts = [timed(browser, f"document.querySelectorAll('#results-table thead th')[{n}].click()") for n in (6, 0, 2, 6)]
    search = "q = document.getElementById('filter-q'); q.value = 'method-07'; q.dispatchEvent(new Event('input'))"
    filtering = timed(browser, f"let {search}")
    size = path.stat().st_size / 1e6
    print(f"open {ready:.0f} ms, sort {[round(t) for t in sorts]} ms, filter {filtering:.0f} ms, {size:.1f} MB")
    assert "500 results" in browser.run("document.getElementById('count').textContent")
    # What makes it fast on any machine: one page of rows is drawn, and a record takes little more than a kilobyte.
    assert browser.run(f"{ROWS}.length") == 50
    assert size < 12


def timed(browser: Browser, action: str) -> float:
    """Return the milliseconds from an action until the table's new rows are drawn."""
    watch = "new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - start)))"
    body = "document.querySelector('#results-table tbody')"
    script = f"{watch}.observe({body}, {{childList: true}}); const start = performance.now(); {action}"
    return float(browser.run(f"new Promise(done => {{{script}}})"))
