"""The HTML report: well formed, without the network, and a browser shows it without a fault."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess

import pytest

from scoreline.pipelines.load_test.report.html import render_html
from scoreline.pipelines.load_test.report.page import head_of, lines_of
from scoreline.pipelines.load_test.report.svg import make_axis
from tests.pipelines.load_test import samples
from tests.required import fail_or_skip

VOID = {"meta", "link", "br", "img", "input", "hr"}
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
)


class Page(html.parser.HTMLParser):
    """Checks that every element is closed in order, and keeps texts and attributes."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.attributes, self.tags = [], [], [], []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


@pytest.fixture(params=samples.ALL)
def test_(request):
    return samples.ALL[request.param]()


def test_a_report_is_well_formed_and_has_every_line_of_the_page(test_):
    page = Page(render_html(test_))
    assert page.open == []
    shown = " ".join(page.texts)
    assert head_of(test_) in shown
    for line in lines_of(test_):
        assert line.text.removeprefix(test_.outcome.value.upper()).strip() in shown


def test_a_report_needs_no_network_and_no_script(test_):
    content = render_html(test_)
    page = Page(content)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name[:2] == "on"]
    assert not re.search(r"url\(|@import|https?:|//[a-z]", content)


def test_texts_of_others_are_escaped():
    content = render_html(samples.make_stream())
    assert "An &lt;i&gt;old&lt;/i&gt; CPU" in content
    assert "<i>old" not in content


def test_there_is_a_chart_for_each_kind_of_data():
    def captions(test):
        return re.findall(r"<figcaption>(.*?)</figcaption>", render_html(test))

    stream = captions(samples.make_stream())
    assert stream[:3] == [
        "Target, 8,000/s: latency in ms",
        "Target, 8,000/s: rows per second",
        "Target, 8,000/s: backlog in rows",
    ]
    assert "First load that fails, 16,200/s: latency in ms" in stream
    assert "Spike, 16,000/s: latency in ms" in stream
    assert stream[-1] == "Throughput over workers: rows per second"
    assert captions(samples.make_batch())[-1] == "Time over volume: seconds"
    bare = samples.make_stream(
        at_target=None, scaling=None, probes=samples.make_stream().probes[1:2]
    )
    assert captions(bare) == []


def test_a_gap_in_the_data_is_a_gap_in_the_line():
    content = render_html(samples.make_stream())
    (line,) = re.findall(r'<path class="line a" d="(M[^"]+)"', content)[:1]
    assert line.count("M") == 2
    assert "nan" not in content.lower()


@pytest.mark.parametrize("values", [[0.0], [3.0, 7.0], [1e-9, 2e-9], [1e12], [-5.0, 5.0], [9.99]])
def test_an_axis_has_round_ticks_around_its_values(values):
    import numpy as np

    axis = make_axis(np.array(values), 0.0, 100.0)
    assert axis.low <= min(*values, 0.0)
    assert axis.high >= max(values)
    assert 2 <= len(axis.ticks) <= 7
    assert axis.at(axis.low) == 0.0
    assert axis.at(axis.high) == 100.0


def test_ticks_are_whole_where_things_are_counted_and_short_where_they_are_large():
    content = render_html(samples.make_batch())
    workers, volume = re.findall(r"<figure>.*?</figure>", content, re.DOTALL)
    assert re.findall(r'y="202.0"[^>]*>([^<]*)<', workers) == ["0", "1", "2"]
    assert re.findall(r'y="202.0"[^>]*>([^<]*)<', volume) == ["0", "200 k", "400 k", "600 k"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_report_without_a_fault(width, tmp_path):
    """A real browser lays the page out: nothing is wider than a phone, and charts have sizes."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        fail_or_skip("no browser: install chromium, for example by `apt-get install chromium`")
    probe = """<script>document.title = JSON.stringify({
      wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      charts: [...document.querySelectorAll('figure > svg')].map(c => c.getBoundingClientRect())
        .filter(r => r.width > 250 && r.height > 120).length,
      small: [...document.querySelectorAll('dd')].filter(d => d.offsetHeight < 12).length})
    </script>"""
    path = tmp_path / "report.html"
    path.write_text(render_html(samples.make_stream()).replace("</body>", f"{probe}</body>"))
    command = [chromium, *_FLAGS, f"--user-data-dir={tmp_path / 'user'}"]
    done = subprocess.run(
        [*command, f"--window-size={width},900", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert '<title>{"wide":0,"charts":10,"small":0}</title>' in done.stdout
