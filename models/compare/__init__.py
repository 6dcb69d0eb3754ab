"""Whether a model can replace another. Pure: for a stream's swap, and for the gate of variants.

signatures     whether it can be fed, and its outputs stored, as those of the other
disagreement   how far scores of the same rows differ, as one number
parity         how far an output differs from the other's, all figures
turns          calls of both in turns, so that they are disturbed alike
labels         the label column, and its errors
held_out       held-out rows with both models' outputs, and which output is judged
metrics        AUC, log loss, RMSE and agreement, for many weights of the rows at once
bootstrap      intervals of the difference between two models on the same rows
quality        whether a metric is proven to be no worse than a tolerance
slices         the same for each value of a column
cost           whether CPU time per row is proven to be lower
gate           the verdict: admitted, or all the reasons why not
"""
