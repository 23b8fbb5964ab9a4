"""Documents on the page, in Chromium: with the bundled models, and with a scripted engine where a server must wait."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from dragoman_service.translation.settings import RequestLimits
from support.browser import CHROMIUM, DRIVER, Browser, browser
from support.fake_workers import FakeWorkers, served
from support.server_process import server_process
from support.server_thread import ServerThread, serving
from support.tokens import add_token
from support.waiting import wait_until

MODELS = Path(__file__).parents[2] / "deploy" / "models"
PAIRS = [MODELS / "en-de" / "1", MODELS / "de-en" / "1"]

pytestmark = pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="chromium and chromium-driver are not installed")


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def saved(tab: Browser, tmp_path: Path) -> Path:
    """The folder into which the browser saves files."""
    folder = tmp_path / "saved"
    folder.mkdir()
    tab.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    return folder


def open_page(tab: Browser, url: str) -> None:
    """Open the page, and wait until it knows the models and the limits of documents."""
    tab.resize(1200, 900)
    tab.open(f"{url}#source=en")
    tab.wait(lambda: tab.chosen("source") == "en" and tab.text("document-limits") != "")


def give(tab: Browser, *paths: Path) -> None:
    """Choose files."""
    tab["file"].send_keys("\n".join(map(str, paths)))


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def wait_for_states(tab: Browser, *states: str) -> None:
    """Wait until the documents of the list are in these states, or in those that begin so."""

    def reached() -> bool:
        shown = shown_states(tab)
        return len(shown) == len(states) and all(map(str.startswith, shown, states))

    wait_until(reached, lambda: shown_states(tab))


def shown_states(tab: Browser) -> list[str]:
    return list(tab.js("return [...document.querySelectorAll('#document-list .state')].map((it) => it.textContent)"))


def buttons(tab: Browser) -> list[str]:
    """What the buttons of the documents say to those who do not see them."""
    script = "return [...document.querySelectorAll('#document-list button')].filter((it) => it.checkVisibility())"
    return list(tab.js(f"{script}.map((it) => it.ariaLabel)"))


def press(tab: Browser, label: str) -> None:
    tab.driver.find_element("css selector", f"#document-list button[aria-label='{label}']").click()


@pytest.mark.skipif(not all((path / "manifest.json").exists() for path in PAIRS), reason="no bundled models")
def test_a_document_is_translated_and_saved(tab: Browser, saved: Path, tmp_path: Path) -> None:
    source = "<html><body><p>The house is <b>green</b>.</p><p>Good morning.</p></body></html>"
    given = written(tmp_path, "Grüße 1.html", source)
    with server_process(PAIRS, "--http-port", "0") as server:
        open_page(tab, server.http_url)
        tab.choose("target", "de")
        give(tab, given)
        wait_for_states(tab, "Translated")
        assert tab.text("document-news") == "Grüße 1.html: Translated"
        assert buttons(tab) == ["Download: Grüße 1.html", "Remove: Grüße 1.html"]
        press(tab, "Download: Grüße 1.html")
        path = saved / "Grüße 1.de.html"
        wait_until(path.exists, lambda: list(saved.iterdir()))
        expected = "<html><body><p>Das Haus ist <b>grün</b>.</p><p>Guten Morgen.</p></body></html>"
        assert path.read_text(encoding="utf-8") == expected
        assert tab.problems() == []
        assert {urlsplit(url).netloc for url in tab.requested() if not url.startswith("blob:")} == {
            urlsplit(server.http_url).netloc
        }
        tab.leave()


def test_progress_and_cancelling(tab: Browser, tmp_path: Path) -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        open_page(tab, server.url)
        give(tab, written(tmp_path, "a.txt", "One."), written(tmp_path, "b.txt", "Two."))
        wait_for_states(tab, "Translating, 0%", "Translating, 0%")
        assert [it.get_attribute("value") for it in tab.all("#document-list progress")] == ["0", "0"]
        assert buttons(tab) == ["Cancel: a.txt", "Cancel: b.txt"]
        press(tab, "Cancel: a.txt")
        wait_until(lambda: engine.running == 1)
        assert buttons(tab) == ["Cancel: b.txt"]
        assert tab.js("return document.activeElement.ariaLabel") == "Cancel: b.txt"
        assert tab.text("document-news") == "a.txt: removed"
        engine.release()
        wait_for_states(tab, "Translated")
        press(tab, "Remove: b.txt")
        assert tab.js("return document.activeElement.id") == "file"
        assert tab.problems() == []
        tab.leave()


def test_files_are_dropped_anywhere_and_text_is_not_taken_for_one(tab: Browser, saved: Path) -> None:
    with serving([served(FakeWorkers())], http_port=0) as server:
        open_page(tab, server.url)
        drag = """
            const data = new DataTransfer();
            if (arguments[1]) data.items.add(new File(["one"], "a.txt"));
            else data.setData("text/plain", "one");
            const event = new DragEvent(arguments[0], {dataTransfer: data, bubbles: true, cancelable: true});
            return [text.dispatchEvent(event), documents.classList.contains("over")];
        """
        assert tab.js(drag, "dragover", True) == [False, True]
        assert tab.js(drag, "dragleave", True) == [True, False]
        assert tab.js(drag, "dragover", False) == [True, False]
        assert tab.js(drag, "drop", False) == [True, False]
        assert tab.js(drag, "drop", True) == [False, False]
        wait_for_states(tab, "Translated")
        press(tab, "Download: a.txt")
        wait_until((saved / "a.de.txt").exists)
        assert (saved / "a.de.txt").read_text() == "ONE"
        tab.leave()


def test_what_is_wrong_is_told(tab: Browser, tmp_path: Path) -> None:
    limits = RequestLimits(max_characters=20)
    with serving([served(FakeWorkers())], http_port=0, limits=limits, max_document_mib=1) as server:
        open_page(tab, server.url)
        assert tab["file"].get_attribute("accept").split(",")[:2] == [".txt", ".html"]
        assert tab.text("document-limits").endswith(", up to 1 MiB")
        give(
            tab,
            written(tmp_path, "a.pdf", "x"),
            written(tmp_path, "b.txt", "x" * (5 << 18)),
            written(tmp_path, "c.json", "{"),
            written(tmp_path, "d.json", '["one", "a text of more than twenty characters"]'),
        )
        wait_for_states(
            tab,
            "Not sent: Its name must end with .txt .html",
            "Not sent: It has 1.3 MiB; allowed: 1 MiB",
            "Not translated: not JSON",
            "Translated",
        )
        (problems,) = tab.all("#document-list details:not([hidden])")
        problems.find_element("css selector", "summary").click()
        (problem,) = problems.find_elements("css selector", "li")
        assert problems.text.startswith("1 text has a problem")
        assert "allowed: at most 20" in problem.text
        assert buttons(tab)[:3] == ["Remove: a.pdf", "Remove: b.txt", "Remove: c.json"]
        tab.leave()


def test_a_busy_server_is_asked_again(tab: Browser, tmp_path: Path) -> None:
    with serving([served(FakeWorkers())], http_port=0, max_documents=1) as server:
        open_page(tab, server.url)
        tab.js(
            "window.realFetch = fetch; window.fetch = (path, more) => realFetch(path, more).then((it) => "
            "it.status === 429 ? new Response(it.body, {status: 429, headers: {'retry-after': '0.2'}}) : it)"
        )
        give(tab, written(tmp_path, "a.txt", "one"))
        wait_for_states(tab, "Translated")
        give(tab, written(tmp_path, "b.txt", "two"))
        wait_for_states(tab, "Translated", "too many documents")
        press(tab, "Remove: a.txt")
        wait_for_states(tab, "Translated")
        tab.leave()


def test_a_server_that_asks_for_a_token(tab: Browser, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "page")
    with serving([served(FakeWorkers())], http_port=0, tokens=path) as server:
        tab.open(f"{server.url}#source=en")
        tab.wait(tab["token"].is_displayed)
        tab["token"].send_keys(token, Keys.ENTER)
        tab.wait(lambda: tab.chosen("target") == "de")
        give(tab, written(tmp_path, "a.txt", "one"))
        wait_for_states(tab, "Translated")
        press(tab, "Download: a.txt")
        wait_until((saved / "a.de.txt").exists)
        tab.js("sessionStorage.clear()")
        tab.leave()


def test_names_are_shown_as_text(tab: Browser, tmp_path: Path) -> None:
    name = "<img src=x onerror='window.hacked = 1'>.txt"
    with serving([served(FakeWorkers())], http_port=0) as server:
        open_page(tab, server.url)
        give(tab, written(tmp_path, name, "one"))
        wait_for_states(tab, "Translated")
        assert tab.js("return [document.querySelector('#document-list .name').textContent, window.hacked]") == [
            name, None
        ]  # fmt: skip
        tab.leave()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_accessibility(tab: Browser, tmp_path: Path, colours: str) -> None:
    axe = files("axe_core_python") / "axe.min.js"
    limits = RequestLimits(max_characters=20)
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0, limits=limits) as server:
        open_page(tab, server.url)
        tab.emulate(prefers_color_scheme=colours)
        give(tab, written(tmp_path, "a.txt", "one"), written(tmp_path, "b.pdf", "x"))
        wait_for_states(tab, "Translating, 0%", "Not sent")
        _assert_accessible(tab, axe.read_text())
        engine.release()
        give(tab, written(tmp_path, "c.json", '["one", "a text of more than twenty characters"]'))
        wait_for_states(tab, "Translated", "Not sent", "Translated")
        tab.js("document.querySelector('#document-list details:not([hidden])').open = true")
        _assert_accessible(tab, axe.read_text())
        tab.emulate()
        tab.leave()


def _assert_accessible(tab: Browser, axe: str) -> None:
    tab.js(axe)
    found = tab.driver.execute_async_script("axe.run().then(arguments[0])")
    assert [(it["id"], [node["html"] for node in it["nodes"]]) for it in found["violations"]] == []


def test_by_keyboard_and_on_a_telephone(tab: Browser, saved: Path, tmp_path: Path) -> None:
    with serving([served(FakeWorkers())], http_port=0) as server:
        open_page(tab, server.url)
        give(tab, written(tmp_path, f"{'long' * 40}.txt", "one"))
        wait_for_states(tab, "Translated")
        tab.js("file.focus()")
        tab.type(Keys.TAB)
        assert tab.js("return document.activeElement.textContent") == "Download"
        tab.type(Keys.ENTER)
        wait_until(lambda: [it.suffix for it in saved.iterdir()] == [".txt"])
        tab.type(Keys.TAB)
        assert tab.js("return document.activeElement.textContent") == "Remove"
        tab.resize(320, 640)
        assert tab.js("return document.documentElement.scrollWidth") <= 320
        tab.type(Keys.ENTER)
        wait_until(lambda: not shown_states(tab))
        wait_until(lambda: _num_documents(server) == 0)
        tab.leave()


def _num_documents(server: ServerThread) -> int:
    """How many documents the server keeps."""
    assert server.server._documents is not None
    return len(list(server.server._documents._spool.jobs()))
