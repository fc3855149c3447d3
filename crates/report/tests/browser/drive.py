#!/usr/bin/env python3
"""Opens a page of ours in headless Chromium and uses it as people do: in light and dark, on a phone, by keyboard, on paper.

    python3 drive.py page.html [--chromium PATH] [--shots DIR]

Talks to Chromium over a pipe; needs Python's standard library and nothing else. Ends with 1 where the page fails,
with 3 where no Chromium is found.
"""

import argparse
import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Browser:
    """One tab, driven by the DevTools protocol over file descriptors 3 and 4."""

    def __init__(self, program, profile):
        ours_in, theirs_out = os.pipe()
        theirs_in, self.to = os.pipe()
        self.since = b""
        self.reader = ours_in
        command = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
                   "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} 2>/dev/null'
        self.process = subprocess.Popen(["/bin/bash", "-c", shell, "bash", *command, "about:blank"],
                                        pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.ids = itertools.count(1)
        self.session = None
        self.events = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        message = {"id": next(self.ids), "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def receive(self):
        while b"\0" not in self.since:
            read = os.read(self.reader, 1 << 20)
            if not read:
                raise RuntimeError("Chromium closed the pipe")
            self.since += read
        message, _, self.since = self.since.partition(b"\0")
        return json.loads(message)

    def wait(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.receive())

    def run(self, script):
        """The value of a JavaScript expression, evaluated by the debugger: the page itself has no scripts."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]["exception"].get("description")))
        return result["result"].get("value")

    def view(self, width, height, theme="light", media="screen"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
            if kind == "rawKeyDown" and key == "Enter":
                self.call("Input.dispatchKeyEvent", type="char", key=key, text="\r")

    def shot(self, path):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
        except (RuntimeError, OSError):
            pass
        self.process.wait(timeout=20)


# Every visible text with less contrast than WCAG AA asks of it, and parts of plots below 3 to 1.
CONTRAST = r"""(() => {
  const bad = []; let seen = 0;
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = '#000'; canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = c => { const l = c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const page = ground(document.body);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('svg') || !element.checkVisibility()) continue;
    seen++;
    const style = getComputedStyle(element), behind = ground(element);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const ratio = contrast(over(rgba(style.color), behind), behind);
    if (ratio < (large ? 3 : 4.5)) bad.push([ratio.toFixed(2), node.data.trim().slice(0, 40), element.tagName]);
  }
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    const rects = [...svg.querySelectorAll(':scope > rect')].map(rect => [rect, rect.getBBox()]);
    for (const text of svg.querySelectorAll('text')) {
      seen++;
      const box = text.getBBox(), x = box.x + box.width / 2, y = box.y + box.height / 2;
      // The last opaque rectangle drawn before the text and under its middle.
      const under = text.getAttribute('transform') ? [] : rects.filter(([rect, b]) => getComputedStyle(rect).fill !== 'none'
        && rect.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING
        && b.x <= x && x <= b.x + b.width && b.y <= y && y <= b.y + b.height).map(([rect]) => getComputedStyle(rect).fill);
      const fill = under.pop(), behind = fill ? fill.startsWith('url') ? null : rgba(fill) : page;
      if (!behind) { bad.push(['hatch', text.textContent, 'text on a hatch']); continue; }
      const ratio = contrast(rgba(getComputedStyle(text).fill), behind);
      if (ratio < 4.5) bad.push([ratio.toFixed(2), text.textContent, 'svg text']);
    }
    for (const line of svg.querySelectorAll('polyline[stroke^="var(--series"]')) {
      const ratio = contrast(rgba(getComputedStyle(line).stroke), page);
      if (ratio < 3) bad.push([ratio.toFixed(2), line.getAttribute('stroke'), 'line']);
    }
  }
  return {bad, seen};
})()"""

# Everything that a keyboard should reach, in the order of the document.
REACHABLE = r"""[...document.querySelectorAll('a[href], summary, [tabindex="0"], button, input, select')]
  .filter(e => e.checkVisibility()).map((e, i) => (e.dataset.order = i, i)).length"""

FOCUSED = r"""(() => { const e = document.activeElement, s = getComputedStyle(e);
  return [e.dataset.order === undefined ? -1 : +e.dataset.order, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; })()"""


class Checks:
    def __init__(self):
        self.failed = 0

    def __call__(self, what, holds, detail=""):
        self.failed += not holds
        print(f"{'ok    ' if holds else 'FAILED'} {what}" + (f": {detail}" if detail and not holds else ""))


def drive(browser, page, shots, check):
    address = page.resolve().as_uri()
    browser.view(1280, 900)
    browser.call("Page.navigate", url=address)
    browser.wait("Page.loadEventFired")

    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    check("nothing but the page is loaded", requests == [address], requests)
    check("the page has no script", browser.run("document.scripts.length") == 0)

    for theme in ("light", "dark"):
        browser.view(1280, 900, theme)
        if shots:
            browser.shot(shots / f"{theme}.png")
        browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        contrast = browser.run(CONTRAST)
        check(f"contrast in {theme} ({contrast['seen']} texts)", contrast["seen"] > 100 and not contrast["bad"], contrast["bad"][:12])
        browser.run("document.querySelectorAll('details').forEach(d => d.open = false)")
        browser.view(360, 780, theme)
        over = browser.run("document.documentElement.scrollWidth")
        check(f"no overflow at 360 px in {theme}", over <= 360, over)
        if shots:
            browser.shot(shots / f"{theme}-360.png")
    colors = []
    for theme in ("light", "dark"):
        browser.view(1280, 900, theme)
        colors.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    check("the themes differ", colors[0] != colors[1], colors)

    browser.view(1280, 900)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = [n for n in nodes if n.get("role", {}).get("value") in ("image", "img") and not n.get("ignored")]
    unnamed = [n for n in images if not n.get("name", {}).get("value")]
    undescribed = browser.run("""[...document.querySelectorAll('svg[role=img]')].filter(s => s.getAttribute('aria-labelledby').split(' ')
        .some(id => !document.getElementById(id)?.textContent.trim())).length""")
    drawn = browser.run("document.querySelectorAll('svg[role=img]').length")
    check(f"every plot has a name ({drawn})", drawn > 0 and len(images) == drawn and not unnamed and not undescribed, (len(images), unnamed))
    nameless = [n["role"]["value"] for n in nodes if n.get("role", {}).get("value") in ("link", "region", "navigation", "table")
                and not n.get("ignored") and not n.get("name", {}).get("value")]
    check("links, regions and tables have names", not nameless, nameless)
    roles = {n.get("role", {}).get("value") for n in nodes}
    check("landmarks: banner, navigation, main", {"banner", "navigation", "main"} <= roles, sorted(filter(None, roles)))

    count = browser.run(REACHABLE)
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    order, shown = [], True
    for _ in range(count):
        browser.press("Tab", 9)
        place, outlined = browser.run(FOCUSED)
        order.append(place)
        shown = shown and outlined
    check(f"Tab reaches all {count} in order", order == list(range(count)), order[:40])
    check("focus is always seen", shown)

    browser.run("document.querySelector('.skip').focus()")
    browser.press("Enter", 13)
    check("the skip link leads to main", browser.run("document.activeElement.id") == "main")
    browser.run("document.querySelector('details summary').focus()")
    browser.press("Enter", 13)
    check("Enter unfolds a table", browser.run("document.querySelector('details').open") is True)

    links = browser.run("[...document.querySelectorAll('td.number a')].map(a => a.getAttribute('href'))")
    check(f"numbers link to citations ({len(links)})", len(links) > 0 and all(re.fullmatch(r"#c\d+", link) for link in links))
    spot = browser.run("""(() => { const a = document.querySelector('#pairs td.number a'); a.scrollIntoView({block: 'center', inline: 'center'});
        const r = a.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2, a.getAttribute('href').slice(1)]; })()""")
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=spot[0], y=spot[1], button="left", clickCount=1)
    landed = browser.run("""(() => { const t = document.querySelector(':target'); if (!t) return null; const r = t.getBoundingClientRect();
        const h = t.closest('.cited').querySelector('h3').getBoundingClientRect();
        return [t.id, r.top >= h.bottom && r.bottom <= innerHeight, h.top >= 0, t.querySelector('code').textContent.length > 0]; })()""")
    check("clicking a number lands on its citation, under its file", landed == [spot[2], True, True, True], (spot, landed))
    dead = browser.run("[...document.querySelectorAll('a[href]')].filter(a => !document.getElementById(a.getAttribute('href').slice(1))).length")
    check("no link is dead", dead == 0, dead)

    browser.view(794, 1123, "dark", "print")
    paper = browser.run("""[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('nav')).display,
        document.querySelector('details:not([open]) table').getBoundingClientRect().height > 0]""")
    check("paper is white, has no navigation, unfolds tables", paper == ["rgb(255, 255, 255)", "none", True], paper)
    browser.view(1024, 700, "light", "print")
    wide = browser.run("""[...document.querySelectorAll('.scroll')].map(e => [e.getAttribute('aria-label') || e.querySelector('caption').textContent,
        e.scrollWidth - e.clientWidth]).filter(([, over]) => over > 1)""")
    check("nothing is cut off on landscape paper", not wide, wide)
    contrast = browser.run(CONTRAST)
    check("contrast on paper", not contrast["bad"], contrast["bad"][:12])
    browser.view(1280, 900, "light", "print")
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    check("it prints", pdf.startswith(b"%PDF") and len(pdf) > 10_000, len(pdf))
    if shots:
        (shots / "page.pdf").write_bytes(pdf)

    messages = [e for e in browser.events if e.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")]
    check("no console message", not messages, json.dumps(messages)[:600])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("page", type=Path)
    options.add_argument("--chromium", default=os.environ.get("CHROMIUM"))
    options.add_argument("--shots", type=Path)
    options = options.parse_args()
    program = options.chromium or next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        print("no Chromium found; install one (Debian: apt-get install chromium) or set CHROMIUM", file=sys.stderr)
        sys.exit(3)
    if options.shots:
        options.shots.mkdir(parents=True, exist_ok=True)
    check = Checks()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            drive(browser, options.page, options.shots, check)
        finally:
            browser.close()
    print(f"browser: {'ok' if not check.failed else f'{check.failed} FAILED'}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
