"""What the command line tells the shell."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; public and stable."""

    OK = 0  # done, and the gate passed
    GATE_FAILED = 1  # measured, and the gate failed
    USAGE = 2  # wrong usage, or a file that is unreadable or refused
    UNTRUSTWORTHY = 3  # measured but not to be trusted: self-check, not finite, not differentiable
    INTERNAL = 70  # a bug in this program
    INTERRUPTED = 130  # Ctrl-C
