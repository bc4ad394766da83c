"""``make attack``: everything that reads what others wrote is fed with what it must refuse, by one command.

Each module attacks a border through what a user has: the command line, the board's programs, a port. It knows nothing
of how the border is guarded, so it stays true when that changes. ``attack(place, seconds)`` tries what is known to hurt
first, then variations at random until its time is over, and returns a ``Tally``.
"""
