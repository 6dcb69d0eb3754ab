"""Score a partitioned data lake, or a Kafka topic, with any TensorFlow model."""

__version__ = "0.2.0"
