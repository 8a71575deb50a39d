"""`python -m platforms`: `check` and `wheel` for all systems or those named, `try` for wheels in a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from platforms import zig
from platforms.checking import Outcome, check
from platforms.target import TARGETS, Target, find_targets
from platforms.wheel import build_wheel, try_wheel


def main(arguments: list[str] | None = None) -> int:
    """0 where all is well, 1 where something is wrong; what cannot run here is named and is no fault."""
    parser = argparse.ArgumentParser(prog="python -m platforms", description=__doc__)
    parser.add_argument("command", choices=["check", "wheel", "try"])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="; ".join(t.zig for t in TARGETS) + "; of try: folders"
    )
    parser.add_argument("--out", type=Path, default=Path("dist"), help="where wheels go")
    # Options may stand between the command and the systems.
    given = parser.parse_intermixed_args(arguments)
    if given.command == "try":
        return _try([wheel for folder in given.targets for wheel in sorted(Path(folder).glob("*.whl"))])
    try:
        targets = find_targets(given.targets)
    except ValueError as error:
        parser.error(str(error))
    lacking = zig.lacking()
    if lacking is not None:
        parser.error(lacking)
    if given.command == "wheel":
        for target in targets:
            wheel = build_wheel(target, given.out)
            print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        return 0
    return max([_check(target) for target in targets])


def _try(wheels: list[Path]) -> int:
    if not wheels:
        print("there are no wheels to try")
    return max([try_wheel(wheel) for wheel in wheels], default=1)


def _check(target: Target) -> int:
    library, program = zig.build_core(target), zig.build_check(target)
    print(f"{target.zig}: {library.stat().st_size / 1e6:.1f} MB")
    if not target.runs:
        print("  compiled; nothing here runs it")
    outcomes = list(check(target, library, program))
    for outcome in outcomes:
        print(f"  {outcome.run.title}: {_told(outcome)}", flush=True)
    return int(any(outcome.lacking is None and not outcome.well for outcome in outcomes))


def _told(outcome: Outcome) -> str:
    if outcome.lacking is not None:
        return f"not run: {outcome.lacking}"
    if outcome.well:
        right = sum(line.startswith("right") for line in outcome.lines)
        levels = [line.split(":")[0] for line in outcome.lines if line.startswith("level ")]
        return f"all is well ({right} comparisons; {', '.join(levels)})"
    wrong = [line for line in outcome.lines if not line.startswith("right")]
    return "\n    ".join([f"exit code {outcome.code}", *wrong[-20:]])


if __name__ == "__main__":
    sys.exit(main())
