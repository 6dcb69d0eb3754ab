"""Models of TF1, and some that only one runtime can call, or none."""

from __future__ import annotations

from tests.runtime_models.saving import AB, F, floats, kind, save, spec, tf


def _save_v1(path, make):
    """Save what a function makes in a TF1 graph: inputs and outputs."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        inputs, outputs = make(v1)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), inputs, outputs)


@kind
def tf1_reference_variable(path):
    def make(v1):
        x = v1.placeholder(F, [None], "x")
        n = v1.get_variable("n", initializer=0.0, use_resource=False)
        return {"x": x}, {"y": x + v1.assign_add(n, 1.0)}

    _save_v1(path, make)
    return {"x": floats(4)}


@kind
def tf1_loop(path):
    def make(v1):
        x = v1.placeholder(F, [None, 4], "x")
        w = v1.get_variable("w", [4, 3], use_resource=True)
        given = (0, tf.matmul(x, w))
        end = v1.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.5), given)
        return {"x": x}, {"y": end[1]}

    tf.compat.v1.disable_control_flow_v2()
    try:
        _save_v1(path, make)
    finally:
        tf.compat.v1.enable_control_flow_v2()
    return {"x": floats(4, 4)}


@kind
def tf1_other_tags(path):
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(F, [None], "x")
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x * 3.0})
        builder.add_meta_graph_and_variables(
            session, ["serve", "gpu"], {"serving_default": signature}
        )
        builder.save()
    return {"x": floats(4)}


@kind
def tf1_one_tensor_under_two_names(path):
    def make(v1):
        x = v1.placeholder(F, [None], "x")
        return {"a": x, "b": x}, {"y": 2 * x}

    _save_v1(path, make)
    return {"a": AB["a"], "b": AB["a"]}


@kind
def no_kernel(path):
    def serve(x):
        state = tf.zeros([1, tf.shape(x)[1], 4])
        made = tf.raw_ops.CudnnRNN(
            input=x, input_h=state, input_c=state, params=tf.zeros([300]), rnn_mode="lstm"
        )
        return {"y": made.output}

    save(path, serve, spec("x", F, (None, 3, 4)))
    return {"x": floats(2, 3, 4)}


@kind
def tf1_model_in_a_module(path):
    module = tf.Module()
    tf1_loop(path.parent / "inner")
    module.inner = tf.saved_model.load(str(path.parent / "inner"))
    call = module.inner.signatures["serving_default"]
    save(path, lambda x: {"y": call(x=x)["y"]}, spec("x", F, (None, 4)), module=module)
    return {"x": floats(4, 4)}
