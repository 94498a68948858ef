"""A law over all records: every number has a least and a most; NaN, infinity and the absurd are one sentence."""

import re
import typing
from inspect import signature

import annotated_types
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from napari_unroll.errors import ParameterError
from napari_unroll.gui.from_layer import LayerGeometry, LayerImage
from napari_unroll.gui.scan_dock import VolumeChoice
from napari_unroll.io.reader import parse_options
from napari_unroll.io.registry import READERS
from napari_unroll.methods.registry import METHODS
from napari_unroll.normal.fit import FitOptions
from napari_unroll.pipeline import telling
from napari_unroll.pipeline.away import Note, Queue
from napari_unroll.pipeline.edits import Edits
from napari_unroll.pipeline.evaluate import EvaluationPlan
from napari_unroll.pipeline.params import build, fields
from napari_unroll.pipeline.plan import Choices
from napari_unroll.pipeline.sources import SAMPLES, _generator
from napari_unroll.record import Record
from napari_unroll.training.plan import TrainingPlan

ROOTS = (
    *(reader.options for reader in READERS),
    *(method.params for method in METHODS.values()),
    Choices, Edits, FitOptions, EvaluationPlan, TrainingPlan, LayerGeometry, LayerImage, VolumeChoice, Queue,
)  # fmt: skip
NOTES = (Note, telling.Begun, *telling.TOLD.values())
"""What processes tell each other."""
ABSURD = (float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 10**40, "nan", "1e999", ".inf")


def nested(record):
    """The record and the records in its fields."""
    inner = [info.annotation for info in record.model_fields.values()]
    found = [a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)]
    return {record}.union(*(nested(a) for a in found))


RECORDS = sorted(set().union(*(nested(root) for root in (*ROOTS, *NOTES))), key=lambda r: r.__name__)


def numbers(annotation, metadata=()):
    """Every number in an annotation, as (type, constraints on it)."""
    if annotation in (int, float):
        return [
            (annotation, [m for item in metadata for m in (item.metadata if isinstance(item, FieldInfo) else [item])])
        ]
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *own = typing.get_args(annotation)
        return numbers(inner, (*metadata, *own))
    return [found for part in typing.get_args(annotation) for found in numbers(part, metadata)]


def is_bounded(constraints):
    low = any(isinstance(c, (annotated_types.Ge, annotated_types.Gt)) for c in constraints)
    return low and any(isinstance(c, (annotated_types.Le, annotated_types.Lt)) for c in constraints)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_every_number_has_a_least_and_a_most(record):
    assert issubclass(record, Record)
    for name, info in record.model_fields.items():
        for _, constraints in numbers(info.annotation, info.metadata):
            assert is_bounded(constraints), f"{record.__name__}.{name} has no limits: {constraints}"


@pytest.mark.parametrize("name", SAMPLES)
def test_so_has_every_number_of_a_sample(name):
    hints = typing.get_type_hints(_generator(name), include_extras=True)
    assert set(signature(_generator(name)).parameters) < set(hints)
    for option in signature(_generator(name)).parameters:
        assert all(is_bounded(constraints) for _, constraints in numbers(hints[option])), option


CASES = [
    pytest.param(record, spec.name, value, id=f"{record.__name__}.{spec.name}={value}")
    for record in ROOTS
    for spec in fields(record)
    if spec.type in (int, float) and not spec.choices
    for value in ABSURD
]


def test_absurd_numbers_are_refused_in_one_sentence():
    assert len(CASES) > 300
    for case in CASES:
        record, name, value = case.values
        with pytest.raises(ParameterError, match=name) as caught:
            build(record, {name: value}, "The record")
        assert len(str(caught.value)) <= 200, caught.value
        assert "\n" not in str(caught.value)


def test_readers_refuse_them_as_well():
    for reader in READERS:
        for spec in fields(reader.options):
            if spec.type in (int, float):
                for value in ABSURD:
                    with pytest.raises(ParameterError, match=f"Option '{spec.name}' of "):
                        parse_options(reader, {spec.name: value})


ONLY_SPEAK_OF_FILES = {"MatOptions.variable"}


def test_a_text_that_names_a_file_or_a_folder_says_so():
    for record in RECORDS:
        for spec in fields(record):
            name = f"{record.__name__}.{spec.name}"
            if spec.type is str and not spec.choices and re.search(r"\b([Ff]ile|[Ff]older)s?\b", spec.help):
                assert bool(spec.place) == (name not in ONLY_SPEAK_OF_FILES), f"{name}: {spec.help}"
