"""A page in Chromium, by Qt, without a window: what it says, asks for, and looks like.

    python -m tests.plots.browser report.html --width 390 --dark --picture phone.png --pdf page.pdf

prints JSON. Chromium comes with PySide6-WebEngine, the extra `browser`. It runs in a process of its
own: colours, light or dark, are chosen when it starts, and a test must not hang with it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

_FLAGS = "--disable-gpu --no-first-run --disable-background-networking --blink-settings="
_SEEN = """
(() => {
  const all = [...document.querySelectorAll('body *')].filter(e => !e.closest('svg'));
  const wide = document.documentElement.clientWidth;
  const hidden = '.hidden, .skip, .scroll *';
  const style = getComputedStyle(document.body);
  return JSON.stringify({
    width: innerWidth,
    page_width: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    background: style.backgroundColor,
    colour: style.color,
    outside: all.filter(e => !e.matches(hidden) && e.getBoundingClientRect().right > wide + 1)
      .map(e => e.tagName + '.' + e.className).slice(0, 5),
    small: Math.min(...[...document.querySelectorAll('svg text')].map(t =>
      t.getBoundingClientRect().height)),
    out_of_picture: [...document.querySelectorAll('figure svg text')].filter(t => {
      const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
      return a.left < b.left - 2 || a.right > b.right + 2;
    }).map(t => t.textContent).slice(0, 5),
    loaded: performance.getEntriesByType('resource').map(e => e.name).slice(0, 5),
    title: document.title,
  });
})()
"""


def seen(page: Path, width: int, *, dark: bool, **output: Path) -> dict:
    """Open a page in a process of its own, and return what was seen."""
    where = {f"--{name}": path for name, path in output.items()}
    line = [sys.executable, "-m", "tests.plots.browser", str(page), "--width", str(width)]
    line += ["--dark"] * dark + [str(part) for pair in where.items() for part in pair]
    env = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_DISABLE_SANDBOX": "1",  # which root may not have
        "QTWEBENGINE_CHROMIUM_FLAGS": f"{_FLAGS}preferredColorScheme={0 if dark else 1}",
    }
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=300,
        env=env,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"expected a page that opens, got: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Open the page, and print what was seen."""
    from PySide6.QtCore import QMarginsF, QTimer, QUrl
    from PySide6.QtGui import QPageLayout, QPageSize
    from PySide6.QtWebEngineCore import (
        QWebEnginePage,
        QWebEngineProfile,
        QWebEngineSettings,
        QWebEngineUrlRequestInterceptor,
    )
    from PySide6.QtWebEngineWidgets import QWebEngineView
    from PySide6.QtWidgets import QApplication

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("page", type=Path)
    arguments.add_argument("--width", type=int, default=1280)
    arguments.add_argument("--dark", action="store_true")
    arguments.add_argument("--picture", type=Path)
    arguments.add_argument("--most-height", type=int, default=16_000)
    arguments.add_argument("--pdf", type=Path)
    options = arguments.parse_args()

    said, asked = [], []

    class Page(QWebEnginePage):
        def javaScriptConsoleMessage(self, level, message, line, source):  # noqa: N802, ARG002
            said.append(message)

    class Requests(QWebEngineUrlRequestInterceptor):
        def interceptRequest(self, info):  # noqa: N802
            url = info.requestUrl().toString()
            if not url.startswith("data:") and info.requestUrl() != QUrl.fromLocalFile(whole):
                asked.append(url)
                info.block(True)

    whole = str(options.page.resolve())
    app = QApplication(["browser"])
    profile = QWebEngineProfile()  # which keeps nothing
    requests = Requests()
    profile.setUrlRequestInterceptor(requests)
    view = QWebEngineView()
    page = Page(profile, view)
    view.setPage(page)
    page.settings().setAttribute(QWebEngineSettings.WebAttribute.ShowScrollBars, False)
    view.resize(options.width, 800)
    view.show()
    found = {}

    def loaded(ok):
        found["loaded_whole"] = ok
        QTimer.singleShot(400, lambda: page.runJavaScript(_SEEN, looked))

    def looked(text):
        found.update(json.loads(text))
        if options.picture:
            view.resize(options.width, min(options.most_height, found["height"]))
            QTimer.singleShot(500, lambda: page.runJavaScript("innerHeight", grown))
        else:
            printed()

    def grown(height):
        if height != view.height():
            QTimer.singleShot(200, lambda: page.runJavaScript("innerHeight", grown))
        else:
            QTimer.singleShot(300, lambda: pictured(None))

    def pictured(before):  # once two looks are the same, everything has been painted
        picture = view.grab().toImage()
        if picture != before:
            QTimer.singleShot(400, lambda: pictured(picture))
            return
        picture.save(str(options.picture))
        printed()

    def printed():
        if not options.pdf:
            app.quit()
            return
        layout = QPageLayout(
            QPageSize(QPageSize.PageSizeId.A4),
            QPageLayout.Orientation.Portrait,
            QMarginsF(13, 15, 13, 15),
            QPageLayout.Unit.Millimeter,
        )
        page.pdfPrintingFinished.connect(lambda *_: app.quit())
        page.printToPdf(str(options.pdf), layout)

    view.loadFinished.connect(loaded)
    view.load(QUrl.fromLocalFile(whole))
    QTimer.singleShot(120_000, app.quit)
    app.exec()
    print(json.dumps({**found, "said": said, "asked": asked}))
    page.deleteLater()  # before its profile
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
