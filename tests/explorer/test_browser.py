"""The explorer in JupyterLab, driven by a headless Chromium as by a reader: keyboard, mouse, a narrow window."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsdlib.explorer.runs import finished_runs
from dsdlib.explorer.settings import Settings
from dsdlib.study.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium is installed (Debian's package is called chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'dsdlib[browser]'")

ROOT = Path(__file__).parents[2]
LONGEST = 2 * 60_000  # the longest wait, in milliseconds: another notebook may be using the cores
CLAIMS = "Claims about runs on these data, with this recipe"
NO_NEWS = {"checkForUpdates": False, "fetchNews": "false"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lab(store: Store, tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab that has the notebook, and whose kernels see the small store."""
    home, port = tmp_path / "lab", free_port()
    settings = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(NO_NEWS))
    (home / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "00_explorer.ipynb", home / "notebooks")
    folders = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "work",
        "JUPYTER_CONFIG_DIR": "config",
    }
    environment = os.environ | {name: str(home / folder) for name, folder in folders.items()}
    environment |= {
        "DSDLIB_RESULTS": str(store.root),
        "PYTHONPATH": str(ROOT),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
    }
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
    options += ["--IdentityProvider.token=reader", f"--ServerApp.root_dir={home / 'notebooks'}"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (home / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            _wait_for(f"http://localhost:{port}/api", server)
            yield f"http://localhost:{port}/doc/tree/00_explorer.ipynb?token=reader"
        finally:
            server.terminate()


def _wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(400):
        assert server.poll() is None, "JupyterLab did not start"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("JupyterLab did not answer")


@pytest.fixture
def page(lab: str) -> Iterator["playwright.Page"]:
    """The notebook after *Run All*, in a window of 1,200 pixels. At the end there must be no error in the console."""
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window, errors = browser.new_page(viewport={"width": 1200, "height": 1400}), []
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        window.set_default_timeout(LONGEST)
        playwright.expect.set_options(timeout=LONGEST)
        window.goto(lab)
        window.get_by_text(re.compile("Python 3.*Idle")).wait_for()
        window.get_by_role("menuitem", name="Run", exact=True).click()
        window.get_by_text("Run All Cells", exact=True).click()
        window.locator(".dsd-plot img").wait_for()
        yield window
        browser.close()
        assert errors == []


def tabbed_through(page: "playwright.Page", first: str, last: str) -> list[str]:
    """The names of the controls that the key Tab goes through."""
    name = "(element) => element.ariaLabel || (element.labels?.[0] ?? element).innerText"
    page.get_by_label(first, exact=True).focus()
    names = [page.evaluate(f"({name})(document.activeElement)")]
    while names[-1] != last and len(names) < 40:
        page.keyboard.press("Tab")
        names.append(page.evaluate(f"({name})(document.activeElement)"))
    return names


def train(page: "playwright.Page", **fields: str) -> None:
    """Open the tab *Train* with the keyboard, fill its fields and press its button."""
    page.get_by_role("tab", name="Train").press("Enter")
    for label, value in fields.items():
        field = page.get_by_role("textbox", name=label).or_(page.get_by_role("spinbutton", name=label))
        field.fill(value)
        field.press("Enter")
    page.get_by_role("button", name="Train (").click()


def test_a_reader_explores_pins_trains_and_stops(page: "playwright.Page", store: Store) -> None:
    expect = playwright.expect
    title, plot, line = page.locator(".dsd h2"), page.locator(".dsd-plot img"), page.locator(".dsd-line")
    noise, cursor = (page.get_by_role("slider", name=name) for name in ("Label noise", "Sparsity"))
    settings = Settings(finished_runs(store))
    first = settings.first()
    rates = settings.possible(first, "noise_rate")

    # The key Tab goes through the controls in the order in which they stand, and each has a name.
    above = ["Data set", "Model", "Recipe", "Kind of label noise", "Retraining", "Pruning criterion", "Teacher"]
    numbers = ["Label noise", "λ (weight decay)"]
    below = ["Seeds", "Vertical axis", "Horizontal axis", "Pin", "CSV", "Copy as code", "Sparsity"]
    assert tabbed_through(page, above[0], CLAIMS) == [*above, *numbers, *below, "Advice: where to stop", CLAIMS]

    # The cursor moves through the panels and leaves the curve as it is.
    drawn, place, said = plot.get_attribute("src"), line.get_attribute("style"), title.inner_text()
    cursor.press("Home")
    expect(page.get_by_text("Round 0: 0.00% sparsity")).to_be_visible()
    expect(cursor).to_have_attribute("aria-valuetext", "0.00%")
    cursor.press("ArrowRight")
    expect(page.get_by_text("Round 1: ")).to_be_visible()
    assert line.get_attribute("style") != place and plot.get_attribute("src") == drawn

    # A pinned curve stays while the noise slider moves on, and the difference is named.
    page.get_by_role("button", name="Pin", exact=True).click()
    noise.press("Home")
    expect(page.get_by_text(f"Pinned 1: {first['noise_rate']:.0%} label noise")).to_be_visible()
    expect(page.get_by_text(f"Shown: {rates[0]:.0%} label noise")).to_be_visible()
    assert title.inner_text() != said and plot.get_attribute("src") != drawn

    # Choosing a claim sets the controls to its runs.
    claims = page.get_by_label(CLAIMS)
    claims.select_option(claims.locator("option", has_text=f"{rates[-1]:.0%} label noise:").first.inner_text())
    expect(noise).to_have_attribute("aria-valuetext", f"{rates[-1]:.0%}")
    expect(page.locator(".dsd h2 + p")).to_contain_text(f"{rates[-1]:.0%} label noise")

    # A training that cannot begin says why, and the curve that was shown before comes back.
    said = title.inner_text()
    fields = {"Label noise": "0.4", "Epochs": "100", "Seeds": "1"}
    train(page, **fields, **{"Rounds of pruning": "90"})
    expect(page.get_by_text("rounds = 90: ")).to_be_visible()
    expect(title).to_have_text(said)

    # A training grows the curve, and stopping it keeps what is done.
    train(page, **fields, **{"Rounds of pruning": "24"})
    expect(page.get_by_text(re.compile(r"^\d+ of 25 rounds are finished"))).to_be_visible()
    drawn = plot.get_attribute("src")
    expect(plot).not_to_have_attribute("src", drawn)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text(re.compile(r"^Stopped\. \d+ of 25 rounds are in the store"))).to_be_visible()
    (run,) = (config for config in store.configs() if config.noise_rate == 0.4)
    assert 2 <= len(store.rows(run)) < 25 and run.epochs == 100

    # On a phone the panels stand one below the other, within the window.
    page.set_viewport_size({"width": 390, "height": 844})
    left, centre, right = (page.locator(f".dsd-{name}") for name in ("left", "centre", "right"))
    expect(left).to_be_visible()
    boxes = [part.bounding_box() for part in (left, centre, right)]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] + 1 and boxes[1]["y"] < boxes[2]["y"]
    assert len({round(box["x"]) for box in boxes}) == 1 and all(box["x"] + box["width"] <= 391 for box in boxes)
