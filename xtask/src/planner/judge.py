"""Judges plans by OR-tools: how full the fullest edge got, beside the lowest that a maximum flow can reach with as many moves.

Reads lines of persona-core/examples/plan_cases.rs. Fails where a plan is more than 5 % above the optimum, refuses somebody although
all can be placed, or where the optimum of the tests' own flows is another one.
"""

import json
import sys

import numpy
from ortools.graph.python import max_flow, min_cost_flow

NEAR = 1.05
TOLERANCE = 1e-9


class Network:
    """Source, subjects, edges, sink; what an edge takes depends on how full it may get."""

    def __init__(self, case):
        self.subjects, self.capacities = len(case["choices"]), numpy.array(case["capacities"], dtype=float)
        self.budget, edges = case["budget"], len(self.capacities)
        self.source, self.sink = self.subjects + edges, self.subjects + edges + 1
        pairs = [(subject, edge) for subject, choices in enumerate(case["choices"]) for edge in choices]
        homes = case["homes"] or [None] * self.subjects
        everybody = numpy.arange(self.subjects)
        ends = numpy.arange(edges) + self.subjects
        self.tails = numpy.concatenate([numpy.full(self.subjects, self.source), [pair[0] for pair in pairs], ends]).astype(int)
        self.heads = numpy.concatenate([everybody, [pair[1] + self.subjects for pair in pairs], numpy.full(edges, self.sink)]).astype(int)
        self.single = numpy.ones(self.subjects + len(pairs), dtype=int)
        moved = [int(homes[subject] is not None and homes[subject] != edge) for subject, edge in pairs]
        self.costs = numpy.concatenate([numpy.zeros(self.subjects), moved, numpy.zeros(edges)]).astype(int)

    def places_all(self, fill):
        room = numpy.floor(self.capacities * fill + TOLERANCE).astype(int)
        capacities = numpy.concatenate([self.single, room])
        if self.budget is None:
            flow = max_flow.SimpleMaxFlow()
            flow.add_arcs_with_capacity(self.tails, self.heads, capacities)
            assert flow.solve(self.source, self.sink) == flow.OPTIMAL
            return flow.optimal_flow() == self.subjects
        flow = min_cost_flow.SimpleMinCostFlow()
        flow.add_arcs_with_capacity_and_unit_cost(self.tails, self.heads, capacities, self.costs)
        flow.set_node_supply(self.source, self.subjects)
        flow.set_node_supply(self.sink, -self.subjects)
        status = flow.solve_max_flow_with_min_cost()
        assert status == flow.OPTIMAL, status
        return flow.maximum_flow() == self.subjects and flow.optimal_cost() <= self.budget

    def optimum(self):
        """The lowest fill of the fullest edge, or None: nobody can place all with so many moves."""
        fills = sorted({count / most for most in self.capacities for count in range(1, int(most) + 1)})
        low, high = 0, len(fills)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.places_all(fills[middle]) else (middle + 1, high)
        return fills[low] if low < len(fills) else None


def trouble(case, optimum):
    ours = case["ours"]
    if ours != "not asked" and (ours is None) != (optimum is None):
        return f"the tests' own flows say {ours}, OR-tools {optimum}"
    if optimum is None:
        return None
    if ours != "not asked" and abs(ours - optimum) > TOLERANCE:
        return f"the tests' own flows say {ours}, OR-tools {optimum}"
    if case["refused"]:
        return f"{case['refused']} are refused, and all can be placed"
    if case["planned"] > optimum * NEAR + TOLERANCE:
        return f"{case['planned']} instead of {optimum}"
    return None


def main():
    kinds, troubles, largest = {}, [], (0, 0)
    for line in open(sys.argv[1], encoding="utf-8"):
        case = json.loads(line)
        optimum = Network(case).optimum()
        found = trouble(case, optimum)
        if found:
            troubles.append(f"{case['name']}: {found}")
        kind = kinds.setdefault(case["name"].rsplit(" ", 1)[0], {"fleets": 0, "impossible": 0, "exact": 0, "worst": 1.0})
        kind["fleets"] += 1
        kind["impossible"] += optimum is None
        if optimum:
            kind["exact"] += case["planned"] <= optimum + TOLERANCE
            kind["worst"] = max(kind["worst"], case["planned"] / optimum)
        largest = max(largest, (len(case["choices"]), len(case["capacities"])))
    for name, kind in kinds.items():
        print(f"{name}: {kind['fleets']} fleets, {kind['impossible']} where nobody can place all, {kind['exact']} at the optimum, "
              f"the worst {100 * (kind['worst'] - 1):.2f} % above")
    print(f"the largest: {largest[0]} nodes over {largest[1]} edges")
    if sum(kind["fleets"] - kind["impossible"] for kind in kinds.values()) < 500:
        troubles.append("too few fleets came to be judged")
    # An empty text would be a failure too.
    sys.exit("\n".join(troubles) or None)


main()
