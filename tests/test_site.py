"""The documents as a site: found from files, with notebooks, and described for whoever shares
them."""

import importlib.util
import re
from pathlib import Path

import pytest
from browser import browser, opened

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two pages and the notebooks, built with the site's own theme, plugins and hooks; without the
    reference, which takes most of the time."""
    pytest.importorskip("material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    docs, out = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("site")
    (docs / "index.md").write_text("# Start\n\nA *head* looks at `[end]` & writes.\n")
    (docs / "javascripts").symlink_to(ROOT / "docs" / "javascripts")
    (docs / "deep").mkdir()
    (docs / "deep" / "page.md").write_text("# Elsewhere\n\nThe aardvark is described here.\n")
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(docs),
        site_dir=str(out),
        plugins=["search", "offline"],
        nav=["index.md", "deep/page.md"],
        validation={},
        strict=False,
    )
    build(config)
    return out


def test_the_search_finds_a_page_from_files(site):
    with browser() as chromium:
        page = opened(chromium, site / "index.html")
        page.keyboard.press("f")
        page.locator("input.md-search__input").press_sequentially("aardvark")
        found = page.locator("a.md-search-result__link").first
        found.wait_for()
        assert found.get_attribute("href").split("?")[0].endswith("deep/page.html")
        assert page.errors == []
        assert all(address.startswith(("file:", "data:", "about:")) for address in page.asked)


def test_a_page_describes_itself_by_its_first_paragraph(site):
    page = (site / "index.html").read_text()
    assert '<meta property="og:description" content="A head looks at [end] &amp; writes.">' in page
    assert page.count('name="description"') == 1
    deep = (site / "deep" / "page.html").read_text()
    assert '<meta property="og:image" content="../pictures/report.png">' in deep


def test_a_notebook_is_a_page_with_its_outputs(site):
    page = (site / "notebooks" / "first_steps.html").read_text()
    said = re.sub(r"<[^>]+>", "", page)
    assert "POI localization" in said and "rgb.patch_heads(model, trials)" in said
    pictures = set(re.findall(r'src="(first_steps_\d+\.png)"', page))
    assert pictures and all((site / "notebooks" / name).is_file() for name in pictures)


def test_a_page_leads_to_the_live_reports_that_were_made_and_they_to_their_pictures(
    tmp_path, monkeypatch
):
    config = pytest.importorskip("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"))
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    monkeypatch.setattr(hooks, "MADE", tmp_path)
    table = f"{hooks.GALLERY}\n\n| page |\n|---|\n| `toy` |\n| `planted` |\n"
    assert "docs/gallery.py" in hooks.on_page_markdown(table, None, config, [])
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "report.html").write_text("<html><head><title>Toy</title></head>")
    (tmp_path / "toy" / "panels.png").write_bytes(b"drawn")
    told = hooks.on_page_markdown(table, None, config, [])
    assert "| **[toy](gallery/toy.html)** |" in told and "| `planted` |" in told
    config.plugins._current_plugin = "hooks"
    files = {file.src_uri: file for file in hooks.on_files([], config)}
    assert files["gallery/toy.png"].content_bytes == b"drawn"
    assert 'property="og:image" content="toy.png"' in files["gallery/toy.html"].content_string
