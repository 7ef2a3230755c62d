"""CloudWatch metrics of a job: regular expressions over the step timer's lines in its log."""

from __future__ import annotations

__all__ = ["DEFINITIONS"]

_NUMBER = r"([0-9.]+)"

# CreateTrainingJob's MetricDefinitions; CloudWatch has them in /aws/sagemaker/TrainingJobs with the dimension TrainingJobName.
DEFINITIONS = [
    {"Name": "hetero_tfdata:step_ms", "Regex": rf"hetero_tfdata: epoch \d+: \d+ steps, {_NUMBER} ms/step"},
    {"Name": "hetero_tfdata:input_wait_ms", "Regex": rf"hetero_tfdata: epoch .* input wait {_NUMBER} ms/step"},
    {"Name": "hetero_tfdata:input_bound_percent", "Regex": rf"hetero_tfdata: epoch .* input-bound {_NUMBER} %"},
    {"Name": "hetero_tfdata:images_per_s", "Regex": rf"hetero_tfdata: epoch .* {_NUMBER} images/s"},
]
