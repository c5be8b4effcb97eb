"""What a study is: the registry, sizes, and a place in the figures for each."""

import pytest

import trainability as tr
from trainability.plot_studies import DRAWINGS
from trainability.studies import SIZES, STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_each_study_refuses_an_unknown_size_and_can_be_drawn(name):
    assert name in DRAWINGS
    with pytest.raises(ValueError, match=f"size='huge' is none of {', '.join(SIZES)}"):
        STUDIES[name](size="huge")


def test_unknown_study_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="study 'x' is unknown; there are product-map"):
        STUDIES["x"]


def test_repr_leads_with_the_answer():
    study = tr.Study(name="x", title="Title", question="Why?", answer="Because.", runs={})
    assert repr(study) == "Title\nBecause."
