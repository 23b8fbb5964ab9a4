"""From a request's options to the search that serves them."""

from __future__ import annotations

from dragoman_service.engine.request import Request
from oracle.search.base import Search
from oracle.search.beam import BeamSearch
from oracle.search.independent import IndependentSearch
from oracle.search.sampling import likeliest, make_sampler


def make_search(request: Request, *, begin_id: int, end_id: int) -> Search:
    """The search for a request, with `options.num_rows` rows; `begin_id` is fed at position 0."""
    options = request.options
    if options.sampling is not None:
        samplers = [make_sampler(options.sampling, request.source, number) for number in range(options.num_hypotheses)]
        return IndependentSearch(request, samplers, options.sampling.top_k, begin_id=begin_id, end_id=end_id)
    if options.beam_size > 1:
        return BeamSearch(request, begin_id=begin_id, end_id=end_id)
    return IndependentSearch(request, [likeliest], 1, begin_id=begin_id, end_id=end_id)
