"""The page in Chromium: with the bundled models, and with a scripted engine where a server must fail or wait."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from dragoman_service.translation.settings import RequestLimits
from support.browser import CHROMIUM, DRIVER, Browser, browser
from support.fake_workers import FakeWorkers, served
from support.http_calls import ask
from support.ports import free_ports
from support.server_process import ServerProcess, server_process
from support.server_thread import serving
from support.tokens import add_token
from support.waiting import wait_until

MODELS = Path(__file__).parents[2] / "deploy" / "models"
PAIRS = [MODELS / "en-de" / "1", MODELS / "de-en" / "1"]
MANY = "The house is green. My brother lives in a small town. We will go to the sea tomorrow. " * 3

pytestmark = [
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="chromium and chromium-driver (Debian) are not installed"),
    pytest.mark.skipif(not all((path / "manifest.json").exists() for path in PAIRS), reason="no bundled models"),
]


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process(PAIRS, "--http-port", "0") as running:
        yield running


@pytest.fixture
def page(tab: Browser, server: ServerProcess) -> Iterator[Browser]:
    """The page with the bundled models, in a window that is reset afterwards. Nothing may be wrong in its console, and
    nothing may be asked of another host.
    """
    tab.resize(1200, 900)
    tab.open(server.http_url)
    yield tab
    assert tab.problems() == []
    assert {urlsplit(url)[:2] for url in tab.requested()} == {urlsplit(server.http_url)[:2]}
    tab.emulate()


def test_typed_text_is_translated_piece_by_piece(page: Browser) -> None:
    page.js("""
        window.seen = [];
        new MutationObserver(() => seen.push(translation.textContent)).observe(translation, {childList: true});
    """)
    page.insert(MANY[:-1])
    page.type(" ")
    whole = page.wait_until_done()
    *pieces, last = page.js("return seen")
    assert last == whole
    partial = {piece for piece in pieces if piece and piece != whole}
    assert len(partial) > 2
    assert all(whole.startswith(piece) for piece in partial)
    names = [it.text for it in page.all("#timings dt")]
    assert {"Queue", "First piece", "Whole", "Speed", "Model"} <= set(names)
    assert page.all("#timings dd")[-1].text == "en-de@1"


def test_the_language_is_detected_and_languages_are_swapped(page: Browser) -> None:
    page.insert("The house is green.")
    german = page.wait_until_done()
    assert german == "Das Haus ist grün."
    assert page.text("detected").startswith("Detected: English")
    assert (page.chosen("source"), page.chosen("target")) == ("", "de")
    page["swap"].click()
    page.wait_for("The house is green.")
    assert (page.chosen("text"), page.chosen("source"), page.chosen("target")) == (german, "de", "en")
    # Text in the other language changes the target, and it returns.
    page.choose("source", "")
    page.wait(lambda: page.text("detected").startswith("Detected: German"))
    page["clear"].click()
    page.insert("My brother lives in a small town.")
    page.wait(lambda: page.is_done() and page.chosen("target") == "de")


def test_alternatives_have_scores_and_can_be_shown(page: Browser) -> None:
    page.choose("count-of-hypotheses", "4")
    page.insert("We will go to the sea tomorrow.")
    first = page.wait_until_done()
    texts = [it.text for it in page.all("#hypotheses span")]
    scores = [float(it.text) for it in page.all("#hypotheses data")]
    assert (len(texts), texts[0]) == (4, first)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] < 0
    page.all("#hypotheses button")[1].click()
    assert page.text("translation") == texts[1]
    assert [it.get_attribute("aria-pressed") for it in page.all("#hypotheses button")] == ["false", "true"] + [
        "false"
    ] * 2


def test_words_that_belong_together_are_marked(page: Browser) -> None:
    # Each emoji is one code point and two units of UTF-16.
    page.insert("😀😀 👩‍🚀 The house is green.")
    page.wait_until_done()
    words = {it.text: it for it in page.all("#translation .word")}
    page.point(words["Haus"])
    assert (page.marked("mirror"), page.marked("translation")) == (["house"], ["Haus"])
    # The text's word lies below the textarea, which has the mouse.
    page.point(next(it for it in page.all("#mirror .word") if it.text == "green"))
    assert (page.marked("mirror"), page.marked("translation")) == (["green"], ["grün"])
    page.point(page["swap"])
    assert page.marked("translation") == []
    # The caret stands behind the point.
    page["text"].send_keys(Keys.ARROW_LEFT * 3)
    page.wait(lambda: page.marked("translation") == ["grün"])
    page["text"].send_keys("e")
    assert page.marked("mirror") == []


def test_html_is_shown_as_text_and_run_by_nobody(page: Browser) -> None:
    attack = "<b>The house</b> is green.<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    page.insert(attack)
    plain = page.wait_until_done()
    page["html"].click()
    page.insert(f"{attack}<hr>")
    html = page.wait_until_done()
    assert html.endswith("<hr>")
    assert html.startswith("<b>Das Haus</b>")
    assert "<script>window.hacked = 1</script>" in html
    for shown in (plain, html):
        assert "</script><img src=x onerror='" in shown
    assert {it.tag_name for it in page.all("#translation *, #hypotheses span *")} <= {"span"}
    assert page.js("return window.hacked") is None


def test_state_is_in_the_address(page: Browser, server: ServerProcess) -> None:
    page.choose("source", "de")
    page.choose("model", "de-en@1")
    page.insert("Das Haus ist grün. 😀")
    page.wait_for("The house is green. 😀")
    shared = str(page.driver.current_url)
    assert parse_qs(urlsplit(shared).fragment) == {
        "source": ["de"], "target": ["en"], "model": ["de-en@1"], "text": ["Das Haus ist grün. 😀"]
    }  # fmt: skip
    page.open(shared)
    page.wait_for("The house is green. 😀")
    page.insert(" " * 2000)
    page.wait(lambda: "text=" not in page.driver.current_url)
    page.js(f"location.hash = 'text={quote('My brother lives here.')}&source=xx&model=none@7'")
    page.wait(lambda: page.is_done() and page.text("translation").startswith("Mein Bruder"))
    assert (page.chosen("source"), page.chosen("model")) == ("", "")


def test_limits_and_refusals_are_shown_as_the_server_says_them(tab: Browser) -> None:
    engine = FakeWorkers()
    with serving([served(engine)], http_port=0, limits=RequestLimits(max_characters=20)) as server:
        tab.open(f"{server.url}#source=en")
        tab.insert("😀" * 20)
        tab.wait_until_done()
        assert tab.text("count") == "20 of 20 characters"
        tab.insert("a")
        assert tab.text("count") == "21 of 20 characters"
        assert tab["text"].get_attribute("aria-invalid") == "true"
        tab.js("document.querySelector('details').open = true")
        tab["beam-size"].send_keys("17")
        tab["clear"].click()
        tab.insert("b")
        tab.wait(lambda: not tab.js("return failure.hidden"))
        assert "17" in tab.text("reason")
        assert "(field options.beam_size)" in tab.text("reason")
        tab["beam-size"].clear()
        tab["text"].send_keys("c")
        tab.wait_for("BC")
        assert tab.js("return failure.hidden")
        assert len(engine.submitted) < 5


def test_a_keystroke_cancels_what_runs(tab: Browser) -> None:
    engine = FakeWorkers(held=True)
    with serving([served(engine)], http_port=0) as server:
        tab.open(f"{server.url}#source=en")
        tab.insert("one")
        wait_until(lambda: engine.running == 1)
        tab.insert(" two")
        wait_until(lambda: len(engine.submitted) == 2 and engine.running == 1)
        assert len(engine.cancelled) == 1
        tab.js("text.value = ''; text.dispatchEvent(new Event('input'))")
        wait_until(lambda: engine.running == 0)
        engine.release()
        tab.insert("three")
        tab.wait_for("THREE")


def test_an_overloaded_server_is_left_alone_until_it_says(tab: Browser) -> None:
    engine = FakeWorkers()
    engine.refuse_after, engine.retry_after = 0, 0.5
    with serving([served(engine)], http_port=0) as server:
        tab.open(f"{server.url}#source=en")
        tab.insert("one")
        tab.wait(lambda: "Trying again in 1 s" in tab.text("reason"))
        tab.insert(" two")
        engine.refuse_after = None
        tab.wait_for("ONE TWO")
        assert tab.js("return failure.hidden")
        assert (
            server.metric("dragoman_requests_total", api="http_v1", method="TranslateStream", code="RESOURCE_EXHAUSTED")
            == 1
        )


def test_a_server_that_is_gone_and_comes_back(tab: Browser) -> None:
    (port,) = free_ports(1)
    with serving([served(FakeWorkers(held=True))], http_port=port) as server:
        tab.open(f"{server.url}#source=en")
        tab.insert("one")
        tab.wait(lambda: tab.text("translation") == "ONE")  # begun, and never completed
    tab.wait(lambda: "broke off" in tab.text("reason"))
    tab.insert(" two")
    tab.wait(lambda: "cannot be reached" in tab.text("reason"))
    with serving([served(FakeWorkers())], http_port=port):
        tab.wait_for("ONE TWO")
        assert tab.js("return failure.hidden")
        tab.leave()


def test_a_server_that_asks_for_a_token(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "page")
    with serving([served(FakeWorkers())], http_port=0, tokens=path) as server:
        tab.open(f"{server.url}#source=en&text=hello")
        tab.wait(tab["token"].is_displayed)
        assert tab.text("reason") == ask(f"{server.url}/v1/models").json["message"]
        tab["token"].send_keys(token, Keys.ENTER)
        tab.wait_for("HELLO")
        assert token not in tab.driver.current_url
        assert tab.js("return [localStorage.length, document.cookie]") == [0, ""]
        tab.js("sessionStorage.clear()")


def test_everything_is_reached_by_keyboard(page: Browser) -> None:
    page.insert("The house is green.")
    page.wait_until_done()
    page.js("document.querySelector('nav a').focus()")
    reached: list[str] = []
    while (at := _focused(page)) and at not in reached:
        reached.append(at)
        assert _outlined(page), at
        page.type(Keys.TAB)
    translator = ["API", "metrics", "source", "swap", "target", "text", "clear", "Das", "copy"]
    alternatives = [it.text.replace("\n", "") for it in page.all("#hypotheses button")]
    assert reached == [*translator, *alternatives, "file", "model", "count-of-hypotheses", "html", "Options"]
    page.js("document.querySelector('#translation .word').focus()")
    page.type(Keys.ARROW_RIGHT)
    assert (_focused(page), page.marked("mirror")) == ("Haus", ["house"])
    page.type(Keys.END, Keys.ARROW_RIGHT)
    assert _focused(page) == "."
    page.type(Keys.HOME)
    assert page.marked("mirror") == ["The"]
    page["text"].send_keys(Keys.CONTROL + Keys.END)
    page.type("x", Keys.CONTROL + Keys.ENTER)
    page.wait(lambda: page.is_done() and page.text("translation") != "Das Haus ist grün.")


def _focused(page: Browser) -> str:
    """The id of the element that has the focus, or its text."""
    return str(page.js("const it = document.activeElement; return it === document.body ? '' : it.id || it.textContent"))


def _outlined(page: Browser) -> bool:
    script = """
        const it = document.activeElement, style = getComputedStyle(it.id === 'text' ? original : it);
        return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
    """
    return bool(page.js(script))


def test_it_fits_a_telephone(page: Browser) -> None:
    page.resize(320, 640)
    page.insert("Donaudampfschifffahrtsgesellschaftskapitän " * 3 + "x" * 200)
    page.wait_until_done()
    page.js("document.querySelector('details').open = true")
    assert page.js("return document.documentElement.scrollWidth") <= 320
    mirror, text = (page.js(f"return {name}.getBoundingClientRect().height") for name in ("mirror", "text"))
    assert mirror == text


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_accessibility(page: Browser, colours: str) -> None:
    axe = files("axe_core_python") / "axe.min.js"
    page.emulate(prefers_color_scheme=colours)
    page.insert("The house is green. [[Tom]] lives here.")
    page.wait_until_done()
    page.js("document.querySelector('details').open = true; document.querySelector('#translation .word').focus()")
    dark = page.js("return getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 22)"
    assert dark == (colours == "dark")
    page.js(axe.read_text())
    found = page.driver.execute_async_script("axe.run().then(arguments[0])")
    assert [(it["id"], [node["html"] for node in it["nodes"]]) for it in found["violations"]] == []
    assert len(found["passes"]) > 20
