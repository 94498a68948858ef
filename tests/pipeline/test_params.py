from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from napari_unroll.errors import ParameterError
from napari_unroll.methods.registry import METHODS
from napari_unroll.pipeline import params


class Sample(BaseModel, extra="forbid"):
    """A record with every kind of field."""

    size_mm: float = Field(1.5, gt=0, le=10, description="How large.", json_schema_extra={"unit": "mm"})
    count: int = Field(3, ge=1)
    mode: Literal["fast", "good"] = "fast"
    patch: Annotated[int, Field(ge=8, le=99)] | Literal["auto"] = "auto"
    on: bool = True
    name: str | None = None
    box: tuple[int, int] | None = None


def test_fields_tell_what_a_form_needs():
    found = {f.name: f for f in params.fields(Sample)}
    assert "box" not in found
    size = found["size_mm"]
    assert (size.type, size.default, size.minimum, size.maximum, size.unit, size.help, size.exclusive) == (
        float, 1.5, 0, 10, "mm", "How large.", ("gt",),
    )  # fmt: skip
    assert found["mode"].choices == ("fast", "good")
    assert not found["mode"].free
    patch = found["patch"]
    assert (patch.type, patch.choices, patch.free, patch.minimum, patch.maximum) == (int, ("auto",), True, 8, 99)
    assert found["on"].type is bool
    assert found["name"].optional


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_parameter_has_a_form_field_and_a_description(method):
    specs = params.fields(method.params)
    assert {s.name for s in specs} == set(method.params.model_fields)
    assert all(s.help.endswith(".") for s in specs)


@pytest.mark.parametrize(
    "values", [{}, {"size_mm": 2e-4, "mode": "good"}, {"patch": 32, "on": False}, {"name": "a b", "box": (1, 2)}]
)
def test_options_and_yaml_rebuild_the_record(values):
    record = Sample(**values)
    words = params.to_options(record)
    assert words[::2] == ["--set"] * (len(words) // 2)
    assert params.build(Sample, params.parse_assignments(words[1::2])) == record
    assert params.from_yaml(Sample, params.to_yaml(record)) == record


def test_yaml_explains_itself():
    assert params.to_yaml(Sample()).startswith("# How large.\nsize_mm: 1.5\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("7", 7), ("true", True), ("fast", "fast"), ("[1, 2]", [1, 2]), ("-45:45", "-45:45")],
)
def test_assignments_read_numbers_words_and_lists(text, value):
    assert params.parse_assignments([f"size-mm={text}"]) == {"size_mm": value}


@pytest.mark.parametrize("text", ["size", "=3", ""])
def test_what_is_no_assignment_is_told(text):
    with pytest.raises(ParameterError, match="name=value"):
        params.parse_assignments([text])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"size_mm": -1}, r"Sample: size_mm: .*greater than 0; got -1\."),
        ({"count": "many"}, "count: .*integer.*got 'many'"),
        ({"sise": 1}, "no parameter 'sise'; it has size_mm, count"),
        ({"patch": 2}, "patch: .*greater than or equal to 8"),
        ({"patch": "large"}, "patch: .*'auto'"),
        ({"mode": "slow"}, "mode: .*'fast' or 'good'"),
    ],
)
def test_a_wrong_value_is_one_sentence(values, told):
    with pytest.raises(ParameterError, match=told) as error:
        params.build(Sample, values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- 1\n- 2", "a: [", "just words", "day: 2001-99-99", "a: " + 5000 * "9", 3000 * "["])
def test_what_is_no_mapping_is_told(text):
    with pytest.raises(ParameterError, match="Expected YAML"):
        params.from_yaml(Sample, text)


@pytest.mark.parametrize("right", ["2001-99-99", 5000 * "9", 3000 * "["])
def test_values_that_yaml_stumbles_over_stay_text(right):
    assert params.parse_assignments([f"name={right}"]) in ({"name": right}, {"name": float("inf")})


def test_an_unreadable_file_is_told(tmp_path):
    with pytest.raises(ParameterError, match="readable YAML"):
        params.read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["!!int ''", "!!bool x", "!!timestamp x", "&a [*a]", "=", "\x00", "{[1]: 2}", "["])
def test_odd_texts_of_options_stay_texts(text):
    assert params.parse_assignments([f"a={text}"]) == {"a": text}


def test_yaml_that_multiplies_or_has_no_names_is_refused_in_words():
    for text in ("a: &a [1]\nb: *a", "1: 2", "null", "!!int ''"):
        with pytest.raises(ParameterError, match="Expected YAML"):
            params.parse_yaml(text)
