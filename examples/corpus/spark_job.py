"""spark-submit spark_job.py MODEL INPUT.parquet OUT: embeds the column `text` of Parquet files."""

import sys

from pyspark.sql import SparkSession

import trivec.spark

model, source, out = sys.argv[1:]
spark = SparkSession.builder.appName("trivec").getOrCreate()
trivec.spark.embed(spark.read.parquet(source), model).write.mode("overwrite").parquet(out)
