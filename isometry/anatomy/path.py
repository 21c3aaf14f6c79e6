"""The way from the input to the output, cut wherever it is a single tensor."""

from __future__ import annotations

from dataclasses import dataclass

from isometry.anatomy.tape import Ref, Tape


@dataclass(frozen=True)
class Segment:
    """What lies between two tensors that every way from the input to the output passes.

    Attributes
    ----------
    start, stop : Ref
    calls : tuple of int
        In the order in which they were made; the last one returns `stop`.
    """

    start: Ref
    stop: Ref
    calls: tuple[int, ...]


def segments(tape: Tape, start: Ref, stop: Ref) -> list[Segment]:
    """Cut the way between two tensors wherever it passes through a single one.

    Calls are numbered in the order in which they were made, so that tensor i is on every way if
    no call after i uses a tensor from before i: one sweep finds all such places.
    """
    calls = _leading(tape, start, stop)
    last_use: dict[Ref, int] = {}
    for number in calls:
        for ref in tape.inputs(number):
            last_use[ref] = number
    used_of: dict[int, list[Ref]] = {}
    for ref in last_use:
        used_of.setdefault(ref.call, []).append(ref)
    cuts, reach, pending = [start], last_use.get(start, 0), list[int]()
    found: list[Segment] = []
    for number in calls:
        pending.append(number)
        used = used_of.get(number, [stop])
        if number >= reach and len(used) == 1:
            found.append(Segment(cuts[-1], used[0], tuple(pending)))
            cuts.append(used[0])
            pending = []
        reach = max(reach, *(last_use.get(ref, 0) for ref in used))
    return found


def branches(tape: Tape, segment: Segment) -> list[list[Segment]]:
    """Split a segment whose last call adds two tensors: one way to each of them.

    Returns
    -------
    list
        Two ways, of which one without segments is the skip; none where it is no such sum, or
        where the two ways share more than their start.
    """
    join = tape.calls[segment.calls[-1] - 1]
    if join.name not in ("add", "add_", "iadd", "radd") or len(join.inputs) != 2:
        return []
    shapes = {tape.value(ref).shape for ref in (*join.inputs, segment.stop)}
    if len(shapes) > 1 or join.kwargs.get("alpha", 1) != 1:
        return []
    ways = [
        segments(tape, segment.start, ref) if ref != segment.start else [] for ref in join.inputs
    ]
    calls = [{number for part in way for number in part.calls} for way in ways]
    if calls[0] & calls[1] or len(calls[0] | calls[1]) + 1 != len(segment.calls):
        return []
    return ways


def _leading(tape: Tape, start: Ref, stop: Ref) -> list[int]:
    """Calls that depend on the start and that the stop depends on, in order."""
    after = {start.call}
    for number in range(start.call + 1, stop.call + 1):
        if any(
            ref == start or (ref.call in after and ref.call != start.call)
            for ref in tape.inputs(number)
        ):
            after.add(number)
    needed, found = {stop.call}, list[int]()
    for number in range(stop.call, start.call, -1):
        if number in needed and number in after:
            found.append(number)
            needed |= {ref.call for ref in tape.inputs(number)}
    return found[::-1]
