"""The Autobahn test suite against /echo: every verdict must match expected.txt.

`--print` prints the verdicts of this run instead, in the form of expected.txt. Sections without a line there do not run.
"""

import asyncio
import importlib
import os
import sys
from pathlib import Path

import kosoku
from kosoku import _caseindex

EXPECTED = Path(__file__).with_name("expected.txt")
PARALLEL_CASES = 4
# Of 1,000: the cases of permessage-deflate (sections 12 and 13) differ in their parameters, not by repetition. The
# variable AUTOBAHN_MESSAGES=1000 runs them in full.
COMPRESSED_MESSAGES = int(os.environ.get("AUTOBAHN_MESSAGES", "50"))


def main() -> int:
    expected = read_verdicts(EXPECTED.read_text())
    sections = sorted({case.split(".")[0] for case in expected}, key=int)
    results = asyncio.run(run_sections(sections))
    verdicts = {result.case_id: (result.behavior.value, result.behavior_close.value) for result in results}
    if "--print" in sys.argv[1:]:
        for case, verdict in verdicts.items():
            print(case, *verdict, sep="\t")
        return 0

    explanations = {result.case_id: f"{result.result} {result.result_close}" for result in results}
    failed = [case for case in {**expected, **verdicts} if verdicts.get(case) != expected.get(case)]
    for case in failed:
        print(f"FAILED {case}: {verdict_text(verdicts.get(case))}, expected {verdict_text(expected.get(case))}")
        print(f"  {explanations.get(case, '')}")
    print(f"{len(expected) - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


def read_verdicts(text: str) -> dict[str, tuple[str, str]]:
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return {case: (behavior, behavior_close) for case, behavior, behavior_close in rows}


async def run_sections(sections: list[str]) -> list:
    prepare_compressed_cases()
    url = os.environ["FRAMELOOP_URL"].replace("http", "ws", 1).rstrip("/") + "/echo"
    try:
        return await kosoku.run_fuzzingclient(url, [f"{section}.*" for section in sections], concurrency=PARALLEL_CASES)
    except kosoku.FailureError as failure:
        return failure.results


def prepare_compressed_cases() -> None:
    _caseindex.initialize_shims()
    module = importlib.import_module("case12_x_x")
    for case in module.Case12_X_X + module.Case13_X_X:
        case.COUNT = COMPRESSED_MESSAGES
        case.onMessage = taking_bytes(case.onMessage)


def taking_bytes(on_message):
    """The server may send a message uncompressed; kosoku then passes a string, but the cases expect bytes."""

    def taking(case, message, binary):
        if isinstance(message, str):
            message = message.encode("latin-1" if binary else "utf-8")
        on_message(case, message, binary)

    return taking


def verdict_text(verdict: tuple[str, str] | None) -> str:
    return " / ".join(verdict) if verdict else "nothing"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # kosoku's threads may abort the interpreter's shutdown
