"""Flink and Kafka as local processes on loopback, for `make`, tests and benchmarks."""
