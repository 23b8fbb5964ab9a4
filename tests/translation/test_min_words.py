"""A sentence gets at least one token."""

from __future__ import annotations

from itertools import count

import pytest

from dragoman_service.engine.request import DecodingOptions, Sampling
from dragoman_service.translation.prepare import RequestMaker, Sender, prepare
from support.fake_workers import FakeWorkers, served
from support.frontends import call


@pytest.mark.parametrize("given", [0, 5])
def test_a_sentence_with_a_letter_is_never_translated_to_nothing(given: int) -> None:
    options = DecodingOptions(min_length=given, sampling=Sampling(top_k=3))
    route = call(served(FakeWorkers())).route
    prepared = prepare("a\n12\n3b\n4:5", "", route, options, lambda piece: None)
    made = list(RequestMaker(route, options, Sender(), count().__next__).of_text(prepared))
    assert [request.options.never_empty for request in made] == [True, True]
    assert [request.options.min_length for request in made] == [given, given]
    assert all(request.options.sampling is not None and request.options.sampling.top_k == 3 for request in made)
