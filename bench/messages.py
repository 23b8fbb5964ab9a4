"""The price of the messages between a front process and the engine process: bytes made, and read again.

    python bench/messages.py

The messages are those of a call of one sentence of 26 tokens, and its answer. `pickle` is what the standard library
makes of the same values. Times are medians of rounds, of one thread that has the interpreter for itself.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import print_header, print_table
from dragoman_service.engine.messages import Expect, Open, Submit
from dragoman_service.engine.request import DecodingOptions, Finished, FinishReason, Hypothesis, Request, Timings
from dragoman_service.engine.wire import FrameReader, answer_of, frame, item_of_answer, item_of_message, message_of

SOURCE = (*range(300, 325), 2)
CLIENT = "ipv4:192.0.2.1"
REQUEST = Request(5_000_000, SOURCE, 119, DecodingOptions(length_penalty=0.6), deadline=123.4, client=CLIENT)
CALL = (Open(4_999_999, CLIENT, 1), Expect(4_999_999, 1, 26, 123.4), Submit(4_999_999, REQUEST))
ANSWER = Finished(
    REQUEST.id,
    (Hypothesis(SOURCE, tuple(-0.1 * token for token in SOURCE), -3.2, FinishReason.STOP),),
    Timings(0.1, 0.2, 0.3),
)


def read(data: bytes) -> list[tuple[object, ...]]:
    """The items of a frame."""
    return [item for items in FrameReader().push(data) for item in items]


def microseconds(work: Callable[[], object], rounds: int, count: int = 2000) -> str:
    """Median of the time of one `work`."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(count):
            work()
        times.append(1e6 * (time.perf_counter() - started) / count)
    return f"{statistics.median(times):.1f}"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of 2000 (default: 20)")
    rounds = parser.parse_args().rounds
    print_header("Messages between processes", {"rounds": rounds})
    call, answer = frame([item_of_message(1, it) for it in CALL]), frame([item_of_answer(1, ANSWER)])
    pickled_call, pickled_answer = pickle.dumps(CALL, 5), pickle.dumps(ANSWER, 5)
    lines = [
        (
            "call",
            microseconds(lambda: frame([item_of_message(1, it) for it in CALL]), rounds),
            microseconds(lambda: [message_of(item) for item in read(call)], rounds),
            len(call),
            microseconds(lambda: pickle.dumps(CALL, 5), rounds),
            microseconds(lambda: pickle.loads(pickled_call), rounds),
        ),
        (
            "answer",
            microseconds(lambda: frame([item_of_answer(1, ANSWER)]), rounds),
            microseconds(lambda: [answer_of(item) for item in read(answer)], rounds),
            len(answer),
            microseconds(lambda: pickle.dumps(ANSWER, 5), rounds),
            microseconds(lambda: pickle.loads(pickled_answer), rounds),
        ),
    ]
    print_table(("", "made, us", "read, us", "bytes", "pickled, us", "unpickled, us"), lines)


if __name__ == "__main__":
    main()
