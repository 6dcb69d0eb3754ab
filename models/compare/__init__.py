"""Whether a model can replace another. Pure: for a stream's swap, and for the gate of variants.

signatures     whether it can be fed, and its outputs stored, as those of the other
disagreement   how far scores of the same rows differ, as one number
turns          calls of both in turns, so that they are disturbed alike
"""
