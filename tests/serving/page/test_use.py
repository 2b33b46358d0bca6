"""What a person does on the page, in headless Chromium."""

from __future__ import annotations

import re
from typing import Any

import pytest
from http_server import Server
from pages import Visit, cards, expect, ids, matches, scores

pytestmark = pytest.mark.slow  # a browser and three runs


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
