#!/usr/bin/env python3
"""Opens pages of ours in headless Chromium and uses them as people do: in light and dark, on a phone, by keyboard, on
paper, with scripts switched off.

    python3 drive.py page.html... [--chromium PATH] [--shots DIR]

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

    def open(self, address):
        """Loads a page; only what belongs to it is among the events then."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
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
  // A hatch under a text is a fault, unless something opaque lies between them.
  const ground = (element, hatches = []) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      layers.push(rgba(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
      if (style.backgroundImage !== 'none') hatches.push(e);
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const page = ground(document.body);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('svg, .hidden') || !element.checkVisibility()) continue;
    seen++;
    const hatches = [], style = getComputedStyle(element), behind = ground(element, hatches);
    if (hatches.length) bad.push(['hatch', node.data.trim().slice(0, 40), element.tagName]);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const ratio = contrast(over(rgba(style.color), behind), behind);
    if (ratio < (large ? 3 : 4.5)) bad.push([ratio.toFixed(2), node.data.trim().slice(0, 40), element.tagName]);
  }
  for (const svg of document.querySelectorAll('svg')) {
    if (!svg.checkVisibility()) continue;
    const behind = ground(svg.parentElement);
    for (const text of svg.querySelectorAll('text')) {
      seen++;
      const ratio = contrast(rgba(getComputedStyle(text).fill), behind);
      if (ratio < 4.5) bad.push([ratio.toFixed(2), text.textContent, 'svg text']);
    }
    // Lines and marks carry meaning: 3 to 1 beside the ground.
    for (const mark of svg.querySelectorAll('.dot path, .dot circle, [class^="s"] path, [class^="s"] > line, .decides')) {
      const style = getComputedStyle(mark), paint = mark.matches('line, .hollow') ? style.stroke : style.fill;
      const ratio = contrast(rgba(paint), behind);
      if (ratio < 3) bad.push([ratio.toFixed(2), paint, mark.parentElement.getAttribute('class')]);
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

# What sticks out of the window, other than what scrolls by itself; and plots or texts that lie over one another.
OVERFLOW = r"""(() => {
  const wide = document.documentElement.clientWidth, out = [];
  if (document.documentElement.scrollWidth > wide) out.push(['page', document.documentElement.scrollWidth]);
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility() || e.closest('.scroll, .skip, .hidden, .hatches, svg svg')) continue;
    const r = e.getBoundingClientRect();
    if (r.width && (r.right > wide + 1 || r.left < -1)) out.push([e.tagName, `${e.getAttribute('class')}`, r.right]);
  }
  return out.slice(0, 8);
})()"""

# Labels of an axis that run into one another.
COLLIDING = r"""[...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).flatMap(svg => {
  const boxes = [...svg.querySelectorAll(':scope > text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([a, r], i) => boxes.slice(i + 1).filter(([, q]) =>
    r.left < q.right && q.left < r.right && r.top + 2 < q.bottom && q.top + 2 < r.bottom).map(([b]) => [a, b]));
}).slice(0, 8)"""

# Headings that skip a level, cells without a scope, pictures without words.
STRUCTURE = r"""(() => {
  const bad = [], levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => +h.tagName[1]);
  if (levels[0] !== 1 || levels.filter(l => l === 1).length !== 1) bad.push('not one h1');
  levels.forEach((l, i) => { if (i && l > levels[i - 1] + 1) bad.push(`h${levels[i - 1]} then h${l}`); });
  for (const th of document.querySelectorAll('th')) if (!/^(col|row|colgroup|rowgroup)$/.test(th.scope)) bad.push('th without scope');
  for (const table of document.querySelectorAll('table')) {
    const label = document.getElementById(table.getAttribute('aria-labelledby')) ?? table.caption;
    if (!label?.textContent.trim()) bad.push('table without a name');
  }
  for (const svg of document.querySelectorAll('svg:not(svg svg)')) {
    if (svg.closest('[aria-hidden=true]')) continue;
    const ids = (svg.getAttribute('aria-labelledby') ?? '').split(' ');
    const words = ids.map(id => document.getElementById(id)?.textContent.trim());
    if (svg.getAttribute('role') !== 'img' || words.length !== 2 || words.some(w => !w)) bad.push('a picture without words');
  }
  if (document.documentElement.lang !== 'en' || !document.title) bad.push('language or title');
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  if (new Set(ids).size !== ids.length) bad.push('an id twice');
  const answer = document.querySelector('main > section');
  if (answer.id !== 'answer' || !answer.querySelector('p')?.textContent.trim()) bad.push('the answer does not come first');
  return bad.slice(0, 8);
})()"""

WIDTHS = (1400, 900, 420, 360)


def drive(browser, page, shots, check):
    address = page.resolve().as_uri()
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.view(1400, 900)
    browser.open(address)
    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    check("nothing but the page is loaded", requests == [address], requests)
    check("the page has no script", browser.run("document.scripts.length") == 0)
    bad = browser.run(STRUCTURE)
    check("headings, tables, pictures and language are in order; the answer comes first", not bad, bad)

    for width in WIDTHS:
        browser.view(width, 900)
        over = browser.run(OVERFLOW)
        check(f"no overflow at {width} px", not over, over)
        over = browser.run(COLLIDING)
        check(f"no label runs into another at {width} px", not over, over)
        if shots:
            browser.shot(shots / f"{page.stem}-{width}.png")
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    for width in WIDTHS:
        browser.view(width, 900)
        over = browser.run(OVERFLOW)
        check(f"no overflow at {width} px with everything unfolded", not over, over)
    for theme in ("light", "dark"):
        browser.view(1400, 900, theme)
        contrast = browser.run(CONTRAST)
        check(f"contrast in {theme} ({contrast['seen']} texts)", contrast["seen"] > 10 and not contrast["bad"], contrast["bad"][:12])
    browser.run("document.querySelectorAll('details').forEach(d => d.open = false)")
    if shots:
        browser.shot(shots / f"{page.stem}-dark.png")
    colors = []
    for theme in ("light", "dark"):
        browser.view(1400, 900, theme)
        colors.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    check("the themes differ", colors[0] != colors[1], colors)

    browser.view(1400, 900)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    nameless = [n["role"]["value"] for n in nodes if n.get("role", {}).get("value") in ("link", "region", "navigation", "table", "image")
                and not n.get("ignored") and not n.get("name", {}).get("value")]
    check("links, regions, tables and pictures have names", not nameless, nameless)
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
    if browser.run("document.querySelector('details') !== null"):
        browser.run("document.querySelector('details summary').focus()")
        browser.press("Enter", 13)
        check("Enter unfolds", browser.run("document.querySelector('details').open") is True)

    links = browser.run("[...document.querySelectorAll('td.number a')].map(a => a.getAttribute('href'))")
    check(f"numbers link to citations ({len(links)})", all(re.fullmatch(r"#c\d+", link) for link in links))
    if links:
        cited(browser, check)
    dead = browser.run("[...document.querySelectorAll('a[href]')].filter(a => !document.getElementById(a.getAttribute('href').slice(1))).length")
    check("no link is dead", dead == 0, dead)
    paper(browser, page, shots, check)
    messages = [e for e in browser.events if e.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")]
    check("no console message", not messages, json.dumps(messages)[:600])


def cited(browser, check):
    """Clicks on a number, which leads to where it came from."""
    spot = browser.run("""(() => { const a = [...document.querySelectorAll('td.number a')].find(a => {
          for (let d = a.closest('details'); d; d = d.parentElement.closest('details')) d.open = true;
          return a.checkVisibility(); });
        a.scrollIntoView({block: 'center', inline: 'center'});
        const r = a.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2, a.getAttribute('href').slice(1)]; })()""")
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=spot[0], y=spot[1], button="left", clickCount=1)
    landed = browser.run("""(() => { const t = document.querySelector(':target'); if (!t) return null; const r = t.getBoundingClientRect();
        const h = t.closest('.cited').querySelector('h3').getBoundingClientRect();
        return [t.id, r.top >= h.bottom && r.bottom <= innerHeight, h.top >= 0, t.querySelector('code').textContent.length > 0]; })()""")
    check("clicking a number lands on its citation, under its file", landed == [spot[2], True, True, True], (spot, landed))


def paper(browser, page, shots, check):
    """Prints the page: from a dark screen, with everything folded."""
    browser.run("document.querySelectorAll('details').forEach(d => d.open = false)")
    browser.view(794, 1123, "dark", "print")
    found = browser.run("""(() => { const table = document.querySelector('details:not([open]) :is(table, li)');
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('nav')).display,
          !table || table.getBoundingClientRect().height > 0]; })()""")
    check("paper is white, has no navigation, unfolds everything", found == ["rgb(255, 255, 255)", "none", True], found)
    browser.view(1024, 700, "light", "print")
    wide = browser.run("""[...document.querySelectorAll('.scroll')].map(e => [
        document.getElementById(e.getAttribute('aria-labelledby'))?.textContent, e.scrollWidth - e.clientWidth])
        .filter(([, over]) => over > 1)""")
    check("nothing is cut off on landscape paper", not wide, wide)
    contrast = browser.run(CONTRAST)
    check("contrast on paper", not contrast["bad"], contrast["bad"][:12])
    browser.view(1280, 900, "light", "print")
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
    check("it prints", pdf.startswith(b"%PDF") and len(pdf) > 10_000, len(pdf))
    if shots:
        (shots / f"{page.stem}.pdf").write_bytes(pdf)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("pages", type=Path, nargs="+")
    options.add_argument("--chromium", default=os.environ.get("CHROMIUM"))
    options.add_argument("--shots", type=Path, help="write screenshots at each width, and PDFs, here")
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
            for page in options.pages:
                print(f"-- {page.name}")
                drive(browser, page, options.shots, check)
        finally:
            browser.close()
    print(f"browser: {'ok' if not check.failed else f'{check.failed} FAILED'}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
