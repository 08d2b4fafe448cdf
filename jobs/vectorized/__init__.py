"""Small trials that train together: variables stacked along a first axis of members, one compiled step for all of them.

Each member stays a run of its own, with the data, the first weights, the draws, the checkpoints and the documents of a run apart.
"""
