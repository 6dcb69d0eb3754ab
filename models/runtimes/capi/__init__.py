"""TensorFlow by its C API: the library in the TensorFlow wheel, called with ctypes.

TensorFlow's Python code is never imported. Modules: `prototypes` declares every function that is
called, `library` loads them, `layout` checks how the library stores strings, `config` writes its
options, `strings` and `tensors` bring values there and back, `session` loads and calls a graph,
`variables` fills in what its restore op leaves out.
"""
