"""One Spark session that reads and changes tables, and writes inputs: `python -m tests.spark_job`.

    python -m tests.spark_job JARS FOLDER

It is a process of its own: Spark's Java process ends with it, and so do the warnings of PySpark.
In FOLDER are the tables `typed`, `awkward`, `updated` and `deleted`, and `rows.parquet`. Spark
writes what it reads as Parquet files by Arrow, and inputs into folders.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq

FILTERED = ("a b", "a/b", "100%", "..", "'a' \"b\" `c`")
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xss4m"


def start(jars: str):
    """Return a session in little memory that compiles no code, because each query runs once."""
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_SUBMIT_ARGS"] = "--driver-memory 700m pyspark-shell"
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.extraClassPath": f"{jars}/*",
        "spark.driver.extraJavaOptions": _JAVA,
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.parquet.outputTimestampType": "INT96",
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def main() -> None:
    """Do all of it: first what needs no change."""
    jars, folder = sys.argv[1], Path(sys.argv[2])
    spark = start(jars)
    for name in ("typed", "awkward"):
        rows = spark.read.format("delta").load(str(folder / name))
        pq.write_table(rows.toArrow(), folder / f"{name}.read.parquet")
    for number, value in enumerate(FILTERED):
        found = rows.filter(rows["p"] == value).select("id", "p")
        pq.write_table(found.toArrow(), folder / f"filtered-{number}.parquet")

    given = spark.read.parquet(str(folder / "rows.parquet"))
    given.write.partitionBy("p").parquet(str(folder / "parquet"))
    given.write.partitionBy("p").format("delta").save(str(folder / "delta"))
    given.write.partitionBy("p").json(str(folder / "json"))

    updated, deleted = (f"delta.`{folder / name}`" for name in ("updated", "deleted"))
    spark.sql(f"UPDATE {updated} SET score = 9 WHERE p = 'a/b'")
    spark.sql(f"OPTIMIZE {updated} WHERE p = 'a b'")
    vectors = "'delta.enableDeletionVectors' = true"
    spark.sql(f"ALTER TABLE {deleted} SET TBLPROPERTIES ({vectors})")
    spark.sql(f"DELETE FROM {deleted} WHERE p = 'R&D' AND id = 0")
    spark.stop()


if __name__ == "__main__":
    main()
