"""Float files with smaller weights: of float16, or of int8 with floats or int16 between layers.

Written from a float file of ours. What they compute is rounded by the runtime as it goes, so that
no codes can be proven; see `jobs.plain` for what is.
"""
