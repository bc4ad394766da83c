"""All small changes of a module that are other programs, and a sample of them."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_item import MutationSpec

#: Operators whose mutants are mostly the same program, or not to be run without arguments: ``|`` stands in types, which
#: nobody evaluates, and ``is`` and ``==`` agree on small numbers and None.
_LEFT_OUT = (
    *("_BitOr", "BitOr_", "BitXor", "_Pow", "Shift"),
    *("_Is", "Is_", "IsNot_"),
    *("VariableReplacer", "VariableInserter"),
)
#: Changes that make the same program wherever they stand, by operator and the line's text: what a cache remembers is
#: computed again, and mypy, not a test, sees to it that nobody writes to what is frozen or has slots.
_SAME = {
    "core/RemoveDecorator": re.compile(r"@(functools\.)?(cache|lru_cache\b.*|override)$"),
    "core/ReplaceTrueWithFalse": re.compile(r"\b(frozen|slots|kw_only|eq|order|unsafe_hash)=True"),
    "core/ReplaceFalseWithTrue": re.compile(r"\bstrict=False"),
}


def mutants_of(top: Path, path: Path) -> Iterator[MutationSpec]:
    """Yield the mutants of one module, but for those that are the same program.

    Args:
        top: the checkout.
        path: the module, as a path in the checkout.
    """
    nodes = list(ast_nodes(get_ast_from_path(top / path)))
    lines = (top / path).read_text(encoding="utf-8").splitlines()
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments() or any(word in name for word in _LEFT_OUT):
            continue
        operator, same = operator_class(), _SAME.get(name)
        positions = (place for node in nodes for place in operator.mutation_positions(node))
        for number, (start, end) in enumerate(positions):
            if same is None or not same.search(lines[start[0] - 1]):
                yield MutationSpec(path, name, number, start, end)


def drawn(top: Path, modules: list[Path], seed: int) -> Iterator[MutationSpec]:
    """Yield mutants by chance: each time a place in the code, each as likely as another, then one of its mutants.

    A comparison has six mutants and a sum eight, and most of them stop the program at once. Drawn as such they would
    hide the others.
    """
    places: dict[tuple[Path, object, object], list[MutationSpec]] = defaultdict(list)
    for path in modules:
        for mutant in mutants_of(top, path):
            places[path, mutant.start_pos, mutant.end_pos].append(mutant)
    generator = random.Random(seed)
    order = list(places.values())
    generator.shuffle(order)
    return (generator.choice(mutants) for mutants in order)
