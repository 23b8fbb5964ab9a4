"""The server under concurrent clients, and CTranslate2 called directly, on the same weights and sentences.

    python bench/served.py --data DATA --model bundled --precision int8

Dragoman is `dragoman serve` in a separate process. A load generator, also a process, calls it over gRPC with one
sentence a call, so server and clients share the machine. CTranslate2 is called in a process without a network, with at
most as many sentences in flight as there are clients, in their given order; the best of several numbers of workers and
threads counts. `whole file` gives it all sentences at once, to sort by length, which a server cannot do. transformers
and optimum-onnx are called in batches of as many sentences as there are clients, with a MarianMT of the same sizes, and
translate each sentence to the mean length of CTranslate2's translations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.alone import translate_alone
from bench.measure.calls import Call, Rates, Search, rates, steady_window
from bench.measure.common import (
    Timing,
    base_parser,
    int_list,
    interleaved,
    name_list,
    print_header,
    print_table,
    progress,
    ratio,
)
from bench.measure.load import LoadGenerator, Target, load_generator
from bench.measure.servers import ServerProcess, dragoman_command, server_process
from bench.peers.artifacts import Artifacts, find_artifacts
from bench.peers.ct2_direct import Ct2Translator, Layout, Run
from bench.peers.hugging_face import ENGINES, HuggingFace, hugging_face
from bench.peers.sentences import add_sentence_options, data_folder, sentences_for
from dragoman_service.bundle.tokenizer import Tokenizer

LAYOUTS = (Layout(1, 1), Layout(1, 2), Layout(2, 1))
"""Numbers of CTranslate2's workers, and of threads of each."""
OTHERS_SENTENCES = 8
"""Least number of sentences for the slow engines."""
SETTLE_SECONDS = 0.3
"""Pause before each competitor, after which idle threads of the one before no longer spin."""
DIRECT, WHOLE_FILE, DRAGOMAN = "CTranslate2 direct", "CTranslate2 whole file", "Dragoman served"


@dataclass(slots=True)
class Measured:
    """Results of one competitor, round by round."""

    rounds: list[Rates] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    """Sentence -> translation."""
    notes: str = ""
    length: int = 0
    """Target tokens of every sentence, if the competitor is forced to this length."""

    def middle(self) -> Rates:
        """The round of median throughput."""
        ordered = sorted(self.rounds, key=lambda one: one.sentences)
        return ordered[len(ordered) // 2]


@dataclass(frozen=True, slots=True)
class Bench:
    """The running server, load generator and engines, and the sentences."""

    server: ServerProcess
    generator: LoadGenerator
    translators: dict[Layout, Ct2Translator]
    others: dict[str, HuggingFace]
    tokenizer: Tokenizer
    sentences: list[str]

    def served(self, search: Search, clients: int, sentences: Sequence[str], measured: Measured) -> float:
        """Run a closed loop. Returns the seconds of as many calls as there are sentences, in the steady state."""
        target = Target(self.server.address, search)
        cpu = self.server.cpu_seconds()
        load = self.generator.closed_loop(target, sentences, clients, clients + len(sentences))
        if load.errors:
            raise SystemExit(f"{DRAGOMAN}: calls failed: {dict(load.errors)}")
        seconds, calls = steady_window(load.calls, clients, len(sentences))
        measured.rounds.append(rates(seconds, calls))
        measured.texts.update((call.sentence, call.text) for call in load.calls)
        server = (self.server.cpu_seconds() - cpu) / load.client_wall
        measured.notes = f"server {server:.2f}, client {load.client_cpu / load.client_wall:.2f} cores"
        return seconds

    def direct(self, layout: Layout, search: Search, clients: int, sentences: Sequence[str], to: Measured) -> float:
        """Translate with at most `clients` sentences in flight. Returns the seconds."""
        return _account(self.translators[layout].in_flight(sentences, search, clients), to)

    def whole_file(self, layout: Layout, search: Search, clients: int, sentences: Sequence[str], to: Measured) -> float:
        """Translate all sentences at once, in batches of `clients`. Returns the seconds."""
        return _account(self.translators[layout].whole_file(sentences, search, clients), to)

    def other(self, name: str, search: Search, clients: int, sentences: Sequence[str], to: Measured) -> float:
        """Translate the first sentences with one of `others`, to `to.length` tokens each.

        Returns:
            The seconds that all sentences would take.
        """
        few = sentences[: max(clients, OTHERS_SENTENCES)]
        sources = [[*self.tokenizer.encode(sentence), self.tokenizer.end_id] for sentence in few]
        seconds, batches = self.others[name].translate(sources, clients, search.beam_size, to.length)
        calls = [Call(i, 0.0, 0.0, 0.0, batches[i // clients], len(s), to.length) for i, s in enumerate(sources)]
        to.rounds.append(rates(seconds, calls))
        return seconds * len(sentences) / len(few)


@contextmanager
def running(args: argparse.Namespace, artifacts: Artifacts, sentences: list[str]) -> Iterator[Bench]:
    """Start everything, and stop it at the end."""
    command = dragoman_command(artifacts.bundle, *args.serve_options.split())
    with server_process(command) as server, load_generator() as generator, ExitStack() as stack:
        translators = {
            layout: Ct2Translator(artifacts.ct2, artifacts.tokenizer, artifacts.compute_type, layout)
            for layout in LAYOUTS
        }
        others = {
            name: stack.enter_context(hugging_face(name, args.model, args.precision, args.cache))
            for name in args.others
        }
        yield Bench(server, generator, translators, others, Tokenizer(artifacts.tokenizer), sentences)


def compare(bench: Bench, search: Search, clients: int, repeats: int) -> dict[str, tuple[Measured, Timing]]:
    """Measure all competitors in turns."""
    sentences = bench.sentences if clients > 1 else bench.sentences[: max(16, len(bench.sentences) // 4)]
    measured = {name: Measured() for name in (DRAGOMAN, DIRECT, WHOLE_FILE, *bench.others)}
    competitors: dict[str, Callable[[], float]] = {}
    target_tokens = 0
    for name, way in ((DIRECT, bench.direct), (WHOLE_FILE, bench.whole_file)):
        # Each layout has one trial, which also warms it up. The fastest competes.
        tried, some = Measured(), sentences[: max(2 * clients, len(sentences) // 2)]
        tries = {layout: partial(way, layout, search, clients, some, tried) for layout in bench.translators}
        timings = interleaved(tries, 1, settle=SETTLE_SECONDS, warm_up=False)
        best = min(tries, key=lambda layout: timings[layout].median)
        measured[name].notes = f"{best} threads"
        target_tokens = round(tried.rounds[0].target_tokens / tried.rounds[0].sentences)
        competitors[name] = partial(way, best, search, clients, sentences, measured[name])
    for name in bench.others:
        measured[name].length, measured[name].notes = target_tokens, f"{target_tokens} tokens each"
        competitors[name] = partial(bench.other, name, search, clients, sentences, measured[name])
    competitors[DRAGOMAN] = partial(bench.served, search, clients, sentences, measured[DRAGOMAN])
    bench.served(search, clients, sentences[:clients], Measured())
    timings = interleaved(competitors, repeats, settle=SETTLE_SECONDS, warm_up=False)
    return {name: (measured[name], timings[name]) for name in measured}


def _account(run: Run, measured: Measured) -> float:
    """Record a run of CTranslate2. The latency of each sentence is that of its batch. Returns the seconds."""
    calls = [
        Call(index, 0.0, 0.0, latency, latency, one.source_tokens, one.target_tokens, one.text)
        for index, (one, latency) in enumerate(zip(run.translated, run.sentence_latencies, strict=True))
    ]
    measured.rounds.append(rates(run.seconds, calls))
    measured.texts.update((call.sentence, call.text) for call in calls)
    return run.seconds


def rows(clients: int, search: Search, results: dict[str, tuple[Measured, Timing]]) -> list[list[object]]:
    """Table rows for a number of clients."""
    table: list[list[object]] = []
    for name, (measured, timing) in results.items():
        one = measured.middle()
        whole = name == WHOLE_FILE
        table.append(
            [
                search.beam_size,
                clients,
                name,
                one.sentences,
                one.source_tokens,
                one.target_tokens,
                None if whole else one.p50 * 1000,
                None if whole else one.p99 * 1000,
                # Both times are for the same sentences, so the ratio of throughputs is the inverse of that of times.
                f"{ratio(results[DIRECT][1], timing):.2f}",
                None if name == DRAGOMAN else f"{ratio(timing, results[DRAGOMAN][1]):.2f}",
                f"{timing.spread:.0%}",
                measured.notes,
            ]
        )
    return table


COLUMNS = (
    "beam", "clients", "what", "sentences/s", "source tokens/s", "target tokens/s", "p50 ms", "p99 ms",
    "of direct", "Dragoman's", "spread", "notes",
)  # fmt: skip


def agreement_row(
    bench: Bench, artifacts: Artifacts, search: Search, served: dict[int, str], direct: dict[int, str], sample: int
) -> list[object]:
    """Table row: shares of served translations that equal those of the bundle alone, and those of CTranslate2."""
    indices = sorted(served)[:sample]
    alone = translate_alone(artifacts.bundle, [bench.sentences[index] for index in indices], search)
    same = sum(served[index] == text for index, text in zip(indices, alone, strict=True))
    both = served.keys() & direct.keys()
    agree = sum(served[index] == direct[index] for index in both)
    return [search.beam_size, f"{same} of {len(indices)}", f"{agree} of {len(both)}", f"{agree / len(both):.0%}"]


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__, repeats=3)
    add_sentence_options(parser, count=192)
    parser.add_argument(
        "--clients", type=int_list, default=[1, 8, 32, 64], help="concurrent calls (default: 1,8,32,64)"
    )
    parser.add_argument("--beam-sizes", type=int_list, default=[1, 4], help="1 is greedy (default: 1,4)")
    parser.add_argument("--length-penalty", type=float, default=0.6, help="alpha, for both (default: 0.6)")
    parser.add_argument("--max-length", type=int, help="target tokens at most (default: the model's limit)")
    parser.add_argument("--serve-options", default="", help='more options of `dragoman serve`, such as "--max-rows 64"')
    parser.add_argument("--others", type=name_list, default=list(ENGINES), help=f"default: {','.join(ENGINES)}")
    parser.add_argument("--sample", type=int, default=32, help="sentences also translated alone (default: 32)")
    parser.add_argument("--quick", action="store_true", help="few sentences and one round, as a smoke test")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    if args.quick:
        args.sentences, args.repeats, args.clients, args.sample = 16, 1, [1, 4], 4
    data_folder(args.data)  # fails before the models are made, which takes long
    artifacts = find_artifacts(args.model, args.precision, args.cache)
    sentences = sentences_for(args, artifacts)
    max_length = args.max_length or artifacts.max_target_tokens
    settings = {
        "model": args.model,
        "precision": args.precision,
        "sentences": len(sentences),
        "seed": args.seed,
        "longest translation": max_length,
        "length penalty": args.length_penalty,
        "dragoman serve": args.serve_options or "default options",
        "rounds": args.repeats,
    }
    print_header("Served over gRPC against CTranslate2 called directly", settings)
    table, agreement = [], []
    with running(args, artifacts, sentences) as bench:
        for beam_size in args.beam_sizes:
            search = Search(beam_size, max_length, args.length_penalty)
            for clients in args.clients:
                results = compare(bench, search, clients, args.repeats)
                found = rows(clients, search, results)
                progress("\n".join(f"beam {row[0]}, {row[1]} clients: {row[2]} {row[3]:.1f}/s" for row in found))
                table += found
            served, direct = (results[name][0].texts for name in (DRAGOMAN, DIRECT))
            agreement.append(agreement_row(bench, artifacts, search, served, direct, args.sample))
    print_table(COLUMNS, table)
    print(
        "`of direct`: throughput over that of CTranslate2 direct. `Dragoman's`: Dragoman's throughput over this one. "
        "Latency is that of a call, or where there are no calls, of the batch.\n"
    )
    print_table(["beam", "served as alone", "served as CTranslate2 direct", "share"], agreement)
    return 0


if __name__ == "__main__":
    sys.exit(main())
