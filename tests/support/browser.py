"""Chromium, driven over WebDriver, with the page of a server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from support.waiting import PATIENCE, wait_until

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")


class Browser:
    """A window of Chromium that shows the page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load the page anew, as in a new tab. It may not know the models yet."""
        self.leave()
        self.driver.get(url)
        self.wait(lambda: self.js("return document.readyState") == "complete")

    def leave(self) -> None:
        """Leave the page, and forget what was logged of it."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")

    def js(self, script: str, *arguments: object) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def __getitem__(self, name: str) -> WebElement:
        """An element by its id."""
        return self.driver.find_element("id", name)

    def all(self, selector: str) -> list[WebElement]:
        """Elements by a selector of CSS."""
        return self.driver.find_elements("css selector", selector)

    def text(self, name: str) -> str:
        """The text of an element by its id, as it is in the document."""
        return str(self.js("return document.getElementById(arguments[0]).textContent", name))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        wait_until(condition, lambda: f"{self.text('reason')!r} {self.text('translation')!r} {self.problems()}")

    def wait_for(self, translation: str) -> None:
        """Wait for a whole translation."""
        self.wait(lambda: self.is_done() and self.text("translation") == translation)

    def wait_until_done(self) -> str:
        """Wait for a whole translation, whatever it is. Returns it."""
        self.wait(self.is_done)
        return self.text("translation")

    def is_done(self) -> bool:
        """Whether the translation of the present text is there."""
        return bool(self.js("return outcome.checkVisibility() && !outcome.inert && !result.matches('.busy')"))

    def insert(self, text: str) -> None:
        """Insert text at the caret, as a paste does. Drivers cannot type emoji."""
        self.js(
            "document.getElementById('text').focus(); document.execCommand('insertText', false, arguments[0])", text
        )

    def type(self, *keys: str) -> None:
        """Press keys, in whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def point(self, element: WebElement, x: float = 0, y: float = 0) -> None:
        """Move the mouse to a place of an element, from its middle."""
        ActionChains(self.driver, duration=0).move_to_element_with_offset(element, int(x), int(y)).perform()

    def choose(self, name: str, value: str) -> None:
        """Choose an option of a list by its value. The page may still ask for the options."""
        self.wait(lambda: bool(self.all(f"#{name} option[value={json.dumps(value)}]")))
        Select(self[name]).select_by_value(value)

    def chosen(self, name: str) -> str:
        """The value of a field."""
        return str(self.js("return document.getElementById(arguments[0]).value", name))

    def marked(self, name: str) -> list[str]:
        """The marked words of the text ("mirror") or the translation."""
        return [str(self.js("return arguments[0].textContent", it)) for it in self.all(f"#{name} .marked")]

    def problems(self) -> list[str]:
        """Errors and warnings of the console since the last call."""
        return [it["message"] for it in self.driver.get_log("browser") if it["level"] in ("SEVERE", "WARNING")]

    def requested(self) -> set[str]:
        """Addresses that were asked since the last call, but those that the page carries in itself."""
        messages = [json.loads(it["message"])["message"] for it in self.driver.get_log("performance")]
        sent = [it["params"]["request"]["url"] for it in messages if it["method"] == "Network.requestWillBeSent"]
        return {url for url in sent if not url.startswith(("data:", "about:"))}

    def emulate(self, **features: str) -> None:
        """Set preferences of the user, such as prefers_color_scheme="dark"."""
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": given})

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Be a screen of this size in CSS pixels; a narrow one is that of a telephone."""
        telephone = width < 500
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": telephone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": telephone})


@contextmanager
def browser() -> Iterator[Browser]:
    """Run Chromium without a screen."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless=new",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--lang=en-US",
        "--force-prefers-reduced-motion",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(PATIENCE)
        yield Browser(driver)
    finally:
        driver.quit()
