"""The rooms of a package, its folders and modules, and the arrows between them, from the code's own imports.

`python tests/rooms.py distillery_trainer` prints each room above those that it imports; a circle is an error that names it.
"""

import sys
from graphlib import TopologicalSorter

import grimp


def rooms(package: str) -> dict[str, list[str]]:
    """What each room of a package imports of the others, from the ground upwards."""
    graph = grimp.build_graph(package.partition(".")[0])
    for room in graph.find_children(package):
        graph.squash_module(room)
    names = graph.find_children(package)
    arrows = {room: (graph.find_modules_directly_imported_by(room) & names) - {room} for room in sorted(names)}
    order = TopologicalSorter(arrows).static_order()
    return {room.removeprefix(f"{package}."): sorted(other.removeprefix(f"{package}.") for other in arrows[room]) for room in order}


def floors(arrows: dict[str, list[str]]) -> dict[str, int]:
    """The floor of each room: the ground is 1, and an arrow always goes down."""
    floor: dict[str, int] = {}
    for room, others in arrows.items():
        floor[room] = 1 + max((floor[other] for other in others), default=0)
    return floor


if __name__ == "__main__":
    for package in sys.argv[1:] or ("distillery_trainer", "distillery.gateway", "distillery"):
        arrows = rooms(package)
        floor = floors(arrows)
        print(f"\n{package}: {len(arrows)} rooms on {max(floor.values())} floors, {sum(map(len, arrows.values()))} arrows")
        for room in sorted(arrows, key=lambda room: (-floor[room], room)):
            print(f"{floor[room]:3}  {room:16} {' '.join(arrows[room])}")
