"""Plans: what a run needs of devices that nobody has to have yet.

    chips.py      what the chips can do
    topology.py   devices to compile for
    programs.py   what a run computes: the functions that it calls, on arrays that do not exist
    hlo.py        a compiled program's loops and collectives
    costs.py      its FLOPs, traffic and what it sends
    roofline.py   the time that takes at least
    planning.py   all of a run's programs, compiled and counted
    search.py     settings that fit, where those that were given do not
    table.py      for people

Nothing is read but the settings: no weights, no data, no vocabulary.
"""
