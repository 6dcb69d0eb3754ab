"""Labels and coders of the graphs are frozen: runners key state, savepoints and metrics by them.

A change here is a change for users: a stream on Flink does not start from a savepoint that was
taken under other labels or coders. When one is meant, say so in the CHANGELOG.
"""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.io.flink.flink_streaming_impulse_source import FlinkStreamingImpulseSource
from apache_beam.pipeline import PipelineVisitor
from apache_beam.portability.api import schema_pb2
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec

from scoreline.lake.elements import BatchKey, Outcome, Piece, Reading, Receipt, RecordKey, Shard
from scoreline.models.model_spec import ModelSpec
from scoreline.pipelines import score_batch, score_stream
from scoreline.pipelines.plan.stream import StreamPlan
from scoreline.pipelines.runners.any_runner import Timers
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.decode import DecodeSpec
from scoreline.transforms.kafka.poll import _PollDoFn
from scoreline.transforms.kafka.positions import Positions, PositionsCoder
from scoreline.transforms.kafka.producer import WriteSpec
from scoreline.transforms.kafka.reader import TopicSpec
from scoreline.transforms.scoring import ScoreSpec

BATCHES = "(BatchKey, RecordBatch)"
RECORDS = "(RecordKey, RecordBatch)"
BATCH = {
    "MatchShards": "Shard",
    "MatchShards/CreateShards": "Shard",
    "MatchShards/SpreadShards": "Shard",
    "SkipStaged": {None: "Shard", "receipts": "Receipt"},
    "SkipStaged/FindStaged": {None: "Shard", "receipts": "Receipt"},
    "ReadRecordBatches": BATCHES,
    "ReadRecordBatches/ReadShard": BATCHES,
    "Score": BATCHES,
    "Score/Predict": BATCHES,
    "StageScores": "Receipt",
    "StageScores/WriteScores": "Receipt",
    "StageDeadLetters": "Receipt",
    "StageDeadLetters/LocateDeadLetters": BATCHES,
    "StageDeadLetters/WriteDeadLetters": "Receipt",
    "MergeReceipts": "Receipt",
    "CommitPartitions": "Outcome",
    "CommitPartitions/KeyByPartition": "(StrUtf8, Receipt)",
    "CommitPartitions/GatherReceipts": "(StrUtf8, Iterable)",
    "CommitPartitions/CommitPartition": "Outcome",
    "WriteOutcomes": "FastPrimitives",
    "WriteOutcomes/WriteOutcome": "FastPrimitives",
}
STREAM = {
    "ReadKafka": RECORDS,
    "ReadKafka/Poll": RECORDS,
    "DecodeRecords": RECORDS,
    "DecodeRecords/Decode": RECORDS,
    "Score": RECORDS,
    "Score/Predict": RECORDS,
    "WriteKafka": "FastPrimitives",
    "WriteKafka/Send": "FastPrimitives",
}
SPLITTABLE = STREAM | {"ReadKafka/AssignPartitions": "Reading"}
TIMER = STREAM | {"Tick": "Bytes", "ReadKafka/AssignPartitions": "(StrUtf8, VarInt)"}
PIECE = (
    "path string, first_row_group int64, row_groups int64, first_row int64, rows int64, "
    "size_bytes int64"
)
SHARD = (
    "partition string, run_id string, base_run_id string, number int64, shards int64, "
    f"pieces [({PIECE})], rows int64"
)
ROWS = {
    Piece: PIECE,
    Shard: SHARD,
    BatchKey: f"shard ({SHARD}), number int64, first_row int64, rows int64, last boolean, "
    "error string",
    RecordKey: "topic string, slot int64, are_dead boolean",
    Receipt: "partition string, run_id string, base_run_id string, shard int64, shards int64, "
    "path string, size_bytes int64, checksum string, stats string, rows_in int64, "
    "rows_scored int64, rows_dead int64, keys_increase boolean, first_key int64, last_key int64, "
    "error string",
    Outcome: "partition string, run_id string, state string, version int64, rows_in int64, "
    "rows_scored int64, rows_dead int64, duplicate_keys int64, reason string",
    Reading: "topic string, slot int64, slots int64",
}


def describe(pipeline):
    """Return how what each of our steps gives is encoded, by label; steps inside Beam's are its."""
    found = {}

    class Visitor(PipelineVisitor):
        def __init__(self):
            self.beams = []

        def enter_composite_transform(self, node):
            self.visit_transform(node)

        def visit_transform(self, node):
            label = node.full_label
            if any(label.startswith(f"{beams}/") for beams in self.beams) or not label:
                return
            if type(node.transform).__module__.startswith("apache_beam."):
                self.beams.append(label)
            tags = {tag: _coder(out.element_type) for tag, out in node.outputs.items()}
            names = sorted(set(tags.values()))
            found[label] = names[0] if len(names) == 1 else tags

    pipeline.visit(Visitor())
    return found


def _coder(element_type):
    return _name(coders.registry.get_coder(element_type))


def _name(coder):
    if isinstance(coder, coders.RowCoder):
        return coder.to_type_hint().__name__
    if isinstance(coder, coders.TupleCoder):
        return f"({', '.join(_name(part) for part in coder.coders())})"
    return type(coder).__name__.removesuffix("Coder")


def test_the_batch_graph_is_frozen(tmp_path, lake, model):
    flags = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={tmp_path / 's'}"]
    pipeline = beam.Pipeline(runner="FnApiRunner")
    score_batch.build(pipeline, score_batch.prepare(flags).found.plan)
    assert describe(pipeline) == BATCH


@pytest.mark.parametrize(
    ("timers", "frozen"),
    [(None, SPLITTABLE), (Timers(FlinkStreamingImpulseSource(), ["a", "b"]), TIMER)],
    ids=["splittable", "timer"],
)
def test_the_stream_graphs_are_frozen(timers, frozen):
    kafka = Connection(brokers="localhost:1")  # building a graph connects to nothing
    plan = StreamPlan(
        read=TopicSpec(connection=kafka, topic="records", group="group"),
        decode=DecodeSpec(format="json", schema=pa.schema([("x", pa.float32())])),
        score=ScoreSpec(model=ModelSpec(path="m", digest="d"), inputs=(), outputs=(), carried=()),
        swap=None,
        write=WriteSpec(
            connection=kafka,
            topic="scores",
            dead_letter_topic="dead",
            source_topic="records",
            group="group",
        ),
        readers=2,
    )
    pipeline = beam.Pipeline(runner="FnApiRunner")
    score_stream.build(pipeline, plan, timers)
    assert describe(pipeline) == frozen


def test_what_crosses_an_edge_as_a_row_has_frozen_fields():
    found = {row: _fields(coders.registry.get_coder(row).schema) for row in ROWS}
    assert found == ROWS


def _fields(schema):
    return ", ".join(f"{field.name} {_type(field.type)}" for field in schema.fields)


def _type(field_type):
    kind = field_type.WhichOneof("type_info")
    if kind == "atomic_type":
        return schema_pb2.AtomicType.Name(field_type.atomic_type).lower()
    if kind == "row_type":
        return f"({_fields(field_type.row_type.schema)})"
    element = getattr(field_type, kind).element_type
    return f"[{_type(element)}]"


def test_positions_that_a_savepoint_holds_can_be_read():
    """A stream on Flink that was upgraded begins with the state that the last one kept."""
    saved = b"[[[0, 5], [3, 7]], null, false]"
    assert PositionsCoder().decode(saved) == Positions({0: 5, 3: 7}, None)
    (state,) = [v for v in vars(_PollDoFn).values() if isinstance(v, ReadModifyWriteStateSpec)]
    (timer,) = [v for v in vars(_PollDoFn).values() if isinstance(v, TimerSpec)]
    assert (state.name, type(state.coder), timer.name) == ("positions", PositionsCoder, "ts-again")
