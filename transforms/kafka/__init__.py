"""Kafka topics in and out, and the table that a stream appends to."""
