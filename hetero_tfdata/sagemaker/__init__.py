"""A SageMaker training job as a value: read from a file, checked before anything is uploaded, rendered, submitted."""

from hetero_tfdata.emulate.job import Group
from hetero_tfdata.sagemaker.channel import Channel, FileSystem
from hetero_tfdata.sagemaker.job import Job
from hetero_tfdata.sagemaker.job_file import read

__all__ = ["Channel", "FileSystem", "Group", "Job", "read"]
