"""Passes: functions from one graph to the next.

What a pass takes keeps the rules of its operations (`graph.verify`): graphs are verified where they
are lowered and loaded, and what a pass gives is verified behind it. `pads.unfold_pads` alone also
takes what a target's legalization made, which has rules of its own.
"""
