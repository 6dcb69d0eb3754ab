"""SavedModels of every kind that the two runtimes of SavedModels might treat differently.

Each function saves a model at a path, and returns inputs for it. They run in one process, where
TensorFlow is imported once: `tests.runtimes`. Kinds that users have beside these are in
`tests.model_zoo` and `tests.odd_models`.
"""
