"""Models of `tf.Module`: variables, tables, assets, loops, randomness, dtypes, aliases."""

from __future__ import annotations

import numpy as np

from tests.runtime_models.saving import AB, RNG, F, I, S, floats, kind, save, spec, texts, tf


@kind
def variables_without_names(path):
    module = tf.Module()
    module.all = [tf.Variable(2.0), tf.Variable(3.0)]
    save(
        path,
        lambda a, b: {"y": module.all[0] * a + module.all[1] * b},
        spec("a"),
        spec("b"),
        module=module,
    )
    return AB


@kind
def variables_of_one_name(path):
    module = tf.Module()
    module.all = [tf.Variable(value, name="w") for value in (2.0, 3.0, 4.0)]
    save(
        path,
        lambda a, b: {"y": module.all[0] * a + module.all[1] * b + module.all[2]},
        spec("a"),
        spec("b"),
        module=module,
    )
    return AB


@kind
def variables_of_strings_halves_and_truth(path):
    module = tf.Module()
    module.names = tf.Variable(["one", "q" * 40, "three"])
    module.half = tf.Variable(floats(3).astype(np.float16))
    module.truth = tf.Variable([True, False, True])
    save(
        path,
        lambda i: {
            "name": tf.gather(module.names, i),
            "half": tf.gather(module.half, i),
            "truth": tf.gather(module.truth, i),
        },
        spec("i", I),
        module=module,
    )
    return {"i": np.array([0, 1, 2, 1])}


@kind
def large_variable(path):
    module = tf.Module()
    module.w = tf.Variable(floats(5000, 500))
    save(path, lambda i: {"y": tf.gather(module.w, i)}, spec("i", I), module=module)
    return {"i": np.array([0, 4999, 7])}


@kind
def table_from_memory(path):
    module = tf.Module()
    initial = tf.lookup.KeyValueTensorInitializer(
        ["UA", "x" * 22, "y" * 23], tf.constant([1, 2, 3], I)
    )
    module.table = tf.lookup.StaticHashTable(initial, -1)
    save(path, lambda s: {"y": module.table.lookup(s)}, spec("s", S), module=module)
    return {"s": texts(40)}


@kind
def table_from_an_asset(path):
    words = path.parent / "words.txt"
    words.write_text("UA\n" + "x" * 22 + "\n" + "y" * 23 + "\n")
    module = tf.Module()
    index = tf.lookup.TextFileIndex
    initial = tf.lookup.TextFileInitializer(str(words), S, index.WHOLE_LINE, I, index.LINE_NUMBER)
    module.table = tf.lookup.StaticVocabularyTable(initial, 3)
    save(path, lambda s: {"y": module.table.lookup(s)}, spec("s", S), module=module)
    return {"s": texts(40)}


@kind
def tables_that_change(path):
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(S, I, -1)
    module.table.insert(tf.constant(["UA", "y" * 23]), tf.constant([5, 6], I))
    module.dense = tf.lookup.experimental.DenseHashTable(I, I, -1, empty_key=-1, deleted_key=-2)
    module.dense.insert(tf.constant([3, 4], I), tf.constant([5, 6], I))
    save(
        path,
        lambda s, i: {"y": module.table.lookup(s), "z": module.dense.lookup(i)},
        spec("s", S),
        spec("i", I),
        module=module,
    )
    return {"s": texts(8), "i": np.arange(8)}


@kind
def asset_read_in_the_call(path):
    note = path.parent / "note.txt"
    note.write_text("hello asset")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(note))
    save(
        path,
        lambda s: {"y": tf.strings.join([s, tf.io.read_file(module.asset.asset_path)])},
        spec("s", S),
        module=module,
    )
    return {"s": texts(7)}


@kind
def loops_and_branches(path):
    def serve(x):
        loop = tf.while_loop(
            lambda i, a: i < 7, lambda i, a: (i + 1, a * 1.1 + tf.cast(i, F)), (0, x)
        )
        mapped = tf.map_fn(lambda row: tf.reduce_sum(row * row) + row[0], tf.stack([x, loop[1]], 1))
        return {
            "loop": loop[1],
            "map": mapped,
            "scan": tf.scan(lambda a, b: a + b, x),
            "branch": tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1, lambda: x - 1),
        }

    save(path, serve, spec("x"))
    return {"x": floats(12)}


@kind
def ragged_components(path):
    def serve(values, row_splits):
        ragged = tf.RaggedTensor.from_row_splits(values, row_splits)
        return {"y": tf.reduce_sum(ragged, 1), "n": ragged.row_lengths()}

    save(path, serve, spec("values"), spec("row_splits", I))
    return {"values": floats(10), "row_splits": np.array([0, 3, 3, 10])}


@kind
def counter(path):
    module = tf.Module()
    module.n = tf.Variable(0, dtype=I)

    def serve(x):
        return {"y": x + tf.cast(module.n.assign_add(tf.size(x, I)), F)}

    save(path, serve, spec("x"), module=module)
    return {"x": floats(5)}


@kind
def variable_of_the_last_texts(path):
    module = tf.Module()
    module.last = tf.Variable(["none"], dtype=S, shape=(None,))

    def serve(s):
        before = tf.identity(module.last.value())
        with tf.control_dependencies([before]):
            module.last.assign(s)
        return {"y": s, "was": tf.fill([tf.size(s)], before[0])}

    save(path, serve, spec("s", S), module=module)
    return {"s": texts(30)}


@kind
def random_with_seeds(path):
    tf.random.set_seed(3)
    module = tf.Module()
    module.g = tf.random.Generator.from_seed(5)

    def serve(x):
        return {
            "op": x + tf.random.uniform(tf.shape(x), seed=11),
            "stateless": x + tf.random.stateless_normal(tf.shape(x), [1, 2]),
            "generator": x + module.g.normal(tf.shape(x)),
        }

    save(path, serve, spec("x"), module=module)
    return {"x": floats(5)}


@kind
def texts_of_all_lengths(path):
    def serve(s):
        return {
            "same": s,
            "up": tf.strings.upper(s),
            "n": tf.strings.length(s),
            "pair": tf.stack([s, tf.strings.join([s, s])], 1),
            "part": tf.strings.substr(s, 0, 30),
            "hash": tf.strings.to_hash_bucket_fast(s, 99),
        }

    save(path, serve, spec("s", S))
    lengths = [bytes(RNG.integers(0, 256, size)) for size in range(70)]
    return {"s": np.array(lengths, object)}


@kind
def several_signatures(path):
    module = tf.Module()
    module.v = tf.Variable(2.0)
    module.f = tf.function(lambda a: {"y": module.v * a}, input_signature=[spec("a")])
    module.g = tf.function(lambda a: {"z": a - module.v}, input_signature=[spec("a", F, (None, 2))])
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.f, "other": module.g}
    )
    return {"a": floats(5)}


@kind
def compiled_by_xla(path):
    module = tf.Module()
    module.w = tf.Variable(floats(4, 3))
    inner = tf.function(lambda x: tf.nn.softmax(tf.matmul(x, module.w)), jit_compile=True)
    module.serve = tf.function(
        lambda x: {"y": inner(x)}, jit_compile=True, input_signature=[spec("x", F, (None, 4))]
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return {"x": floats(6, 4)}


@kind
def every_dtype(path):
    names = (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    )

    def serve(**given):
        return {
            f"y_{name}": value if name == "bool" else value + tf.ones([], value.dtype)
            for name, value in given.items()
        }

    module = tf.Module()
    module.serve = tf.function(serve)
    call = module.serve.get_concrete_function(**{n: spec(n, tf.as_dtype(n)) for n in names})
    tf.saved_model.save(module, str(path), signatures={"serving_default": call})
    ones = np.arange(5) % 2
    return {name: ones.astype(tf.as_dtype(name).as_numpy_dtype) for name in names}


@kind
def unknown_rank(path):
    save(path, lambda x: {"y": x * 2.0}, spec("x", F, None))
    return {"x": floats(5, 2)}


@kind
def fixed_batch(path):
    save(path, lambda x: {"y": tf.reduce_sum(x, 1)}, spec("x", F, (4, 2)))
    return {"x": floats(4, 2)}


@kind
def no_values(path):
    save(
        path,
        lambda x, s: {"y": tf.reduce_sum(x, 1), "x": x, "s": s},
        spec("x", F, (None, None)),
        spec("s", S),
    )
    return {"x": np.zeros((3, 0), np.float32), "s": np.array([b"", b"", b""], object)}


@kind
def outputs_that_are_inputs_variables_and_constants(path):
    module = tf.Module()
    module.w = tf.Variable(floats(5))
    save(
        path,
        lambda x: {
            "same": x,
            "again": x,
            "variable": module.w.value(),
            "constant": tf.constant([1.0, 2.0]),
        },
        spec("x"),
        module=module,
    )
    return {"x": floats(5)}


@kind
def dataset_in_the_call(path):
    def serve(x):
        data = tf.data.Dataset.from_tensor_slices(x).map(lambda value: value * 2)
        return {"y": data.reduce(tf.zeros([]), lambda a, b: a + b) + x}

    save(path, serve, spec("x"))
    return {"x": floats(5)}


@kind
def images_in_texts(path):
    def mean(image):
        pixels = tf.io.decode_image(image, 3, expand_animations=False)
        return tf.reduce_mean(tf.image.resize(tf.cast(pixels, F), [8, 8]), [0, 1])

    save(path, lambda image: {"y": tf.map_fn(mean, image, fn_output_signature=F)}, spec("image", S))
    pixels = RNG.integers(0, 255, (20, 20, 3)).astype(np.uint8)
    images = [tf.io.encode_png(pixels).numpy(), tf.io.encode_jpeg(pixels).numpy()]
    return {"image": np.array(images, object)}


@kind
def mirrored(path):
    module = tf.Module()
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        module.w = tf.Variable(3.0)
    save(path, lambda x: {"y": module.w.read_value() * x}, spec("x"), module=module)
    return {"x": floats(5)}


@kind
def refuses_values(path):
    def serve(x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0, message="x too large")]):
            return {"y": x + 1}

    save(path, serve, spec("x"))
    return {"x": floats(5)}
