"""Tuning: finds, for each kernel of a model, the choice of its schedule's knobs that is fastest on a board.

``extract`` gives the tasks, ``builder`` compiles candidates, ``measure`` says how long they take, ``search`` proposes
choices, ``scheduler`` says which task is next, ``session`` runs it all, ``records`` keeps what was found and ``apply``
puts it into a build.
"""
