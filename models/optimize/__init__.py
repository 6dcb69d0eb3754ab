"""Passes that make a model cheaper: each takes a model and returns another.

    model = fold_batch_norm(freeze("/models/churn/7"))   # any SavedModel or .keras file; exact
    variant = to_litert(model, call_rows=2048)           # float32, for calls of a fixed size
    variant = quantize_dynamic(variant)                  # weights in int8: scores change
    write_variant(variant, "/models/churn_int8")

TensorFlow's Python is imported here, and never where a variant scores.
"""
