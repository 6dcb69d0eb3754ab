"""Passes that make a model cheaper: each takes a model and returns another.

    model = fold_batch_norm(freeze("/models/churn/7"))   # any SavedModel or .keras file; exact
    variant = to_litert(model, call_rows=2048)           # float32, for calls of a fixed size
    write_variant(variant, "/models/churn_litert")

TensorFlow's Python is imported here, and never where a variant scores.
"""
