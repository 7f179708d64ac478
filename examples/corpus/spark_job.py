"""spark-submit spark_job.py MODEL INPUT.parquet OUT: embeds the column `text` of Parquet files."""

import sys

try:
    from pyspark.errors import AnalysisException
    from pyspark.sql import SparkSession

    import trivec.spark
except ImportError as error:
    sys.exit(f"{sys.argv[0]}: {error} (it needs the packages `trivec` and `pyspark`)")

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, source, out = sys.argv[1:]
spark = SparkSession.builder.appName("trivec").getOrCreate()
try:
    rows = spark.read.parquet(source)
except AnalysisException as error:
    # A path that is not there, or holds no Parquet file.
    sys.exit(f"{sys.argv[0]}: {source}: {error}")
trivec.spark.embed(rows, model).write.mode("overwrite").parquet(out)
