"""One JupyterLab and one Chromium for all browser tests."""

import pytest
from playwright.sync_api import sync_playwright

from lab import Lab, Page, chromium


@pytest.fixture(scope="session")
def lab(home, tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("lab"), home.environ) as lab:
        yield lab


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def tab(lab, browser):
    """A fresh tab; after the test, every kernel of the server is shut down."""
    page = Page(browser, lab)
    yield page
    page.shut_down_kernels()
    page.close()
