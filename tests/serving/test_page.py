"""The page in headless Chromium: what a person does, and what a page must not do."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import CHROMIUM

import kgrec

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow  # a browser and three runs
if CHROMIUM is None:
    pytest.skip("no Chromium", allow_module_level=True)

from http_server import Server, running  # noqa: E402

Page = playwright.Page
expect = playwright.expect

TITLES = [
    "<img src=x onerror=\"document.title='broken'\">",
    "</script><script>document.title='broken'",
    "كتاب الأغاني (1999)",
    "ספר השירים & עוד",
    "\u202eesrever",
    "日本の映画 🎬",
    "“Ends” & 'quotes'",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4,
    "Many words " * 30,
    "{{7*7}} ${7*7} %3Cb%3E",
]
USERS, ITEMS = 40, 60
WIDTHS = (360, 768, 1600)


def items() -> pl.DataFrame:
    """Items with titles that a careless page would break on."""
    draw = random.Random(1)
    return pl.DataFrame(
        {
            "item": [f"a/{n}?" if n % 9 == 0 else f"i{n}" for n in range(ITEMS)],
            "title": [f"{TITLES[n % 10]} {n}" if n < 30 else f"Title {n}" for n in range(ITEMS)],
            "director": [f"Director <b>{draw.randrange(6)}</b>" for _ in range(ITEMS)],
            "genre": [f"genre {draw.randrange(5)}" for _ in range(ITEMS)],
            "country": [f"country {draw.randrange(4)}" for _ in range(ITEMS)],
        }
    )


def interactions() -> pl.DataFrame:
    draw = random.Random(2)
    names = items()["item"].to_list()
    pairs = [(f"u{n}", item) for n in range(USERS) for item in draw.sample(names, 9)]
    return pl.DataFrame(pairs, schema=["user", "item"], orient="row")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of runs: with weights of relations, without them, and without fold-in."""
    place = tmp_path_factory.mktemp("page")
    models = {
        "kgcn": ["model.H=2", "model.K=4"], "lightgcn": [], "popularity_balance": [],
    }  # fmt: skip
    for model, settings in models.items():
        kgrec.fit(
            interactions(), items(), model=model, folder=place / model, quiet=True,
            overrides=["epochs=2", "logger=csv", *settings],
        )  # fmt: skip
    with running(*(f"{model}={place / model}" for model in models)) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-quic", "--disable-background-networking",
                  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
        )  # fmt: skip
        yield started
        started.close()


class Visit:
    """A tab on the server, which notes what a page must not do."""

    def __init__(self, browser: Any, server: Server, **context: Any) -> None:
        context.setdefault("viewport", {"width": 1280, "height": 900})
        self.address = server.address
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, state: str = "") -> Page:
        self.page.goto(f"{self.address}/#{state}")
        expect(self.page.locator("#subject")).to_be_visible()
        return self.page

    def close(self, refused: int = 0) -> None:
        """Closes the tab; the console may hold as many messages as requests were refused."""
        refusals = [text for text in self.messages if text.startswith("Failed to load resource")]
        assert [text for text in self.messages if text not in refusals] == []
        assert len(refusals) == refused
        assert [url for url in self.requests if not url.startswith(f"{self.address}/")] == []
        self.context.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    started = Visit(browser, server)
    yield started
    started.close()


def matches(page: Page) -> Any:
    return page.locator("li[role=option]:visible")


def cards(page: Page, column: int = 0) -> Any:
    return page.locator(".column").nth(column).locator(".card")


def ids(page: Page, column: int = 0) -> list[str]:
    return [card.get_attribute("data-item") for card in cards(page, column).all()]


def scores(page: Page, column: int = 0) -> list[str]:
    return cards(page, column).locator(".number").all_inner_texts()


def test_a_user_is_searched_and_cards_say_why(server: Server, visit: Visit) -> None:
    page = visit.open()
    field = page.get_by_role("combobox", name="User")
    field.fill("u3")
    options = matches(page)
    expect(options.first).to_contain_text("u3")
    options.first.click()
    expect(cards(page)).to_have_count(10)
    expect(page.get_by_role("heading", name="Recommendations for user u3")).to_be_visible()
    answer = server.ok("/recommend", users=["u3"], k=10, why=True)["results"][0]["items"]
    assert ids(page) == [row["item"] for row in answer]
    assert scores(page) == [f"{row['score']:.2f}".replace("-", "−") for row in answer]
    first = cards(page).first
    expect(first.locator(".title")).to_have_text(answer[0]["name"])
    expect(first.locator(".why")).to_have_text(answer[0]["why"], ignore_case=True)
    expect(first.locator(".attributes")).to_contain_text("director Director <b>")
    history = server.rec.history("u3")["name"].to_list()
    shown = page.locator("#history-items li").all_text_contents()
    assert [text.strip() for text in shown] == [name.strip() for name in history]


def test_nothing_can_be_asked_before_the_runs_are_known(visit: Visit) -> None:
    held: list[Any] = []
    visit.page.route("**/runs", lambda route: held.append(route))  # noqa: PLW0108
    page = visit.open()
    expect(page.get_by_text("Loading the runs")).to_be_visible()
    expect(page.get_by_role("combobox", name="User")).to_be_hidden()
    expect(page.get_by_label("Include items already seen")).to_be_hidden()
    page.evaluate("location.hash = 'user=u3'")
    held[0].continue_()
    expect(cards(page)).to_have_count(10)
    expect(page.get_by_role("combobox", name="User")).to_have_value("u3")


def test_an_open_card_shows_shares_and_the_receptive_field(server: Server, visit: Visit) -> None:
    page = visit.open("user=u3")
    title = cards(page).first.get_by_role("button").first
    expect(title).to_have_attribute("aria-expanded", "false")
    title.click()
    expect(title).to_have_attribute("aria-expanded", "true")
    item = ids(page)[0]
    why = server.ok("/explain", user="u3", item=item, top=6)
    detail = cards(page).first.locator(".detail").first
    expect(detail.locator(".because")).to_have_text(why["text"])
    reasons = detail.locator(".bars").first.locator("li")
    expect(reasons).to_have_count(len(why["contributions"]))
    widths = reasons.locator(".bar").evaluate_all("bars => bars.map(bar => bar.offsetWidth)")
    shares = [abs(each["share"]) for each in why["contributions"]]
    for width, share in zip(widths, shares, strict=True):
        assert width == pytest.approx(max(2, widths[0] * share / shares[0]), abs=1.5)
    expect(detail).to_contain_text(why["note"])
    drawn = detail.locator("svg .edge").evaluate_all(
        "edges => edges.map(edge => Number(edge.getAttribute('stroke-width')))"
    )
    tree = why["receptive_field"]
    nodes = [*tree["children"][:6], *(n for c in tree["children"][:6] for n in c["children"][:2])]
    assert len(drawn) == len(nodes)
    largest = max(node["weight"] for node in nodes)
    assert sorted(drawn) == pytest.approx(
        sorted(1 + 9 * node["weight"] / largest for node in nodes), abs=0.01
    )
    liked = sum(node["liked"] for node in nodes)
    assert detail.locator("svg .node.liked").count() == liked
    picture = detail.get_by_role("img")
    expect(picture).to_have_accessible_name(pattern(tree["children"][0]["name"]))
    detail.get_by_text("The same as a list").click()
    assert detail.locator(".list li").count() == 1 + count_below(tree)
    page.go_back()
    expect(title).to_have_attribute("aria-expanded", "false")
    expect(detail).to_be_hidden()


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text.strip()))


def count_below(node: dict[str, Any]) -> int:
    return sum(1 + count_below(child) for child in node["children"])


def test_a_slider_changes_scores_and_order(server: Server, visit: Visit) -> None:
    page = visit.open("user=u5")
    expect(cards(page)).to_have_count(10)
    before = scores(page)
    slider = page.get_by_role("slider", name="genre")
    assert slider.get_attribute("aria-valuetext") == "as learned"
    slider.focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "eight times"
    weights = {"genre": 8.0}
    answer = server.ok("/recommend", users=["u5"], k=10, relation_weights=weights)["results"][0]
    expect(cards(page).first.locator(".number")).to_have_text(f"{answer['items'][0]['score']:.2f}")
    assert ids(page) == [row["item"] for row in answer["items"]]
    assert scores(page) != before
    assert "w.genre=3" in page.url
    expect(page.locator(".change:not(:empty)").first).to_be_visible()
    page.reload()  # a shared view
    expect(cards(page).first.locator(".number")).to_have_text(f"{answer['items'][0]['score']:.2f}")
    page.get_by_role("button", name="Reset all").click()
    expect(cards(page).first.locator(".number")).to_have_text(before[0])
    assert scores(page) == before
    page.go_back()
    expect(slider).to_have_value("3")


def test_the_newest_of_many_slider_moves_wins(server: Server, visit: Visit) -> None:
    page = visit.open("user=u5")
    expect(cards(page)).to_have_count(10)
    delays = iter([600, 0, 300, 0, 0])

    def slow(route: Any) -> None:
        page.wait_for_timeout(next(delays, 0))
        route.continue_()

    page.route("**/recommend", slow)
    slider = page.get_by_role("slider", name="director")
    move = "(input, power) => { input.value = power; input.dispatchEvent(new Event('input')); }"
    for power in (1, -3, 2, -1, 3):
        slider.evaluate(move, power)
    weights = {"director": 8.0}
    answer = server.ok("/recommend", users=["u5"], k=10, relation_weights=weights)["results"][0]
    page.wait_for_load_state("networkidle")
    expect(cards(page).first.locator(".number")).to_have_text(f"{answer['items'][0]['score']:.2f}")
    assert ids(page) == [row["item"] for row in answer["items"]]


def test_someone_new_by_liked_items(server: Server, visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("radio", name="Someone new").check()
    field = page.get_by_role("combobox", name="Liked items")
    for title in ("Title 42", "Title 44"):
        field.fill(title)
        expect(matches(page).first).to_contain_text(title)
        field.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.locator("#subject")).to_have_text("Recommendations for someone who likes 2 items")
    expect(page.locator(".column .notice").first).to_contain_text("fold-in (steps)")
    answer = server.ok("/recommend", histories={"new user": ["i42", "i44"]}, k=10)["results"][0]
    expect(cards(page)).to_have_count(10)
    assert ids(page) == [row["item"] for row in answer["items"]]
    cards(page).first.locator(".title").click()
    expect(cards(page).first.locator(".because")).to_be_visible()
    page.get_by_role("button", name="Remove Title 44").click()
    expect(page.locator(".chip")).to_have_count(1)
    assert "like=i42" in page.url
    assert "i44" not in page.url


def test_two_runs_side_by_side(server: Server, visit: Visit) -> None:
    page = visit.open("user=u7&k=40")
    expect(cards(page)).not_to_have_count(0)
    page.get_by_label("Beside it").select_option("lightgcn")
    expect(cards(page, 1)).not_to_have_count(0)
    both = set(ids(page)) & set(ids(page, 1))
    assert both
    item = sorted(both)[0]
    here, there = ids(page).index(item) + 1, ids(page, 1).index(item) + 1
    marks = cards(page).nth(here - 1).locator(".mark.both")
    expect(marks).to_contain_text(f"No. {there} in lightgcn")
    expect(page.locator("#common")).to_have_text(f"{len(both)} items are in both lists.")
    by = abs(here - there)
    expect(marks).to_contain_text(f"{by} {'higher' if here < there else 'lower'}" if by else "same")
    page.get_by_role("slider", name="genre").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".column .notice:visible")).to_have_text(
        "The sliders do not change lightgcn: it has no attention to relations."
    )


def test_what_a_model_cannot_do_is_said(visit: Visit) -> None:
    page = visit.open("run=popularity_balance&like=i42")
    expect(page.locator(".column .notice").first).to_contain_text("knows nothing of this user")
    expect(page.locator("#weights")).to_be_hidden()
    page.wait_for_load_state("networkidle")
    expect(cards(page)).to_have_count(10)
    page = visit.open("run=popularity_balance&user=u3")
    cards(page).first.locator(".title").click()
    expect(cards(page).first.locator(".note")).not_to_be_empty()


def test_a_shared_view_of_a_run_that_is_not_served(visit: Visit) -> None:
    page = visit.open("user=u3&run=gone&beside=lightgcn")
    expect(page.locator("#missing")).to_have_text("Not served here: gone.")
    expect(cards(page, 1)).to_have_count(10)


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
