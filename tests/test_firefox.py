"""The page answers to mouse and keyboard in Firefox as it does in Chromium."""

from firefox import firefox

RIGHT, DOWN = "\ue014", "\ue015"
SHOWS = "document.getElementById('explore').dataset.shows"


def test_hover_click_keys_and_steering_work_in_firefox(planted_run, tmp_path):
    with firefox(tmp_path) as page:

        def text(element):
            return page.run(f"{page.find(element)}.textContent")

        def focus(element):
            page.run(f"{page.find(element)}.focus({{preventScroll: true}})")

        def after(change):
            """Wait until what was changed is drawn."""
            before = page.run(SHOWS)
            change()
            page.until(f"{SHOWS} !== {before!r}")

        page.open(planted_run / "report.html", "#head=3.0")
        page.until(f"{SHOWS}?.startsWith('#head=3.0')")
        cell = "#explore-map path[aria-label^='head: 1; layer: 2; ']"
        page.move(cell)
        page.until(f"{page.find('#vg-tooltip-element.visible')}?.innerText.includes('2.1')")
        after(lambda: page.move(cell, click=True))
        assert text("#explore-head") == "Head 2.1"
        focus("#explore-map")
        after(lambda: page.press(RIGHT))
        assert text("#explore-head") == "Head 2.2"
        # The gaze follows the mouse at once, a click keeps it, and keys move it on.
        picture = "#steer-picture"
        page.move(picture, 0.9, 0.9)
        assert "row 5, column 5" in text("#steer-answer")
        page.move("#steer-says")
        assert "row 5, column 5" not in text("#steer-answer")
        after(lambda: page.move(picture, 0.1, 0.1, click=True))
        page.move("#steer-says")
        assert "row 0, column 0" in text("#steer-answer")
        focus(picture)
        after(lambda: page.press(DOWN))
        assert "row 1, column 0" in text("#steer-answer")
        page.run("document.querySelector('#items > details').open = true")
        page.move("#items-strip [data-item='2']", click=True)
        page.until("document.getElementById('items-view').dataset.shows.endsWith(' 2')")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
