"""How the page looks and answers to everyone: errors, colours, widths, keyboard, hostile titles."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from http_server import Server
from pages import ITEMS, Visit, cards, expect, ids, matches

import kgrec

pytestmark = pytest.mark.slow  # a browser and three runs

WIDTHS = (360, 768, 1600)


def test_errors_of_the_server_are_said_where_they_matter(browser: Any, server: Server) -> None:
    visit = Visit(browser, server)
    page = visit.open("user=nobody")
    expect(page.get_by_role("alert")).to_contain_text("unknown user")
    expect(page.locator("#history")).to_be_hidden()
    page.goto(f"{visit.address}/#user=u3")
    expect(cards(page)).to_have_count(10)
    busy = '{"error": "server: found 256 requests, expected fewer; try again"}'
    page.route("**/explain", lambda route: route.fulfill(status=503, body=busy))
    cards(page).first.locator(".title").click()
    alert = cards(page).first.get_by_role("alert")
    expect(alert).to_contain_text("Found 256 requests, expected fewer; try again")
    page.unroute("**/explain")
    alert.get_by_role("button", name="Try again").click()
    expect(cards(page).first.locator(".because")).to_be_visible()
    visit.close(refused=3)


def test_a_token_is_asked_for_once(browser: Any, server: Server) -> None:
    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer opensesame":
            route.continue_()
        else:
            words = '{"error": "Authorization: found none, expected a bearer token"}'
            route.fulfill(status=401, body=words)

    visit = Visit(browser, server)
    visit.page.route("**/*", lambda route: route.continue_())
    for path in ("runs", "recommend", "users**", "items**", "explain"):
        visit.page.route(f"{visit.address}/{path}", guard)
    visit.page.goto(f"{visit.address}/#user=u3")
    dialog = visit.page.get_by_role("dialog", name="Access token")
    expect(dialog).to_contain_text("expected a bearer token")
    for attempt in ("wrong", "opensesame"):
        dialog.get_by_label("Token").fill(attempt)
        visit.page.keyboard.press("Enter")
    expect(cards(visit.page)).to_have_count(10)
    visit.page.reload()
    expect(cards(visit.page)).to_have_count(10)
    stored = visit.page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]")
    assert stored == [1, 0, ""]
    visit.close(refused=2)


def test_dark_and_light(browser: Any, server: Server) -> None:
    for system, other in (("light", "dark"), ("dark", "light")):
        visit = Visit(browser, server, color_scheme=system)
        page = visit.open("user=u3")
        paper = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(paper)
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate("document.documentElement.dataset.theme") == other
        after = page.evaluate(paper)
        assert after != before
        page.reload()
        assert page.evaluate(paper) == after
        visit.close()


CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !element.checkVisibility()) continue;
    if (element.closest(":disabled, .hidden, noscript")) continue;
    const style = getComputedStyle(element);
    const ink = light(parts(element instanceof SVGElement ? style.fill : style.color));
    const under = light(paper(element));
    const ratio = (Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05);
    if (ratio < 4.5) poor.push(`${element.className.baseVal ?? element.className}: ${ratio}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_text(scheme: str, browser: Any, server: Server) -> None:
    visit = Visit(browser, server, color_scheme=scheme)
    page = visit.open("user=u3&beside=lightgcn&seen=1&w.genre=2")
    expect(cards(page)).to_have_count(10)
    cards(page).first.locator(".title").click()
    expect(cards(page).first.locator("svg")).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(600)  # until cards have faded in
    assert page.evaluate(CONTRAST) == []
    visit.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_scrolls_sideways(width: int, browser: Any, server: Server) -> None:
    visit = Visit(browser, server, viewport={"width": width, "height": 800})
    page = visit.open("user=u3&beside=lightgcn&seen=1&k=50&w.genre=2")
    expect(cards(page, 1)).to_have_count(50)
    for title in cards(page).locator(".title").all()[:4]:
        title.click()
        expect(page.locator(".column").first.locator("svg:visible")).to_have_count(1)
    page.get_by_role("radio", name="Someone new").check()
    page.get_by_role("combobox", name="Liked items").fill("Pneumono")
    matches(page).first.click()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    cut = page.evaluate(
        """[...document.querySelectorAll("main *, .rail *")].filter((element) =>
          element.checkVisibility() && !element.closest(".hidden, svg, .options")
          && element.getBoundingClientRect().right > innerWidth + 1).length"""
    )
    assert cut == 0
    visit.close()


def test_titles_stay_text(server: Server, visit: Visit) -> None:
    page = visit.open("user=u3&seen=1&k=60")
    expect(cards(page)).to_have_count(ITEMS)
    names = server.rec.items["name"].str.strip_chars().to_list()
    shown = [text.strip() for text in cards(page).locator(".title").all_text_contents()]
    assert sorted(shown) == sorted(names)
    for item in ("a/0?", "i1", "i7"):
        cards(page).nth(ids(page).index(item)).locator(".title").click()
        expect(page.locator(".because:visible")).to_be_visible()
    assert page.locator("main img, main script, .rail img, .rail script, main b").count() == 0
    assert page.title() == "user u3 · kgrec"


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.open()

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert ring == "solid"
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#known input")
    page.keyboard.type("u")
    expect(matches(page)).to_have_count(8)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    field = page.locator("#known input")
    active = page.locator(f"#{field.get_attribute('aria-activedescendant')}")
    expect(active).to_have_attribute("aria-selected", "true")
    user = active.locator(".text").inner_text()
    page.keyboard.press("Escape")
    expect(field).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowDown")  # opens the list again
    expect(field).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(cards(page)).to_have_count(10)
    expect(page.locator("#subject")).to_have_text(f"Recommendations for user {user}")
    tab_to(".slider input")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".slider.set")).to_have_count(1)
    tab_to(".card .title")
    page.keyboard.press("Enter")
    expect(cards(page).first.locator(".because")).to_be_visible()
    assert page.evaluate("document.activeElement.matches('.card .title')")
    page.keyboard.press("Space")
    expect(cards(page).first.locator(".because")).to_be_hidden()


def test_landmarks_headings_and_names(visit: Visit) -> None:
    page = visit.open("user=u3")
    cards(page).first.locator(".title").click()
    expect(cards(page).first.locator("svg")).to_be_visible()
    for landmark in ("banner", "main"):
        assert page.get_by_role(landmark).count() == 1
    levels = page.evaluate(
        """[...document.querySelectorAll("h1,h2,h3,h4,h5,h6")]
          .filter((h) => h.checkVisibility()).map((h) => Number(h.tagName[1]))"""
    )
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, select, input")].filter((element) =>
          element.checkVisibility() && !element.labels?.length && !element.ariaLabel
          && !element.textContent.trim()).length"""
    )
    assert nameless == 0
    twice = page.evaluate(
        """{ const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
             ids.length - new Set(ids).size }"""
    )
    assert twice == 0


def test_cards_do_not_move_for_those_who_ask(browser: Any, server: Server) -> None:
    counted = """window.moves = 0; const real = Element.prototype.animate;
      Element.prototype.animate = function (...a) { moves += 1; return real.apply(this, a); }"""
    moves = {}
    for motion in ("no-preference", "reduce"):
        visit = Visit(browser, server, reduced_motion=motion)
        visit.page.add_init_script(counted)
        page = visit.open("user=u5")
        expect(cards(page)).to_have_count(10)
        page.get_by_role("slider", name="genre").press("End")
        expect(page.locator(".change:not(:empty)").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        moves[motion] = page.evaluate("moves")
        visit.close()
    assert moves["reduce"] == 0
    assert moves["no-preference"] > 0


def test_the_policy_and_types_of_the_files(server: Server) -> None:
    folder = Path(kgrec.__file__).parent / "serving" / "page"
    kinds = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
    kinds[".svg"] = "image/svg+xml"
    for file in folder.iterdir():
        response = server.client.get(f"/page/{file.name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kinds[file.suffix])
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        etag = response.headers["etag"]
        again = server.client.get(f"/page/{file.name}", headers={"If-None-Match": etag})
        assert again.status_code == 304
        assert again.headers["content-security-policy"] == policy
    assert server.client.get("/").text == (folder / "index.html").read_text(encoding="utf-8")
    for path in ("/page/none.js", "/page/../site.py", "/page/%2e%2e/site.py"):
        assert server.client.get(path).status_code == 404
    described = server.ok("/openapi.json")["paths"]
    assert not any(path.startswith("/page") or path == "/" for path in described)
