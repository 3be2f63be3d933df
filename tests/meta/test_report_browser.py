"""The report in a real browser: nothing wrong, fetched, cut off, pale or misnamed, narrow and wide, light and dark."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess

import pytest

from conformance.report.page import page
from tests.meta.report_documents import document, with_meters

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed that could open the report")

WIDTHS = (400, 1400)
SCHEMES = {"light": 1, "dark": 0}

FLAGS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--dump-dom",
]

CHECK = """<!doctype html><meta charset="utf-8"><pre id="result"></pre>
FRAMES
<script>
function rgb(text) {
  const parts = text.match(/[\\d.]+/g).map(Number);
  return { color: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
}
function luminance(color) {
  const [r, g, b] = color.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
// WCAG 2: (lighter + 0.05) / (darker + 0.05), a colour against the nearest background that is not transparent.
function against(text, opacity, element, view) {
  let back = null;
  for (let e = element; e && !back; e = e.parentElement) {
    const found = rgb(view.getComputedStyle(e).backgroundColor);
    if (found.alpha > 0) back = found.color;
  }
  back = back || [255, 255, 255];
  const seen = text.map((v, i) => opacity * v + (1 - opacity) * back[i]);
  const [high, low] = [luminance(seen), luminance(back)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}
function contrast(element, view) {
  const style = view.getComputedStyle(element);
  return against(rgb(element.closest("svg") ? style.fill : style.color).color, 1, element, view);
}
// Of a mark of a chart, what is seen best of its outline and its inside.
function standsOut(element, view) {
  const style = view.getComputedStyle(element);
  return Math.max(...["fill", "stroke"].filter((part) => style[part] !== "none").map((part) =>
    against(rgb(style[part]).color, style.opacity * style[part + "Opacity"], element.closest("svg"), view)));
}
function look(frame) {
  const view = frame.contentWindow, page = frame.contentDocument;
  for (const details of page.querySelectorAll("details")) details.open = true;
  const root = page.documentElement, pale = new Set(), small = new Set(), cut = new Set();
  const faint = [...page.querySelectorAll("svg :is(path, rect, circle, polygon, polyline):not(.track)")]
    .filter((mark) => standsOut(mark, view) < 3).map((mark) => mark.getAttribute("class"));
  for (const block of page.querySelectorAll("pre.replay"))
    if (block.scrollWidth > block.clientWidth) cut.add(block.textContent);
  const misnamed = [...page.querySelectorAll("button[aria-label]")].map((b) => b.textContent);
  for (const element of page.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || element.closest("script, .skip") || !element.getClientRects().length) continue;
    const name = `${element.tagName} ${element.textContent.trim().slice(0, 40)}`;
    if (contrast(element, view) < 4.5) pale.add(name);
    if (element.getBoundingClientRect().height < 7) small.add(name);
    const svg = element.closest("svg");
    if (svg && svg !== element) {
      const inner = element.getBoundingClientRect(), outer = svg.getBoundingClientRect();
      if (inner.left < outer.left - 1 || inner.right > outer.right + 1) cut.add(name);
    }
  }
  const focusable = page.querySelectorAll("a[href], button, summary, [tabindex='0']");
  const first = page.querySelector("summary");
  first.focus({ focusVisible: true });
  return {
    width: frame.clientWidth, overflow: root.scrollWidth - root.clientWidth, pale: [...pale], small: [...small],
    cut: [...cut], faint: [...new Set(faint)], misnamed,
    copy: page.querySelectorAll("button[aria-live]").length,
    fetched: view.performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:")),
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    outline: view.getComputedStyle(first).outlineStyle, focusable: focusable.length,
    headline: page.querySelector("h1").textContent,
  };
}
addEventListener("load", () => {
  document.getElementById("result").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(look));
});
</script>
"""


def look(folder, text, scheme):
    """Open a report at every width; gives what was found at each, and what the browser's console said."""
    report, check = folder / "report.html", folder / "check.html"
    report.write_text(text, encoding="utf-8")
    frames = "".join(
        f'<iframe src="{report.as_uri()}" style="width:{w}px;height:900px;border:0"></iframe>' for w in WIDTHS
    )
    check.write_text(CHECK.replace("FRAMES", frames), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"]
    command += [f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000"]
    # Chromium's sandbox does not work for root.
    command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    done = subprocess.run([*command, check.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="result">(\[.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-3000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console


@pytest.fixture(scope="module")
def broken():
    """Page of a run of two models in which one variant is broken, with what the machine did meanwhile."""
    return page(with_meters(document(models=("cifar10_vgg", "a_model_with_a_rather_long_name_of_its_own"))))


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_the_page_is_whole_at_every_width(broken, tmp_path, scheme):
    """Everything opened: no message, nothing fetched, no sideways scrolling, no pale, cut or tiny text or marks."""
    found, console = look(tmp_path, broken, scheme)
    assert console == []
    assert [f["width"] for f in found] == list(WIDTHS)
    for one in found:
        assert one["headline"] == "1 of 34 tested variants is broken: onnx-fp32 of cifar10_vgg."
        assert one["dark"] == (scheme == "dark")
        assert (one["overflow"], one["fetched"]) == (0, [])
        assert (one["pale"], one["cut"], one["small"]) == ([], [], [])
        assert (one["faint"], one["misnamed"], one["copy"]) == ([], [], 1)
        assert one["outline"] == "solid"
        assert one["focusable"] > 100


FAULTS = {
    "overflow": ("</main>", '<div style="width:1500px">x</div></main>'),
    "fetched": ("</main>", '<img src="http://127.0.0.1:9/missing.png" alt=""></main>'),
    "pale": ("</main>", '<p style="color:#999;background:#fff">pale</p></main>'),
    "cut": ("</main>", '<svg viewBox="0 0 10 10"><text x="9">far beyond</text></svg></main>'),
    "faint": ("</main>", '<svg><path d="M0 0h9" stroke="#4a86bd" stroke-opacity=".7" fill="none" /></svg></main>'),
    "misnamed": ("</main>", '<button aria-label="Copy">Copied</button></main>'),
    "console": ("</main>", '<script>console.error("broken")</script></main>'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees_what_it_looks_for(tmp_path, fault):
    """A page with sideways scrolling, a fetched image, pale or cut text or marks, or a message is not whole."""
    text = page(document(variants=("savedmodel-fp32", "onnx-fp32")))
    found, console = look(tmp_path, text.replace(*FAULTS[fault]), "light")
    assert console if fault == "console" else found[0][fault]
