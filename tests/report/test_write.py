from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from keras_quant.errors import UsageError
from keras_quant.report.content import Report, gather
from keras_quant.report.write import to_html, to_markdown, write_report
from tests.report.test_content import make

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = "<script>x</script>|&\"'"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        make(folder / "float", "float", accuracy=92.0, size=4000),
        make(folder / "w10", "8", accuracy=9.5, size=1000, command=("kq", EVIL)),
        make(folder / "w9", "4", accuracy=91.6, size=600),
    ]
    return gather(runs, title=f"title {EVIL}", problems=["a damaged record"])


class Outline(HTMLParser):
    """Tags and attributes of a page, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_takes_nothing_from_elsewhere(report: Report) -> None:
    tags = Outline(to_html(report)).tags
    sources = [value for _, given in tags for name, value in given.items() if name in REFERENCES]
    assert sources and all(str(source).startswith("data:image/png;base64,") for source in sources)
    policy = next(given["content"] for tag, given in tags if "http-equiv" in given)
    assert str(policy).startswith("default-src 'none'")


REFERENCES = ("src", "href", "srcset", "action", "poster", "data")


def test_what_runs_are_called_is_no_markup(report: Report) -> None:
    page = to_html(report)
    assert [tag for tag, _ in Outline(page).tags].count("script") == 1
    assert "&lt;script&gt;x&lt;/script&gt;" in page


def test_pictures_have_alternatives_headings_are_buttons_and_inputs_labelled(
    report: Report,
) -> None:
    tags = Outline(to_html(report)).tags
    assert all(given.get("alt") for tag, given in tags if tag == "img")
    names = [tag for tag, _ in tags]
    assert names.count("th") == names.count("button")
    assert all(names[place - 1] == "label" for place, name in enumerate(names) if name == "input")


def test_markdown_has_its_pictures_beside_it_and_whole_tables(
    report: Report, tmp_path: Path
) -> None:
    page = write_report(report, tmp_path / "new", form="md")
    text = page.read_text()
    for name in re.findall(r"\]\((.+?)\)", text):
        Image.open(page.parent / name).verify()
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "**Left out:** a damaged record" in text
    assert to_markdown(report) == text


def test_other_formats_are_refused(report: Report, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format pdf: formats are html, md"):
        write_report(report, tmp_path, form="pdf")


BROWSE = """
<script>
const rows = () => [...document.getElementById("rows-1").tBodies[0].rows];
const shown = () => rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
const heading = (n) => document.querySelectorAll("#rows-1 thead button")[n];
const told = [];
window.addEventListener("error", (event) => told.push("error " + event.message));
heading(3).click();
told.push("up " + shown());
heading(3).click();
told.push("down " + shown());
heading(0).click();
told.push("names " + shown());
const input = document.querySelector("input[data-filters=rows-1]");
input.value = "W4A4";
input.dispatchEvent(new Event("input"));
told.push("filtered " + shown());
told.push("wide " + (document.documentElement.scrollWidth > window.innerWidth));
const style = getComputedStyle(document.body);
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
told.push([dark ? "dark" : "light", style.backgroundColor, style.color].join(" "));
document.title = told.join("; ");
</script>
"""


def browse(page: Path, *options: str, width: int = 390) -> subprocess.CompletedProcess[str]:
    """Opens a page in Chromium, which gives its end state, and what goes to the console."""
    return subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},800"),
            *("--enable-logging=stderr", *(options or ("--dump-dom",)), page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.fixture
def page(report: Report, tmp_path: Path) -> Path:
    """The page, with a script behind it that tries it."""
    file = tmp_path / "index.html"
    file.write_text(to_html(report).replace("</body>", BROWSE + "</body>"))
    return file


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("options", "colours"),
    [
        ((), "light rgb(255, 255, 255) rgb(26, 26, 26)"),
        (("--blink-settings=preferredColorScheme=0",), "dark rgb(22, 24, 27) rgb(232, 232, 232)"),
    ],
    ids=["light", "dark"],
)
def test_a_browser_sorts_filters_and_fits_a_narrow_screen(
    page: Path, options: tuple[str, ...], colours: str
) -> None:
    done = browse(page, "--dump-dom", *options)
    assert "CONSOLE" not in done.stderr
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None and found[1].split("; ") == [
        "up w10,w9,float",
        "down float,w9,w10",
        "names float,w9,w10",
        "filtered w9",
        "wide false",
        colours,
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_what_a_page_says_on_the_console_is_seen(page: Path) -> None:
    page.write_text(page.read_text() + "<script>missing()</script>")
    assert "missing is not defined" in browse(page).stderr


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_report_fits_few_pages_of_paper(report: Report, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(to_html(report))
    browse(page, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    paper = (tmp_path / "page.pdf").read_bytes()
    assert paper.startswith(b"%PDF")
    # Two pages of pictures and tables of three runs; a picture a row takes four.
    assert len(re.findall(rb"/Type /Page\b(?!s)", paper)) <= 3
