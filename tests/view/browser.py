"""Pages in a real browser: opened so that no error and no request from outside goes unseen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("SIGHTLINE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# A window of Chromium's own has suggestions for its address line, whose two renderers cost as much as a page of ours.
# Of options that are given twice the last one holds, so what Playwright leaves out is named again.
_LEFT_OUT = (
    "WebUIOmniboxPopup WebUIOmniboxAimPopup AimEnabled HttpsUpgrades LensOverlay MediaRouter NetworkTimeServiceQuerying "
    "OptimizationHints PaintHolding PreconnectToSearch ThirdPartyStoragePartitioning"
)
OPTIONS = [
    f"--disable-features={','.join(_LEFT_OUT.split())}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Where pictures for the documentation go: `make screenshots` sets it.
SCREENSHOTS = os.environ.get("SIGHTLINE_SCREENSHOTS")

WIDE = {"width": 1280, "height": 900}
NO_TOUR = "try { localStorage.setItem('sightline-tour', '{\"over\": true}') } catch {}"


def launch():
    """A headless browser, or the reason why the test is skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = sync_api.sync_playwright().start()
    return playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)


class Tabs:
    """Opens pages, and keeps every error and every request that goes elsewhere."""

    def __init__(self, browser, allowed=("file:", "blob:", "data:"), tour=False):
        self.context = browser.new_context(viewport=WIDE, accept_downloads=True)
        if not tour:
            self.context.add_init_script(NO_TOUR)
        self.allowed = allowed
        self.problems: list[str] = []

    def open(self, address):
        tab = self.context.new_page()
        tab.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("request", lambda asked: asked.url.startswith(self.allowed) or self.problems.append(asked.url))
        tab.goto(address)
        tab.wait_for_selector("html[data-ready]")
        return tab

    def close(self):
        self.context.close()


def open_menu(tab):
    """What is in the header's menu can be seen."""
    if tab.get_attribute("#menu-button", "aria-expanded") == "false":
        tab.click("#menu-button")


def shoot(tab, name, selector=None):
    """A picture for the documentation; it must hold more than one colour."""
    target = tab.locator(selector) if selector else tab
    # The line of facts sticks to the window's edge, and would lie over a tall view.
    stick = "(position) => (document.getElementById('facts').style.position = position)"
    if selector:
        tab.evaluate(stick, "static")
    picture = target.screenshot()
    tab.evaluate(stick, "")
    assert len(picture) > 5000
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        (Path(SCREENSHOTS) / f"{name}.png").write_bytes(picture)


#: Texts in sight whose contrast with what is behind them is below WCAG's AA.
FAINT = """() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith("color(srgb") ? [...numbers.slice(0, 3).map((v) => v * 255), numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
  };
  const linear = (v) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("[disabled], .visually-hidden, script, style, noscript, option")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(parse(style.color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.01) faint.push(`${element.tagName} ${element.className} ${ratio.toFixed(2)}: ${element.textContent.slice(0, 40)}`);
  }
  return faint;
}"""
