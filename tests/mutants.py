#!/usr/bin/env python3
"""Breaks the server in many small ways and looks whether a test notices.

usage: tests/mutants.py [--seed N] [--count N] [--jobs N] [--only N,N...]

All mutants of a run are compiled into one copy of the tree (target/mutants/tree): a function that
is mutated has its body once as it was and once for each of its mutants, and the variable MUTANT
says at run time which one counts. One build serves all. A mutant that does not compile, and one in
a constant of a module, is drawn again. A first run without mutants notes which test reaches which
mutant. For each mutant the tests that reach it run then: unit tests, `blackbox`, `faults`, to the
first that fails. That one runs again, alone, with the mutant, where it must fail, and without,
where it must pass: else it does not count. A test that takes longer than a minute counts as failed.

Everything is printed, and target/mutants/results.json has it as well. Needs cargo-nextest.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target/mutants"
TREE = WORK / "tree"
MODULES = ["engine", "rooms", "http", "server"]
LEFT_OUT = re.compile(r"(^|/)(tests|no_tls)\.rs$|^src/rooms/redis/")
STAGES = ["kind(lib)", "binary(blackbox)", "binary(faults)"]

SWITCH = """
/// Whether this mutant is the one that the variable MUTANT names.
#[allow(missing_docs, clippy::all)]
pub fn mutant(number: usize) -> bool {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static ACTIVE: LazyLock<usize> =
        LazyLock::new(|| std::env::var("MUTANT").map_or(0, |number| number.parse().unwrap_or(0)));
    static TRACE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MUTANTS_REACHED").ok());
    static REACHED: [AtomicBool; 1000] = [const { AtomicBool::new(false) }; 1000];
    if let Some(folder) = &*TRACE
        && !REACHED[number].swap(true, Ordering::Relaxed)
    {
        let test = std::env::var("NEXTEST_TEST_NAME").unwrap_or_default();
        let binary = std::env::var("NEXTEST_BINARY_ID").unwrap_or_default();
        let _ = std::fs::write(format!("{folder}/{number} {binary} {test}"), "");
    }
    *ACTIVE == number
}
"""

SWAPS = {
    " < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ",
    " + ": " - ", " - ": " + ", " += ": " -= ", " -= ": " += ", " && ": " || ", " || ": " && ",
}
OPERATORS = {
    "comparison": (r" (<|<=|>|>=|==|!=) ", lambda text: [SWAPS[text]]),
    "arithmetic": (r" (\+|-|\+=|-=) ", lambda text: [SWAPS[text]]),
    "logic": (r" (&&|\|\|) ", lambda text: [SWAPS[text]]),
    "negation": (r"(?<![\w!])!(?=[\w(*])(?!\[)", lambda _: [""]),
    "constant": (r"(?<![\w.\"'])\d[\d_]*\b(?![.\w])|\b(true|false)\b", lambda text: OTHERS.get(text, ["0", f"({text} * 16)"])),
    # A call that is a statement of one line.
    "call": (r"(?m)(?<=\n)[ ]+(?!let |return|break|assert|debug_assert)[a-z_][\w.:&*]*\([^\n]*\);$", lambda _: ["();"]),
}
OTHERS = {"true": ["false"], "false": ["true"], "0": ["1"], "1": ["0"]}


def blanked(source):
    """The source with spaces where comments and strings are, and unit tests."""
    def spaces(match):
        return re.sub(r"[^\n]", " ", match.group())
    source = re.sub(r"//[^\n]*|\"(\\.|[^\"\\])*\"|'(\\.|[^'\\\n])'", spaces, source)
    for match in reversed(list(re.finditer(r"#\[cfg\((all\()?test\b[^\]]*\]", source))):
        end = body(source, match.end())[1]
        source = source[:match.start()] + re.sub(r"[^\n]", " ", source[match.start():end]) + source[end:]
    return source


def body(source, start):
    """From the brace that opens the item at `start` to behind its last; both the end if it has none."""
    depth = 0
    for index in range(start, len(source)):
        character = source[index]
        if character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif depth == 0 and character == ";":
            return index + 1, index + 1
        elif depth == 0 and character == "{":
            braces = 0
            for end in range(index, len(source)):
                braces += {"{": 1, "}": -1}.get(source[end], 0)
                if braces == 0:
                    return index, end + 1
    raise ValueError("an item without an end")


def functions(source):
    """The outermost functions: the place of `fn`, and of the body."""
    end = 0
    for match in re.finditer(r"\bfn \w+", source):
        if match.start() < end:
            continue
        first, last = body(source, match.end())
        line = source[source.rfind("\n", 0, match.start()) + 1:match.start()]
        if last == first or "const " in line:
            continue
        before = source[:match.start()].rstrip().rsplit("\n", 1)[-1]
        if match.group() == "fn fmt" and "Debug for" in before:
            continue
        end = last
        yield match.start(), first, last


def candidates():
    """All that can be mutated: file, function, place, what stands there, what is put there."""
    found = []
    for module in MODULES:
        for path in sorted((ROOT / "src" / module).rglob("*.rs")):
            name = str(path.relative_to(ROOT))
            if LEFT_OUT.search(name):
                continue
            original = path.read_text()
            source = blanked(original)
            for start, first, last in functions(source):
                where = {"file": name, "first": first, "last": last}
                for kind, (pattern, mutate) in OPERATORS.items():
                    for match in re.compile(pattern).finditer(source, first, last):
                        text = original[match.start():match.end()]
                        if "debug_assert" not in source[source.rfind("\n", 0, match.start()):match.start()]:
                            found += [{**where, "kind": kind, "at": match.start(), "old": text, "new": new}
                                      for new in mutate(text)]
                if re.search(r"-> bool\s*$", source[start:first]):
                    text = original[first:last]
                    found.append({**where, "kind": "result", "at": first, "old": text,
                                  "new": f"{{ let mut all = || {text}; !all() }}"})
    for mutant in found:
        source = (ROOT / mutant["file"]).read_text()
        mutant["line"] = source.count("\n", 0, mutant["at"]) + 1
        mutant["text"] = source.splitlines()[mutant["line"] - 1].strip()
    return found


def write(mutants):
    """Writes the tree with these mutants, and notes at which lines of which file each is."""
    for module in MODULES:
        for path in (ROOT / "src" / module).rglob("*.rs"):
            name = str(path.relative_to(ROOT))
            source = path.read_text()
            here = [mutant for mutant in mutants if mutant["file"] == name]
            for first, last in sorted({(mutant["first"], mutant["last"]) for mutant in here}, reverse=True):
                original = source[first:last]
                result = "{ "
                for mutant in (mutant for mutant in here if mutant["first"] == first):
                    at = mutant["at"] - first
                    assert original[at:].startswith(mutant["old"])
                    mutated = original[:at] + mutant["new"] + original[at + len(mutant["old"]):]
                    result += f"if crate::mutant({mutant['number']}) {mutated} else "
                source = source[:first] + result + original + " }" + source[last:]
            place(TREE / name, source)
            for mutant in here:
                begin = source.index(f"if crate::mutant({mutant['number']}) ")
                end = body(blanked(source), begin + len("if crate::mutant(0) "))[1]
                mutant["lines"] = [source.count("\n", 0, begin) + 1, source.count("\n", 0, end) + 1]


def place(path, text):
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def uncompilable(mutants):
    """The mutants that the compiler names."""
    command = ["cargo", "check", "--all-features", "--lib", "--message-format", "json", "--quiet"]
    result = subprocess.run(command, cwd=TREE, env=environment(), stdout=subprocess.PIPE, text=True)
    if result.returncode == 0:
        return []
    bad = []
    for line in result.stdout.splitlines():
        message = json.loads(line).get("message") or {}
        if message.get("level") != "error":
            continue
        for span in message["spans"]:
            for mutant in mutants:
                low, high = mutant["lines"]
                if span["file_name"] == mutant["file"] and low <= span["line_start"] <= high:
                    # Where bodies of one line are side by side, none is told from the other.
                    bad.append(mutant["number"])
    if not bad:
        sys.exit("the mutated tree does not compile, and no mutant is to blame")
    return bad


def environment(**more):
    return {**os.environ, "CARGO_TARGET_DIR": str(WORK / "target"), "CARGO_PROFILE_DEV_DEBUG": "0", **more}


FAILED = re.compile(r"(?m)^\s+(?:TRY \d+ )?(FAIL|TIMEOUT|ABORT|SIG[A-Z]+|LEAK-FAIL)\s+\[[^\]]*\]\s+(?:\([^)]*\)\s+)?(\S+) (\S+)\s*$")


def run(tests, number, jobs, *more):
    """The (binary, test) that failed of these; all run with a filter as a string."""
    if not isinstance(tests, str):
        tests = " | ".join(f"(binary_id({binary}) & test(={test}))" for binary, test in tests)
    command = ["cargo", "nextest", "run", "--all-features", "--lib", "--test", "blackbox", "--test", "faults",
               "--config-file", str(WORK / "nextest.toml"), "--color", "never", "-j", str(jobs), "--no-tests", "pass",
               "--status-level", "fail", "--final-status-level", "none", "--failure-output", "never",
               "-E", tests, *more]
    extra = {"MUTANT": str(number)} if number else {"MUTANTS_REACHED": str(WORK / "reached")}
    result = subprocess.run(command, cwd=TREE, env=environment(**extra), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    (WORK / "last.log").write_text(result.stdout)
    failed = [(binary, test) for _, binary, test in FAILED.findall(result.stdout)]
    if result.returncode not in (0, 100):
        sys.exit(f"nextest: {result.stdout[-3000:]}")
    return failed


def verdict(number, reached, flaky, jobs):
    """The test that catches this mutant, or None."""
    for stage, belongs in zip(STAGES, (lambda b: "::" not in b, lambda b: "blackbox" in b, lambda b: "faults" in b)):
        tests = [test for test in reached if belongs(test[0]) and test not in flaky]
        while tests:
            failed = run(tests, number, jobs, "--max-fail", "1:immediate")
            if not failed:
                break
            test = failed[0]
            if run([test], number, 1) and not run([test], 0, 1):
                return test
            print(f"  {' '.join(test)} failed once, and did not count", flush=True)
            tests = [other for other in tests if other != test]
    return None


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--count", type=int, default=60)
    options.add_argument("--jobs", type=int, default=os.cpu_count() * 2)
    options.add_argument("--only", help="numbers of mutants of this seed, with commas")
    options = options.parse_args()

    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "nextest.toml").write_text(
        '[profile.default]\nslow-timeout = { period = "60s", terminate-after = 1, grace-period = "1s" }\n')
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in files.splitlines():
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.startswith("src/") and (ROOT / name).is_file():
            shutil.copy2(ROOT / name, TREE / name)
        elif (ROOT / name).is_file():
            place(TREE / name, (ROOT / name).read_text())
    library = TREE / "src/lib.rs"
    place(library, (ROOT / "src/lib.rs").read_text() + SWITCH)

    # Each kind is as likely as any other.
    everything, chance = candidates(), random.Random(options.seed)
    kinds = {}
    for mutant in everything:
        kinds.setdefault(mutant["kind"], []).append(mutant)
    drawn = []
    while kinds:
        kind = chance.choice(sorted(kinds))
        drawn.append(kinds[kind].pop(chance.randrange(len(kinds[kind]))))
        drawn[-1]["number"] = len(drawn)
        if not kinds[kind]:
            del kinds[kind]
    chosen, refused = drawn[:options.count], 0
    while True:
        write(chosen)
        bad = set(uncompilable(chosen))
        if not bad:
            break
        chosen = [mutant for mutant in chosen if mutant["number"] not in bad]
        chosen += drawn[options.count + refused:][:len(bad)]
        refused += len(bad)
    for number, mutant in enumerate(chosen, 1):
        mutant["number"] = number
    write(chosen)
    print(f"seed {options.seed}: {len(chosen)} of {len(everything)} drawn, {refused} did not compile", flush=True)

    reached = WORK / "reached"
    shutil.rmtree(reached, ignore_errors=True)
    reached.mkdir()
    flaky = run(" | ".join(STAGES), 0, options.jobs, "--no-fail-fast")
    print(f"without mutants failed: {[' '.join(test) for test in flaky] or 'nothing'}", flush=True)
    tests = {}
    for entry in reached.iterdir():
        number, binary, test = entry.name.split(" ", 2)
        tests.setdefault(int(number), []).append((binary, test))

    results = []
    only = {int(number) for number in options.only.split(",")} if options.only else None
    for mutant in chosen:
        number = mutant["number"]
        if only and number not in only:
            continue
        by = verdict(number, sorted(tests.get(number, [])), flaky, options.jobs)
        change = "result flipped" if mutant["kind"] == "result" else \
            f"{mutant['old'].strip()} -> {mutant['new'].strip()}"
        mutant.update(change=change, caught=by, reached=len(tests.get(number, [])))
        print(f"{number:2} {mutant['file']}:{mutant['line']}: {mutant['text']}: {change}: "
              f"{'caught by ' + ' '.join(by) if by else 'LIVES'} ({mutant['reached']} tests reach it)", flush=True)
        results.append({name: mutant[name] for name in
                        ("number", "file", "line", "text", "change", "caught", "reached")})
        (WORK / "results.json").write_text(json.dumps({"seed": options.seed, "mutants": results}, indent=1))
    lived = sum(not mutant["caught"] for mutant in results)
    print(f"{len(results) - lived} of {len(results)} caught")


if __name__ == "__main__":
    main()
