"""build.yaml: what it may say, and what is wrong in it."""

import pytest
from user_tables import PLAN, write

from kgrec.data.build.plan import Attribute
from kgrec.data.build.plan_file import read_plan
from kgrec.errors import ConfigError, DataError

INTERACTIONS = "interactions: {table: orders.csv, user: customer, item: sku}\n"


def attributes(text: str) -> str:
    return f"{INTERACTIONS}items: {{table: products.csv, id: sku, attributes: {text}}}\n"


def test_a_plan_names_its_tables_from_its_own_folder(tmp_path):
    plan = read_plan(write(tmp_path))
    assert plan.interactions.table == tmp_path / "orders.csv"
    assert plan.items[0].attributes[0] == Attribute("color", "color", "color", "color")


def test_columns_may_be_a_list_and_values_have_settings(tmp_path):
    plan = read_plan(write(tmp_path, attributes("[color, shoe_size]")))
    assert [(a.column, a.label) for a in plan.items[0].attributes] == [
        ("color", "color"), ("shoe_size", "shoe size")
    ]  # fmt: skip
    plan = read_plan(write(tmp_path, attributes("{color: {entities: shade, relation: has}}")))
    assert plan.items[0].attributes[0].entities == "shade"
    assert plan.items[0].attributes[0].relation == "has"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAN + "itmes: {}\n", r"itmes: found an unknown key.*\(did you mean items\?\)"),
        (attributes("{color: {bin: 3}}"), r"color.bin: found an unknown key.*did you mean bins"),
        (attributes("{color: {bins: 1}}"), r"color.bins: found 1, expected a whole number of at"),
        (attributes("{color: {bins: 3, date: year}}"), "found bins and date, expected at most one"),
        (attributes("{color: {date: yaer}}"), r"'yaer', expected one of .*did you mean year"),
        (attributes("{color: {edges: [2, 1]}}"), "expected numbers that increase"),
        (attributes("{color: {edges: 5}}"), "expected a list of numbers"),
        (attributes("{color: red}"), "color: found 'red', expected keys"),
        (attributes("{item: {}}"), "found the relation item"),
        (attributes("{color: {}, mood: {relation: color}}"), "the relation color for column color"),
        (INTERACTIONS, "no attribute, link or graph of the items"),
        ("items: {table: products.csv, id: sku}\n", "interactions: found nothing"),
        ("", "interactions: found nothing"),
        ("- a\n- b\n", "expected keys"),
        ("interactions: {table: orders.csv, user: 5, item: sku}\n", "user: found 5, expected"),
        ("interactions: {table: orders.csv, item: sku}\n", "user: found nothing, expected"),
        (INTERACTIONS + "triples: {table: a, head: a, tail: b}\n", "relation: found neither"),
        (INTERACTIONS + "graph: {triples: kg.csv}\n", "graph.links: found nothing"),
        (INTERACTIONS + "graph: {triples: k, links: {table: t, by: title}}\n", "entity: found no"),
        (INTERACTIONS + "graph: {triples: k, links: {table: t, entity: e, by: title}}\n",
         "found no table of items"),
        (INTERACTIONS.replace("}", ", min_count: .nan}"), "min_count: found nan, expected a num"),
        (INTERACTIONS.replace("}", ", min_count: .inf}"), "min_count: found inf, expected a num"),
        (INTERACTIONS.replace("}", f", min_count: {10**400}}}"), "min_count: found 1000"),
        (attributes("{color: {edges: [.nan]}}"), "expected a list of numbers"),
        (attributes("{color: {edges: [1, .inf]}}"), "expected a list of numbers"),
        (attributes(f"{{color: {{edges: [{2**53}, {2**53 + 1}]}}}}"), "numbers that increase"),
        (attributes("{':token': {}}"), "relation: found nothing, expected a name"),
        (INTERACTIONS + "path: x\n", "path: found an unknown key"),
        (INTERACTIONS + "items:\n- {table: x/t.csv, id: a, attributes: [c]}\n"
         "- {table: y/t.csv, id: a, attributes: [c]}\n", "column c of x/t.csv and for column c of"),
        (INTERACTIONS.replace("}", ", min_count: two}"), "min_count: found 'two', expected a numb"),
        (INTERACTIONS.replace("}", ", weight: n}"), "weight: found 'n', expected one of quant"),
        (INTERACTIONS.replace("}", ", weight: quantity}"), "interactions.quantity: found nothing"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_with_its_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_plan(write(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "build.yaml"))


@pytest.mark.parametrize("text", ["a: [1\n", "a: b: c\n", "a: ${b}\n", "a: 1\na: 2\n"])
def test_a_file_that_is_no_yaml_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"build.yaml: found no YAML that can be read"):
        read_plan(write(tmp_path, text))


def test_a_missing_plan_says_how_to_write_one(tmp_path):
    with pytest.raises(DataError, match="--guess"):
        read_plan(tmp_path / "build.yaml")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 200,000 values"),
        ("a: " + "[" * 3000, "more than 100 lists or mappings within each other"),
        ("a: &a [*a]\n", "the alias 'a' is unknown or within itself"),
        ("!!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ],
)
def test_a_yaml_file_of_a_stranger_takes_no_memory_and_runs_no_code(tmp_path, text, reason):
    with pytest.raises(DataError, match=f"build.yaml: found no YAML that can be read .*{reason}"):
        read_plan(write(tmp_path, text))


def test_a_plan_reads_no_variables_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "color")
    with pytest.raises(DataError, match="is an interpolation") as error:
        read_plan(write(tmp_path, attributes("['${oc.env:SECRET}']")))
    assert "color" not in str(error.value)
    plan = read_plan(write(tmp_path, attributes(r"['\${oc.env:SECRET}']")))
    assert plan.items[0].attributes[0].column == "${oc.env:SECRET}"


def test_a_key_of_a_plan_adds_no_line_to_a_message(tmp_path):
    with pytest.raises(ConfigError, match=r"a\\nb\\x1b\[31m: found an unknown key") as error:
        read_plan(write(tmp_path, INTERACTIONS + '"a\\nb\\x1b[31m": 1\n'))
    assert str(error.value).isprintable()
